"""Metrics for people: their names, their order, and their numbers in percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Metrics = Mapping[str, Sequence[float]]
"""Metric name -> (mean, low, high), shares of 1."""
METRIC_NAMES = {"recall@1": "R@1", "recall@5": "R@5", "recall@10": "R@10", "mrr": "MRR"}
"""The four that a ladder opens with, in this order."""
_LABELS = {
    "recall": "R", "mrr": "MRR", "map": "mAP", "ap": "AP", "ndcg": "NDCG", "prec": "Prec", "f1": "F1", "nmi": "NMI",
    "ari": "ARI", "recall_fraction": "recall fraction",
}  # fmt: skip


def metric_label(metric: str) -> str:
    """A metric's name as the field's tables write it.

    >>> metric_label("recall@10"), metric_label("mrr"), metric_label("ndcg@10"), metric_label("map@5")
    ('R@10', 'MRR', 'NDCG@10', 'mAP@5')
    >>> metric_label("recall_fraction@10"), metric_label("best_f1")
    ('recall fraction@10', 'best F1')
    """
    name, at, k = metric.partition("@")
    return (_LABELS.get(name) or " ".join(_LABELS.get(word, word) for word in name.split("_"))) + at + k


def ordered_metrics(rows: Sequence[Metrics]) -> tuple[str, ...]:
    """The metrics of all rows: R@1, R@5, R@10, MRR, then the others as they come.

    >>> ordered_metrics([{"mrr": (0.5, 0.4, 0.6), "hits": (1, 1, 1), "recall@1": (0.3, 0.2, 0.4)}])
    ('recall@1', 'mrr', 'hits')
    """
    present = {metric: None for row in rows for metric in row}
    return (*(m for m in METRIC_NAMES if m in present), *(m for m in present if m not in METRIC_NAMES))


def percent(share: float) -> str:
    """A share of 1 in percent, one decimal; a dash where there is no number.

    >>> percent(0.5428), percent(float("nan"))
    ('54.3', '–')
    """
    return f"{100 * share:.1f}" if math.isfinite(share) else "–"


def points(share: float) -> str:
    """A difference of shares in points of percent, with its sign.

    >>> points(0.0512), points(-0.03), points(-0.0001)
    ('+5.1', '−3.0', '0.0')
    """
    if not math.isfinite(share):
        return "–"
    shown = f"{100 * share:.1f}"
    return "0.0" if float(shown) == 0 else shown.replace("-", "−") if share < 0 else f"+{shown}"


def interval_text(interval: Sequence[float]) -> str:
    """The ends of (mean, low, high) in percent; "" where they are not known.

    >>> interval_text((0.5428, 0.5, 0.58))
    '[50.0, 58.0]'
    """
    _, low, high = interval
    return f"[{percent(low)}, {percent(high)}]" if math.isfinite(low) and math.isfinite(high) else ""


def mean_and_interval(interval: Sequence[float]) -> str:
    """Mean and interval in percent, on one line.

    >>> mean_and_interval((0.5428, 0.5, 0.58))
    '54.3 [50.0, 58.0]'
    """
    return f"{percent(interval[0])} {interval_text(interval)}".rstrip()
