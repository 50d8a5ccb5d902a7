"""The sample catalog: families of near-identical products, every offer with its own image and messy title."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.data.catalog import write_catalog
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import atomic_write, content_hash
from afmrl.sample.drawing import FABRIC_COLORS, PATTERNS, View, draw_product
from afmrl.sample.shapes import CUTS
from afmrl.sample.titles import BRANDS, MATERIALS, SERIES, SIZES, make_title
from afmrl.terminal import track

KEYS = ("category", "brand", "series", "color", "pattern", "cut", "material", "size")
IMAGE_KEYS = ("color", "pattern", "cut")
TEXT_KEYS = ("brand", "series", "material", "size")
SPLITS = ("train", "reward", "val", "test")
DEFAULT_FAMILIES = {"train": 240, "reward": 60, "val": 30, "test": 100}
CHANGES = {"color": 0.24, "pattern": 0.19, "cut": 0.19, "material": 0.19, "size": 0.19}
"""What tells siblings apart, by share: three of five differences are seen, two are read."""
TWO_CHANGES = 0.6
"""Share of the siblings that differ in two details; the others in one."""
NO_IMAGE, NO_TITLE, CLOSEUP = 0.04, 0.04, 0.08
UNLABELED = 0.15
"""Share of the training products for which two sellers' pairs have two product ids."""
MAX_SIBLINGS = 100
FAMILIES_AT_ONCE = 10  # drawn by one process without a word to the others
WORTH_PARALLEL = 8  # such runs, from which starting processes pays


@dataclass(frozen=True)
class Product:
    """One thing sold."""

    id: str
    family: str
    values: Mapping[str, str]
    """All its attributes, by KEYS in their order."""


def write_sample_catalog(
    folder: str | Path,
    *,
    families: Mapping[str, int] | None = None,
    seed: int = 0,
    image_size: int = 56,
    num_siblings: int = 5,
    progress: bool = False,
) -> Path:
    """Draw a sample catalog: FOLDER/catalog.jsonl and FOLDER/images; the same seed gives the same bytes.

    Columns besides an offer's own: `split`, `role` (query or gallery), `family_id`, `true_product_id` (the product even
    of offers that are not labeled as its duplicates), `visible_attributes` (what can be seen in this image or read
    in this title, and nothing else), `true_attributes`.

    Args:
        families: families a split (DEFAULT_FAMILIES); more of one split change nothing in another, nor in its first.
        image_size: side of an image in pixels.
        num_siblings: products a family: the family's first, and others one or two details away from it.
        progress: show a bar.

    Returns:
        path of catalog.jsonl

    Raises:
        InputError: an unknown split, no family at all, a size out of range.
    """
    families = DEFAULT_FAMILIES if families is None else families
    _check(families, image_size, num_siblings)
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    path = folder / "catalog.jsonl"
    write_catalog(path, _draw_families(families, folder, image_size, num_siblings, seed, progress))
    return path


def _draw_families(
    families: Mapping[str, int], folder: Path, image_size: int, num_siblings: int, seed: int, progress: bool
) -> Iterator[Offer]:
    """Offers of all families in order, drawn by every core where there is much to draw."""
    from joblib import Parallel, delayed

    places = [(split, index) for split, number in families.items() for index in range(number)]
    runs = [places[start : start + FAMILIES_AT_ONCE] for start in range(0, len(places), FAMILIES_AT_ONCE)]
    parallel = Parallel(n_jobs=-1 if len(runs) >= WORTH_PARALLEL else 1, return_as="generator")
    drawn = parallel(delayed(_draw_run)(run, folder, image_size, num_siblings, seed) for run in runs)
    for offers in track(drawn, "drawing the sample catalog", len(runs), show=progress):
        yield from offers


def _draw_run(
    places: Sequence[tuple[str, int]], folder: Path, image_size: int, num_siblings: int, seed: int
) -> list[Offer]:
    offers: list[Offer] = []
    for split, index in places:
        for product in make_family(split, index, num_siblings=num_siblings, seed=seed):
            offers.extend(_make_offers(product, split, folder, image_size, seed))
    return offers


def make_family(split: str, index: int, *, num_siblings: int = 5, seed: int = 0) -> list[Product]:
    """The products of one family: the first, and siblings that differ from it in one or two details.

    >>> first, second = make_family("test", 0, num_siblings=2)
    >>> 1 <= sum(first.values[key] != second.values[key] for key in KEYS) <= 2
    True
    """
    rng, family = _stream(seed, split, index), "f-" + _digest(seed, split, index)
    categories = list(CUTS)
    category = categories[rng.integers(len(categories))]
    choices: dict[str, Sequence[str]] = {
        "color": list(FABRIC_COLORS),
        "pattern": PATTERNS,
        "cut": list(CUTS[category]),
        "material": MATERIALS[category],
        "size": list(SIZES[category]),
    }
    first = {
        "category": category,
        "brand": BRANDS[rng.integers(len(BRANDS))],
        "series": SERIES[rng.integers(len(SERIES))],
    }
    first |= {key: values[int(rng.integers(len(values)))] for key, values in choices.items()}
    siblings = [first]
    while len(siblings) < num_siblings:
        number = 1 + int(rng.random() < TWO_CHANGES)
        changed = rng.choice(len(CHANGES), size=number, replace=False, p=list(CHANGES.values()))
        values = dict(first)
        for key in (list(CHANGES)[place] for place in changed):
            others = [value for value in choices[key] if value != first[key]]
            values[key] = others[rng.integers(len(others))]
        if values not in siblings:
            siblings.append(values)
    return [Product("p-" + _digest(seed, split, index, place), family, values) for place, values in enumerate(siblings)]


def _check(families: Mapping[str, int], image_size: int, num_siblings: int) -> None:
    for split, number in families.items():
        if split not in SPLITS:
            raise InputError(f"sample: families: unknown split {split!r}; known: {', '.join(SPLITS)}")
        if number < 0:
            raise InputError(f"sample: families: {split}: {number} families cannot be drawn; give 0 or more")
    if not sum(families.values()):
        raise InputError("sample: families: no split has a family; give at least one")
    if not 16 <= image_size <= 2048:
        raise InputError(f"sample: image_size: {image_size} is out of range; give 16 to 2048 pixels")
    if not 1 <= num_siblings <= MAX_SIBLINGS:
        raise InputError(f"sample: num_siblings: {num_siblings} is out of range; give 1 to {MAX_SIBLINGS}")


def _digest(*parts: object, length: int = 12) -> str:
    """An opaque id: it reveals nothing of what it names."""
    return content_hash("/".join(map(str, parts)))[:length]


def _stream(*parts: object) -> np.random.Generator:
    """Random numbers of one thing's own, whatever else is drawn."""
    return np.random.default_rng(int(_digest("stream", *parts, length=32), 16))


def _make_offers(product: Product, split: str, folder: Path, side: int, seed: int) -> list[Offer]:
    product_ids = [product.id] * (3 if split == "train" else 2)
    if split == "train" and _stream(seed, product.id, "unlabelled").random() < UNLABELED:
        # two pairs, each labeled; that both are one product is not. A single offer under an id of its own would never
        # be drawn as a pair, so a false negative of training would be missing
        product_ids = [product.id] * 2 + ["p-" + _digest(seed, product.id, "again")] * 2
    offers = []
    for place, product_id in enumerate(product_ids):
        name = _digest(seed, product.id, "offer", place)
        words, light = _stream(seed, name, "words"), _stream(seed, name, "picture")
        title, read = make_title(product.values, words)
        luck = words.random()
        if luck < NO_TITLE:
            title, read = "", set()
        image, seen = "", set()
        if not NO_TITLE <= luck < NO_TITLE + NO_IMAGE:
            image = f"images/{name}.jpg"
            seen = _image(product.values, folder / image, side, light)
        extra: dict[str, Any] = {
            "split": split,
            "role": "query" if product_id not in product_ids[:place] else "gallery",
            "family_id": product.family,
            "true_product_id": product.id,
            "visible_attributes": {key: product.values[key] for key in KEYS if key in read | seen},
            "true_attributes": dict(product.values),
        }
        offers.append(
            Offer(
                id=f"o-{name}",
                title=title,
                image=image,
                category=product.values["category"],
                attributes={"price": f"{words.integers(5, 90)}.{words.integers(10)}0"} if words.random() < 0.5 else {},
                product_id=product_id,
                extra=extra,
            )
        )
    return offers


def _image(values: Mapping[str, str], path: Path, side: int, rng: np.random.Generator) -> set[str]:
    """Draw one image; returns the keys that can be seen in it."""
    shade, tint = rng.uniform(188, 246), rng.normal(0, 7, 3).clip(-14, 9)
    view = View(
        angle=_normal(rng, 8, 18),
        size=float(rng.uniform(0.7, 0.92)),
        shift=(_normal(rng, 0.025, 0.05), _normal(rng, 0.025, 0.05)),
        stretch=(float(rng.uniform(0.9, 1)), float(rng.uniform(0.94, 1))),
        light=float(rng.uniform(0.84, 1.1)),
        background=(int(shade + tint[0]), int(shade + tint[1]), int(shade + tint[2])),
        closeup=bool(rng.random() < CLOSEUP),
        mirrored=bool(rng.random() < 0.5),
    )
    image = draw_product(values["category"], values["cut"], values["color"], values["pattern"], view, rng, side)
    with atomic_write(path, "wb", sync=False) as file:  # thousands of small images, drawn again after a loss of power
        image.save(file, format="JPEG", quality=88)
    return {"color", "pattern"} if view.closeup else {"category", *IMAGE_KEYS}


def _normal(rng: np.random.Generator, spread: float, bound: float) -> float:
    return min(max(float(rng.normal(0, spread)), -bound), bound)


def describe_sample(offers: Iterable[Offer]) -> dict[str, Any]:
    """What a sample holds, split by split.

    Returns:
        {split: {"offers", "products", "families", "visible": {key: share of the offers that show it},
        "identified_by_text", "identified_by_image", "identified_by_both" (reader_ceiling),
        "reader_recall" (reader_recall)}}
    """
    by_split: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        by_split[str(offer.extra["split"])].append(offer)
    return {split: _describe(rows) for split, rows in by_split.items()}


def _describe(offers: list[Offer]) -> dict[str, Any]:
    return {
        "offers": len(offers),
        "products": len({o.extra["true_product_id"] for o in offers}),
        "families": len({o.extra["family_id"] for o in offers}),
        "visible": {
            key: round(sum(key in o.extra["visible_attributes"] for o in offers) / len(offers), 3) for key in KEYS
        },
        "identified_by_text": round(reader_ceiling(offers, ("category", *TEXT_KEYS)), 3),
        "identified_by_image": round(reader_ceiling(offers, ("category", *IMAGE_KEYS)), 3),
        "identified_by_both": round(reader_ceiling(offers), 3),
        "reader_recall": round(reader_recall(offers), 3),
    }


def reader_ceiling(offers: Sequence[Offer], keys: Sequence[str] = KEYS) -> float:
    """Share of the queries that a perfect reader of `keys` can tell for certain: of all gallery offers, only those of
    the query's own product contradict none of its visible attributes."""
    return _read(offers, keys)[0]


def reader_recall(offers: Sequence[Offer], keys: Sequence[str] = KEYS) -> float:
    """R@1 of a perfect reader of `keys` who ranks the gallery offers without contradiction by the number of visible
    attributes that agree, and draws among equals."""
    return _read(offers, keys)[1]


def _read(offers: Sequence[Offer], keys: Sequence[str]) -> tuple[float, float]:
    gallery = [offer for offer in offers if offer.extra["role"] == "gallery"]
    queries = [offer for offer in offers if offer.extra["role"] == "query"]
    if not queries or not gallery:
        return 0.0, 0.0
    codes: dict[str, int] = {}

    def coded(offer: Offer) -> list[int]:
        visible = offer.extra["visible_attributes"]
        return [codes.setdefault(visible[key], len(codes)) if key in visible else -1 for key in keys]

    products = np.array([offer.extra["true_product_id"] for offer in gallery])
    rows = np.array([coded(offer) for offer in gallery])  # (N, K)
    certain, expected = 0.0, 0.0
    for query in queries:
        own = np.array(coded(query))
        both = (rows >= 0) & (own >= 0)
        fits = np.flatnonzero(~(both & (rows != own)).any(axis=1))
        right = products[fits] == query.extra["true_product_id"]
        agreeing = both[fits].sum(axis=1)
        best = agreeing == agreeing.max()  # never empty: the own product's offers contradict nothing
        certain += bool(right.all())
        expected += right[best].mean()
    return certain / len(queries), float(expected) / len(queries)
