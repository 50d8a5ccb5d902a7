"""Fingerprints of a row, a model, a rendering: a run compares them to know what has changed since the last one."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.evidence import EVIDENCE_FILE
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import SellerAttributes
from afmrl.data.offer import Offer
from afmrl.data.offer_from_row import ARCHIVE_SEPARATOR
from afmrl.embedder.names import model_folder
from afmrl.embedder.parity.golden import GOLDEN_FILE
from afmrl.embedder.text import embedder_text
from afmrl.errors import InputError
from afmrl.files import fingerprint, folder_fingerprint, hash64
from afmrl.generator.prompt import generator_messages

NOT_OF_THE_MODEL = ("fusion.json", "history.json", EVIDENCE_FILE, GOLDEN_FILE)
"""Files of a model's folder that do not change what it computes."""


_STATED = Offer("id", "title", attributes={"size": "m", "GTIN": "4006381333931", "Marke": "a", "key": "value"})


class ImageMissing(Exception):
    """The image that a row names is not there."""


def row_fingerprint(offer: Offer, images: Path | None = None) -> str:
    """Of a row: the text as models read it, the columns, the image.

    An image is identified by its path, size and time of change (an archive's for its members), an address by itself;
    its bytes are not read.

    Args:
        images: folder of images that are named by their content, and so identified by their name.

    Raises:
        ImageMissing: no such file.
    """
    return fingerprint(
        embedder_text(offer),
        offer.title,
        offer.category,
        str(offer.extra.get("seller") or ""),
        list(offer.attributes.items()),
        offer.product_id,
        _image_identity(offer.image, images) if offer.image else None,
    )


def without_image(offer: Offer) -> Offer:
    """The offer without its image; its fingerprint is another, so that it is done again once the image is there."""
    return dataclasses.replace(offer, image="")


def lost_image_fingerprint(row: str) -> str:
    """Of a row that was done without its image, which could not be read: the row is tried again in the next run."""
    return fingerprint(row, "without its image")


def _image_identity(image: str, images: Path | None) -> list[Any]:
    if "://" in image:
        return [image]
    path = image.partition(ARCHIVE_SEPARATOR)[0]
    try:
        status = os.stat(path)
    except OSError as error:
        raise ImageMissing(f"{path}: {'no such file' if isinstance(error, FileNotFoundError) else error}") from error
    if images is not None and path.startswith(f"{images}{os.sep}"):
        return [os.path.basename(path)]
    return [image, status.st_size, status.st_mtime_ns]


def model_fingerprint(model: str | Path) -> str:
    """Of a model: the content of its folder's files, or the revision of a hub name.

    Raises:
        InputError: a hub name whose files are not in the local cache.
    """
    folder = Path(model_folder(model))
    if not folder.is_dir():
        from huggingface_hub import try_to_load_from_cache

        # …/snapshots/<revision>/config.json
        cached = next(
            (
                found
                for name in ("config.json", "modules.json")
                if isinstance(found := try_to_load_from_cache(str(model), name), str)
            ),
            None,
        )
        if cached is None:
            raise InputError(f"model {model}: its files are not in the local cache of the hub; its revision is unknown")
        return fingerprint(str(model), Path(cached).parent.name)
    return folder_fingerprint(folder, without=NOT_OF_THE_MODEL)


def rendering_fingerprint(seller_attributes: SellerAttributes = "none") -> str:
    """Of how offers are rendered: another prompt or another order of an offer's text changes it.

    Args:
        seller_attributes: which of the sellers' attributes the text shows.
    """
    offer = Offer("id", "title", "description", "image", "category", {"key": "value"}, "product", {"seller": "seller"})
    return fingerprint(
        embedder_text(offer, KeyAttributes.of({"b": "2", "a": "1"})),
        generator_messages(offer),
        embedder_text(offer),
        [seller_attributes, embedder_text(_STATED, seller_attributes=seller_attributes), "cut by tokens"],
    )


def row_checks(fingerprints: Sequence[str], works: Sequence[str]) -> np.ndarray:
    """64 bits of each pair of a row's fingerprint and what made it.

    Shape:
        returns (n,) uint64.
    """
    return hash64(row + work for row, work in zip(fingerprints, works, strict=True))
