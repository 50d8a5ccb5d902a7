"""Labeled pairs of offers: read from a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from afmrl.data.delimited import DelimitedFile, detect_dialect
from afmrl.data.offer import BadRow, Offer
from afmrl.data.rows import TABLES
from afmrl.errors import InputError
from afmrl.files import check_regular, parse_json, read_lines

PAIRS_FILE = "pairs.jsonl"
"""Looked for in the catalog's folder."""
SHOWN = 5
MAX_GONE = 0.5
"""Share of labeled pairs whose offers may be gone from a catalog that lives on."""


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
    """Labeled pairs of a file: `left`, `right` (offer ids), `label` (1 same product, 0 not), and maybe `pair_split`.

    JSONL or a table; also the pairs that `afmrl match` writes, whose label is `same`.

    Args:
        offers: the catalog's offers by id.
        skipped_ids: ids of catalog rows that were skipped as unreadable: pairs that name them are left out.

    Raises:
        InputError: a file that cannot be read, a malformed line, or ids that are not in the catalog.
    """
    return read_known_pairs(path, offers, skipped_ids=skipped_ids, max_gone=0.0)[0]


def read_known_pairs(
    path: str | Path, offers: Mapping[str, Offer], *, skipped_ids: Collection[str] = (), max_gone: float = MAX_GONE
) -> tuple[list[LabeledPair], int]:
    """As `read_pairs`, for labels that are older than the catalog: pairs of offers that are gone are left out.

    Args:
        max_gone: share of the pairs that may name ids which are not in the catalog; of more the file is another
            catalog's.

    Returns:
        The pairs, and how many were left out for such ids.

    Raises:
        InputError: as `read_pairs`, but for ids only where they are too many.
    """
    path = Path(path)
    pairs: list[LabeledPair] = []
    unknown: list[str] = []
    skipped = set(skipped_ids)
    for number, left, right, is_same, split in read_pair_rows(path):
        if {left, right} & skipped:
            continue
        missing = [i for i in (left, right) if i not in offers]
        if missing:
            unknown.append(f"{path}:{number}: offer id {missing[0]!r} is not in the catalog")
            continue
        pairs.append(LabeledPair(offers[left], offers[right], is_same, split))
    if len(unknown) > max_gone * (len(unknown) + len(pairs)):
        more = f"\n  … and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise InputError(
            f"{len(unknown)} pairs name unknown ids; give the catalog they were made for:\n  "
            + "\n  ".join(unknown[:SHOWN])
            + more
        )
    if not pairs:
        raise InputError(f"pairs {path}: holds no pair")
    return pairs, len(unknown)


class PairRow(NamedTuple):
    """One row of a file of pairs."""

    number: int
    left: str
    right: str
    is_same: bool
    split: str


def read_pair_rows(path: str | Path, *, name: str = "pairs", unlabeled: bool = False) -> Iterator[PairRow]:
    """The rows of a file of pairs, whose ids may be of any catalog.

    Args:
        name: what error messages call the file.
        unlabeled: a row without a label is a pair of the same product.

    Raises:
        InputError: a file that cannot be read, or a malformed row.
    """
    path = Path(path)
    try:
        check_regular(path)
        is_table = path.suffix.lower() in TABLES and path.stat().st_size > 0
        rows = DelimitedFile(path, detect_dialect(path)).rows() if is_table else _json_rows(path)
        for number, row in rows:
            try:
                if isinstance(row, BadRow):
                    raise ValueError(row.reason)
                label = next((row[of] for of in ("label", "same") if of in row), True if unlabeled else None)
                split = str(row.get("pair_split") or "")
                pair = PairRow(number, str(row["left"]), str(row["right"]), _is_same(label), split)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f'{name} {path}:{number}: expected {{"left": id, "right": id, "label": 0 or 1}} ({error})'
                ) from error
            yield pair
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} {path}: cannot be read ({error})") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | BadRow]]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except (ValueError, RecursionError) as error:
            yield number, BadRow("line", str(error))
            continue
        yield number, row if isinstance(row, dict) else BadRow("line", "not an object")


def _is_same(label: Any) -> bool:
    """A label as JSON or a table has it: 0, 1, true, false."""
    if isinstance(label, str):
        known = {"0": False, "1": True, "false": False, "true": True}.get(label.strip().lower())
    else:
        known = bool(label) if isinstance(label, int | float) and label in (0, 1) else None
    if known is None:
        raise ValueError(f"label {label!r} is none of 0, 1, true, false")
    return known
