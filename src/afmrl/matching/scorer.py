"""Scores of pairs: logit and veto, in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from afmrl.matching.features import CONFLICT_FEATURES, Comparer, PairFeatures
from afmrl.matching.pair_model import PairModel
from afmrl.matching.table import OfferTable
from afmrl.matching.vetoes import DEFAULT_VETOES

SURE = 12.0  # logit of two offers with an equal GTIN
AT_ONCE = 100_000  # pairs whose features are in memory at a time


@dataclass(frozen=True)
class PairScores:
    """Scores of P pairs.

    Shape:
        logits, alike (P,) float32; vetoed (P,) bool.
    """

    logits: np.ndarray
    vetoed: np.ndarray
    alike: np.ndarray
    """The logit if nothing conflicted: a vetoed pair with a high one is worth a look."""


class Scorer:
    """A pair model and a choice of vetoes, on one table.

    Args:
        vetoes: keys whose conflict keeps two offers apart.
        comparer: of the table and the keys, where there is one already.
    """

    def __init__(
        self,
        table: OfferTable,
        model: PairModel,
        vetoes: Collection[str] = DEFAULT_VETOES,
        comparer: Comparer | None = None,
    ) -> None:
        self.table, self.model = table, model
        self.comparer = comparer or Comparer(table, [key for key in vetoes if key not in DEFAULT_VETOES])
        self.vetoes = tuple(key for key in self.comparer.conflicts.keys if key in set(vetoes))
        self.veto_columns = [self.comparer.conflicts.keys.index(key) for key in self.vetoes]
        self._conflicts = [i for i, name in enumerate(model.features) if name in CONFLICT_FEATURES]

    def with_model(self, model: PairModel) -> Scorer:
        """The same table and vetoes, scored by another model of the same features."""
        return Scorer(self.table, model, self.vetoes, self.comparer)

    def score(
        self, left: np.ndarray, right: np.ndarray, *, progress: Callable[[int], None] | None = None
    ) -> PairScores:
        """Scores of the pairs of rows."""
        logits, alike = np.empty(len(left), np.float32), np.empty(len(left), np.float32)
        vetoed = np.empty(len(left), bool)
        for start in range(0, len(left), AT_ONCE):
            block = slice(start, start + AT_ONCE)
            features = self.comparer.compare(left[block], right[block])
            logits[block], vetoed[block], alike[block] = self.of_features(features)
            if progress is not None:
                progress(len(features.values))
        return PairScores(logits, vetoed, alike)

    def of_features(self, features: PairFeatures) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(P,) logits, vetoes, and logits without what conflicts.

        Two offers with an equal GTIN are the same product whatever the model says of their words.
        """
        logits = self.model.logits(features.values)
        against = features.values[:, self._conflicts] @ self.model.coefficients[self._conflicts]
        vetoed: np.ndarray = np.any(features.differ[:, self.veto_columns], axis=1)
        alike = logits - np.minimum(against, 0)
        sure = features.same_gtin
        logits = np.where(sure & ~vetoed, np.maximum(logits, SURE), logits)
        return logits, vetoed, np.where(sure, np.maximum(alike, SURE), alike)

    def compare(self, left: np.ndarray, right: np.ndarray) -> PairFeatures:
        """Features of the pairs of rows."""
        return self.comparer.compare(left, right)
