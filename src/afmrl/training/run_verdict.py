"""The verdict of a run: the variant that is published against the best floor, on offers that chose nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from afmrl.data.packaged_weights import SMALL
from afmrl.evaluation.floors import floors_of
from afmrl.evaluation.metric_text import interval_text, points
from afmrl.evaluation.retrieval import RetrievalResult, score_matrix
from afmrl.evaluation.significance import paired_bootstrap
from afmrl.evaluation.tasks import RetrievalTask
from afmrl.evaluation.verdict import Verdict, judge
from afmrl.retrieval.scorer import load_scorer
from afmrl.training.published import Choice, Variant, fusion_split
from afmrl.training.run_state import Run
from afmrl.training.splits import Split

METRIC = "recall@1"


@dataclass(frozen=True)
class FloorResults:
    """The floors of a split, and why others were not measured."""

    results: dict[str, RetrievalResult] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)


def measure_floors(run: Run, split_name: str) -> FloorResults:
    """The recipe's floors on a split, as far as its offers allow."""
    split = run.splits[split_name]
    task = _task(split)
    seller_attributes = run.recipe.agcl.seller_attributes
    floors = floors_of(task, run.recipe.evaluation.floors, seller_attributes=seller_attributes)
    if run.recipe.base == SMALL and floors.scorers:  # what needs no training is what training has to beat
        floors.scorers[SMALL] = load_scorer(run.base, seller_attributes=seller_attributes)
    return FloorResults(
        {
            name: score_matrix(
                scorer.scores(task.queries, task.gallery).block(0, len(task.queries)), split.relevant, split.families
            )
            for name, scorer in floors.scorers.items()
        },
        floors.left_out,
    )


def run_verdict(
    run: Run,
    split_name: str,
    choice: Choice,
    scored: Mapping[Variant, RetrievalResult],
    floors: FloorResults,
) -> Verdict:
    """The published variant against the best floor; none where val is measured and also chose.

    Args:
        scored: of every variant, on the measured split.
        floors: on the same.
    """
    split = run.splits[split_name]
    chosen_by_val = _chosen_by_val(run, choice)
    favored = ""
    if split_name == "val" and chosen_by_val:
        favored = f"there are no test queries, and val also chose {' and '.join(chosen_by_val)}, which favors the model"
    verdict = judge(
        scored[choice.variant].per_query[METRIC],
        {name: found.per_query[METRIC] for name, found in floors.results.items()},
        split.families,
        model=f"the trained embedder {choice.variant.in_words}",
        metric=METRIC,
        split=split_name,
        favored=favored,
        left_out=floors.left_out,
    )
    return dataclasses.replace(verdict, notes=_notes(choice, scored, split, split_name))


def _task(split: Split) -> RetrievalTask:
    queries = split.query_offers()
    return RetrievalTask(
        "fine", queries, split.gallery_offers(), split.relevant, np.full(len(queries), -1), split.families
    )


def _chosen_by_val(run: Run, choice: Choice) -> list[str]:
    """What the split val decided in this run."""
    recipe = run.recipe
    chosen = []
    if recipe.rar.max_steps and recipe.rar.eval_steps != 0:
        chosen.append("RAR's step")
    if recipe.cit.rounds:
        chosen.append("CIT's round")
    if choice.val_mrr:
        chosen.append("what is published")
    if recipe.evaluation.fuse and fusion_split(run) == "val":
        chosen.append("the fusion weights")
    return chosen


def _notes(choice: Choice, scored: Mapping[Variant, RetrievalResult], split: Split, split_name: str) -> tuple[str, ...]:
    """Whether attributes and words help, against the published variant without them."""
    variant, notes = choice.variant, []
    alike = [one for one in choice.variants if (one.weights is None) == (variant.weights is None)]
    plain = next((one for one in alike if one.attributes_on == "none"), Variant("none"))
    attributed = next((one for one in alike if one.attributes_on != "none"), None)
    if attributed:
        change, interval = _change(scored[attributed], scored[plain], split)
        where = f"{interval} on {split_name}"
        if variant == plain:
            notes.append(
                f"Generated attributes do not help on val: the embedder is published without them (with them {where})."
            )
        elif change < 0:
            chosen = ", though val chose them" if choice.val_mrr else ""
            notes.append(
                f"Generated attributes lower the score{chosen}: {where}; --attributes-on none leaves them out."
            )
    if not choice.val_mrr and len(choice.variants) > 1:
        notes.append(
            f"Val holds no query, so nothing chose what is published: the recipe's own way, {variant.in_words}."
        )
    elif variant.weights is None and any(one.weights for one in choice.variants):
        notes.append("Words beside the cosine do not help on val: the fusion weights are published as 0.")
    return tuple(notes)


def _change(ours: RetrievalResult, theirs: RetrievalResult, split: Split) -> tuple[float, str]:
    """How much R@1 differs, and the same in points with the paired interval."""
    test = paired_bootstrap(ours.per_query[METRIC], theirs.per_query[METRIC], split.families).difference
    interval = interval_text((test.mean, test.low, test.high)).replace("-", "−")
    return test.mean, f"{points(test.mean)} points R@1 {interval}"
