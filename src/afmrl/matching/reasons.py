"""Reasons: which attributes of two offers agree, differ, or stand on one side; what text and image say; the veto."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from afmrl.matching.features import DENSE_FEATURES, IMAGE_FEATURES, PairFeatures
from afmrl.matching.scorer import Scorer
from afmrl.matching.vetoes import MODEL, public_key

_ORDER = {"seller": 0, "generated": 1, "extracted": 2}


class Reasons:
    """Explains pairs of one scorer's table."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        names = scorer.model.features
        of_image, of_dense = set(IMAGE_FEATURES), set(DENSE_FEATURES)
        self._image = np.array([name in of_image or name == "dense image cosine" for name in names])
        self._dense = np.array([name in of_dense for name in names]) & ~self._image
        self._veto = {column: public_key(key) for column, key in zip(scorer.veto_columns, scorer.vetoes, strict=True)}
        self._last: tuple[int, dict[str, dict[str, str]]] = (-1, {})

    def of_pairs(self, left: np.ndarray, right: np.ndarray, features: PairFeatures) -> list[dict[str, Any]]:
        """One mapping a pair, fit for JSON.

        `agree`, `differ`: key → {"left": value, "right": value, "from": [source, source]}; `only_left`, `only_right`:
        key → {"value": value, "from": source}; `veto`: keys; `text`, `image`, `embedding`: what each adds to the score.
        A source is "seller", "generated" (by the generator) or "extracted" (from the title, by rules).
        """
        parts = self.scorer.model.contributions(features.values)
        text = parts[:, ~self._image & ~self._dense].sum(axis=1)
        image, embedding = parts[:, self._image].sum(axis=1), parts[:, self._dense].sum(axis=1)
        found = []
        for place, (ours, theirs) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
            conflicting = np.flatnonzero(features.differ[place]).tolist()
            vetoes = dict.fromkeys(self._veto[c] for c in conflicting if c in self._veto)
            conflicts = {public_key(features.keys[c]) for c in conflicting}
            agreed = {public_key(features.keys[c]) for c in np.flatnonzero(features.agree[place])} - conflicts
            reasons = self._compared(self._stated(ours), self._stated(theirs), conflicts, agreed)
            reasons["veto"] = list(vetoes)
            reasons["text"] = round(float(text[place]), 2)
            if features.values[place, self._image].any():
                reasons["image"] = round(float(image[place]), 2)
            if self._dense.any():
                reasons["embedding"] = round(float(embedding[place]), 2)
            found.append(reasons)
        return found

    def _stated(self, row: int) -> dict[str, dict[str, str]]:
        """Key → value → source of one offer."""
        if self._last[0] == row:
            return self._last[1]
        table = self.scorer.table
        stated: dict[str, dict[str, str]] = defaultdict(dict)
        for column in table.facts.indices[table.facts.indptr[row] : table.facts.indptr[row + 1]]:
            fact = table.vocabulary[column]
            key, value = _public(fact.key, fact.value)
            known = stated[key].get(value)
            if value and (known is None or _ORDER[fact.source] < _ORDER[known]):
                stated[key][value] = fact.source
        self._last = (row, dict(stated))
        return self._last[1]

    @staticmethod
    def _compared(
        ours: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]], conflicts: set[str], agreed: set[str]
    ) -> dict[str, Any]:
        agree: dict[str, Any] = {}
        differ: dict[str, Any] = {}
        only_left: dict[str, Any] = {}
        only_right: dict[str, Any] = {}
        for key in ours:
            if key not in theirs:
                only_left[key] = {"value": _joined(ours[key]), "from": _source(ours[key])}
                continue
            shared = set(ours[key]) & set(theirs[key])
            same = key in agreed or (bool(shared) and key not in conflicts)
            both = (ours[key], theirs[key])
            (agree if same else differ)[key] = {
                "left": _joined(both[0]), "right": _joined(both[1]), "from": [_source(both[0]), _source(both[1])],
            }  # fmt: skip
        for key in theirs:
            if key not in ours:
                only_right[key] = {"value": _joined(theirs[key]), "from": _source(theirs[key])}
        # a code found in the other's text, or missing there, under another key
        return {"agree": agree, "differ": differ, "only_left": only_left, "only_right": only_right}


def _public(key: str, value: str) -> tuple[str, str]:
    if key.startswith("series "):
        return MODEL, f"{key.removeprefix('series ')} {value}"
    if key.startswith("variant "):
        name = key.removeprefix("variant ")
        return MODEL, "" if value == "plain" else f"{name} {value}"
    return key, value


def _joined(values: dict[str, str]) -> str:
    return " / ".join(values)


def _source(values: dict[str, str]) -> str:
    return min(values.values(), key=lambda source: _ORDER[source])
