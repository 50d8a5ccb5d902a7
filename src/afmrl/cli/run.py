"""`afmrl run`: a recipe, and every field of it as an option."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from afmrl.cli.summary import Summary
from afmrl.data.yaml_text import parse_yaml
from afmrl.errors import InputError
from afmrl.training.config import Stage
from afmrl.training.recipe import Recipe, load_recipe
from afmrl.training.recipe_help import RecipeField, leaves, optional_sections

if TYPE_CHECKING:
    from afmrl.training.run_state import Run

FIELDS = {field.name: field for field in (*optional_sections(Recipe), *leaves(Recipe))}
OWN_CATALOG = "own_catalog"
_OPTION = {name.replace(".", "__"): name for name in FIELDS}
"""Name of the function's parameter → the field's."""


def _with_every_field(command: Callable[..., Summary]) -> Callable[..., Summary]:
    """The command with one option for each field of a recipe, as its pydantic models say: name, default, meaning."""
    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_annotation(FIELDS[name]))
        for option, name in _OPTION.items()
    ]
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in (*own, *options)} | {"return": Summary}
    return command


def _annotation(field: RecipeField) -> Any:
    """cyclopts' view of a field: text, since the recipe checks the value, with all that its help shows."""
    shown = _shown(field.default)
    parameter = Parameter(
        name=f"--{field.name.replace('_', '-')}",
        help=f"{field.meaning} ({field.allowed})" if field.is_bounded else field.meaning,
        metavar=field.kind.upper(),
        choices=field.choices or None,
        show_default=lambda _: shown,
        group=_group(field.section),
        allow_leading_hyphen=True,
        negative=(),
    )
    return Annotated[str | None, parameter]


def _group(section: str) -> Group:
    if not section:
        return Group("Recipe", help="The run as a whole.", sort_key=1)
    place = list(Recipe.model_fields).index(section)
    return Group(f"Recipe: {section}", help=Recipe.model_fields[section].description or "", sort_key=2 + place)


def _shown(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {part}" for name, part in value.items()) + "}"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "[]"
    if isinstance(value, bool) or value is None:
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def overrides_of(options: dict[str, str | None]) -> dict[str, Any]:
    """Options as typed → fields by their dotted names."""
    typed = {_OPTION[option]: text for option, text in options.items() if text is not None}
    return {name: _value(FIELDS[name], text) for name, text in typed.items()}


def _value(field: RecipeField, text: str) -> Any:
    """What was typed, as YAML reads it; text stays text where the field takes text, and `a,b` is a list.

    >>> _value(FIELDS["agcl.rules"], "margin,label"), _value(FIELDS["catalog.family_column"], "2024")
    (['margin', 'label'], '2024')
    """
    try:
        value = parse_yaml(text, "")
    except InputError as error:
        raise InputError(f"--{field.name}: {text!r} is not YAML") from error
    if field.kind == "text" and value is not None and not isinstance(value, str):
        return text
    if field.kind == "list" and isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


@_with_every_field
def run(
    recipe: str,
    *,
    out: Path = Path("afmrl-run"),
    size: Literal["small", "tiny"] = "small",
    until: Stage | None = None,
    fetch: bool = False,
    **fields: str | None,
) -> Summary:
    """Train and measure a recipe: SFT, AGCL, RAR, evaluation.

    Complete stages are not run again, killed ones resume.

    Parameters
    ----------
    recipe
        Name of a shipped recipe (`afmrl recipe` lists them), or a YAML file.
    out
        Folder of the run: embedder/, generator/, metrics.json, report.html, run.json.
    size
        Of own_catalog: "small" has real pretrained weights (extra `small`); "tiny" is a trial with a model that knows
        nothing before, and needs no extra.
    until
        The last stage to run, to look at its model (OUT/stages/NAME/model) before more is trained. Without it the same
        command continues from there.
    fetch
        Fetch images whose `image` is an http(s) address, once: into ~/.cache/afmrl/images, or where XDG_CACHE_HOME or
        AFMRL_IMAGE_CACHE says.
    """
    if size != "small":
        if recipe != OWN_CATALOG:
            raise InputError(f"run: --size is of the recipe {OWN_CATALOG}; in another one name its base")
        recipe = f"{recipe}-{size}"
    loaded = load_recipe(recipe, overrides_of(fields))  # what is wrong with it is said before torch is loaded
    from afmrl.terminal import StageProgress, quiet_libraries
    from afmrl.training.memory import keep_freed_memory
    from afmrl.training.processes import rank
    from afmrl.training.run import run as run_recipe

    quiet_libraries()
    keep_freed_memory()
    done = run_recipe(loaded, out, callbacks=StageProgress(), until=until, fetch=fetch)
    if rank() == 0 and until is None:
        print(f"\nReport: {out / 'report.html'}   numbers: {out / 'metrics.json'}")
    return run_summary(done)


def run_summary(run: Run) -> Summary:
    """What a run came to: its files, its stages' models and, once it is measured, its numbers."""
    metrics = run.folder / "metrics.json"
    is_measured = metrics.is_file() and (run.folder / "report.html").is_file()
    return {
        "out": run.folder,
        "stages": run.paths,
        "splits": {name: {"offers": len(of.offers), "queries": len(of.queries)} for name, of in run.splits.items()},
        "report": run.folder / "report.html" if is_measured else None,
        "metrics": json.loads(metrics.read_text(encoding="utf-8")) if is_measured else None,
    }
