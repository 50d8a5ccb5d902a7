"""How true a completion is: which of its pairs the targets confirm, and an F score of pairs."""

from __future__ import annotations

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.schema import comparable


def pair_f_score(written: KeyAttributes, targets: KeyAttributes, beta: float = 1.0) -> float:
    """F score of `key: value` pairs; 1 where both are empty. Recall counts `beta` times as much as precision.

    >>> pair_f_score(KeyAttributes.of({"color": "red", "size": "m"}), KeyAttributes.of({"color": "red"}))
    0.6666666666666666
    """
    if not len(written) and not len(targets):
        return 1.0
    right = len(comparable(written).items() & comparable(targets).items())
    return (1 + beta**2) * right / (len(written) + beta**2 * len(targets))


def true_pairs(written: KeyAttributes, targets: KeyAttributes) -> KeyAttributes:
    """The pairs that the targets hold too, in the order and the spelling written.

    >>> str(true_pairs(KeyAttributes.of({"size": "m", "color": "red"}), KeyAttributes.of({"color": "red"})))
    'color: red'
    """
    known, compared = comparable(targets), comparable(written)
    return KeyAttributes(tuple(pair for pair in written if known.get(pair[0]) == compared[pair[0]]))
