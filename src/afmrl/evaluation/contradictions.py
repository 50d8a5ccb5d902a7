"""Queries beside a look-alike that differs in one key: a red dress beside the navy one, 8 GB beside 16 GB."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.data.bad_rows import MAX_BAD
from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer, SkippedRow
from afmrl.errors import InputError
from afmrl.evaluation.slices import CONTRADICTS
from afmrl.evaluation.tasks import EVERYTHING, SHARED_GALLERY, Impossible, RetrievalTask, build_task, choose_split
from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.table import offer_table
from afmrl.matching.vetoes import Conflicts, paired, public_key

CONTRADICTS_BY = "contradicts_by"
NEAREST = 3
"""Look-alikes of a query that are looked at."""
READ_OFF = ("series ", "variant ")
"""Keys of facts that are compared as part of the model number."""


@dataclass(frozen=True)
class Contradiction:
    """What a query's look-alike differs in."""

    key: str
    by: str
    """Id of the look-alike: a gallery offer of another product."""


@dataclass(frozen=True)
class ContradictionReport:
    """What was written."""

    split: str
    queries: int
    """Queries of the split that have a match."""
    by_key: Mapping[str, int]
    """Queries that were kept, by the key in which their look-alike differs, the most frequent first."""
    gallery: int
    skipped: tuple[SkippedRow, ...]


def write_contradictions(
    file: str | Path,
    out: str | Path,
    *,
    split: str | None = None,
    gallery_splits: Sequence[str] = (),
    attributes: str = "attributes",
    max_bad: float = MAX_BAD,
) -> ContradictionReport:
    """Write a catalog of the queries whose look-alike in the gallery differs in exactly one key, and of the gallery.

    Each query has a column `contradicts`, the key, and `contradicts_by`, the look-alike's id. `afmrl evaluate` on the
    new catalog then reports its metrics by contradicted key.

    Args:
        file: a catalog with `product_id`.
        out: JSONL file to write; images stay where they are.
        split, gallery_splits: as for `afmrl evaluate`.
        attributes: column of the attributes that are compared; titles are read too.

    Raises:
        InputError: a catalog without queries, without such a column, or without a contradiction.
    """
    if Path(out).suffix.lower() not in (".jsonl", ".ndjson"):
        raise InputError(f"{out}: the catalog is written as .jsonl")
    if Path(out).exists() and Path(file).exists() and Path(out).samefile(file):
        raise InputError(f"{out}: is the catalog itself, of which only a part would be left; give another --out")
    catalog = read_catalog(file, max_bad=max_bad)
    chosen = choose_split(catalog.offers, split, gallery_splits)
    task = build_task("fine", chosen)
    if isinstance(task, Impossible):
        raise InputError(f"{file}: {task.reason}")
    found = contradictions(task, attributes=attributes)
    if not found:
        raise InputError(
            f"{file}: no query has a look-alike of another product that differs in one key; "
            "their titles and attributes must state it"
        )
    gallery = {offer.id for offer in task.gallery}
    queries = {query.id: query for query in task.queries if query.id in found}
    inside = {offer.id for offer in chosen.offers}
    offers = []
    for offer in (*queries.values(), *(offer for offer in task.gallery if offer.id not in queries)):
        # `afmrl evaluate` on the new catalog evaluates these queries, whatever other splits there are
        split_name = "" if chosen.name == EVERYTHING else chosen.name if offer.id in inside else SHARED_GALLERY
        extra = {**offer.extra, "split": split_name, "role": "gallery"}
        if offer.id in queries:
            one = found[offer.id]
            role = "both" if offer.id in gallery else "query"
            extra |= {"role": role, CONTRADICTS: one.key, CONTRADICTS_BY: one.by}
        offers.append(dataclasses.replace(offer, extra=extra))
    write_catalog(out, offers)
    by_key = Counter(one.key for one in found.values())
    num_queries = sum(len(rows) > 0 for rows in task.relevant)
    return ContradictionReport(
        chosen.name, num_queries, dict(by_key.most_common()), len(gallery), tuple(catalog.faults)
    )


def contradictions(task: RetrievalTask, *, attributes: str = "attributes") -> dict[str, Contradiction]:
    """Query id → what its look-alike differs in, of the queries that have a match and such a look-alike.

    Of a query's three most similar offers of other products, by the words of `afmrl match`, the nearest that differs in
    exactly one key counts. Keys are those that matching reads off titles and attributes; what only one of two offers
    states does not differ.

    Raises:
        InputError: no offer has a column `attributes`.
    """
    queries = [query for query, rows in zip(task.queries, task.relevant, strict=True) if len(rows)]
    offers = list({offer.id: offer for offer in (*queries, *task.gallery)}.values())
    rows = {offer.id: row for row, offer in enumerate(offers)}
    products = np.array([offer.product_id for offer in offers])
    if attributes != "attributes" and not any(isinstance(offer.extra.get(attributes), dict) for offer in offers):
        raise InputError(f"--attributes {attributes}: no offer has such a column of keys and values")
    table = offer_table([_stating(offer, attributes) for offer in offers])
    is_query, is_gallery = np.zeros((2, len(offers)), dtype=bool)
    is_query[[rows[query.id] for query in queries]] = True
    is_gallery[[rows[offer.id] for offer in task.gallery]] = True
    pairs = candidate_pairs(table)
    left, right = np.concatenate([pairs, pairs[::-1]], axis=1)
    kept = is_query[left] & is_gallery[right] & (products[left] != products[right])
    kept &= products[right] != ""  # of an unlabeled one nobody knows
    left, right = left[kept], right[kept]
    similarity = sum(
        weight * paired(words.weights, words.weights, left, right)
        for words, weight in ((table.titles, 1.0), (table.texts, 0.5))
    )
    order = np.lexsort((right, -np.asarray(similarity), left))
    left, right = left[order], right[order]
    first = np.flatnonzero(np.diff(left, prepend=-1))
    place = np.arange(len(left)) - np.repeat(first, np.diff(np.append(first, len(left))))
    left, right = left[place < NEAREST], right[place < NEAREST]
    compared = Conflicts(table, [key for key in table.keys if not key.startswith(READ_OFF)])
    differ = compared.of_pairs(left, right)[1]
    found: dict[str, Contradiction] = {}
    for pair, query in enumerate(left.tolist()):
        keys = {public_key(compared.keys[column]) for column in np.flatnonzero(differ[pair])}
        if len(keys) == 1 and offers[query].id not in found:
            found[offers[query].id] = Contradiction(keys.pop(), offers[right[pair]].id)
    return found


def _stating(offer: Offer, column: str) -> Offer:
    """The offer with the attributes of a column; without its label, from which nothing may be read."""
    if column == "attributes":
        return dataclasses.replace(offer, product_id="")
    stated = offer.extra.get(column)
    return dataclasses.replace(offer, product_id="", attributes=stated if isinstance(stated, dict) else {})
