"""The 16 offers whose embeddings are kept beside a model: of every kind that an embedder reads."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.files import content_hash, fingerprint

if TYPE_CHECKING:
    from PIL.Image import Image

NO_IMAGES = "the model reads no images"
_LONG = "Maison Lune silk dress V-neck with pockets, belt and lining, for summer evenings and weddings, "
_LONG_TOO = (
    "Nordan cordless drill 18 V with two batteries, charger, case, 40 bits and a side handle; 2 years warranty. "
)


@dataclass(frozen=True)
class GoldenOffer:
    """One of the 16."""

    kind: str
    offer: Offer
    """Its id is the name under which its embedding is kept."""
    attributes: KeyAttributes
    image: Image | None = None


@dataclass(frozen=True)
class ReadOffer:
    """An offer as the model reads it."""

    golden: GoldenOffer
    input: Any
    """Of a SentenceTransformer: a text, an image, or both."""

    @property
    def id(self) -> str:
        """The offer's."""
        return self.golden.offer.id

    @property
    def text(self) -> str:
        """The text in the input; "" where it is an image alone."""
        if isinstance(self.input, str):
            return self.input
        return str(self.input.get("text", "")) if isinstance(self.input, dict) else ""

    @property
    def image(self) -> Image | None:
        """The image in the input."""
        return None if isinstance(self.input, str) else self.golden.image


@functools.cache
def golden_offers() -> tuple[GoldenOffer, ...]:
    """The list, which is part of the format of golden vectors; no two have the same text or the same image."""
    return (
        _offer("text", "word", "dress"),
        _offer("text", "title", "Maison Lune silk dress V-neck, deep red, size M"),
        _offer("text", "numbers", 'SSD 2 TB NVMe M.2 2280, 7,300 MB/s, 4006381333931, 3.5" x 12 mm (2-pack) 50% off'),
        _offer("text", "accents", "Überwurf für Bett – naïve Größe 140×200 cm, crème brûlée, 19,90 €"),
        _offer("image", "square", image=(224, 224)),
        _offer("image", "wide", image=(640, 120)),
        _offer("image", "odd", image=(97, 61)),
        _offer("both", "both", "Ceramic mug with handle, navy, 350 ml", image=(320, 240)),
        _offer("both", "both, tall", "Floor lamp, oak and linen, 160 cm", image=(90, 400)),
        _offer("both", "both, large", "Leather tote bag, cognac brown", image=(896, 672)),
        _offer("long", "long title", _LONG * 40),
        _offer("long", "long title, image", _LONG_TOO * 40, image=(256, 256)),
        _offer("Chinese", "Chinese", "法式真丝连衣裙 V领 收腰 酒红色 M码 2024夏季新款"),
        _offer("Chinese", "Chinese, image", "华为 Mate 60 Pro 12GB+512GB 雅川青 智能手机", image=(300, 300)),
        _offer("attributes", "attributes", "Running shoe for women", {"brand": "aera", "color": "white", "size": "39"}),
        _offer(
            "attributes",
            "attributes, image",
            "Desk chair with armrests",
            {"material": "mesh", "color": "black; gray", "load": "120 kg"},
            image=(240, 320),
        ),
    )


def read_offers(embedder: Embedder) -> tuple[list[ReadOffer], dict[str, str]]:
    """The offers as a model reads them, and why it does not read the others, by their id."""
    found, left_out = [], {}
    for golden in golden_offers():
        if golden.image is not None and not embedder.reads_images:
            left_out[golden.offer.id] = NO_IMAGES
            continue
        try:
            value = embedder.input(golden.offer, golden.attributes, opened=golden.image)
        except InputError as error:  # no room for the text beside so large an image
            left_out[golden.offer.id] = str(error)
        else:
            found.append(ReadOffer(golden, value))
    return found, left_out


def embed_inputs(embedder: Embedder, inputs: list[Any], prompt: str | None = None) -> np.ndarray:
    """Embeddings of a model's inputs, one by one, so that none depends on its neighbors' length.

    Shape:
        returns (N, D) float32, rows of unit length.
    """
    rows = embedder.model.encode(
        inputs, batch_size=1, normalize_embeddings=True, show_progress_bar=False, prompt=prompt
    )
    return np.asarray(rows, dtype=np.float32)


@functools.cache
def list_fingerprint() -> str:
    """Of the 16 offers, their pixels included: vectors of another list cannot be compared."""
    return fingerprint(
        [
            [
                one.kind,
                one.offer.id,
                one.offer.title,
                dict(one.offer.attributes),
                str(one.attributes),
                one.image and [one.image.size, content_hash(one.image.tobytes())],
            ]
            for one in golden_offers()
        ]
    )


def _offer(
    kind: str,
    name: str,
    title: str = "",
    attributes: dict[str, str] | None = None,
    *,
    image: tuple[int, int] | None = None,
) -> GoldenOffer:
    stated = {"brand": "Nordan", "mpn": "NX-4711"} if attributes else {}
    return GoldenOffer(
        kind,
        Offer(name, title, attributes=stated),
        KeyAttributes.of(attributes or {}),
        None if image is None else _drawn(*image),
    )


def _drawn(width: int, height: int) -> Image:
    """Slopes, a fine and a coarse pattern and a frame, in whole numbers: the same pixels on every machine."""
    from PIL import Image

    y, x = np.mgrid[:height, :width]
    red = 255 * x // width
    green = 255 * y // height
    blue = np.where((x // 8 + y // 8) % 2 == 0, 230, 40) + (x + 3 * y) % 17
    pixels = np.roll(np.stack([red, green, blue], axis=-1), width % 3, axis=-1)
    pixels[height // 4 : height // 2, width // 4 : width // 2] = (width % 256, height % 256, 90)
    pixels[(x + y) % 29 == 0] = 250
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
