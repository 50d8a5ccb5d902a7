"""The model card of a run's embedder or generator: what it is for, what it was made of, how well it works."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from afmrl.attributes.evidence import usual_share
from afmrl.data.packaged_weights import SMALL
from afmrl.embedder.names import JOINED, has_own_modules, is_joined
from afmrl.embedder.packaged import PACKAGED
from afmrl.errors import InputError
from afmrl.files import write_text
from afmrl.generator.prompt import PROMPT_FILE, GeneratorPrompt
from afmrl.training.ladder import ROW_NAMES

CARD = "README.md"
KINDS = ("embedder", "generator")
METRICS = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "mrr": "MRR"}
STAGES = {"sft": "SFT", "agcl": "AGCL", "rar": "RAR"}


def write_model_card(model: str | Path, name: str, *, license: str = "") -> Path:
    """Write the card of a model that a run made, as README.md in its folder; returns its path.

    Args:
        model: RUN/embedder or RUN/generator. Numbers and settings are read from run.json and metrics.json in RUN;
            without them the card says that the model was not evaluated.
        name: the name under which the model will be loaded, as "my-shop/embedder".
        license: an identifier of the hub, as "apache-2.0"; "" leaves it out.

    Raises:
        InputError: not a model's folder, or adapters alone.
    """
    folder = Path(model)
    kind = _kind(folder)
    run, metrics = _read(folder.parent / "run.json"), _read(folder.parent / "metrics.json")
    write_text(folder / CARD, _render(folder, kind, run, metrics, name, license))
    return folder / CARD


def _kind(folder: Path) -> str:
    if (folder / "modules.json").is_file():
        return "embedder"
    if (folder / "config.json").is_file():
        return "generator"
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{folder}: holds adapters alone; merge them into the base model first")
    raise InputError(
        f"{folder}: is no model's folder (neither modules.json nor config.json is there); give RUN/embedder or "
        "RUN/generator"
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); run the evaluation of this run again") from error


def _render(
    folder: Path, kind: str, run: Mapping[str, Any], metrics: Mapping[str, Any], name: str, license: str
) -> str:
    from jinja2 import Environment, StrictUndefined

    recipe = run.get("recipe") or {}
    base = recipe.get("base") or ""
    if kind == "generator":
        base = recipe.get("generator_base") or base
    settings = _read(folder / "afmrl.json")
    # Markdown, not HTML: cells of tables are made safe one by one
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    template = (resources.files("afmrl.training") / "model_card.md.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        name=_cell(name),
        kind=kind,
        own_modules=has_own_modules(folder),
        library="sentence-transformers" if kind == "embedder" else "transformers",
        pipeline_tag="sentence-similarity" if kind == "embedder" else "image-text-to-text",
        license=license,
        bases=[_cell(_shown(part)) for part in (base.split(JOINED) if is_joined(base) else [base]) if part],
        attributes_on=settings.get("attributes_on") or "none",
        seller_attributes=settings.get("seller_attributes") or "none",
        prompt=GeneratorPrompt.load(folder),
        prompt_file=PROMPT_FILE if (folder / PROMPT_FILE).is_file() else "",
        data=_cell(_data(recipe, metrics)),
        stages=_stages(recipe, kind),
        seed=run.get("seed", "not recorded"),
        versions=_cell(", ".join(f"{library} {version}" for library, version in (run.get("versions") or {}).items())),
        measured=_measured(metrics),
        verdict=_verdict(metrics),
        evidence=_evidence(folder),
        metrics=list(METRICS.values()),
        rows=_rows(metrics),
    )


def _shown(base: str) -> str:
    """A base as others know it: a folder of the machine that trained says nothing to them."""
    if base in PACKAGED or base == SMALL:
        return PACKAGED["minilm" if base == SMALL else base][2]
    return Path(base).name if Path(base).is_absolute() else base


def _data(recipe: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    catalog = recipe.get("catalog") or {}
    what = "the sample catalog, drawn" if catalog.get("sample") else "a catalog of offers"
    return what + (f"; {metrics['num_gallery']:,} offers in the test gallery" if "num_gallery" in metrics else "")


def _stages(recipe: Mapping[str, Any], kind: str) -> list[dict[str, str]]:
    """What the stages of this model were: an embedder was not trained by the generator's stages."""
    of_kind = ("agcl",) if kind == "embedder" else ("sft", "rar")
    stages = []
    for name in of_kind:
        steps = (recipe.get(name) or {}).get("max_steps")
        if steps:
            stages.append(
                {"name": STAGES[name], "text": f"{steps} steps, learning rate {recipe[name]['learning_rate']:g}"}
            )
    return stages


def _measured(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return ""
    return (
        f"Retrieval of the same product on the split `{metrics['split']}`: {metrics['num_queries']:,} queries against "
        f"{metrics['num_gallery']:,} offers."
    )


def _verdict(metrics: Mapping[str, Any]) -> str:
    """The verdict's sentences, as the run's report opens with them; "" of a run that has none."""
    verdict = metrics.get("verdict") or {}
    return " ".join(filter(None, [verdict.get("text", ""), *verdict.get("notes", ())]))


def _evidence(folder: Path) -> str:
    """How much of what a generator wrote its own catalog's offers said; "" where it was not measured."""
    share = usual_share(folder)
    return "" if share is None else f"{share:.0%}"


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    measured = metrics.get("rows") or {}
    rows = [(name, measured[row]) for row, name in ROW_NAMES.items() if row in measured]
    rows += [(f"floor: {floor}", values) for floor, values in (metrics.get("floors") or {}).items()]
    return [{"name": _cell(name), "cells": [_interval(values.get(key)) for key in METRICS]} for name, values in rows]


def _interval(value: Any) -> str:
    if not value:
        return "–"
    mean, low, high = (100 * float(number) for number in value)
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]"


def _cell(text: object) -> str:
    """One cell of a Markdown table, or a word of a heading, whatever the text."""
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())
