"""What a match keeps for the next update: its offers as they were read, the pairs that may count, what it learned."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import atomic_write, hash64
from afmrl.matching.columns import CatalogFacts, OfferColumns, WordCounts
from afmrl.matching.facts.fact import Fact
from afmrl.matching.matched_table import MatchedTable
from afmrl.matching.output import KEPT_FILE
from afmrl.matching.pair_model import PairModel, Threshold
from afmrl.matching.scorer import PairScores, Scorer
from afmrl.matching.table import table_of

FORMAT = "afmrl-match-kept"
VERSION = 2
TEXTS = ("ids", "groups", "offers")


@dataclass(frozen=True)
class KeptMatch:
    """A match as an update needs it.

    The offers of the first run stay, also those that are deleted or changed: whether later offers are compared with
    others depends on them.

    Shape:
        fingerprints (N,) uint64; alive, judged (N,) bool; left, right (P,) int32 rows, and `scores` of these pairs.
    """

    settings: Mapping[str, Any]
    """Threshold, pair model, vetoes, verdicts."""
    num_first: int
    """Offers of the first run; they come before the others."""
    ids: list[str]
    groups: list[str]
    """The group's id of each offer; "" where it is not alive."""
    offers: list[str]
    """Each offer as JSON."""
    fingerprints: np.ndarray
    alive: np.ndarray
    judged: np.ndarray
    """Which offers a verdict named at the last update."""
    columns: OfferColumns
    catalog: CatalogFacts
    floors: dict[str, np.ndarray]
    """Of offers that came later: how like its neighbors in the first run are; infinite for those of the first run."""
    colors: np.ndarray | None
    left: np.ndarray
    right: np.ndarray
    scores: PairScores

    @classmethod
    def of(cls, matched: MatchedTable, ids: Sequence[str], verdicts: Sequence[Sequence[Any]] = ()) -> KeptMatch:
        """Of a match that was just made.

        Args:
            ids: the group's id of each offer.
            verdicts: those that bound it, as `Bindings.as_rows` gives them.
        """
        table, scores = matched.scorer.table, matched.scores
        worth = matched.worth_listing(matched.left, matched.right, scores)
        worth |= ~scores.vetoed & (scores.logits >= matched.threshold.logit)
        model = matched.scorer.model
        judged = np.zeros(len(table), dtype=bool)
        if matched.constraints is not None:
            judged[matched.constraints.rows] = True
        offers = [offer_json(offer) for offer in table.offers]
        floors = {name: np.full(len(table), np.inf, np.float32) for name in ("words", "colors")}
        return cls(
            {
                "threshold": [float(matched.threshold.logit), matched.threshold.origin],
                "max_vetoed_probability": matched.max_vetoed_probability,
                "vetoes": list(matched.scorer.vetoes),
                "verdicts": [list(row) for row in verdicts],
                "model": {**asdict(model), "coefficients": model.coefficients.tolist()},
            },
            len(table), [offer.id for offer in table.offers], list(ids), offers,
            fingerprints_of(table.offers), np.ones(len(table), dtype=bool), judged, table.columns,
            table.catalog, floors, table.colors, matched.left[worth], matched.right[worth],
            PairScores(scores.logits[worth], scores.vetoed[worth], scores.alike[worth]),
        )  # fmt: skip

    def matched(self, rows: np.ndarray) -> MatchedTable:
        """A table of some of the offers, scored as in the first run; without pairs and groups.

        Args:
            rows: in the order of the offers' ids.
        """
        settings = self.settings
        table = table_of([self.offer(row) for row in rows.tolist()], self.columns.at(rows), self.catalog)
        if self.colors is not None:
            table.colors = self.colors[rows]
        stored = settings["model"]
        model = PairModel(
            **{**stored, "features": tuple(stored["features"]), "coefficients": np.array(stored["coefficients"])}
        )
        none = np.empty(0, np.int32)
        return MatchedTable(
            Scorer(table, model, settings["vetoes"]),
            Threshold(*settings["threshold"]),
            settings["max_vetoed_probability"],
            none,
            none,
            PairScores(none.astype(np.float32), none.astype(bool), none.astype(np.float32)),
            np.arange(len(rows), dtype=np.int64),
        )

    def offer(self, row: int) -> Offer:
        """The offer of a row."""
        return Offer(**json.loads(self.offers[row]))

    def in_order(self, rows: np.ndarray) -> np.ndarray:
        """Rows in the order of their ids."""
        return np.array(sorted(rows.tolist(), key=lambda row: (self.ids[row], row)), dtype=np.int64)

    def without(self, gone: np.ndarray) -> KeptMatch:
        """Without the rows of a (N,) mask, and their pairs."""
        if not gone.any():
            return self
        kept = np.flatnonzero(~gone)
        place = np.cumsum(~gone) - 1
        of_pairs = ~gone[self.left] & ~gone[self.right]
        rows = kept.tolist()
        return replace(
            self,
            ids=[self.ids[row] for row in rows],
            groups=[self.groups[row] for row in rows],
            offers=[self.offers[row] for row in rows],
            fingerprints=self.fingerprints[kept],
            alive=self.alive[kept],
            judged=self.judged[kept],
            columns=self.columns.at(kept),
            floors={name: of[kept] for name, of in self.floors.items()},
            colors=None if self.colors is None else self.colors[kept],
            left=place[self.left[of_pairs]].astype(np.int32),
            right=place[self.right[of_pairs]].astype(np.int32),
            scores=PairScores(*(of[of_pairs] for of in (self.scores.logits, self.scores.vetoed, self.scores.alike))),
        )

    def write(self, folder: Path) -> None:
        """FOLDER/kept.bin: a line of JSON that names the arrays after it."""
        arrays: dict[str, np.ndarray] = {
            "fingerprints": self.fingerprints, "alive": self.alive, "judged": self.judged, "left": self.left,
            "right": self.right, "logits": self.scores.logits, "vetoed": self.scores.vetoed, "alike": self.scores.alike,
        }  # fmt: skip
        for name in TEXTS:
            arrays[name] = _packed(json.dumps(getattr(self, name)))
        arrays["vocabulary"] = _packed(json.dumps([[of.key, of.value, of.source] for of in self.columns.vocabulary]))
        matrices = {**self.columns.counts, "facts": self.columns.facts, "distrusted": self.columns.distrusted}
        for name, matrix in matrices.items():
            arrays |= {f"{name}.{part}": getattr(matrix, part) for part in ("data", "indices", "indptr")}
        for name, counts in (("titles", self.catalog.titles), ("texts", self.catalog.texts)):
            arrays |= {f"{name}.words": counts.words, f"{name}.frequency": counts.frequency}
        arrays |= {f"floors.{name}": of for name, of in self.floors.items()}
        if self.colors is not None:
            arrays["colors"] = self.colors
        arrays = {name: np.ascontiguousarray(of) for name, of in arrays.items()}
        head = {
            "format": FORMAT,
            "version": VERSION,
            "settings": self.settings,
            "num_first": self.num_first,
            "brands": self.catalog.extractor.brands,
            "hollow": self.catalog.hollow,
            "num_offers": [self.catalog.titles.num_offers, self.catalog.texts.num_offers],
            "widths": {name: matrix.shape[1] for name, matrix in matrices.items()},
            "arrays": {name: [of.dtype.str, of.shape] for name, of in arrays.items()},
        }
        with atomic_write(folder / KEPT_FILE, "wb") as file:
            file.write(json.dumps(head).encode() + b"\n")
            for of in arrays.values():
                file.write(of.data.cast("B") if of.size else b"")

    @classmethod
    def read(cls, folder: Path) -> KeptMatch:
        """What `write` wrote.

        Raises:
            InputError: it cannot be read, or another release wrote it.
        """
        from scipy import sparse

        path = folder / KEPT_FILE
        again = f"make it again: afmrl match CATALOG --out {folder} --previous {folder}"
        try:
            with open(path, "rb") as file:
                head = json.loads(file.readline())
                known = head["format"] == FORMAT and head["version"] == VERSION
                arrays = {}
                for name, (dtype, shape) in head["arrays"].items() if known else ():
                    size = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
                    arrays[name] = np.frombuffer(bytearray(file.read(size)), dtype=dtype).reshape(shape)
            texts = {name: json.loads(arrays[name].tobytes()) for name in (*TEXTS, "vocabulary") if known}
        except FileNotFoundError as error:
            raise InputError(f"{folder}: has no {KEPT_FILE}, which an update needs; {again}") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); {again}") from error
        if not known:
            raise InputError(f"{path}: is of another release; {again}")
        matrices = {}
        for name, width in head["widths"].items():
            parts: Any = tuple(arrays[f"{name}.{part}"] for part in ("data", "indices", "indptr"))
            matrices[name] = sparse.csr_matrix(parts, shape=(len(parts[2]) - 1, width))
        facts, distrusted = matrices.pop("facts"), matrices.pop("distrusted")
        counts = [
            WordCounts(arrays[f"{name}.words"], arrays[f"{name}.frequency"], size)
            for name, size in zip(("titles", "texts"), head["num_offers"], strict=True)
        ]
        return cls(
            head["settings"], head["num_first"], texts["ids"], texts["groups"], texts["offers"], arrays["fingerprints"],
            arrays["alive"], arrays["judged"],
            OfferColumns(matrices, facts, [Fact(*of) for of in texts["vocabulary"]], distrusted),
            CatalogFacts(AttributeExtractor(head["brands"]), head["hollow"], *counts),
            {name.removeprefix("floors."): of for name, of in arrays.items() if name.startswith("floors.")},
            arrays.get("colors"), arrays["left"], arrays["right"],
            PairScores(arrays["logits"], arrays["vetoed"], arrays["alike"]),
        )  # fmt: skip


def _packed(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def offer_json(offer: Offer) -> str:
    """An offer as it is kept."""
    return json.dumps(asdict(offer), default=str)


def fingerprints_of(offers: Sequence[Offer]) -> np.ndarray:
    """(N,) uint64 of what matching reads or shows of offers, and of the names and sizes of their images.

    Columns that it does not read (stock, the hour of the export) and the folder and time of an image say nothing: a
    feed of every night has others each night.
    """
    return hash64(
        json.dumps([offer.title, offer.description, offer.category, dict(offer.attributes), _image_state(offer.image)],
                   default=str)
        for offer in offers
    )  # fmt: skip


def _image_state(image: str) -> str:
    try:
        size = os.stat(image).st_size if image else ""
    except (OSError, ValueError):  # an address, a member of an archive: known by its name
        return image
    return f"{os.path.basename(image)} {size}"
