"""What is compared of two offers, as numbers: each says by itself how much they look or read like one product."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from afmrl.matching.facts.choices import CHOICES
from afmrl.matching.table import OfferTable
from afmrl.matching.vetoes import CODES, SOFT, Conflicts, paired

TEXT_FEATURES = (
    "title cosine", "title overlap", "title rest", "text cosine", "rarest shared word", "numbers agree",
    "numbers differ", "code agrees", "part of code agrees", "code differs", "other codes", "another code differs",
    "series agrees", "series differs", "variant differs", "color agrees", "color differs", "color on one side",
    "measures agree", "measures differ", "edition agrees", "edition differs", "edition on one side", "choice differs",
    "soft differs", "brand agrees", "brand differs", "gtin agrees",
)  # fmt: skip
CONFLICT_FEATURES = frozenset(
    ("code differs", "series differs", "variant differs", "color differs", "measures differ", "edition differs",
     "choice differs")
)  # fmt: skip
"""What a veto rests on; without them the score says how alike two offers are otherwise."""
IMAGE_FEATURES = ("images", "color cosine", "colors equal")
"""Zero where one of the two has no image."""
DENSE_FEATURES = ("dense cosine", "dense text cosine", "dense image cosine")
"""Fused; text alone and image alone only where both have images: elsewhere the first is the text's."""
RANDOM_PAIRS = 20_000
FALLING = frozenset(
    ("title rest", "numbers differ", "code differs", "other codes", "another code differs", "series differs",
     "variant differs", "color differs", "color on one side", "measures differ", "edition differs",
     "edition on one side", "choice differs", "soft differs", "brand differs", "images")
)  # fmt: skip
"""Features that can only speak against one product; all others only for it."""
EDITION_KEYS = ("edition", "license", "platform", "users", "year")


def feature_names(table: OfferTable) -> tuple[str, ...]:
    """What can be compared of a table's offers."""
    return TEXT_FEATURES + IMAGE_FEATURES + (DENSE_FEATURES if table.dense else ())


@dataclass(frozen=True)
class PairFeatures:
    """Of P pairs.

    Shape:
        values (P, F) float32, columns as `names`; agree, differ (P, K) bool, columns as `keys`.
    """

    names: tuple[str, ...]
    values: np.ndarray
    keys: tuple[str, ...]
    agree: np.ndarray
    differ: np.ndarray
    same_gtin: np.ndarray
    """(P,) bool."""

    def at(self, rows: np.ndarray) -> PairFeatures:
        """Of some of the pairs."""
        return PairFeatures(
            self.names, self.values[rows], self.keys, self.agree[rows], self.differ[rows], self.same_gtin[rows]
        )


class Comparer:
    """Compares pairs of offers of one table."""

    def __init__(self, table: OfferTable, keys: Collection[str] = ()) -> None:
        self.table = table
        self.conflicts = Conflicts(table, keys)
        self.names = feature_names(table)
        self._typical = {name: _typical_cosine(rows) for name, rows in table.dense.items()}
        self._with_image: Any = None if table.colors is None else table.colors.any(axis=1)
        places = {key: place for place, key in enumerate(self.conflicts.keys)}
        self._edition = [places[key] for key in EDITION_KEYS]
        self._soft = [places[key] for key in SOFT]
        special = {*CODES, *EDITION_KEYS, *SOFT, "gtin", "color", "mpn", *CHOICES, *keys}
        self._measures = [place for key, place in places.items() if key not in special]
        self._place = places
        self._stated = {
            key: np.diff(table.values[:, table.keys[key]].indptr) > 0 for key in EDITION_KEYS if key in table.keys
        }
        self._choices = [places[key] for key in CHOICES]
        self._numbers = np.diff(table.numbers.indptr)
        self._codes = np.diff(table.codes.indptr)
        self._known = table.codes
        self._colored = (
            np.diff(table.values[:, table.keys["color"]].indptr) > 0
            if "color" in table.keys
            else np.zeros(len(table), bool)
        )
        self._brand = table.values[:, table.keys["brand"]] if "brand" in table.keys else None

    def compare(self, left: np.ndarray, right: np.ndarray) -> PairFeatures:
        """Features of the pairs of rows `left` and `right`."""
        table = self.table
        agree, differ = self.conflicts.of_pairs(left, right)
        column: dict[str, Any] = {}
        titles, texts = table.titles, table.texts
        column["title cosine"] = paired(titles.weights, titles.weights, left, right)
        ours, theirs = titles.present[left], titles.present[right]
        both = ours.minimum(theirs)
        shared = np.asarray(both.sum(axis=1)).ravel()
        least = np.minimum(titles.mass[left], titles.mass[right])
        column["title overlap"] = shared / np.maximum(least, 1e-6)
        # words that each offer has alone: where both have some, they name something different
        column["title rest"] = np.log1p(np.minimum(titles.mass[left], titles.mass[right]) - shared)
        column["text cosine"] = paired(texts.weights, texts.weights, left, right)
        column["rarest shared word"] = np.asarray(both.max(axis=1).todense()).ravel()
        same, loose, conflict = self.conflicts.codes_of_pairs(left, right)
        codes: np.ndarray = self._codes > 0
        column["code agrees"] = same
        column["part of code agrees"] = loose
        column["code differs"] = conflict
        column["other codes"] = codes[left] & codes[right] & ~same & ~loose & ~conflict
        column["series agrees"] = agree[:, self._place["series"]]
        column["series differs"] = differ[:, self._place["series"]]
        column["variant differs"] = differ[:, self._place["variant"]]
        column["color agrees"] = agree[:, self._place["color"]]
        column["color differs"] = differ[:, self._place["color"]]
        column["measures agree"] = np.minimum(agree[:, self._measures].sum(axis=1), 3)
        column["measures differ"] = np.minimum(differ[:, self._measures].sum(axis=1), 2)
        column["edition agrees"] = np.minimum(agree[:, self._edition].sum(axis=1), 2)
        column["edition differs"] = np.minimum(differ[:, self._edition].sum(axis=1), 2)
        one = [stated[left] != stated[right] for stated in self._stated.values()]
        column["edition on one side"] = np.minimum(np.sum(one, axis=0), 2) if one else np.zeros(len(left))
        column["soft differs"] = np.minimum(differ[:, self._soft].sum(axis=1), 2)
        column["brand agrees"], column["brand differs"] = self._brands(left, right)
        # a part number is its brand's own
        agree[:, self._place["mpn"]] &= ~column["brand differs"]
        column["gtin agrees"] = agree[:, self._place["gtin"]] | agree[:, self._place["mpn"]]
        column["choice differs"] = differ[:, self._choices].any(axis=1)
        shared = paired(table.numbers, table.numbers, left, right)
        lone = np.minimum(self._numbers[left], self._numbers[right]) - shared
        column["numbers agree"] = np.minimum(shared, 4)
        column["numbers differ"] = np.minimum(lone, 3)
        column["color on one side"] = self._colored[left] != self._colored[right]
        ours = self._codes[left] - paired(self._known, table.forms, left, right)
        theirs = self._codes[right] - paired(table.forms, self._known, left, right)
        column["another code differs"] = same & (ours > 0) & (theirs > 0)
        self._images(left, right, column)
        if table.dense:
            self._dense(left, right, column)
        values = np.column_stack([column[name] for name in self.names]).astype(np.float32)
        return PairFeatures(
            self.names, values, self.conflicts.keys, agree, differ, self.conflicts.same_gtin(left, right)
        )

    def _images(self, left: np.ndarray, right: np.ndarray, column: dict[str, Any]) -> None:
        for name in IMAGE_FEATURES:
            column[name] = np.zeros(len(left), dtype=np.float32)
        if self._with_image is None or self.table.colors is None:
            return
        with_image: np.ndarray = self._with_image
        rows = np.flatnonzero(with_image[left] & with_image[right])
        cosine = np.einsum("pd,pd->p", self.table.colors[left[rows]], self.table.colors[right[rows]])
        column["images"][rows] = 1
        column["color cosine"][rows] = cosine
        column["colors equal"][rows] = cosine > 0.9999

    def _dense(self, left: np.ndarray, right: np.ndarray, column: dict[str, Any]) -> None:
        both = column["images"] > 0
        for name, of in zip(DENSE_FEATURES, ("fused", "text", "image"), strict=True):
            column[name] = np.zeros(len(left), dtype=np.float32)
            rows = self.table.dense.get(of)
            if rows is None:
                continue
            pairs = np.arange(len(left)) if of == "fused" else np.flatnonzero(both)
            ours, theirs = (np.asarray(rows[end[pairs]], dtype=np.float32) for end in (left, right))
            cosine = np.einsum("pd,pd->p", ours, theirs)
            # models differ in how alike unlike offers are: 0 is a random pair, 1 the same text
            known = ours.any(axis=1) & theirs.any(axis=1)
            column[name][pairs] = np.where(known, (cosine - self._typical[of]) / (1 - self._typical[of]), 0)

    def _brands(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._brand is None:
            return np.zeros(len(left), dtype=bool), np.zeros(len(left), dtype=bool)
        stated = np.diff(self._brand.indptr) > 0
        shared = paired(self._brand, self._brand, left, right) > 0
        return shared, stated[left] & stated[right] & ~shared


def _typical_cosine(rows: np.ndarray) -> float:
    """Mean cosine of random pairs."""
    draw = np.random.default_rng(0)
    left, right = draw.integers(len(rows), size=(2, RANDOM_PAIRS))
    cosine = np.einsum("pd,pd->p", rows[left].astype(np.float32), rows[right].astype(np.float32))
    return min(float(cosine[left != right].mean()) if (left != right).any() else 0.0, 0.99)
