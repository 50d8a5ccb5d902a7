"""Slices: for which queries a model is good, and for which it is not."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.columns import FAMILY_COLUMNS
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.evaluation.significance import bootstrap_intervals
from afmrl.retrieval.interval import Interval

CONTRADICTS = "contradicts"
"""Column and slice: the key in which a look-alike of the query differs (`afmrl dataset contradictions`)."""
MAX_VALUES = 12
"""The largest values of a slice are listed; the rest is pooled."""
MIN_CLUSTERS = 10
"""Families (or queries) below which a mean is given without an interval: a 95 % bootstrap over 8 of them was seen to
cover a share of 0.8 in 83 % of the draws, over 10 in 91 %."""
VALUE_ORDER = ("yes", "no", "none", "image", "title", "0", "1-2", "3-5", "6+")


def slices_of(
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    relevant: Sequence[np.ndarray],
    attributes: Sequence[KeyAttributes] | None = None,
    *,
    family_columns: Sequence[str] = FAMILY_COLUMNS,
) -> list[dict[str, str]]:
    """The slices of each query; what is not known of a query is left out of its dict.

    - "category": the query's category.
    - "sibling": "yes" where the gallery holds another product of the query's family, else "no".
      Another product has another `product_id`; where one of the two has none, it is an offer that is not relevant.
    - "missing": the part that the query lacks: "image", "title" or "none".
    - "num_attributes": "0", "1-2", "3-5" or "6+" key attributes; without `attributes` the seller's are counted, and
      the slice is left out where no query has any.
    - "contradicts": the key in which a look-alike of the query differs, where the catalog has this column.

    Args:
        attributes: the queries' key attributes, as the embedder read them.
        family_columns: columns that name the family; the first that is filled counts.

    Shape:
        queries Q offers, gallery N offers, relevant Q arrays of gallery rows, attributes Q; returns Q dicts.

    Raises:
        InputError: lengths that differ.

    >>> dress = Offer("q", title="dress", category="clothes", product_id="red", extra={"family_id": "f"})
    >>> blue = Offer("g", image="g.jpg", product_id="blue", extra={"family_id": "f"})
    >>> slices_of([dress], [blue], [np.array([], dtype=int)])
    [{'category': 'clothes', 'sibling': 'yes', 'missing': 'image'}]
    """
    for name, values in (("relevant", relevant), ("attributes", attributes)):
        if values is not None and len(values) != len(queries):
            raise InputError(f"slices: {len(values)} entries of {name} for {len(queries)} queries: one each is needed")
    if attributes is None:
        attributes = [KeyAttributes.of(offer.attributes) for offer in queries]
        counts = [len(of_offer) for of_offer in attributes] if any(map(len, attributes)) else None
    else:
        counts = [len(of_offer) for of_offer in attributes]
    siblings = _siblings(queries, gallery, relevant, family_columns)
    slices = []
    for row, offer in enumerate(queries):
        of_query = {}
        if offer.category.strip():
            of_query["category"] = offer.category.strip()
        if siblings[row] is not None:
            of_query["sibling"] = "yes" if siblings[row] else "no"
        of_query["missing"] = "none" if offer.image and offer.title.strip() else "title" if offer.image else "image"
        if counts is not None:
            of_query["num_attributes"] = _number_band(counts[row])
        if offer.extra.get(CONTRADICTS):
            of_query[CONTRADICTS] = str(offer.extra[CONTRADICTS])
        slices.append(of_query)
    return slices


def family_of(offer: Offer, columns: Sequence[str] = FAMILY_COLUMNS) -> str:
    """The offer's family, from the first of the columns that is filled; "" where none is.

    >>> family_of(Offer("1", title="x", extra={"style_id": 7}))
    '7'
    """
    for column in columns:
        value = offer.extra.get(column)
        if value is not None and value == value and str(value).strip():  # NaN: an empty cell of a table
            return str(value)
    return ""


@dataclass(frozen=True, slots=True)
class SliceScore:
    """The metrics of the queries of one slice."""

    num_queries: int
    num_clusters: int
    """Families (or queries, where no families are known) that they come from: what the bootstrap draws."""
    metrics: Mapping[str, Interval]
    """Metric -> mean and interval; low and high are NaN below MIN_CLUSTERS, and where all queries have the same value,
    for which a bootstrap interval means nothing."""


def by_slice(
    per_query: Mapping[str, np.ndarray],
    slices: Sequence[Mapping[str, str]],
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
    max_values: int = MAX_VALUES,
) -> dict[str, dict[str, SliceScore]]:
    """Means and intervals by slice and value; the values beyond the `max_values` largest are pooled as "other (…)".

    Categories come by size, largest first, "other" last. A slice that has one value for all queries is left out: it
    would repeat the table of all queries.

    Args:
        per_query: metric -> (Q,) values, as `RetrievalResult.per_query`.
        slices: of each query, as `slices_of` returns them.
        clusters: Q names, the units that the bootstrap draws; None: every query by itself.

    Raises:
        InputError: lengths that differ.

    >>> scores = by_slice({"mrr": np.array([1.0, 0.5, 0.0])}, [{"missing": m} for m in ("none", "none", "image")])
    >>> {value: (score.num_queries, score.metrics["mrr"].mean) for value, score in scores["missing"].items()}
    {'none': (2, 0.75), 'image': (1, 0.0)}
    """
    lengths = {len(slices), *(len(values) for values in per_query.values())}
    if clusters is not None:
        lengths.add(len(clusters))
    if len(lengths) > 1:
        raise InputError(f"slices: values, slices and clusters of {sorted(lengths)} queries: the same number is needed")
    names = dict.fromkeys(name for of_query in slices for name in of_query)
    scores: dict[str, dict[str, SliceScore]] = {}
    for name in names:
        rows: dict[str, list[int]] = defaultdict(list)
        for row, of_query in enumerate(slices):
            if name in of_query:
                rows[of_query[name]].append(row)
        if len(rows) == 1 and len(next(iter(rows.values()))) == len(slices):
            continue
        scores[name] = {
            value: _score(per_query, of_value, clusters, num_resamples)
            for value, of_value in _pooled(name, rows, max_values).items()
        }
    return scores


def slices_as_json(scores: Mapping[str, Mapping[str, SliceScore]]) -> dict[str, Any]:
    """What metrics.json holds under "slices": slice -> value -> counts and {metric: [mean, low, high]}, 6 decimals.

    An end that is not known is null: JSON has no NaN.
    """
    return {
        name: {
            value: {
                "num_queries": score.num_queries,
                "num_clusters": score.num_clusters,
                "metrics": {
                    metric: [_rounded(end) for end in (interval.mean, interval.low, interval.high)]
                    for metric, interval in score.metrics.items()
                },
            }
            for value, score in values.items()
        }
        for name, values in scores.items()
    }


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _number_band(count: int) -> str:
    return "0" if not count else "1-2" if count <= 2 else "3-5" if count <= 5 else "6+"


def _siblings(
    queries: Sequence[Offer], gallery: Sequence[Offer], relevant: Sequence[np.ndarray], columns: Sequence[str]
) -> list[bool | None]:
    """For each query whether a sibling is in the gallery; None where its family is unknown."""
    members: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(gallery):
        if family := family_of(offer, columns):
            members[family].append(row)
    if not members:
        return [None] * len(queries)  # a gallery without families cannot tell
    products = {family: {gallery[row].product_id for row in rows} for family, rows in members.items()}
    found: list[bool | None] = []
    for offer, of_query in zip(queries, relevant, strict=True):
        family = family_of(offer, columns)
        if not family:
            found.append(None)
        elif offer.product_id and "" not in products.get(family, {""}):
            found.append(bool(products[family] - {offer.product_id}))
        else:
            same = set(of_query.tolist())
            found.append(
                any(row not in same and gallery[row].id != offer.id and not _same_product(offer, gallery[row])
                    for row in members.get(family, ()))
            )  # fmt: skip
    return found


def _same_product(left: Offer, right: Offer) -> bool:
    return bool(left.product_id) and left.product_id == right.product_id


def _pooled(name: str, rows: Mapping[str, list[int]], max_values: int) -> dict[str, list[int]]:
    known = {value: place for place, value in enumerate(VALUE_ORDER)}
    if name != "category" and set(rows) <= set(known):
        return {value: rows[value] for value in sorted(rows, key=known.__getitem__)}
    sizes = Counter({value: len(of_value) for value, of_value in rows.items()})
    order = sorted(sizes, key=lambda value: (-sizes[value], value))
    if len(order) <= max_values:
        return {value: rows[value] for value in order}
    rest = order[max_values:]
    pooled = {value: rows[value] for value in order[:max_values]}
    kind = "categories" if name == "category" else "values"
    pooled[f"other ({len(rest)} {kind})"] = sorted(row for value in rest for row in rows[value])
    return pooled


def _score(
    per_query: Mapping[str, np.ndarray], rows: Sequence[int], clusters: Sequence[str] | None, num_resamples: int
) -> SliceScore:
    of_slice = {metric: np.asarray(values, dtype=np.float64)[list(rows)] for metric, values in per_query.items()}
    names = [clusters[row] for row in rows] if clusters is not None else None
    num_clusters = len(set(names)) if names is not None else len(rows)
    if num_clusters < MIN_CLUSTERS:
        metrics = {metric: _unsure(float(values.mean())) for metric, values in of_slice.items()}
    else:
        metrics = bootstrap_intervals(of_slice, names, num_resamples=num_resamples)
        metrics = {m: _unsure(i.mean) if np.ptp(of_slice[m]) == 0 else i for m, i in metrics.items()}
    return SliceScore(len(rows), num_clusters, metrics)


def _unsure(mean: float) -> Interval:
    return Interval(mean, float("nan"), float("nan"))
