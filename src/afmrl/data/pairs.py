"""Labeled pairs of offers: read from a file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from afmrl.data.offer import Offer
from afmrl.errors import InputError

PAIRS_FILE = "pairs.jsonl"
"""Looked for in the catalog's folder."""
SHOWN = 5


@dataclass(frozen=True, slots=True)
class LabeledPair:
    """Two offers, and whether they are the same product."""

    left: Offer
    right: Offer
    same: bool
    split: str = ""
    """`pair_split` of the file: train, validation, test, as its publisher named them."""


def read_pairs(
    path: str | Path, offers: Mapping[str, Offer], *, skipped_ids: Collection[str] = ()
) -> list[LabeledPair]:
    """Pairs of a JSONL file: `left`, `right` (offer ids), `label` (1 same product, 0 not), and maybe `pair_split`.

    Args:
        offers: the catalog's offers by id.
        skipped_ids: ids of catalog rows that were skipped as unreadable: pairs that name them are left out.

    Raises:
        InputError: a file that cannot be read, a malformed line, or ids that are not in the catalog.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"pairs {path}: cannot be read ({error})") from error
    pairs: list[LabeledPair] = []
    unknown: list[str] = []
    skipped = set(skipped_ids)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            left, right, label = str(row["left"]), str(row["right"]), row["label"]
            if label not in (0, 1):
                raise ValueError(f"label {label!r} is neither 0 nor 1")
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f'pairs {path}:{number}: expected {{"left": id, "right": id, "label": 0 or 1}} ({error})'
            ) from error
        if {left, right} & skipped:
            continue
        missing = [i for i in (left, right) if i not in offers]
        if missing:
            unknown.append(f"{path}:{number}: offer id {missing[0]!r} is not in the catalog")
            continue
        pairs.append(LabeledPair(offers[left], offers[right], bool(label), str(row.get("pair_split") or "")))
    if unknown:
        more = f"\n  … and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise InputError(
            f"{len(unknown)} pairs name unknown ids; give the catalog they were made for:\n  "
            + "\n  ".join(unknown[:SHOWN])
            + more
        )
    if not pairs:
        raise InputError(f"pairs {path}: holds no pair")
    return pairs
