"""The sample catalogue: families of near-identical products, every offer with its own picture and messy title."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.demo.drawing import COLORS, CUTS, PATTERNS, View, draw_product
from afmrl.offers import Offer, write_catalogue

KEYS = ("category", "brand", "series", "color", "pattern", "cut", "material", "size")
PICTURE_KEYS = ("color", "pattern", "cut")
TEXT_KEYS = ("brand", "series", "material", "size")
DEFAULT_FAMILIES = {"train": 240, "reward": 60, "val": 30, "test": 100}

BRANDS = (
    "Avelor", "Brunta", "Calvik", "Dorema", "Elvanto", "Fjorda", "Gavrel", "Hestara", "Ilvora", "Jontel", "Kelmar",
    "Lumeko", "Morvana", "Nordeli", "Oltano", "Pelvira", "Quendo", "Rovane", "Sorvik", "Talmeo", "Ulvera", "Vantori",
    "Welmor", "Zervano",
)  # fmt: skip
SERIES_STARTS = ("al", "ber", "cor", "dan", "el", "fen", "gal", "hol", "ir", "jas", "kir", "lor", "mar", "nel", "or",
                 "pan", "qui", "ros", "sal", "tor", "ul", "ven", "wil", "xan", "yor", "zel")  # fmt: skip
SERIES_ENDS = ("ado", "berg", "cino", "dale", "eno", "fia", "gard", "hill", "ina", "jor", "kana", "lin", "mont",
               "nova", "ora", "pia", "rium", "stone", "tana", "una", "vale", "wick")  # fmt: skip
NOUNS = {
    "t-shirt": ("t-shirt", "tee", "shirt", "tshirt"),
    "mug": ("mug", "cup", "coffee mug"),
    "backpack": ("backpack", "bag", "rucksack"),
    "lamp": ("lamp", "table lamp", "light"),
    "sneaker": ("sneaker", "shoe", "trainers"),
    "bottle": ("bottle", "flask bottle", "drinking bottle"),
    "dress": ("dress", "gown", "ladies dress"),
    "cushion": ("cushion", "pillow", "throw pillow"),
}
# canonical value -> how sellers write it
MATERIALS: dict[str, dict[str, tuple[str, ...]]] = {
    "soft": {
        "cotton": ("cotton", "ctn", "100% cotton"),
        "linen": ("linen", "flax", "pure linen"),
        "wool": ("wool", "merino", "woolen"),
        "polyester": ("polyester", "poly", "PES"),
        "silk": ("silk", "mulberry silk", "silky"),
        "denim": ("denim", "jean fabric", "denim cloth"),
    },
    "hard": {
        "ceramic": ("ceramic", "stoneware", "cer."),
        "glass": ("glass", "borosilicate", "clear glass"),
        "steel": ("steel", "stainless", "inox"),
        "bamboo": ("bamboo", "bamboo fibre", "bmb"),
        "plastic": ("plastic", "tritan", "PP"),
        "brass": ("brass", "brass metal", "brs"),
    },
}
SIZES: dict[str, dict[str, tuple[str, ...]]] = {
    "wear": {
        "xs": ("xs", "x-small", "sz xs"),
        "s": ("s", "small", "sz s"),
        "m": ("m", "medium", "sz m"),
        "l": ("l", "large", "sz l"),
        "xl": ("xl", "x-large", "sz xl"),
        "xxl": ("xxl", "2xl", "sz xxl"),
    },
    "volume": {
        "250 ml": ("250 ml", "0.25 l", "250ml"),
        "350 ml": ("350 ml", "0.35 l", "350ml"),
        "500 ml": ("500 ml", "0.5 l", "500ml"),
        "750 ml": ("750 ml", "0.75 l", "750ml"),
        "1000 ml": ("1000 ml", "1 l", "1000ml"),
    },
    "length": {
        "30 cm": ("30 cm", "30cm", "0.3 m"),
        "40 cm": ("40 cm", "40cm", "0.4 m"),
        "50 cm": ("50 cm", "50cm", "0.5 m"),
        "60 cm": ("60 cm", "60cm", "0.6 m"),
        "70 cm": ("70 cm", "70cm", "0.7 m"),
    },
}
KINDS = {
    "t-shirt": ("soft", "wear"),
    "mug": ("hard", "volume"),
    "backpack": ("soft", "length"),
    "lamp": ("hard", "length"),
    "sneaker": ("soft", "wear"),
    "bottle": ("hard", "volume"),
    "dress": ("soft", "wear"),
    "cushion": ("soft", "length"),
}
FILLERS = ("new", "best seller", "free shipping", "top quality", "gift idea", "hot sale", "original", "2026 edition",
           "must have", "limited", "in stock", "premium")  # fmt: skip
TITLE_SHARES = {"brand": 0.75, "series": 0.65, "material": 0.6, "size": 0.6, "color": 0.1, "cut": 0.06, "pattern": 0.05}
NO_PICTURE, NO_TITLE, CLOSEUP, UNLABELLED = 0.04, 0.04, 0.08, 0.2


@dataclass(frozen=True)
class Product:
    """One thing sold."""

    family: str
    values: Mapping[str, str]
    """All its attributes, by KEYS."""


def write_sample_catalogue(
    folder: str | Path,
    *,
    families: Mapping[str, int] | None = None,
    seed: int = 0,
    image_size: int = 56,
    num_siblings: int = 5,
) -> Path:
    """Draw a sample catalogue: FOLDER/catalogue.jsonl and FOLDER/images; the same seed gives the same bytes.

    Columns beside an offer's own: `split`, `role` (query or gallery), `family_id`, `true_product_id` (the product even
    of offers that are not labelled as its duplicates), `visible_attributes` (what can be seen in this picture or read
    in this title, and nothing else), `true_attributes`.

    Args:
        families: families a split; more of one split change nothing in another.
        num_siblings: products a family, each one or two details from the family's first.

    Returns:
        path of catalogue.jsonl
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    offers: list[Offer] = []
    for split, number in (families or DEFAULT_FAMILIES).items():
        for index in range(number):
            stream = int.from_bytes(hashlib.sha256(f"{seed}/{split}/{index}".encode()).digest()[:8], "big")
            rng = np.random.default_rng(stream)
            family = f"f-{stream:016x}"[:12]
            for product in _make_family(family, num_siblings, rng):
                offers.extend(_make_offers(product, split, folder / "images", image_size, rng))
    path = folder / "catalogue.jsonl"
    write_catalogue(path, offers)
    return path


def _series(rng: np.random.Generator) -> str:
    return SERIES_STARTS[rng.integers(len(SERIES_STARTS))] + SERIES_ENDS[rng.integers(len(SERIES_ENDS))]


def _make_family(family: str, num_siblings: int, rng: np.random.Generator) -> list[Product]:
    category = str(rng.choice(list(KINDS)))
    fabric, measure = KINDS[category]
    choices = {
        "color": list(COLORS),
        "pattern": list(PATTERNS),
        "cut": list(CUTS[category]),
        "material": list(MATERIALS[fabric]),
        "size": list(SIZES[measure]),
    }
    base = {"category": category, "brand": str(rng.choice(BRANDS)).lower(), "series": _series(rng)}
    base |= {key: str(rng.choice(values)) for key, values in choices.items()}
    base = {key: base[key] for key in KEYS}
    siblings = [base]
    while len(siblings) < num_siblings:
        # three differences of five are seen, two are read
        changed = rng.choice(list(choices), size=1 + int(rng.random() < 0.4), replace=False, p=[0.28, 0.2, 0.2, 0.16, 0.16])
        values = dict(base)
        for key in changed:
            values[key] = str(rng.choice([value for value in choices[key] if value != base[key]]))
        if values not in siblings:
            siblings.append(values)
    return [Product(family, values) for values in siblings]


def _make_offers(product: Product, split: str, folder: Path, side: int, rng: np.random.Generator) -> list[Offer]:
    def opaque(prefix: str) -> str:
        return f"{prefix}-{rng.integers(1 << 40):010x}"

    true_id = opaque("p")
    if split == "train":
        # a product whose duplicates two sellers listed apart: each pair is labelled, that they are one is not
        unlabelled = rng.random() < UNLABELLED
        product_ids = [true_id] * 3 if not unlabelled else [true_id] * 2 + [opaque("p")] * 2
    else:
        product_ids = [true_id] * 2
    offers = []
    for place, product_id in enumerate(product_ids):
        offer_id = opaque("o")
        title, read = _title(product.values, rng)
        luck = rng.random()
        if luck < NO_TITLE:
            title, read = "", set()
        image, seen = "", set()
        if not NO_TITLE <= luck < NO_TITLE + NO_PICTURE:
            image = f"images/{offer_id}.jpg"
            seen = _picture(product.values, folder / f"{offer_id}.jpg", side, rng)
        visible = {key: value for key, value in product.values.items() if key in read | seen}
        extra: dict[str, Any] = {
            "split": split,
            "role": "query" if place == 0 else "gallery",
            "family_id": product.family,
            "true_product_id": true_id,
            "visible_attributes": visible,
            "true_attributes": dict(product.values),
        }
        offers.append(
            Offer(
                id=offer_id,
                title=title,
                image=image,
                category=product.values["category"],
                attributes={"price": f"{rng.integers(5, 90)}.{rng.integers(10)}0"},
                product_id=product_id,
                extra=extra,
            )
        )
    return offers


def _title(values: Mapping[str, str], rng: np.random.Generator) -> tuple[str, set[str]]:
    """A seller's title, and the keys that can be read in it."""
    category = values["category"]
    fabric, measure = KINDS[category]
    spoken: dict[str, str] = {"category": str(rng.choice(NOUNS[category]))}
    for key, share in TITLE_SHARES.items():
        if rng.random() >= share:
            continue
        value = values[key]
        if key == "material":
            value = str(rng.choice(MATERIALS[fabric][value]))
        elif key == "size":
            value = str(rng.choice(SIZES[measure][value]))
        spoken[key] = value
    words = [spoken[key] for key in rng.permutation(list(spoken))]
    if "brand" in spoken and rng.random() < 0.6:  # most sellers put the brand first
        words.remove(spoken["brand"])
        words.insert(0, spoken["brand"])
    for filler in rng.choice(FILLERS, size=int(rng.integers(0, 3)), replace=False):
        words.insert(int(rng.integers(0, len(words) + 1)), str(filler))
    title = " ".join(words)
    style = rng.random()
    if style < 0.3:
        title = title.title()
    elif style < 0.4:
        title = title.upper()
    if rng.random() < 0.06:  # a letter lost, in the filler or the noun at worst: what is read stays readable
        words = title.split()
        longest = max(range(len(words)), key=lambda i: len(words[i]))
        if len(words[longest]) > 6:
            cut = int(rng.integers(2, len(words[longest]) - 1))
            words[longest] = words[longest][:cut] + words[longest][cut + 1 :]
            title = " ".join(words)
    return title, set(spoken)


def _picture(values: Mapping[str, str], path: Path, side: int, rng: np.random.Generator) -> set[str]:
    """Draw one picture, and say which keys can be seen in it."""
    closeup = bool(rng.random() < CLOSEUP)
    view = View(
        angle=float(rng.normal(0, 9)),
        size=float(rng.uniform(0.72, 0.98)),
        shift=(float(rng.normal(0, 0.03)), float(rng.normal(0, 0.03))),
        light=float(rng.uniform(0.82, 1.12)),
        background=tuple(int(c) for c in rng.uniform(185, 250) + rng.normal(0, 9, 3).clip(-18, 5)),  # type: ignore[arg-type]
        closeup=closeup,
        mirrored=bool(rng.random() < 0.5),
    )
    picture = draw_product(
        values["category"], values["cut"], values["color"], values["pattern"], view, rng, side
    )
    picture.save(path, quality=88)
    return {"color", "pattern"} if closeup else {"category", "color", "pattern", "cut"}


def describe_sample(offers: Iterable[Offer]) -> dict[str, Any]:
    """What a sample holds: counts a split, the share of offers that show each key, and how many queries a perfect
    reader of text, of pictures and of both could tell from every gallery offer but its own product's."""
    by_split: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        by_split[str(offer.extra["split"])].append(offer)
    return {split: _describe(rows) for split, rows in by_split.items()}


def _describe(offers: list[Offer]) -> dict[str, Any]:
    gallery = [o for o in offers if o.extra["role"] == "gallery"]
    queries = [o for o in offers if o.extra["role"] == "query"]
    values = {key: sorted({str(o.extra["true_attributes"][key]) for o in offers}) for key in KEYS}
    codes = np.array([[_code(o, key, values) for key in KEYS] for o in gallery])

    def identified(keys: tuple[str, ...]) -> float:
        columns = [KEYS.index(key) for key in keys]
        hits = 0
        for query in queries[:500]:
            own = np.array([_code(query, key, values) for key in KEYS])
            clash = (codes != own) & (codes >= 0) & (own >= 0)
            fits = ~clash[:, columns].any(axis=1)
            products = {gallery[row].extra["true_product_id"] for row in np.flatnonzero(fits)}
            hits += products == {query.extra["true_product_id"]}
        return round(hits / max(min(len(queries), 500), 1), 3)

    return {
        "offers": len(offers),
        "products": len({o.extra["true_product_id"] for o in offers}),
        "families": len({o.extra["family_id"] for o in offers}),
        "visible": {
            key: round(sum(key in o.extra["visible_attributes"] for o in offers) / max(len(offers), 1), 3)
            for key in KEYS
        },
        "identified_by_text": identified(("category", *TEXT_KEYS)),
        "identified_by_picture": identified(("category", *PICTURE_KEYS)),
        "identified_by_both": identified(KEYS),
    }


def _code(offer: Offer, key: str, values: dict[str, list[str]]) -> int:
    visible = offer.extra["visible_attributes"]
    return values[key].index(visible[key]) if key in visible else -1
