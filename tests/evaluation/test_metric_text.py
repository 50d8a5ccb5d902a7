"""Metrics' names and numbers for people."""

import math

from afmrl.evaluation.metric_text import metric_label, points


def test_names_and_signs_of_numbers() -> None:
    names = ["recall@1", "hit_rate@5", "recall_fraction@10", "map@5", "ndcg@10", "prec@1", "nmi", "best_f1", "accuracy"]
    assert [metric_label(name) for name in names] == [
        "R@1", "hit rate@5", "recall fraction@10", "mAP@5", "NDCG@10", "Prec@1", "NMI", "best F1", "accuracy"
    ]  # fmt: skip
    assert [points(value) for value in (0.05, -0.05, 0.0, -0.0004, math.nan)] == ["+5.0", "−5.0", "0.0", "0.0", "–"]
