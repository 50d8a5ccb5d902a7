"""Sellers' titles of the sample: invented names, how values are written, and messy titles made of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# invented; any two differ in three letters or more, so that a misspelled one is still read as itself
BRANDS = (
    "zembarro", "quiltrix", "ostrivik", "brunquel", "fandorix", "klevanto", "mirvask", "yolpeka", "drunavo", "wexlora",
    "tarbizo", "ulmeriq", "sprevano", "gloftan", "havoskar", "jundelo", "nexorby", "pivantu", "rolfenga", "snarvik",
    "veltoska", "cazimbo", "lurpenna", "ebrindol",
)  # fmt: skip
SERIES = (
    "altivor", "bergasco", "corlanda", "danfirel", "elmoura", "fenwisk", "galdrino", "holvanne", "irbesto", "jaskolin",
    "kirmandu", "lorquest", "marquino", "nelvarra", "orpindel", "panzoriq", "quirella", "rostavio", "saltembo",
    "tormeska", "ulvengard", "ventrisol", "wilcoreth", "xandupel", "yorvika", "zelpardo", "abrusten", "boltaniq",
    "cindralo", "dovaltin", "estorby", "flumenta", "grovelka", "hintaro", "islebrun", "julvanti", "kestomar",
    "limbrava", "mondreki", "nurvalis", "opalkin", "pertusko", "quasbero", "rindalfo", "sombrick", "tuldegan",
    "umbriska", "vaskolei",
)  # fmt: skip
NOUNS = {
    "t-shirt": ("t-shirt", "tee", "shirt", "tshirt"),
    "mug": ("mug", "cup", "coffee mug"),
    "bag": ("bag", "carry bag", "carryall"),
    "lamp": ("lamp", "table lamp", "bedside light"),
    "sneaker": ("sneaker", "shoe", "trainers"),
    "bottle": ("bottle", "drinking bottle", "water bottle"),
    "dress": ("dress", "gown", "ladies dress"),
    "cushion": ("cushion", "pillow", "throw pillow"),
}
# canonical value -> how sellers write it
_MATERIALS: dict[str, tuple[str, ...]] = {
    "cotton": ("cotton", "ctn", "100% cotton"),
    "linen": ("linen", "flax", "pure linen"),
    "wool": ("wool", "merino", "woolen"),
    "polyester": ("polyester", "poly", "pes"),
    "silk": ("silk", "mulberry silk", "pure silk"),
    "denim": ("denim", "jean fabric", "denim cloth"),
    "canvas": ("canvas", "cnvs", "sailcloth"),
    "leather": ("leather", "lthr", "cowhide"),
    "suede": ("suede", "nubuck", "soft suede"),
    "ceramic": ("ceramic", "stoneware", "cer."),
    "glass": ("glass", "borosilicate", "boro glass"),
    "steel": ("steel", "stainless", "inox"),
    "bamboo": ("bamboo", "bamboo fibre", "bmb"),
    "plastic": ("plastic", "tritan", "pp"),
    "brass": ("brass", "solid brass", "brs"),
}
_WEAR = ("cotton", "linen", "wool", "polyester", "silk", "denim")
_CARRIED = ("cotton", "polyester", "denim", "canvas", "leather", "suede")
_HARD = ("ceramic", "glass", "steel", "bamboo", "plastic", "brass")
_CLOTHES_SIZES: dict[str, tuple[str, ...]] = {
    "xs": ("xs", "x-small", "sz xs"),
    "s": ("s", "small", "sz s"),
    "m": ("m", "medium", "sz m"),
    "l": ("l", "large", "sz l"),
    "xl": ("xl", "x-large", "sz xl"),
    "xxl": ("xxl", "2xl", "sz xxl"),
}
_SHOE_SIZES: dict[str, tuple[str, ...]] = {f"eu {n}": (f"eu {n}", f"eu{n}", f"sz {n}") for n in range(37, 44)}
_VOLUMES: dict[str, tuple[str, ...]] = {
    f"{ml} ml": (f"{ml} ml", f"{ml}ml", f"{ml / 1000:g} l") for ml in (250, 350, 500, 750, 1000)
}
_LENGTHS: dict[str, tuple[str, ...]] = {
    f"{cm} cm": (f"{cm} cm", f"{cm}cm", f"{cm / 100:g} m") for cm in (30, 35, 40, 45, 50, 60, 70)
}
MATERIALS: dict[str, tuple[str, ...]] = {
    "t-shirt": _WEAR,
    "mug": _HARD,
    "bag": _CARRIED,
    "lamp": _HARD,
    "sneaker": _CARRIED,
    "bottle": _HARD,
    "dress": _WEAR,
    "cushion": _WEAR,
}
SIZES: dict[str, dict[str, tuple[str, ...]]] = {
    "t-shirt": _CLOTHES_SIZES,
    "mug": _VOLUMES,
    "bag": _LENGTHS,
    "lamp": _LENGTHS,
    "sneaker": _SHOE_SIZES,
    "bottle": _VOLUMES,
    "dress": _CLOTHES_SIZES,
    "cushion": _LENGTHS,
}
FILLERS = (
    "new", "2026 edition", "best seller", "free shipping", "top quality", "gift idea", "hot sale", "original",
    "must have", "limited", "in stock", "premium", "fast delivery", "sale!!", "great price",
)  # fmt: skip
SHARES = {"brand": 0.8, "series": 0.7, "material": 0.75, "size": 0.75, "color": 0.12, "cut": 0.08, "pattern": 0.05}
"""How often a title says what. The category's noun is always there."""
TYPO_SHARE = 0.06
"""Of the words of five letters or more: one letter lost, or two swapped."""
JOINTS, JOINT_SHARES = (" ", ", ", " - ", " | "), (0.7, 0.12, 0.12, 0.06)


def surface_forms(category: str, key: str, value: str) -> tuple[str, ...]:
    """How sellers write a value of a key.

    >>> surface_forms("mug", "size", "350 ml")
    ('350 ml', '350ml', '0.35 l')
    """
    if key == "category":
        return NOUNS[value]
    if key == "material":
        return _MATERIALS[value]
    if key == "size":
        return SIZES[category][value]
    return (value,)


def make_title(values: Mapping[str, str], rng: np.random.Generator) -> tuple[str, set[str]]:
    """A seller's title of a product, and the keys that can be read in it."""
    category = values["category"]
    spoken = ["category"] + [key for key, share in SHARES.items() if rng.random() < share]
    words: dict[str, str] = {}
    for key in spoken:
        forms = surface_forms(category, key, values[key])
        words[key] = " ".join(_misspelled(word, rng) for word in forms[rng.integers(len(forms))].split())
    order = [spoken[place] for place in rng.permutation(len(spoken))]
    if "brand" in order and rng.random() < 0.6:  # most sellers put the brand first
        order.remove("brand")
        order.insert(0, "brand")
    pieces = [_cased(words[key], rng) for key in order]
    for place in rng.permutation(len(FILLERS))[: rng.integers(0, 3)]:
        pieces.insert(int(rng.integers(0, len(pieces) + 1)), FILLERS[place])
    title = JOINTS[rng.choice(len(JOINTS), p=JOINT_SHARES)].join(pieces)
    style = rng.random()
    if style < 0.25:
        title = title.title()
    elif style < 0.35:
        title = title.upper()
    elif style < 0.65:
        title = title.lower()
    return title, set(spoken)


def _cased(piece: str, rng: np.random.Generator) -> str:
    return piece.title() if rng.random() < 0.4 else piece


def _misspelled(word: str, rng: np.random.Generator) -> str:
    # not shorter words and nothing with digits: what is written must still be read as what was meant
    if len(word) < 5 or not word.isalpha() or "shirt" in word or rng.random() >= TYPO_SHARE:
        return word
    place = int(rng.integers(1, len(word) - 2))
    if rng.random() < 0.5:
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
