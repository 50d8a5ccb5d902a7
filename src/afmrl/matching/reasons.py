"""Reasons: which attributes of two offers agree or differ, which one offer states alone, and what vetoes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from afmrl.matching.facts.fact import Source
from afmrl.matching.facts.packs import MULTIPACK
from afmrl.matching.features import DENSE_FEATURES, IMAGE_FEATURES, PairFeatures
from afmrl.matching.scorer import Scorer
from afmrl.matching.vetoes import MODEL, public_key

_ORDER: Mapping[Source, int] = {"seller": 0, "generated": 1, "extracted": 2}
"""Whose word counts first."""
KEPT_APART = "kept apart: their groups are unlike on average"
Stated = Mapping[str, Mapping[str, Source]]
"""Key → value → source of one offer."""


@dataclass(frozen=True, slots=True)
class ComparedValues:
    """What two offers state of one key, and whether the seller, the generator or a rule says so."""

    left: str
    right: str
    sources: tuple[Source, Source]

    def __str__(self) -> str:
        return self.left if self.left == self.right else f"{self.left} | {self.right}"


@dataclass(frozen=True, slots=True)
class StatedValue:
    """What one of two offers states of a key, where the other states nothing."""

    value: str
    source: Source

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why two offers are called the same product, or not."""

    agree: Mapping[str, ComparedValues]
    differ: Mapping[str, ComparedValues]
    only_left: Mapping[str, StatedValue]
    only_right: Mapping[str, StatedValue]
    veto: tuple[str, ...]
    """Keys whose conflict keeps the two apart."""
    text: float
    """What the words and the facts read off them add to the score."""
    image: float | None = None
    """What the images add; None: one of the two has none."""
    embedding: float | None = None
    """What the embeddings add; None: there are none."""
    same_gtin: bool = False
    """Whether an equal GTIN makes the two one product, whatever their words say; a veto still keeps them apart."""
    kept_apart: bool = False
    """Whether the two are alike enough and yet in two groups, which are unlike on average."""
    verdict: Literal["same", "different"] | None = None
    """What verdicts of reviewers say or imply of the two; it holds over all else."""

    def __str__(self) -> str:
        """What vetoes; where nothing does, whether the groups or the GTIN decide, what agrees and what differs."""
        judged = [f"verdict: {self.verdict}"] if self.verdict else []
        if self.veto:
            return "; ".join([*judged, *map(self._line, self.veto)])
        agree = [key if of.left == of.right else f"{key} ({of})" for key, of in self.agree.items()]
        differ = [self._line(key) for key in self.differ]
        parts = [("agree", ", ".join(agree)), ("differ", "; ".join(differ))]
        said = [f"{name}: {part}" for name, part in parts if part]
        rules = judged + [KEPT_APART] * self.kept_apart + ["same GTIN"] * self.same_gtin
        return "; ".join([*rules, *said])

    def _line(self, key: str) -> str:
        # a code or a pack may conflict under a key that only one of the two states
        if key in self.differ:
            return f"{key}: {self.differ[key]}"
        if key in self.only_left:
            return f"{key}: {self.only_left[key]} | –"
        return f"{key}: – | {self.only_right[key]}" if key in self.only_right else key

    def as_dict(self) -> dict[str, Any]:
        """As in pairs.jsonl."""
        compared = {
            name: {key: {"left": of.left, "right": of.right, "from": list(of.sources)} for key, of in values.items()}
            for name, values in (("agree", self.agree), ("differ", self.differ))
        }
        stated = {
            name: {key: {"value": of.value, "from": of.source} for key, of in values.items()}
            for name, values in (("only_left", self.only_left), ("only_right", self.only_right))
        }
        parts = {"text": self.text, "image": self.image, "embedding": self.embedding}
        added = {name: part for name, part in parts.items() if part is not None}
        rule = {name: True for name in ("same_gtin", "kept_apart") if getattr(self, name)}
        judged = {"verdict": self.verdict} if self.verdict else {}
        return {**compared, **stated, "veto": list(self.veto), **added, **rule, **judged}

    @classmethod
    def of_dict(cls, stored: Mapping[str, Any]) -> Reasons:
        """From what `as_dict` gave."""
        compared = [
            {key: ComparedValues(of["left"], of["right"], _two(of["from"])) for key, of in stored[name].items()}
            for name in ("agree", "differ")
        ]
        stated = [
            {key: StatedValue(of["value"], of["from"]) for key, of in stored[name].items()}
            for name in ("only_left", "only_right")
        ]
        return cls(
            compared[0], compared[1], stated[0], stated[1], tuple(stored["veto"]), stored["text"],
            stored.get("image"), stored.get("embedding"), stored.get("same_gtin", False),
            stored.get("kept_apart", False), stored.get("verdict"),
        )  # fmt: skip


class Explainer:
    """Explains pairs of one scorer's table."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        names = scorer.model.features
        of_image, of_dense = set(IMAGE_FEATURES), set(DENSE_FEATURES)
        self._image = np.array([name in of_image or name == "dense image cosine" for name in names])
        self._dense = np.array([name in of_dense for name in names]) & ~self._image
        self._veto = {column: public_key(key) for column, key in zip(scorer.veto_columns, scorer.vetoes, strict=True)}
        self._last: tuple[int, Stated] = (-1, {})

    def reasons(self, left: np.ndarray, right: np.ndarray, features: PairFeatures) -> list[Reasons]:
        """The reasons of each pair of rows.

        Args:
            features: of the pairs, in whichever order of left and right.
        """
        parts = self.scorer.model.contributions(features.values)
        text = parts[:, ~self._image & ~self._dense].sum(axis=1)
        image, embedding = parts[:, self._image].sum(axis=1), parts[:, self._dense].sum(axis=1)
        found: list[Reasons] = []
        for place, (ours, theirs) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
            conflicting = np.flatnonzero(features.differ[place]).tolist()
            vetoes = dict.fromkeys(self._veto[c] for c in conflicting if c in self._veto)
            conflicts = {public_key(features.keys[c]) for c in conflicting}
            agreed = {public_key(features.keys[c]) for c in np.flatnonzero(features.agree[place])} - conflicts
            has_images = features.values[place, self._image].any()
            found.append(
                Reasons(
                    *_compared(self._stated(ours), self._stated(theirs), conflicts, agreed),
                    tuple(vetoes),
                    round(float(text[place]), 2),
                    round(float(image[place]), 2) if has_images else None,
                    round(float(embedding[place]), 2) if self._dense.any() else None,
                    bool(features.same_gtin[place]),
                )
            )
        return found

    def _stated(self, row: int) -> Stated:
        """Key → value → source of one offer."""
        if self._last[0] == row:
            return self._last[1]
        table = self.scorer.table
        stated: dict[str, dict[str, Source]] = defaultdict(dict)
        for column in table.facts.indices[table.facts.indptr[row] : table.facts.indptr[row + 1]]:
            fact = table.vocabulary[column]
            key, value = _public(fact.key, fact.value)
            known = stated[key].get(value)
            if value and (known is None or _ORDER[fact.source] < _ORDER[known]):
                stated[key][value] = fact.source
        self._last = (row, dict(stated))
        return self._last[1]


def _compared(
    ours: Stated, theirs: Stated, conflicts: set[str], agreed: set[str]
) -> tuple[dict[str, ComparedValues], dict[str, ComparedValues], dict[str, StatedValue], dict[str, StatedValue]]:
    """What agrees, what differs, and what one of the two states alone."""
    agree: dict[str, ComparedValues] = {}
    differ: dict[str, ComparedValues] = {}
    only_left: dict[str, StatedValue] = {}
    for key, values in ours.items():
        if key not in theirs:
            only_left[key] = StatedValue(_joined(values), _source(values))
            continue
        others = theirs[key]
        same = key in agreed or (bool(values.keys() & others.keys()) and key not in conflicts)
        compared = ComparedValues(_joined(values), _joined(others), (_source(values), _source(others)))
        (agree if same else differ)[key] = compared
    only_right = {
        key: StatedValue(_joined(values), _source(values)) for key, values in theirs.items() if key not in ours
    }
    return agree, differ, only_left, only_right


def _public(key: str, value: str) -> tuple[str, str]:
    if key.startswith("series "):
        return MODEL, f"{key.removeprefix('series ')} {value}"
    if key.startswith("variant "):
        name = key.removeprefix("variant ")
        return MODEL, "" if value == "plain" else f"{name} {value}"
    if key == MULTIPACK:
        return "pack", ""
    return key, value


def _two(sources: list[Source]) -> tuple[Source, Source]:
    return sources[0], sources[1]


def _joined(values: Mapping[str, Source]) -> str:
    return " / ".join(values)


def _source(values: Mapping[str, Source]) -> Source:
    return min(values.values(), key=lambda source: _ORDER[source])
