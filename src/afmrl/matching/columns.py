"""What a match reads of each offer alone, and what it learns of the whole catalog."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.quantities import quantities
from afmrl.attributes.words import normalize, tokenize
from afmrl.data.offer import Offer
from afmrl.matching.facts.codes import codes, forms, loose_forms, numbers, schemes, series, stem
from afmrl.matching.facts.fact import Fact
from afmrl.matching.facts.facts import facts, mpns, stated_gtins
from afmrl.matching.facts.facts import title as title_of
from afmrl.matching.facts.hollow import hollow_identifiers

MAX_WORDS = 64  # of a title
MIN_CODE = 4  # signs of a part number that is looked for in other titles
MAX_TEXT_WORDS = 160  # of title, description and attributes together
HASHES = 2**31 - 1  # columns of a hashed text; two words in one column are harmless and rare
IDENTIFIERS = ("gtin", "mpn")
COLUMNS = ("title", "text", "codes", "forms", "loose", "stems", "schemes", "series", "numbers", *IDENTIFIERS)


@dataclass(frozen=True)
class WordCounts:
    """In how many offers of a catalog each word is.

    Shape:
        words (V,) int32 hashes, sorted; frequency (V,) int64.
    """

    words: np.ndarray
    frequency: np.ndarray
    num_offers: int

    @classmethod
    def of(cls, counts: Any) -> WordCounts:
        """Of a matrix of hashed words."""
        words, frequency = np.unique(counts.indices, return_counts=True)
        return cls(words.astype(np.int32), frequency, counts.shape[0])

    def of_words(self, words: np.ndarray) -> np.ndarray:
        """(n,) frequencies of hashes; a word that the catalog does not have counts as one of one offer alone."""
        if not len(self.words):
            return np.ones(len(words), dtype=np.int64)
        place = np.minimum(np.searchsorted(self.words, words), len(self.words) - 1)
        return np.where(self.words[place] == words, self.frequency[place], 1)


@dataclass(frozen=True)
class CatalogFacts:
    """What is learned of a whole catalog: brands, identifiers that identify nothing, how frequent words are.

    Two offers are compared by their own words and by these. While they stay as they are, so does the score of a pair,
    whatever else comes to the catalog or leaves it.
    """

    extractor: AttributeExtractor
    hollow: Mapping[str, Mapping[str, int]]
    """"mpn" and "gtin" → identifier → how many unlike offers share it."""
    titles: WordCounts
    texts: WordCounts


@dataclass(frozen=True)
class OfferColumns:
    """What N offers say, each read by itself.

    Shape:
        counts: name of COLUMNS → (N, 2^31) hashed words; facts (N, F), columns as `vocabulary`; distrusted (N, H) which
        of the hollow GTINs each offer states.
    """

    counts: Mapping[str, Any]
    facts: Any
    vocabulary: list[Fact]
    distrusted: Any

    def __len__(self) -> int:
        return self.facts.shape[0]

    def at(self, rows: np.ndarray) -> OfferColumns:
        """Of some of the offers, with the facts that they state alone."""
        stated = self.facts[rows]
        used, columns = np.unique(stated.indices, return_inverse=True)
        return OfferColumns(
            {name: of[rows] for name, of in self.counts.items()},
            _csr((stated.data, columns.astype(np.int32), stated.indptr), (len(rows), max(len(used), 1))),
            [self.vocabulary[column] for column in used.tolist()],
            self.distrusted[rows],
        )

    def joined(self, other: OfferColumns) -> OfferColumns:
        """Of these offers and then of others, read with the same facts of the catalog."""
        from scipy import sparse

        numbered = {fact: number for number, fact in enumerate(self.vocabulary)}
        renamed = [numbered.setdefault(fact, len(numbered)) for fact in other.vocabulary]
        width = max(len(numbered), 1)
        columns = np.array(renamed, dtype=np.int32)[other.facts.indices] if renamed else other.facts.indices
        theirs = _csr((other.facts.data, columns, other.facts.indptr), (len(other), width))
        ours = _csr((self.facts.data, self.facts.indices, self.facts.indptr), (len(self), width))
        return OfferColumns(
            {name: sparse.vstack([of, other.counts[name]], "csr") for name, of in self.counts.items()},
            sparse.vstack([ours, theirs], "csr"),
            list(numbered),
            sparse.vstack([self.distrusted, other.distrusted], "csr"),
        )


def _csr(entries: Any, shape: tuple[int, int]) -> Any:
    from scipy import sparse

    return sparse.csr_matrix(entries, shape=shape)


def learn_catalog(
    offers: Sequence[Offer], extractor: AttributeExtractor | None = None
) -> tuple[AttributeExtractor, dict[str, dict[str, int]]]:
    """The brands of a catalog and its hollow identifiers, before its words are counted."""
    shared = {
        "mpn": hollow_identifiers(offers, mpns, unique_to_brand=True),
        "gtin": hollow_identifiers(offers, stated_gtins, unique_to_brand=False),
    }
    hollow = {key: {identifier: len(rows) for identifier, rows in of.items()} for key, of in shared.items()}
    return extractor or AttributeExtractor.learn(offers), hollow


def read_columns(
    offers: Sequence[Offer],
    extractor: AttributeExtractor,
    hollow: Mapping[str, Mapping[str, int]],
    generated: Sequence[KeyAttributes] | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> OfferColumns:
    """What each offer says.

    Args:
        generated: key attributes that a generator wrote, one an offer.
    """
    columns = {name: _Rows() for name in COLUMNS}
    numbered: dict[Fact, int] = {}
    stated, distrusted = _Rows(), _Rows()
    place = {gtin: column for column, gtin in enumerate(hollow["gtin"])}
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
        of_offer = {
            fact
            for fact in facts(offer, generated[row] if generated else None, extractor)
            if fact.value not in hollow.get(fact.key, ())
        }
        ordered = sorted(of_offer)  # the same numbers in every process
        for key in IDENTIFIERS:
            columns[key].append({fact.value for fact in of_offer if fact.key == key and fact.source != "generated"})
        if progress is not None and row % 1024 == 1023:
            progress(1024)
        stated.append_numbers(sorted([numbered.setdefault(fact, len(numbered)) for fact in ordered]))
        distrusted.append_numbers(place[gtin] for gtin in stated_gtins(offer) if gtin in place)
    return OfferColumns(
        {name: rows.matrix() for name, rows in columns.items()},
        stated.matrix(len(numbered)),
        list(numbered),
        distrusted.matrix(len(place)),
    )


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

    def matrix(self, width: int = HASHES) -> Any:
        """(N, width) counts."""
        entries = np.frombuffer(self.entries, dtype=np.int32) if self.entries else np.empty(0, np.int32)
        starts = np.frombuffer(self.starts, dtype=np.int64).copy()
        counts = _csr((np.ones(len(entries), np.float32), entries.copy(), starts), (len(starts) - 1, max(width, 1)))
        counts.sum_duplicates()  # sorts each row too
        return counts
