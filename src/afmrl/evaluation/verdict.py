"""The verdict: whether a model is better than the best method that learns nothing, over the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from afmrl.evaluation.metric_text import interval_text, metric_label, percent, points
from afmrl.evaluation.significance import PairedTest, paired_bootstrap, sign_flip_p_value

FLOOR_NAMES = {
    "tfidf": "TF-IDF",
    "bm25": "BM25",
    "color": "image colors",
    "tfidf+color": "TF-IDF + image colors",
    "minilm": "untrained MiniLM",
    "small": "the untrained small model",
}
LEVEL = 0.05
Conclusion = Literal["better", "no difference", "worse", "unjudged"]


@dataclass(frozen=True)
class Verdict:
    """A model against the best floor, over the same queries."""

    conclusion: Conclusion
    """"unjudged": nothing was compared, or the same offers also chose the model."""
    model: str
    """What was compared, in words."""
    reason: str = ""
    """Why it is unjudged."""
    floor: str = ""
    """The floor that it was compared with; "": none."""
    metric: str = "recall@1"
    value: float = float("nan")
    floor_value: float = float("nan")
    difference: tuple[float, float, float] = (float("nan"), float("nan"), float("nan"))
    """(mean, low, high) of the paired difference, 95 % interval over clusters."""
    p_value: float = float("nan")
    """Two-sided, by flipping the sign of whole clusters."""
    num_queries: int = 0
    num_clusters: int = 0
    """Families or products that were drawn together."""
    split: str = ""
    """Whose queries these are; "": not of a split."""
    floors: Mapping[str, float] = field(default_factory=dict)
    """Every floor's mean on the same queries."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Floors that were not measured, and why."""
    notes: Sequence[str] = ()
    """What else the reader should know first: whether attributes help, which variant was published. Sentences."""

    @property
    def text(self) -> str:
        """The verdict in one or two sentences."""
        floor, metric = FLOOR_NAMES.get(self.floor, self.floor), metric_label(self.metric)
        if not self.floor:
            alone = f" {metric} {percent(self.value)} %." if self.num_queries else ""
            return f"No verdict: {self.reason}.{alone}"
        shares = f"{percent(self.value)} % against {percent(self.floor_value)} %"
        interval = interval_text(self.difference).replace("-", "−")
        difference = f"{points(self.difference[0])} points {interval}"
        if self.conclusion == "better":
            by = f"{100 * self.difference[0]:.1f} points {metric} {interval}"
            return f"Better than {floor} by {by}: {shares}."
        if self.conclusion == "worse":
            return f"{floor} is better: use it. {metric} {shares}, {difference}."
        if self.conclusion == "unjudged":
            return f"No verdict: {self.reason}. {metric} {shares} for {floor}, {difference}."
        many = f"{self.num_queries:,} quer{'y' if self.num_queries == 1 else 'ies'}"
        return f"No difference to {floor} that {many} could show: {metric} {shares}, {difference}."

    @property
    def about(self) -> str:
        """What was compared with what, in a sentence."""
        left_out = "".join(f" Left out: {FLOOR_NAMES.get(n, n)} ({why})." for n, why in self.left_out.items())
        if not self.floor:
            return left_out.strip()
        names = [FLOOR_NAMES.get(name, name) for name in self.floors]
        which = names[0] if len(names) == 1 else f"the best of {', '.join(names)} on these queries, which favors it"
        split = f"{self.split} " if self.split else ""
        text = (
            f"Compared: {self.model} with {which}: {self.num_queries:,} {split}queries of {self.num_clusters:,} "
            f"products or families, which the 95 % interval draws whole (p {self.p_value:.2g})."
        )
        return text + left_out

    @property
    def remedy(self) -> str:
        """The command that uses the floor where it is the better one; "" otherwise."""
        return f"afmrl search OFFERS --model {self.floor}" if self.conclusion == "worse" else ""

    @property
    def lines(self) -> list[str]:
        """What a terminal prints first."""
        opening = "" if self.conclusion == "unjudged" else "Verdict: "
        first = [opening + self.text, *([f"  {self.remedy}"] if self.remedy else [])]
        return [*first, *self.notes, *([self.about] if self.about else [])]

    def as_json(self) -> dict[str, Any]:
        """What metrics.json holds under "verdict"; numbers with 6 decimals."""
        found: dict[str, Any] = {"conclusion": self.conclusion, "text": self.text, "model": self.model}
        if self.reason:
            found["reason"] = self.reason
        if self.left_out:
            found["left_out"] = dict(self.left_out)
        if self.notes:
            found["notes"] = list(self.notes)
        if not self.floor:
            return found
        return found | {
            "floor": self.floor,
            "metric": self.metric,
            "value": round(self.value, 6),
            "floor_value": round(self.floor_value, 6),
            "difference": [round(number, 6) for number in self.difference],
            "p_value": round(self.p_value, 6),
            "num_queries": self.num_queries,
            "num_clusters": self.num_clusters,
            "split": self.split,
            "floors": {name: round(value, 6) for name, value in self.floors.items()},
        }


def judge(
    ours: np.ndarray,
    floors: Mapping[str, np.ndarray],
    clusters: Sequence[str],
    *,
    model: str,
    metric: str = "recall@1",
    split: str = "",
    favored: str = "",
    left_out: Mapping[str, str] | None = None,
    num_resamples: int = 2000,
) -> Verdict:
    """Compare a model with the best floor, query by query.

    The best floor is that of the highest mean on the same queries: of several that is the kindest choice for the
    floors, so a model is never flattered by it. "better" means better than every floor; where one is not beaten, the
    verdict is about that one. "worse" allows for the choice (Bonferroni). A difference counts where its bootstrap
    interval leaves out 0 and sign flips of whole clusters agree: few clusters make the bootstrap too sure.

    Args:
        ours: the model's metric of each query.
        floors: the same of each floor; in the order of tables.
        clusters: Q names of products or families.
        favored: why these queries favor the model ("the split 'val' also chose it"): it is then not called better.

    Shape:
        ours (Q,), floors: name → (Q,).
    """
    left_out = left_out or {}
    if not len(ours):
        return Verdict("unjudged", model, "there is no query with a match", left_out=left_out)
    if not floors:
        return Verdict(
            "unjudged",
            model,
            "no floor was measured",
            metric=metric,
            value=float(np.mean(ours)),
            num_queries=len(ours),
            num_clusters=len(set(clusters)),
            split=split,
            left_out=left_out,
        )
    tests = {name: _test(ours, theirs, clusters, num_resamples) for name, theirs in floors.items()}
    means = {name: float(np.mean(theirs)) for name, theirs in floors.items()}
    unbeaten = [name for name in floors if _conclusion(*tests[name]) != "better"]
    chosen = max(unbeaten or floors, key=lambda name: means[name])
    difference, p_value = tests[chosen]
    conclusion = _conclusion(difference, p_value)
    if conclusion == "worse" and p_value * len(floors) >= LEVEL:
        conclusion = "no difference"
    reason = ""
    if favored and conclusion != "worse":
        conclusion, reason = "unjudged", favored
    return Verdict(
        conclusion,
        model,
        reason,
        chosen,
        metric,
        float(np.mean(ours)),
        means[chosen],
        (difference.mean, difference.low, difference.high),
        p_value,
        len(ours),
        len(set(clusters)),
        split,
        means,
        left_out,
    )


def _test(ours: np.ndarray, theirs: np.ndarray, clusters: Sequence[str], num_resamples: int) -> tuple[Any, float]:
    test: PairedTest = paired_bootstrap(ours, theirs, clusters, num_resamples=num_resamples)
    return test.difference, sign_flip_p_value(ours, theirs, clusters)


def _conclusion(difference: Any, p_value: float) -> Conclusion:
    if p_value < LEVEL and difference.low > 0:
        return "better"
    return "worse" if p_value < LEVEL and difference.high < 0 else "no difference"
