"""The ladder: how well each stage of a run retrieves, and what that costs elsewhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.embedder.embedder import Embedder, Modality
from afmrl.evaluation.alignment_tax import general_quality
from afmrl.evaluation.retrieval import RetrievalResult, score_retrieval
from afmrl.files import fingerprint, read_lines
from afmrl.generator.generator import AttributeGenerator
from afmrl.report.terminal_tables import print_ladder
from afmrl.retrieval.interval import Interval
from afmrl.training.completions import forget_completions, kept_completions
from afmrl.training.run_report import CEILING_NAMES
from afmrl.training.run_state import Run
from afmrl.training.splits import Split

ROW_NAMES = {
    "text": "title only",
    "image": "image only",
    "untrained": "untrained",
    "agcl": "AGCL",
    "sft": "AGCL + SFT attributes",
    "rar": "AGCL + RAR attributes",
    "cit": "AGCL again on RAR attributes (CIT)",
    "perfect": "AGCL + everything visible (perfect reader)",
    "published": "as published",
}


@dataclass(frozen=True)
class Encoded:
    """Embeddings of one split's queries (Q, D) and gallery (N, D)."""

    queries: np.ndarray
    gallery: np.ndarray


def encode_split(
    embedder: Embedder,
    split: Split,
    query_attributes: Sequence[KeyAttributes] | None = None,
    gallery_attributes: Sequence[KeyAttributes] | None = None,
    *,
    modality: Modality = "fused",
    batch_size: int = 64,
) -> Encoded:
    """Embed a split's queries and gallery, with key attributes in their text where given."""
    return Encoded(
        embedder.encode(split.query_offers(), query_attributes, modality=modality, batch_size=batch_size),
        embedder.encode(split.gallery_offers(), gallery_attributes, modality=modality, batch_size=batch_size),
    )


def generated_attributes(run: Run, which: str, split_name: str) -> list[KeyAttributes]:
    """What the generator of stage `which` ("sft", "rar") writes for every offer of a split, kept in the run."""
    split, config = run.splits[split_name], run.recipe.evaluation
    if run.paths[which] == run.paths.get("sft"):
        which = "sft"  # without steps of RAR the generator is SFT's, and what it writes is not written twice

    def work(folder: Path) -> dict[str, Any]:
        generator = AttributeGenerator.from_pretrained(run.paths[which])
        completions = kept_completions(
            generator, split.offers, folder, max_new_tokens=run.recipe.rar.max_new_tokens, batch_size=config.batch_size
        )
        num_invalid = 0
        with open(folder / "attributes.jsonl", "w", encoding="utf-8") as file:
            for offer, (completion,) in zip(split.offers, completions, strict=True):
                try:
                    attributes = generator.read(completion, offer)
                except InvalidCompletion:
                    num_invalid, attributes = num_invalid + 1, KeyAttributes()
                file.write(json.dumps({"id": offer.id, "attributes": attributes.as_dict()}, ensure_ascii=False) + "\n")
        forget_completions(folder)
        return {"num_invalid": num_invalid, "num_offers": len(completions)}

    made_of = fingerprint(run.made_of[which], run.made_of["data"], split_name, run.recipe.rar.max_new_tokens)
    folder = run.ledger.run(f"attributes-{which}-{split_name}", made_of, work)
    lines = read_lines(folder / "attributes.jsonl")
    return [KeyAttributes.of(json.loads(line)["attributes"]) for line in lines]


def training_text_attributes(run: Run) -> list[KeyAttributes]:
    """What the text of the training offers carries in AGCL: the targets, or what the SFT generator writes."""
    if run.recipe.agcl.text_attributes == "generated":
        return generated_attributes(run, "sft", "train")
    return list(run.splits["train"].targets)


def score_rows(run: Run, split_name: str, rows: Sequence[str]) -> dict[str, RetrievalResult]:
    """The ladder: one result a row; an attributed row also as `NAME:query`, `NAME:gallery` and `NAME:both`."""
    split = run.splits[split_name]
    embedder = Embedder.from_pretrained(run.paths["agcl"])
    results: dict[str, RetrievalResult] = {}

    def encode(model: Embedder, **options: Any) -> Encoded:
        return encode_split(model, split, batch_size=run.recipe.evaluation.batch_size, **options)

    plain = encode(embedder)
    both_parts = embedder.reads_images and all(
        any(of(offer) for offer in offers)
        for of in (attrgetter("image"), attrgetter("title"))
        for offers in (split.query_offers(), split.gallery_offers())
    )
    for row in rows:
        if row in ("text", "image") and not both_parts:
            continue  # the part that there is has its own row: AGCL's
        if row == "agcl":
            results[row] = score_encoded(run, split, plain)
        elif row in ("text", "image"):
            results[row] = score_encoded(run, split, encode(embedder, modality=row))
        elif row == "untrained":
            untrained = Embedder.from_pretrained(run.base, seller_attributes=run.recipe.agcl.seller_attributes)
            results[row] = score_encoded(run, split, encode(untrained))
        else:
            if row == "cit":
                found = score_attributed(run, split_name, run.paths["cit"], run.cit_generator)
            else:
                found = score_attributed(run, split_name, embedder, row, plain)
            results |= {f"{row}:{attributes_on}": result for attributes_on, result in found.items()}
            results[row] = results[f"{row}:{default_attributes_on(run)}"]
    return results


def default_attributes_on(run: Run) -> str:
    """Whose text carries attributes in this run: "query", "gallery" or "both"."""
    return run.recipe.agcl.attributes_on if run.recipe.agcl.attributes_on != "none" else "query"


def score_attributed(
    run: Run, split_name: str, embedder: Embedder | str | Path, which: str, plain: Encoded | None = None
) -> dict[str, RetrievalResult]:
    """Retrieval with what the generator of stage `which` ("perfect": the targets) writes, on "query", on
    "gallery" and on "both".

    Args:
        plain: embeddings without attributes, where they are cached.
    """
    split = run.splits[split_name]
    model = embedder if isinstance(embedder, Embedder) else Embedder.from_pretrained(embedder)
    plain = plain or encode_split(model, split, batch_size=run.recipe.evaluation.batch_size)
    both = encode_attributed(run, split_name, model, which)
    return {
        "query": score_encoded(run, split, Encoded(both.queries, plain.gallery)),
        "gallery": score_encoded(run, split, Encoded(plain.queries, both.gallery)),
        "both": score_encoded(run, split, both),
    }


def encode_attributed(run: Run, split_name: str, model: Embedder, which: str) -> Encoded:
    """Queries and gallery with what the generator of stage `which` ("perfect": the targets) writes of each."""
    split = run.splits[split_name]
    attributes = split.targets if which == "perfect" else generated_attributes(run, which, split_name)
    return encode_split(
        model,
        split,
        [attributes[r] for r in split.queries],
        [attributes[r] for r in split.gallery],
        batch_size=run.recipe.evaluation.batch_size,
    )


def score_encoded(run: Run, split: Split, encoded: Encoded) -> RetrievalResult:
    """Same-product retrieval with the recipe's number of resamples."""
    return score_retrieval(
        encoded.queries,
        encoded.gallery,
        split.relevant,
        split.families,
    )


def print_ceiling(run: Run) -> None:
    """Before RAR is trained: what attributes can win on the validation split, on query only and on both sides."""
    split = run.splits["val"] if run.splits["val"].queries else run.splits["reward"]
    name = "val" if split is run.splits["val"] else "reward"

    def work(folder: Path) -> dict[str, Any]:
        results = score_rows(run, name, ["agcl", "sft", "perfect"])
        return {
            row: {metric: [i.mean, i.low, i.high] for metric, i in result.metrics.items()}
            for row, result in results.items()
            if ":" in row or row == "agcl"
        }

    run.ledger.run("ceiling", fingerprint(run.made_of["agcl"], run.made_of["sft"], name), work)
    rows = [(title, run.ledger.results["ceiling"][row]) for row, title in CEILING_NAMES.items()]
    print_ladder(f"What attributes can win ({len(split.queries)} {name} queries)", rows)


def general_quality_of(run: Run, split: Split, encoded: Encoded) -> dict[str, Interval]:
    """Coarse retrieval, classification and clustering by category, of the offers that have one; empty where their
    queries have no two."""
    of = [offer.category for offer in split.offers]
    asked = [place for place, row in enumerate(split.queries) if of[row]]
    offered = [place for place, row in enumerate(split.gallery) if of[row]]
    categories = [of[split.queries[place]] for place in asked]
    if len(set(categories)) < 2 or not offered:
        return {}
    return general_quality(
        encoded.queries[asked],
        encoded.gallery[offered],
        categories,
        [of[split.gallery[place]] for place in offered],
        [split.families[place] for place in asked],
        seed=run.recipe.seed,
        num_resamples=500,  # of many numbers, none of which decides anything
    )


def alignment_tax(run: Run, split_name: str, rows: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """What same-product training costs elsewhere, of AGCL alone and with each generator's attributes. Empty where the
    split has no two categories."""
    split = run.splits[split_name]
    found = {}
    for row in [row for row in ("agcl", "sft", "rar", "cit") if row in rows]:
        model = Embedder.from_pretrained(run.paths["cit" if row == "cit" else "agcl"])
        if row == "agcl":
            encoded = encode_split(model, split, batch_size=run.recipe.evaluation.batch_size)
        else:
            encoded = encode_attributed(run, split_name, model, run.cit_generator if row == "cit" else row)
        metrics = general_quality_of(run, split, encoded)
        if not metrics:
            return {}
        found[row] = {name: [round(i.mean, 6), round(i.low, 6), round(i.high, 6)] for name, i in metrics.items()}
    return found
