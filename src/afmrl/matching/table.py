"""The offers of a match in columns: words, codes, facts, colors of images, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.gtin import is_destroyed_gtin
from afmrl.data.offer import Offer
from afmrl.matching.columns import HASHES, CatalogFacts, OfferColumns, WordCounts, learn_catalog, read_columns
from afmrl.matching.facts.fact import Fact
from afmrl.matching.facts.facts import key_name

PRIOR = 200  # offers of an imagined catalog that are added to a small one's document frequencies
_STOP = "a an and the for with of in on to by or w from new de der die das und mit für et avec pour la le"


@dataclass(frozen=True)
class Texts:
    """One text an offer as a sparse matrix.

    Shape:
        weights (N, V) float32 unit rows of TF-IDF; present (N, V) the IDF of each word that is there, 1 for
        words of one offer alone; idf (V,).
    """

    weights: Any
    present: Any
    idf: np.ndarray
    mass: np.ndarray
    """(N,) sum of a row of `present`."""


@dataclass
class OfferTable:
    """N offers in the order of their ids, so that nothing depends on the order of a file."""

    offers: list[Offer]
    columns: OfferColumns
    catalog: CatalogFacts
    titles: Texts
    texts: Texts
    """Of title, description and attributes."""
    codes: Any
    """(N, 2^31) model numbers that the title states, hashed."""
    forms: Any
    """(N, 2^31) every spelling of a code in all of the offer's text, hashed."""
    loose: Any
    """(N, 2^31) what other shops may leave of the codes."""
    stems: Any
    """(N, 2^31) the codes without the letters at their end."""
    schemes: Any
    """(N, 2^31) how the codes are built."""
    series: Any
    """(N, 2^31) short model names, name and number as one word."""
    numbers: Any
    """(N, 2^31) runs of digits in the title, without quantities: those are facts."""
    facts: Any
    """(N, F) which facts an offer states, in the columns of `vocabulary`."""
    vocabulary: list[Fact]
    """Sorted by key, value, source."""
    values: Any
    """(N, U) which values of which key it states, whoever says so, except the generator."""
    keys: dict[str, slice]
    """Columns of `values` that belong to a key."""
    distrusted: Any
    """(N, H) which of `distrusted_gtins` it states."""
    distrusted_gtins: list[str]
    """GTINs that unlike offers share: they join and keep apart nobody, and a reader should look at their offers."""
    notes: list[str] = field(default_factory=list)
    """Which of the sellers' identifiers are not used, and why."""
    colors: np.ndarray | None = None
    """(N, 216) float32 color histograms; zeros without an image."""
    dense: dict[str, np.ndarray] = field(default_factory=dict)
    """"fused", "text", "image" → (N, D) unit rows; a row of zeros: the offer has no such part."""

    def __len__(self) -> int:
        return len(self.offers)

    def doubts(self) -> dict[str, str]:
        """Id of an offer with a distrusted GTIN → what there is to look at."""
        hollow = self.catalog.hollow["gtin"]
        rows, columns = self.distrusted.nonzero()
        gtins = [self.distrusted_gtins[column] for column in columns.tolist()]
        return {
            self.offers[row].id: f"its GTIN {gtin} is shared by {hollow[gtin]:,} unlike offers, so it was not used"
            for row, gtin in zip(rows.tolist(), gtins, strict=True)
        }


def offer_table(
    offers: Iterable[Offer],
    generated: Sequence[KeyAttributes] | None = None,
    extractor: AttributeExtractor | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> OfferTable:
    """The text columns of offers, which must be in the order of their ids.

    Args:
        generated: key attributes that a generator wrote, one an offer.
        extractor: None: brands are learned from these offers.
    """
    offers = list(offers)
    extractor, hollow = learn_catalog(offers, extractor)
    columns = read_columns(offers, extractor, hollow, generated, progress=progress)
    words = (WordCounts.of(columns.counts[name]) for name in ("title", "text"))
    table = table_of(offers, columns, CatalogFacts(extractor, hollow, *words))
    table.notes += _notes(offers, hollow)
    return table


def table_of(offers: list[Offer], columns: OfferColumns, catalog: CatalogFacts) -> OfferTable:
    """The table of offers that were read before, by what is known of their catalog.

    Args:
        columns: of the offers; catalog: may know other offers than these.
    """
    order = sorted(range(len(columns.vocabulary)), key=columns.vocabulary.__getitem__)
    vocabulary = [columns.vocabulary[place] for place in order]
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    facts = columns.facts.copy()
    facts.indices = rank[facts.indices] if len(order) else facts.indices
    facts.has_sorted_indices = False
    facts.sort_indices()
    values, keys = _values(facts, vocabulary)
    counts = columns.counts
    return OfferTable(
        offers,
        columns,
        catalog,
        texts_of(counts["title"], catalog.titles),
        texts_of(counts["text"], catalog.texts),
        counts["codes"],
        counts["forms"],
        counts["loose"],
        counts["stems"],
        counts["schemes"],
        counts["series"],
        counts["numbers"],
        facts,
        vocabulary,
        values,
        keys,
        columns.distrusted,
        list(catalog.hollow["gtin"]),
    )


def _notes(offers: Sequence[Offer], hollow: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What is not used of the sellers' identifiers, in words."""
    notes: list[str] = []
    for key, shared in hollow.items():
        if shared:
            most = max(shared, key=lambda value: shared[value])
            notes.append(
                f"{_counted(len(shared), key.upper())} shared by offers with unlike titles, so not used: "
                f"{most!r} ({shared[most]} offers){', …' if len(shared) > 1 else ''}"
            )
    destroyed = [
        (offer.id, str(value))
        for offer in offers
        for key, value in offer.attributes.items()
        if key_name(str(key)) == "gtin" and is_destroyed_gtin(value)
    ]
    if destroyed:
        identifier, value = destroyed[0]
        notes.append(
            f"{_counted(len(destroyed), 'GTIN')} rounded by a spreadsheet, so not used; first: offer {identifier}: "
            f"{value}; export the column as text"
        )
    return notes


def _counted(number: int, name: str) -> str:
    return f"1 {name} is" if number == 1 else f"{number:,} {name}s are"


def _values(stated: Any, vocabulary: Sequence[Fact]) -> tuple[Any, dict[str, slice]]:
    """The facts that are not generated, by key and value alone."""
    from scipy import sparse

    columns = np.empty(len(vocabulary), dtype=np.int64)
    keys: dict[str, slice] = {}
    last, width = None, 0
    for place, fact in enumerate(vocabulary):
        if (fact.key, fact.value) != last:
            last, width = (fact.key, fact.value), width + 1
        columns[place] = width - 1
        keys[fact.key] = slice(keys[fact.key].start if fact.key in keys else width - 1, width)
    known = np.array([fact.source != "generated" for fact in vocabulary], dtype=np.float32)
    to_values = sparse.csr_matrix(
        (known, (np.arange(len(vocabulary)), columns)), shape=(len(vocabulary), max(width, 1))
    )
    shape: Any = (stated.shape[0], 1)
    values = stated @ to_values if len(vocabulary) else sparse.csr_matrix(shape, dtype=np.float32)
    values.eliminate_zeros()
    values.data[:] = 1
    values.sort_indices()
    return values, keys


def texts_of(counts: Any, known: WordCounts) -> Texts:
    """TF-IDF of hashed words.

    Args:
        known: how frequent each word is, of these offers or of a catalog that they are from.

    Shape:
        counts (N, 2^31).
    """
    from scipy import sparse

    words, columns = np.unique(counts.indices, return_inverse=True)
    frequency = known.of_words(words)
    # a catalog of a few offers does not know which words are common: PRIOR offers of any shop are added to it
    common = np.where(np.isin(words, _STOP_HASHES), 0.3, 0.003)
    size = known.num_offers + PRIOR
    # 1: a word of one offer alone, whatever the catalog's size
    idf = (np.log(size / (frequency + PRIOR * common)) / np.log(size / (1 + PRIOR * 0.003))).astype(np.float32)
    shape: Any = (counts.shape[0], max(len(words), 1))
    rows_of: Any = (idf[columns], columns.astype(np.int32), counts.indptr)
    present = sparse.csr_matrix(rows_of, shape=shape)
    weights = present.copy()
    weights.data = weights.data * (1 + np.log(counts.data))
    lengths = np.sqrt(np.asarray(weights.multiply(weights).sum(axis=1)).ravel())
    weights.data = (weights.data / np.repeat(np.maximum(lengths, 1e-9), np.diff(counts.indptr))).astype(np.float32)
    return Texts(weights, present, idf, np.asarray(present.sum(axis=1), dtype=np.float32).ravel())


_STOP_HASHES = np.array([crc32(word.encode()) & HASHES for word in _STOP.split()])
