"""Candidate pairs of offers that come to a match which exists.

Whether such a pair is compared depends on the two offers, and on the offers of the first run: never on what else came
meanwhile. So the pairs are the same in whatever order and batches offers come.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from afmrl.errors import InputError
from afmrl.matching.candidates import MAX_CANDIDATES, MAX_SHARING, NEIGHBORS
from afmrl.matching.columns import CatalogFacts, OfferColumns
from afmrl.matching.table import texts_of

MAX_EACH, LEAST = 300, 200_000
"""Pairs of a new offer, on average, above which an update is refused, and pairs that are always compared: offers of a
kind that the first run hardly knew are all like each other by what it learned."""
AT_ONCE = 20_000_000
"""Similarities that are in memory at a time, about."""
SLACK = 1e-5  # sums of floats in another order


def new_candidates(
    columns: OfferColumns,
    catalog: CatalogFacts,
    floors: dict[str, np.ndarray],
    colors: np.ndarray | None,
    ids: np.ndarray,
    *,
    num_first: int,
    num_kept: int,
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Pairs of a new offer with any other, each once.

    By words and by colors: a new offer and its best 30 (10) of the first run; and two offers that both came later, if
    they are more alike than one of them and the last of its best. By codes: offers that share a model number, part
    number or GTIN that few offers of the first run had.

    Args:
        columns, colors: of all offers: `num_first` of the first run, others up to `num_kept`, and the new ones.
        floors: "words", "colors" → (n,) of the offers that are not new: how alike an offer and the last of its best
            are; infinite for the first run's.
        ids: (N,) order of the offers' ids.

    Shape:
        returns (P,), (P,) rows, and the floors of all offers.

    Raises:
        InputError: more pairs than MAX_EACH a new offer.
    """
    count, new = len(columns), np.arange(num_kept, len(columns))
    found = [np.empty(0, np.int64)]
    floors = {name: np.append(of, np.zeros(count - len(of), np.float32)) for name, of in floors.items()}
    texts = [texts_of(columns.counts[name], of).weights for name, of in _texts(catalog)]
    texts[1].data *= np.float32(0.5**0.5)
    limit = max(MAX_EACH * len(new), LEAST)
    found.append(_by_words(texts, floors["words"], num_first, num_kept, limit))
    counts = columns.counts
    shared = [(counts["codes"], counts[name]) for name in ("codes", "forms", "loose")]
    shared += [(of, of) for of in (counts["stems"], counts["gtin"], counts["mpn"], columns.distrusted)]
    for ours, theirs in shared:
        found.append(_sharing(ours, theirs, num_first, new, limit))
    for values in (counts["gtin"], columns.distrusted):
        found.append(_in_a_row(values, ids, num_first, new, limit))
    if colors is not None:
        found.append(_by_colors(colors, floors["colors"], num_first, num_kept, limit))
    pairs = np.unique(np.concatenate(found))
    return pairs // count, pairs % count, floors


def _texts(catalog: CatalogFacts) -> list[tuple[str, Any]]:
    return [("title", catalog.titles), ("text", catalog.texts)]


def _check_limit(num_pairs: int, limit: int) -> None:
    if num_pairs > limit:
        raise InputError(
            f"the new offers are like each other in more than {limit:,} pairs by what the first run learned, so it "
            "knew too little of their kind; match the whole catalog with --previous, which keeps the ids too"
        )


def _coded(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    left, right = np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)
    kept = left != right
    left, right = left[kept], right[kept]
    return np.unique(np.minimum(left, right) * count + np.maximum(left, right))


def _by_words(texts: list[Any], floors: np.ndarray, num_first: int, num_kept: int, limit: int) -> np.ndarray:
    from scipy import sparse

    weights = sparse.hstack(texts, "csr")
    count = weights.shape[0]
    weights = weights[:, np.unique(weights[num_kept:].indices)]
    found = [np.empty(0, np.int64)]
    step, num_pairs = max(1, AT_ONCE // max(count, 1)), 0
    for start in range(num_kept, count, step):
        stop = min(start + step, count)
        alike = (weights @ weights[start:stop].T).tocsc()
        for place in range(stop - start):
            entries = slice(alike.indptr[place], alike.indptr[place + 1])
            rows, values = alike.indices[entries], alike.data[entries]  # by rows: they come from rows in order
            found.append(_near(start + place, rows, values, floors, num_first, num_kept, MAX_CANDIDATES, count))
            num_pairs += len(found[-1])
            _check_limit(num_pairs, limit)
    return np.concatenate(found)


def _near(
    row: int, rows: np.ndarray, values: np.ndarray, floors: np.ndarray, num_first: int, num_kept: int, best: int,
    count: int,
) -> np.ndarray:  # fmt: skip
    """Coded pairs of a new row with rows of which similarities are known; sets the floor of the new one.

    Shape:
        rows (n,), rising; values (n,).
    """
    is_first = rows < num_first
    of_first = values[is_first]
    if len(of_first) < best:
        floors[row], nearest = 0.0, np.arange(len(of_first))
    else:
        floors[row] = least = np.partition(of_first, len(of_first) - best)[len(of_first) - best]
        above = np.flatnonzero(of_first > least)  # of equal ones, the first rows
        nearest = np.append(above, np.flatnonzero(of_first == least)[: best - len(above)])
    near = np.zeros(len(rows), dtype=bool)
    near[np.flatnonzero(is_first)[nearest]] = True
    later = ~is_first
    floor = np.where(rows[later] < num_kept, np.minimum(floors[rows[later]], floors[row]), floors[row])
    near[later] = values[later] > floor + SLACK
    return _coded(count, np.full(near.sum(), row), rows[near])


def _by_colors(colors: np.ndarray, floors: np.ndarray, num_first: int, num_kept: int, limit: int) -> np.ndarray:
    count = len(colors)
    known = np.flatnonzero(colors.any(axis=1))
    found, num_pairs = [np.empty(0, np.int64)], 0
    histograms = colors[known]
    for place in np.flatnonzero(known >= num_kept).tolist():
        # one product a row: its sums are the same whatever other rows come with it
        values = np.delete(histograms @ histograms[place], place)
        rows = np.delete(known, place)
        found.append(_near(int(known[place]), rows, values, floors, num_first, num_kept, NEIGHBORS, count))
        num_pairs += len(found[-1])
        _check_limit(num_pairs, limit)
    return np.concatenate(found)


def _frequency(columns: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each of the `asked` columns, sorted, is among `columns`."""
    place = np.searchsorted(asked, columns)
    place[place == len(asked)] = 0
    return np.bincount(place[asked[place] == columns], minlength=len(asked))


def _sharing(ours: Any, theirs: Any, num_first: int, new: np.ndarray, limit: int) -> np.ndarray:
    """Coded pairs of a new row and another that share a column which few rows of the first run have."""
    count = ours.shape[0]
    asked = np.unique(np.concatenate([ours[new].indices, theirs[new].indices]))
    found = [np.empty(0, np.int64)]
    if not len(asked):
        return found[0]
    num_ours, num_theirs = (of.indptr[num_first] for of in (ours, theirs))
    rare = _frequency(ours.indices[:num_ours], asked) <= MAX_SHARING
    rare &= _frequency(theirs.indices[:num_theirs], asked) <= MAX_SHARING
    asked = asked[rare]
    if not len(asked):
        return found[0]
    narrow = [_narrowed(of, asked) for of in (ours, theirs)]
    for one, other in (narrow, narrow[::-1]):
        of_column = [np.bincount(of.indices, minlength=len(asked)) for of in (one[new], other)]
        _check_limit(int(of_column[0] @ of_column[1]), limit)
        block = (one[new] @ other.T).tocoo()
        found.append(_coded(count, new[block.row], block.col))
    return np.concatenate(found)


def _narrowed(matrix: Any, asked: np.ndarray) -> Any:
    from scipy import sparse

    place = np.searchsorted(asked, matrix.indices)
    place[place == len(asked)] = 0
    kept = asked[place] == matrix.indices
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[kept]
    return sparse.csr_matrix((np.ones(len(rows), np.int32), (rows, place[kept])), shape=(matrix.shape[0], len(asked)))


def _in_a_row(values: Any, ids: np.ndarray, num_first: int, new: np.ndarray, limit: int) -> np.ndarray:
    """Coded pairs of a new row and others near it, among the rows of a value that many rows of the first run have.

    Near are those with up to MAX_SHARING // 2 rows of the first run between them, in the order of ids.
    """
    count, found, num_pairs = values.shape[0], [np.empty(0, np.int64)], 0
    asked = np.unique(values[new].indices)
    if not len(asked):
        return found[0]
    asked = asked[_frequency(values.indices[: values.indptr[num_first]], asked) > MAX_SHARING]
    if not len(asked):
        return found[0]
    by_value: Any = _narrowed(values, asked).tocsc()
    for column in range(len(asked)):
        rows = np.sort(by_value.indices[by_value.indptr[column] : by_value.indptr[column + 1]])
        first = np.sort(ids[rows[rows < num_first]])
        place = np.searchsorted(first, ids[rows])
        for row in rows[rows >= new[0]].tolist():
            near = np.abs(place - np.searchsorted(first, ids[row])) <= MAX_SHARING // 2
            found.append(_coded(count, np.full(near.sum(), row), rows[near]))
            num_pairs += len(found[-1])
            _check_limit(num_pairs, limit)
    return np.concatenate(found)
