"""Key attributes by rules: model numbers, quantities, colors, editions, and brands learned from the catalog."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from afmrl.attributes.colors import COLORS, shaded_colors
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.missing import says_nothing
from afmrl.attributes.quantities import quantities
from afmrl.attributes.words import normalize
from afmrl.data.check_digit import is_gtin
from afmrl.data.offer import Offer
from afmrl.errors import InputError, check_type
from afmrl.files import parse_json, write_json

BRAND_KEYS = ("brand", "manufacturer", "vendor", "marke", "品牌")
COMPANY_WORDS = frozenset(
    ("inc", "co", "corp", "corporation", "company", "ltd", "llc", "gmbh", "ag", "software", "education", "box", "usa")
)
"""Left off the end of a seller's brand."""
MAX_BRAND_WORDS, MAX_COLORS = 3, 3
MAX_CHARACTERS = 2_000  # a title's first; endless ones must not cost time
_WORD = re.compile(r"[^\W_]+(?:[-./+'&][^\W_]+)*", re.UNICODE)
_CODE = re.compile(r"(?<![\w.])[a-z0-9]+(?:[-/][a-z0-9]+)*(?![\w])")
_YEAR = re.compile(r"(?<![\w.-])(19[89]\d|20[0-4]\d)(?![\w.-])")
_APERTURE = re.compile(r"(?<!\w)f ?/? ?(\d{1,2}(?:\.\d)?)(?:-\d{1,2}(?:\.\d)?)?(?![\w.])")
_VERSION = re.compile(
    r"(?<![\w/])(?:v(?:er(?:sion|\.)?)?\.? ?(\d{1,2}(?:\.\d{1,2}){0,2})|(cs\d)|(\d{1,2}\.\d{1,2}(?:\.\d{1,2})?))"
    r"(?![\w.])"
)
_COLOR_SUFFIX = re.compile(r"/[a-z]{1,2}$")
# standards and products' own words that look like codes
_NO_CODES = re.compile(
    r"(?:mp[34]|ddr\d|usb\d+|h26[45]|ps[1-5]|xbox360|360|3d|2d|4k|8k|[345]g|wifi\d|80211\w*|cat\d\w?|rj45|"
    r"\d+(?:st|nd|rd|th)|\d+x\d+|\d+in\d+|win\d+|office\d+|cs\d|core\d|co2|dvd\d+|sata\d+|pcie\d+|\d+s|\d+p|\d{1,3}x)$"
)
EDITIONS: Mapping[str, Mapping[str, str]] = {
    "license": {
        **dict.fromkeys(("upgrade", "upg", "upgrd", "upsell"), "upgrade"),
        **dict.fromkeys(("academic", "student", "education", "educational", "edu", "teacher", "school"), "academic"),
        **dict.fromkeys(("oem",), "oem"),
    },
    "edition": {
        **dict.fromkeys(("professional", "pro"), "professional"),
        **dict.fromkeys(("standard", "std"), "standard"),
        **dict.fromkeys(("premium", "prem"), "premium"),
        **dict.fromkeys(("deluxe", "dlx"), "deluxe"),
        **{name: name for name in ("home", "ultimate", "enterprise", "express", "elements", "platinum", "basic")},
    },
    "platform": {
        **dict.fromkeys(("windows", "win", "winxp", "vista", "xp"), "windows"),
        **dict.fromkeys(("mac", "macintosh", "osx", "macos"), "mac"),
        **{name: name for name in ("linux", "wii", "xbox", "playstation", "psp", "nintendo", "android", "ios")},
    },
}
_GIVE_AN_OFFER = 'an Offer, such as Offer("1", title="red silk dress"); extract_all takes several'


class AttributeExtractor:
    """Reads key attributes off an offer's title by rules: no model, no training but a list of brands.

    Keys: `brand`; `model`, `model 2`, … (codes of letters and digits, the longest first, without hyphens); `number`
    (digits alone), `gtin` (8, 12, 13 or 14 digits whose check digit is right); quantities in one unit each
    (`memory`, `length`, `weight`, …, see `afmrl.attributes.quantities.UNITS`), `aperture`; `color`; `year`,
    `version`; `license`, `edition`, `platform` of software. A seller's own brand is taken over. Deterministic; some
    6,000 titles a second.

    Args:
        brands: names that titles are searched for; the longest counts, of equals the first in the title.

    >>> extractor = AttributeExtractor(["dymo", "western digital"])
    >>> str(extractor.extract(Offer(id="1", title="Dymo D1 Tape S-0720680 9mm x 7m, Black on White")))
    'brand: dymo; model: s0720680; length: 9 mm x 7000 mm; color: black / white'
    """

    def __init__(self, brands: Iterable[str] = ()) -> None:
        self.brands = tuple(sorted({name for brand in brands if (name := _plain(brand))}))
        self._brands = frozenset(self.brands)

    @classmethod
    def learn(cls, offers: Iterable[Offer], *, min_offers: int = 3) -> AttributeExtractor:
        """Brands of a catalog: what sellers wrote as brand or manufacturer, and words that titles begin with.

        Args:
            min_offers: offers whose title begins with a word before it can be a brand; it must then begin at least
                six of ten titles that hold it, and not be a color or a number.

        Raises:
            InputError: `min_offers` below 1.
        """
        if min_offers < 1:
            raise InputError(f"extractor: min_offers={min_offers} must be at least 1")
        stated: Counter[str] = Counter()
        first: Counter[str] = Counter()
        anywhere: Counter[str] = Counter()
        products: dict[str, set[str]] = defaultdict(set)
        if isinstance(offers, str):
            check_type(
                "AttributeExtractor.learn: the argument", offers, list, "a list of Offers, or read_catalog(FILE)"
            )
        for offer in offers:
            check_type("AttributeExtractor.learn: an element", offer, Offer, _GIVE_AN_OFFER)
            brand = sellers_brand(offer)
            if brand and len(brand.split()) <= MAX_BRAND_WORDS:
                stated[brand] += 1
            words = _plain(offer.title[:MAX_CHARACTERS]).split()
            anywhere.update(set(words))
            if words:
                first[words[0]] += 1
                products[words[0]].add(offer.product_id or offer.id)
        begins = {
            word
            for word, count in first.items()
            if count >= min_offers
            and count >= 0.6 * anywhere[word]
            and len(products[word]) >= 2
            and len(word) > 1
            and not any(character.isdigit() for character in word)
            and word not in COLORS
            and not any(word in names for names in EDITIONS.values())
        }
        return cls([*stated, *begins])

    def extract(self, offer: Offer) -> KeyAttributes:
        """Key attributes of one offer, in the order of the class's list; none where its title holds none."""
        check_type("extract: the argument", offer, Offer, _GIVE_AN_OFFER)
        text = normalize(offer.title[:MAX_CHARACTERS])
        pairs: list[tuple[str, str]] = []
        brand = sellers_brand(offer) or self._brand(text)
        if brand:
            pairs.append(("brand", brand))
        if brand.isalnum() and not brand.isalpha():  # 3m is no length where it is the brand
            text = re.sub(rf"(?<!\w){brand}(?!\w)", " ", text)
        measured, rest = quantities(text)
        apertures = [f"f/{match[1]}" for match in _APERTURE.finditer(rest)]
        rest, years, versions = _dates(_APERTURE.sub(" ", rest))
        pairs += _codes(rest)
        pairs += measured.items()
        if apertures:
            pairs.append(("aperture", apertures[0]))
        colors = shaded_colors(text)[:MAX_COLORS]
        if colors:
            pairs.append(("color", " / ".join(colors)))
        if years:
            pairs.append(("year", years[0]))
        if versions:
            pairs.append(("version", versions[0]))
        words = set(_WORD.findall(text))
        for key, names in EDITIONS.items():
            found = sorted({names[word] for word in words if word in names})
            if found:
                pairs.append((key, " / ".join(found)))
        return KeyAttributes.of(pairs)

    def extract_all(self, offers: Sequence[Offer]) -> list[KeyAttributes]:
        """One KeyAttributes an offer."""
        if isinstance(offers, str) or not isinstance(offers, Iterable):
            check_type("extract_all: the argument", offers, list, "a list of Offers")
        return [self.extract(offer) for offer in offers]

    def _brand(self, text: str) -> str:
        words = _plain(text).split()
        for length in range(min(MAX_BRAND_WORDS, len(words)), 0, -1):
            for start in range(len(words) - length + 1):
                name = " ".join(words[start : start + length])
                if name in self._brands:
                    return name
        return ""

    def save(self, path: str | Path) -> None:
        """Write the brands as JSON, atomically."""
        write_json(path, {"brands": self.brands})

    @classmethod
    def load(cls, path: str | Path) -> AttributeExtractor:
        """Read what `save` wrote.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        try:
            brands = parse_json(Path(path).read_text(encoding="utf-8"))["brands"]
            if not isinstance(brands, list) or not all(isinstance(brand, str) for brand in brands):
                raise TypeError("'brands' is not a list of names")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f'extractor {path}: cannot be read ({error}); expected {{"brands": [names]}}') from error
        return cls(brands)


def _plain(text: str) -> str:
    """Words alone, single spaces: how brands are compared."""
    return " ".join(_WORD.findall(normalize(text)))


def sellers_brand(offer: Offer) -> str:
    """The brand that the seller states, its words alone; "" where the seller states none."""
    for key, value in offer.attributes.items():
        if normalize(str(key)) in BRAND_KEYS and not says_nothing(value, identifier=True):
            words = _plain(str(value).replace("-", " ")).split()
            while len(words) > 1 and words[-1] in COMPANY_WORDS:
                words.pop()
            return " ".join(words)
    return ""


def _dates(text: str) -> tuple[str, list[str], list[str]]:
    years = [match[1] for match in _YEAR.finditer(text)]
    text = _YEAR.sub(" ", text)
    versions = [next(filter(None, match.groups())) for match in _VERSION.finditer(text)]
    return _VERSION.sub(" ", text), years, [re.sub(r"(?:\.0)+$", "", version) for version in versions]


def _codes(text: str) -> list[tuple[str, str]]:
    """`model`s, `number` and `gtin`."""
    models: dict[str, None] = {}
    numbers: dict[str, None] = {}
    gtins: dict[str, None] = {}
    for match in _CODE.finditer(text):
        # /b, /w: the color that a shop writes behind the model
        code = _COLOR_SUFFIX.sub("", match[0]).replace("-", "").replace("/", "")
        digits = sum(character.isdigit() for character in code)
        if digits == len(code):
            if is_gtin(code):
                gtins[code] = None
            elif 4 <= len(code) <= 14:
                numbers[code] = None
        elif digits and (len(code) >= 5 or (len(code) == 4 and digits >= 2)) and not _NO_CODES.match(code):
            models[code] = None
    longest = sorted(models, key=lambda code: -len(code))[:4]  # stable: of equals the first in the title
    pairs = [("model" if place == 0 else f"model {place + 1}", code) for place, code in enumerate(longest)]
    pairs += [("number", number) for number in list(numbers)[:1]]
    return pairs + [("gtin", gtin.lstrip("0")) for gtin in list(gtins)[:1]]
