"""The offers of a match in columns: words, codes, facts, colors of images, embeddings."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.quantities import quantities
from afmrl.attributes.words import normalize, tokenize
from afmrl.data.gtin import is_destroyed_gtin
from afmrl.data.offer import Offer
from afmrl.matching.facts.codes import codes, forms, loose_forms, numbers, schemes, series, stem
from afmrl.matching.facts.fact import Fact
from afmrl.matching.facts.facts import facts, key_name, mpns, stated_gtins
from afmrl.matching.facts.facts import title as title_of
from afmrl.matching.facts.hollow import hollow_identifiers

MAX_WORDS = 64  # of a title
MIN_CODE = 4  # signs of a part number that is looked for in other titles
MAX_TEXT_WORDS = 160  # of title, description and attributes together
HASHES = 2**31 - 1  # columns of a hashed text; two words in one column are harmless and rare
PRIOR = 200  # offers of an imagined catalog that are added to a small one's document frequencies
COLUMNS = ("title", "text", "codes", "forms", "loose", "stems", "schemes", "series", "numbers")
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
        sharing = np.asarray(self.distrusted.sum(axis=0)).ravel()
        rows, columns = self.distrusted.nonzero()
        return {
            self.offers[row].id: f"its GTIN {self.distrusted_gtins[column]} is shared by {sharing[column]:,.0f} unlike "
            "offers, so it was not used"
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
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
    extractor = extractor or AttributeExtractor.learn(offers)
    hollow = {
        "mpn": hollow_identifiers(offers, mpns, unique_to_brand=True),
        "gtin": hollow_identifiers(offers, stated_gtins, unique_to_brand=False),
    }
    columns = {name: _Rows() for name in COLUMNS}
    numbered: dict[Fact, int] = {}
    stated = _Rows()
    for row, offer in enumerate(offers):
        title = title_of(offer)
        said = (str(value) for value in offer.attributes.values() if not says_nothing(value))
        rest = normalize(" ".join([offer.description[:2_000], *said]))
        words = tokenize(title)[:MAX_WORDS]
        columns["title"].append(words)
        columns["text"].append((words + tokenize(rest))[:MAX_TEXT_WORDS])
        part_numbers = (code for code in mpns(offer) if code not in hollow["mpn"])
        stated_codes = {*codes(title), *(code for code in part_numbers if len(code) >= MIN_CODE)}
        columns["codes"].append(stated_codes)
        columns["loose"].append({form for code in stated_codes for form in loose_forms(code)})
        columns["stems"].append({stem(code) for code in stated_codes})
        columns["schemes"].append({scheme for code in stated_codes for scheme in schemes(code)})
        columns["forms"].append(set(forms(f"{title} {rest[:600]}")))
        columns["series"].append({name + number for name, number, _ in series(title)})
        columns["numbers"].append(numbers(quantities(title)[1]))
        of_offer = (
            fact
            for fact in facts(offer, generated[row] if generated else None, extractor)
            if fact.value not in hollow.get(fact.key, ())
        )
        if progress is not None and row % 1024 == 1023:
            progress(1024)
        stated.append_numbers({numbered.setdefault(fact, len(numbered)) for fact in of_offer})
    vocabulary = sorted(numbered)
    rank = np.empty(len(vocabulary), dtype=np.int64)
    rank[[numbered[fact] for fact in vocabulary]] = np.arange(len(vocabulary))
    stated_facts = stated.matrix(rank, len(vocabulary))
    values, keys = _values(stated_facts, vocabulary)
    return OfferTable(
        offers,
        _texts(columns["title"]),
        _texts(columns["text"]),
        columns["codes"].matrix(),
        columns["forms"].matrix(),
        columns["loose"].matrix(),
        columns["stems"].matrix(),
        columns["schemes"].matrix(),
        columns["series"].matrix(),
        columns["numbers"].matrix(),
        stated_facts,
        vocabulary,
        values,
        keys,
        _distrusted(len(offers), hollow["gtin"]),
        list(hollow["gtin"]),
        _notes(offers, hollow),
    )


def _notes(offers: Sequence[Offer], hollow: Mapping[str, Mapping[str, Sequence[int]]]) -> list[str]:
    """What is not used of the sellers' identifiers, in words."""
    notes: list[str] = []
    for key, shared in hollow.items():
        if shared:
            most = max(shared, key=lambda value: len(shared[value]))
            notes.append(
                f"{_counted(len(shared), key.upper())} shared by offers with unlike titles, so not used: "
                f"{most!r} ({len(shared[most])} offers){', …' if len(shared) > 1 else ''}"
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


def _distrusted(count: int, shared: Mapping[str, Sequence[int]]) -> Any:
    from scipy import sparse

    rows = np.array([row for sharing in shared.values() for row in sharing], dtype=np.int64)
    columns = np.repeat(np.arange(len(shared)), [len(sharing) for sharing in shared.values()])
    shape = (count, max(len(shared), 1))
    return sparse.csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)


def _counted(number: int, name: str) -> str:
    return f"1 {name} is" if number == 1 else f"{number:,} {name}s are"


class _Rows:
    """Rows of hashed words, as two flat arrays."""

    def __init__(self) -> None:
        self.entries = array("i")
        self.starts = array("q", [0])

    def append(self, words: Iterable[str]) -> None:
        self.entries.extend(crc32(word.encode()) & HASHES for word in words)
        self.starts.append(len(self.entries))

    def append_numbers(self, numbers: Iterable[int]) -> None:
        self.entries.extend(numbers)
        self.starts.append(len(self.entries))

    def matrix(self, columns: np.ndarray | None = None, width: int = HASHES) -> Any:
        """(N, width) counts; `columns` maps an entry to its column."""
        from scipy import sparse

        entries = np.frombuffer(self.entries, dtype=np.int32) if self.entries else np.empty(0, np.int32)
        entries = entries.copy() if columns is None else columns[entries].astype(np.int32)
        starts = np.frombuffer(self.starts, dtype=np.int64).copy()
        counts = sparse.csr_matrix(
            (np.ones(len(entries), dtype=np.float32), entries, starts), shape=(len(starts) - 1, max(width, 1))
        )
        counts.sum_duplicates()  # sorts each row too
        return counts


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


def _texts(rows: _Rows) -> Texts:
    from scipy import sparse

    counts = rows.matrix()
    words, columns = np.unique(counts.indices, return_inverse=True)
    frequency = np.bincount(columns, minlength=len(words))
    # a catalog of a few offers does not know which words are common: PRIOR offers of any shop are added to it
    common = np.where(np.isin(words, _STOP_HASHES), 0.3, 0.003)
    size = len(rows.starts) - 1 + PRIOR
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
