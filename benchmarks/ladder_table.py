"""Tables of a ladder's cells: means, steps between rungs, intervals over seeds and families."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.significance import holm, over_seeds
from common import p_text, percent

ATTRIBUTES_ON = {"both": ", on both sides", "query": ", on the query only", "gallery": ", on the gallery only"}
METRICS = {
    "recall@1": lambda ranks: recall_at_k(ranks, 1),
    "recall@5": lambda ranks: recall_at_k(ranks, 5),
    "recall@10": lambda ranks: recall_at_k(ranks, 10),
    "mrr": reciprocal_rank,
}


def names(attributes_on: str) -> dict[str, str]:
    """Rung → its line in the table; the ladder climbs with attributes on `attributes_on`, "both" or "query"."""
    ladder = {
        "infonce": "InfoNCE",
        "agcl": "+ AGCL",
        f"sft:{attributes_on}": "+ SFT attributes",
        f"rar:{attributes_on}": "+ RAR",
        f"cit:{attributes_on}": "+ CIT, as published",
    }
    aside = {
        f"cit_control:{attributes_on}": "control of CIT, as published",
        f"cit_text:{attributes_on}": "+ CIT, continued",
        f"cit_text_control:{attributes_on}": "control of CIT, continued",
        f"cit_share:{attributes_on}": "CIT, continued, 30 % of the text",
        f"cit_scratch:{attributes_on}": "CIT, continued, but from the base",
        f"cit_written:{attributes_on}": "CIT, continued, guided by the new text",
        f"safe:{attributes_on}": "+ RAR, default reward",
        f"paper:{attributes_on}": "+ RAR, the paper's reward",
        "loss": "AGCL's weights, mask and batches, no attributes in the text",
        "weights": "the same without the mask",
        "mask": "the same without the weights",
        "batches": "the same without either: InfoNCE, similar offers in a batch",
        "published": "the same as published: raw BM25, gain 1, the positive weighted too, mask by margin",
        f"perfect:{attributes_on}": "perfect reader",
    }
    others = {
        f"{which}:{other}": f"AGCL + {what}{where}"
        for which, what in (("sft", "SFT attributes"), ("rar", "RAR attributes"), ("perfect", "everything visible"))
        for other, where in ATTRIBUTES_ON.items()
        if other != attributes_on
    }
    return {**ladder, **aside, **others}


def steps(attributes_on: str) -> list[tuple[str, str]]:
    """The pairs of rungs that the table compares."""
    climb = ["infonce", "agcl", *(f"{which}:{attributes_on}" for which in ("sft", "rar", "cit"))]
    return [
        *itertools.pairwise(climb),
        ("infonce", f"rar:{attributes_on}"),
        ("infonce", f"cit:{attributes_on}"),
        ("infonce", f"cit_text:{attributes_on}"),
        (f"cit_control:{attributes_on}", f"cit:{attributes_on}"),
        (f"rar:{attributes_on}", f"cit_text:{attributes_on}"),
        (f"cit_text_control:{attributes_on}", f"cit_text:{attributes_on}"),
        *(
            (f"{which}:{attributes_on}", f"cit_text:{attributes_on}")
            for which in ("cit_share", "cit_scratch", "cit_written")
        ),
        (f"sft:{attributes_on}", f"safe:{attributes_on}"),
        (f"sft:{attributes_on}", f"paper:{attributes_on}"),
        ("infonce", "batches"),
        *(("batches", rung) for rung in ("weights", "mask", "loss", "published")),
    ]


def table(cells: Sequence[dict[str, Any]], attributes_on: str = "both") -> str:
    """Markdown: every rung's mean over seeds, and each step between rungs with interval and Holm-adjusted p.

    Args:
        cells: folds of one seed are pooled; a seed counts where it has all folds that any has.
    """
    named = names(attributes_on)
    folds = sorted({cell.get("fold", 0) for cell in cells})
    parts: dict[str, dict[int, dict[int, dict[str, Any]]]] = {}
    for cell in cells:
        parts.setdefault(cell["rung"], {}).setdefault(cell["seed"], {})[cell.get("fold", 0)] = cell
    ranks = {
        rung: {
            seed: np.concatenate([of_seed[fold]["ranks"] for fold in folds])
            for seed, of_seed in of_rung.items()
            if set(of_seed) == set(folds)
        }
        for rung, of_rung in parts.items()
    }
    ranks = {rung: of_rung for rung, of_rung in ranks.items() if of_rung}
    first = {cell.get("fold", 0): cell for cell in cells}
    clusters = [family for fold in folds for family in _families(first[fold])]
    lines = [
        f"{len(clusters):,} test queries in {len(set(clusters)):,} families; mean [95 % interval], over other "
        "seeds and families; a step is of the seeds that both rungs have.",
        "",
        "| rung | seeds | R@1 | R@5 | R@10 | MRR |",
        "|---|---|---|---|---|---|",
    ]
    for rung, name in named.items():
        if rung in ranks:
            of_rung = _stacked(ranks, rung, rung)[0]
            row = [over_seeds(of(of_rung), clusters).difference for of in METRICS.values()]
            shown = " | ".join(percent(i.mean, max(i.low, 0), min(i.high, 1)) for i in row)
            lines.append(f"| {name} | {len(of_rung)} | {shown} |")
    pairs = [(a, b) for a, b in steps(attributes_on) if set(ranks.get(a, ())) & set(ranks.get(b, ()))]
    stacks = [_stacked(ranks, a, b) for a, b in pairs]
    lines += ["", "| step | seeds | R@1, points | p (Holm) | MRR, points | p (Holm) |", "|---|---|---|---|---|---|"]
    tests = {
        metric: [over_seeds(METRICS[metric](after) - METRICS[metric](before), clusters) for before, after in stacks]
        for metric in ("recall@1", "mrr")
    }
    adjusted = {metric: holm([test.p_value for test in of]) for metric, of in tests.items()}
    for place, (a, b) in enumerate(pairs):
        columns = [str(len(stacks[place][0]))]
        for metric in ("recall@1", "mrr"):
            change = tests[metric][place].difference
            columns += [percent(change.mean, change.low, change.high, "+"), p_text(adjusted[metric][place])]
        lines.append(f"| {named[a]} → {named[b]} | " + " | ".join(columns) + " |")
    return "\n".join([*lines, *_general_table(cells, named), *_accuracy_table(cells, named, attributes_on)])


def _families(cell: dict[str, Any]) -> list[str]:
    queries, families = cell["num_queries"], cell["num_families"]
    return cell.get("families") or [str(place * families // queries) for place in range(queries)]


def _general_table(cells: Sequence[dict[str, Any]], named: dict[str, str]) -> list[str]:
    """Coarse retrieval, classification and clustering by category: mean over seeds, and the seeds' range."""
    of_rung: dict[str, list[dict[str, float]]] = {}
    for cell in cells:
        if cell.get("general"):
            of_rung.setdefault(cell["rung"], []).append(cell["general"])
    if not of_rung:
        return []
    columns = list(next(iter(of_rung.values()))[0])
    lines = [
        "",
        f"| by category, mean (range of seeds) | cells | {' | '.join(columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for rung, name in named.items():
        if rung in of_rung:
            values = [[100 * found[column] for found in of_rung[rung]] for column in columns]
            shown = " | ".join(f"{np.mean(of):.1f} ({min(of):.1f}–{max(of):.1f})" for of in values)
            lines.append(f"| {name} | {len(of_rung[rung])} | {shown} |")
    return lines


def _accuracy_table(cells: Sequence[dict[str, Any]], named: dict[str, str], attributes_on: str) -> list[str]:
    """Recall of each key's labeled values: mean over cells, and their range."""
    of_rung: dict[str, list[dict[str, dict[str, float]]]] = {}
    for cell in cells:
        if cell.get("attribute_accuracy") and cell["rung"].endswith(f":{attributes_on}"):
            of_rung.setdefault(cell["rung"], []).append(cell["attribute_accuracy"])
    keys = sorted({key for of in of_rung.values() for found in of for key in found})
    if not keys:
        return []
    lines = ["", f"| values read right, mean (range of seeds) | cells | {' | '.join(keys)} |"]
    lines.append("|---" * (len(keys) + 2) + "|")
    for rung, name in named.items():
        if of := of_rung.get(rung):
            values = [[100 * found[key]["recall"] for found in of if key in found] for key in keys]
            shown = " | ".join(f"{np.mean(v):.1f} ({min(v):.1f}–{max(v):.1f})" if v else "" for v in values)
            lines.append(f"| {name} | {len(of)} | {shown} |")
    return lines


def _stacked(ranks: dict[str, dict[int, np.ndarray]], before: str, after: str) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of two rungs over the seeds that both have, (S, Q) each."""
    seeds = sorted(set(ranks[before]) & set(ranks[after]))
    return np.stack([ranks[before][seed] for seed in seeds]), np.stack([ranks[after][seed] for seed in seeds])
