"""qrels: which gallery offers match which query, and how well."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from afmrl.errors import InputError
from afmrl.files import read_lines, write_lines

SHOWN = 5


@dataclass(frozen=True)
class Qrels:
    """Matches of a query: gallery id to grade, only those of at least `min_grade`."""

    matches: dict[str, dict[str, int]]
    min_grade: int
    grades: dict[str, dict[str, int]] = field(default_factory=dict)
    """All pairs with a grade above 0, those below `min_grade` too: graded metrics gain by them."""


def read_qrels(
    path: str | Path,
    query_ids: Collection[str],
    gallery_ids: Collection[str],
    *,
    min_grade: int | None = None,
    skipped_ids: Collection[str] = (),
) -> Qrels:
    """Lines of query id, gallery id, grade, separated by tabs.

    Args:
        min_grade: grade from which a pair is a match; None: the highest grade present.
        skipped_ids: ids of catalog rows that were skipped as unreadable: their lines are skipped.

    Raises:
        InputError: a malformed line, ids that are in neither catalog, or no match left.
    """
    path = Path(path)
    try:
        lines = read_lines(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: qrels cannot be read ({error})") from error
    queries, gallery, skipped = set(query_ids), set(gallery_ids), set(skipped_ids)
    found: list[tuple[str, str, int]] = []
    unknown: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        parts = line.split("\t")
        try:
            query, offer, grade = parts[0], parts[1], int(parts[2])
            if len(parts) != 3:
                raise ValueError
        except (IndexError, ValueError):
            raise InputError(
                f"{path}:{number}: {line[:80]!r} is not 'query id, gallery id, grade' separated by tabs"
            ) from None
        if query in skipped or offer in skipped:
            continue
        if query not in queries:
            unknown.append(f"{path}:{number}: query id {query!r} is not in the query catalog")
        elif offer not in gallery:
            unknown.append(f"{path}:{number}: gallery id {offer!r} is not in the gallery catalog")
        else:
            found.append((query, offer, grade))
    if unknown:
        more = f"\n  … and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise InputError(
            f"{len(unknown)} qrels name unknown ids; give the catalogs they were made for:\n  "
            + "\n  ".join(unknown[:SHOWN])
            + more
        )
    if not found:
        raise InputError(f"{path}: holds no qrels")
    bound = max(grade for _, _, grade in found) if min_grade is None else min_grade
    matches: dict[str, dict[str, int]] = {}
    grades: dict[str, dict[str, int]] = {}
    for query, offer, grade in found:
        if grade >= bound:
            matches.setdefault(query, {})[offer] = grade
        if grade > 0:
            grades.setdefault(query, {})[offer] = grade
    if not matches:
        raise InputError(f"{path}: no pair has a grade of at least {bound}; lower --min-grade")
    return Qrels(matches, bound, grades)


def write_qrels(path: str | Path, matches: Mapping[str, Mapping[str, int]]) -> None:
    """Write qrels, atomically, in the given order."""
    write_lines(
        path, (f"{query}\t{offer}\t{grade}" for query, offers in matches.items() for offer, grade in offers.items())
    )
