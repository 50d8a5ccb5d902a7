"""Labeled pairs as rows of a table, and what they say of pairs that nobody labeled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from afmrl.attributes.missing import says_nothing
from afmrl.data.offer import Offer
from afmrl.data.pairs import LabeledPair

MAX_PAIRS = 200_000
"""Pairs of labeled products that are learned from; of more, so many are drawn with a seed."""
MIN_SAME = 10
"""Candidates of one `product_id` below which it is no label: a shop's may be another number for every row."""
SURE_CYCLES = 20
"""Independent cycles of a graph, from which having two sides is no chance."""


@dataclass(frozen=True)
class LabeledRows:
    """Labeled pairs as rows of a table, and the offers whose labels are known.

    Shape:
        left, right (P,) rows; same (P,) bool; split P names: "train", "validation", "test" or ""; products (N,) product
        numbers of the offers where every two of them are known to be the same or not, -1 elsewhere; None: only the
        pairs are known; product_splits: N names, of the products.
    """

    left: np.ndarray
    right: np.ndarray
    same: np.ndarray
    split: np.ndarray
    products: np.ndarray | None = None
    product_splits: np.ndarray | None = None

    @classmethod
    def of(cls, pairs: Sequence[LabeledPair], rows: Mapping[str, int]) -> LabeledRows:
        """Pairs of offers whose rows are known."""
        return cls(
            np.array([rows[pair.left.id] for pair in pairs], dtype=np.int64),
            np.array([rows[pair.right.id] for pair in pairs], dtype=np.int64),
            np.array([pair.same for pair in pairs], dtype=bool),
            np.array([split_name(pair.split) for pair in pairs]),
        )

    @classmethod
    def of_products(cls, offers: Sequence[Offer], left: np.ndarray, right: np.ndarray) -> LabeledRows:
        """The candidate pairs whose offers both have a `product_id`; a pair is of the later of their splits.

        Shape:
            left, right (P,) rows of the candidates.
        """
        names = np.array(["" if says_nothing(offer.product_id) else offer.product_id for offer in offers], dtype=object)
        products = np.unique(names.astype(str), return_inverse=True)[1].astype(np.int64)
        products[names == ""] = -1
        splits = np.array([split_name(offer.column("split")) for offer in offers])
        known = np.flatnonzero((products[left] >= 0) & (products[right] >= 0))
        if len(known) > MAX_PAIRS:
            known = np.sort(np.random.default_rng(0).choice(known, MAX_PAIRS, replace=False))
        left, right = left[known].astype(np.int64), right[known].astype(np.int64)
        order = {"": 0, "train": 1, "validation": 2, "test": 3}
        later = [max(pair, key=order.__getitem__) for pair in zip(splits[left], splits[right], strict=True)]
        return cls(left, right, products[left] == products[right], np.array(later, dtype=str), products, splits)

    @property
    def says_enough(self) -> bool:
        """Whether there is something to learn from: MIN_SAME pairs of one product, and pairs of different ones."""
        learns = self.split != "test"
        num_same = int(self.same[learns].sum())
        return MIN_SAME <= num_same < int(learns.sum())


def split_name(name: str) -> str:
    """A split as its publisher names it: train, validation, test or "".

    >>> split_name("valid_large"), split_name("gs050"), split_name("")
    ('validation', 'test', '')
    """
    name = name.lower()
    return "train" if name.startswith("train") else "validation" if name.startswith("val") else "test" if name else ""


class KnownPairs:
    """What labels say of any two offers, also of those that nobody labeled; the labels of test pairs are not used.

    Of pairs: offers that labeled pairs join are one product, and one pair labeled different keeps two products apart.
    Where labels only ever compare two sets of offers with each other, as two shops', the offers of one set are taken to
    be different: whoever labels so takes each set to hold a product once. Of products: all is said.

    Args:
        num_offers: N.
    """

    def __init__(self, labels: LabeledRows, num_offers: int) -> None:
        from scipy import sparse
        from scipy.sparse.csgraph import connected_components

        self._count = np.int64(max(num_offers, 1))
        learns = labels.split != "test"
        self._complete: np.ndarray | None = None
        if labels.products is not None and labels.product_splits is not None:
            self._complete = (labels.products >= 0) & (labels.product_splits != "test")
            alone = labels.products.max(initial=0) + 1 + np.arange(num_offers)
            self.products = np.where(self._complete, labels.products, alone)
            return
        left, right, same = labels.left[learns], labels.right[learns], labels.same[learns]
        graph = sparse.coo_matrix((np.ones(same.sum()), (left[same], right[same])), shape=(num_offers, num_offers))
        self.products = connected_components(graph, directed=False)[1].astype(np.int64)
        """(N,) which offers are known to be one product."""
        self._apart = np.unique(self._codes(self.products[left[~same]], self.products[right[~same]]))
        self._together = np.unique(self._codes(left[same], right[same]))
        self._different = np.setdiff1d(self._codes(left[~same], right[~same]), self._together)
        self._sides = _two_sides(labels.left, labels.right, num_offers)

    def of(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """(P,) 1 where two offers are known to be the same product, 0 where they are not, NaN where nobody knows."""
        known = np.full(len(left), np.nan)
        ours, theirs = self.products[left], self.products[right]
        if self._complete is not None:
            both = self._complete[left] & self._complete[right]
            known[both] = ours[both] == theirs[both]
            return known
        if self._sides is not None:
            known[(self._sides[left] == self._sides[right]) & (self._sides[left] != 0)] = 0
        known[_is_in(self._codes(ours, theirs), self._apart)] = 0
        known[ours == theirs] = 1
        known[_is_in(self._codes(left, right), self._different)] = 0
        return known

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N,) how many offers are known to be of an offer's product, itself among them."""
        numbers = np.unique(self.products, return_inverse=True)[1]
        return np.bincount(numbers)[numbers]

    def _codes(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.minimum(left, right).astype(np.int64) * self._count + np.maximum(left, right)


def _is_in(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(len(values), dtype=bool)
    found: np.ndarray = ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values
    return found


def _two_sides(left: np.ndarray, right: np.ndarray, num_offers: int) -> np.ndarray | None:
    """(N,) the side of each offer, 0 for none, where pairs only compare offers of two sides; None where they do not.

    Offers that no chain of pairs joins have sides of their own.
    """
    from scipy import sparse
    from scipy.sparse.csgraph import connected_components

    pairs = np.unique(np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1), axis=0)
    # each offer twice, in black and in white: a pair joins black with white, so two sides never meet
    ends = np.concatenate([pairs, pairs[:, ::-1]])
    ones = np.ones(len(ends), np.int8)
    doubled = sparse.coo_matrix((ones, (ends[:, 0], ends[:, 1] + num_offers)), shape=(2 * num_offers, 2 * num_offers))
    of_color = connected_components(doubled, directed=False)[1].reshape(2, num_offers)
    compared = np.zeros(num_offers, dtype=bool)
    compared[pairs] = True
    if (of_color[0] == of_color[1])[compared].any():
        return None
    num_parts = len(np.unique(of_color[:, compared].min(axis=0)))
    if len(pairs) - int(compared.sum()) + num_parts < SURE_CYCLES:
        return None
    return np.where(compared, of_color[0] + 1, 0)
