"""How true written key attributes are, key by key, against labels."""

from __future__ import annotations

from collections.abc import Sequence

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import comparable


def attribute_accuracy(
    written: Sequence[KeyAttributes], labels: Sequence[KeyAttributes]
) -> dict[str, dict[str, float]]:
    """Per key of the labels: precision (written values that are right; one without a label is wrong) and recall.

    Values are compared in one form (`schema.normalize_value`). Offers without any label say nothing of what is
    true, and are passed over.

    >>> attribute_accuracy([KeyAttributes.of({"color": "red"})], [KeyAttributes.of({"color": "red"})])
    {'color': {'precision': 1.0, 'recall': 1.0, 'labeled': 1}}
    """
    keys = sorted({key for of_offer in labels for key, _ in of_offer})
    counts = {key: [0, 0, 0] for key in keys}  # right, written, labeled
    for ours, theirs in zip(written, labels, strict=True):
        if not len(theirs):
            continue
        mine, true = comparable(ours), comparable(theirs)
        for key in keys:
            counts[key][0] += key in mine and mine[key] == true.get(key)
            counts[key][1] += key in mine
            counts[key][2] += key in true
    return {
        key: {
            "precision": round(right / max(written_, 1), 4),
            "recall": round(right / max(labeled, 1), 4),
            "labeled": labeled,
        }
        for key, (right, written_, labeled) in counts.items()
    }
