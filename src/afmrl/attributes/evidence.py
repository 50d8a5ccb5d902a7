"""Evidence: whether an offer itself says what was written about it."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afmrl.attributes.colors import plain_colors
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.quantities import quantities
from afmrl.attributes.schema import normalize_value
from afmrl.attributes.words import normalize, tokenize
from afmrl.data.offer import Offer
from afmrl.files import write_json

MAX_CHARACTERS = 20_000  # of an offer's text; endless ones must not cost time
STEM = 4
"""Letters that a word and a form of it share at least: stripe, striped."""
ENDINGS = 3
"""Letters in which a word and a form of it may differ at the end."""
EVIDENCE_FILE = "evidence.json"
"""Beside a generator: the evidence of what it wrote for offers of its own catalog that it was not trained on."""
LEAST_SHARE = 0.5
"""Of written values with evidence, below which a generator whose usual share is not known is doubted."""
MUCH_LESS = 0.2
"""Below its usual share by so much, or below half of it, a generator is doubted."""
SHOWN_KEYS = 8
_BETWEEN = re.compile(r"[\W_]+")


class OfferText:
    """What an offer's text and stated attributes say, ready to be asked for many values.

    >>> text = OfferText(Offer("1", "Dymo D1 Tape S-0720680, 9mm x 7m, Black on White"))
    >>> [text.supports("color", "black / white"), text.supports("model", "s0720680"), text.supports("length", "7 m")]
    [True, True, True]
    >>> text.supports("color", "red"), text.supports("type", "dress")
    (False, False)
    >>> text.unsaid(KeyAttributes.of({"color": "red", "length": "7 m"}))
    ['color']
    """

    def __init__(self, offer: Offer) -> None:
        stated = [f"{key} {value}" for key, value in offer.attributes.items() if not says_nothing(value)]
        parts = (offer.title, offer.description, offer.category, *stated)
        self._text = normalize(" . ".join(parts)[:MAX_CHARACTERS])
        self._words = set(tokenize(self._text))
        self._joined = _BETWEEN.sub("", self._text)
        self._colors = set(plain_colors(self._text))
        self._measures = set(quantities(self._text)[0].values())

    def supports(self, key: str, value: str) -> bool:
        """Whether the offer says a value: its words or forms of them, its color in any language, its quantity in any
        unit, or its code with other hyphens."""
        words = tokenize(value)
        if not words:
            return False
        if all(self._says(word) for word in words):
            return True
        colors = plain_colors(normalize(value))
        if colors and self._colors.issuperset(colors):
            rest = set(words) - {word for word in words if plain_colors(word)}
            return all(self._says(word) for word in rest)
        if any(sign.isdigit() for sign in value):
            measures = set(quantities(normalize(value))[0].values()) or {normalize_value(value)}
            if self._measures & measures or any(each in other for each in measures for other in self._measures):
                return True
            return len(code := _BETWEEN.sub("", normalize(value))) >= STEM and code in self._joined
        return False

    def unsaid(self, attributes: KeyAttributes) -> list[str]:
        """Keys of the values that the offer does not say."""
        return [key for key, value in attributes if not self.supports(key, value)]

    def _says(self, word: str) -> bool:
        if word in self._words:
            return True
        if len(word) <= STEM or not word.isalpha():
            return False
        stem = word[: max(STEM, len(word) - ENDINGS)]
        return any(other.startswith(stem) and abs(len(other) - len(word)) <= ENDINGS for other in self._words)


@dataclass
class Evidence:
    """How many written values an offer's text supports, key by key."""

    written: Counter[str] = field(default_factory=Counter)
    supported: Counter[str] = field(default_factory=Counter)

    def add(self, offer: Offer, attributes: KeyAttributes) -> None:
        """Count what was written about an offer."""
        if not len(attributes):
            return
        unsaid = set(OfferText(offer).unsaid(attributes))
        for key, _ in attributes:
            self.written[key] += 1
            self.supported[key] += key not in unsaid

    @classmethod
    def of(cls, offers: Iterable[Offer], attributes: Iterable[KeyAttributes]) -> Evidence:
        """Count over offers and what was written about each."""
        found = cls()
        for offer, written in zip(offers, attributes, strict=True):
            found.add(offer, written)
        return found

    @property
    def share(self) -> float:
        """Of all values; NaN where nothing was written."""
        return self.supported.total() / self.written.total() if self.written else float("nan")

    def doubt(self, usual: float | None) -> str:
        """Why the values should not be trusted; "" where nothing speaks against them.

        Args:
            usual: the generator's share on its own catalog; None: it is not known.
        """
        if not self.written:
            return ""
        if usual is None:
            return "" if self.share >= LEAST_SHARE else f"fewer than {LEAST_SHARE:.0%} have evidence"
        less = self.share < max(usual - MUCH_LESS, usual / 2)
        return f"on the catalog that it was trained on it was {usual:.0%}" if less else ""

    def lines(self, usual: float | None = None, *, images: bool = False) -> list[str]:
        """The shares for people, a warning first where there is one.

        Args:
            usual: as in `doubt`.
            images: the generator saw images too.
        """
        if not self.written:
            return []
        found = []
        if doubt := self.doubt(usual):
            found.append(
                f"warning: this generator seems to invent: {self.share:.0%} of its values have evidence in the offers; "
                f"{doubt}. Train it on this catalog, or use another"
            )
        seen = " (what only an image shows has none)" if images else ""
        found.append(
            f"evidence: {self.supported.total():,} of {self.written.total():,} written values ({self.share:.0%}) are "
            f"in the offers' texts or stated attributes{seen}"
        )
        keys = [f"{key} {self.supported[key] / number:.0%}" for key, number in self.written.most_common(SHOWN_KEYS)]
        more = len(self.written) - SHOWN_KEYS
        return [*found, f"  by key: {', '.join(keys)}" + (f", {more:,} more keys" if more > 0 else "")]

    def as_json(self) -> dict[str, Any]:
        """{"share", "written", "keys": {key: [supported, written]}}, the most frequent keys first."""
        return {
            "share": round(self.share, 4) if self.written else None,
            "written": self.written.total(),
            "keys": {key: [self.supported[key], number] for key, number in self.written.most_common()},
        }

    def save(self, folder: str | Path) -> None:
        """Write FOLDER/evidence.json, beside a generator."""
        write_json(Path(folder) / EVIDENCE_FILE, self.as_json())


def usual_share(generator: str | Path) -> float | None:
    """The share that a generator's folder says was usual on its own catalog; None where it does not say."""
    try:
        share = json.loads((Path(generator) / EVIDENCE_FILE).read_text(encoding="utf-8"))["share"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(share) if isinstance(share, int | float) and math.isfinite(share) else None
