"""The embedder: offers and their key attributes to embeddings, by a plain SentenceTransformer."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.seller_attributes import (
    DEFAULT_SELLER_ATTRIBUTES,
    SellerAttributes,
    check_seller_attributes,
)
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.embedder.inputs import read_inputs
from afmrl.embedder.loading import load_model
from afmrl.embedder.names import model_folder
from afmrl.embedder.text import embedder_text, text_parts
from afmrl.embedder.text_room import TextRoom
from afmrl.errors import InputError, check_type
from afmrl.files import read_object
from afmrl.terminal import track

if TYPE_CHECKING:
    from PIL.Image import Image
    from sentence_transformers import SentenceTransformer

Modality = Literal["fused", "text", "image"]
SETTINGS_FILE = "afmrl.json"
"""Beside the model: what training decided and inference must know (`attributes_on`, `seller_attributes`)."""
CHUNK = 1024  # offers whose images are in memory at a time
UNIT = 1e-5  # how far from 1 a length may be: some times what float32 rounds


class Embedder:
    """Embeds offers, by a SentenceTransformer.

    Plain `SentenceTransformer(path)` loads a trained one too, unless it began as the small model or as two joined ones:
    those have modules of afmrl.

    Args:
        model: any SentenceTransformer; one without images embeds the text alone.
        settings: what training stored beside the model.
    """

    def __init__(self, model: SentenceTransformer, settings: dict[str, Any] | None = None) -> None:
        self.model = model
        self.settings = settings or {}
        self._room = TextRoom(model)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        max_seq_length: int | None = None,
        seller_attributes: SellerAttributes | None = None,
    ) -> Embedder:
        """A trained embedder, any sentence-transformers model, "small", or a plain MLLM to start from.

        A folder without sentence-transformers modules becomes last-token state + L2 norm (VLM2Vec's head; the
        paper's embedder), asked at the end of the user's turn as in generation. "minilm" is all-MiniLM-L6-v2 out of
        the extra `small`. Of a model with an encoder of texts and one of images in one space (CLIP, SigLIP) an offer
        with both is the sum of both.

        Args:
            max_seq_length: tokens that it reads of an offer; None: its own limit.
            seller_attributes: which of the seller's attributes it reads; None: those that it was trained with.

        Raises:
            InputError: `path` cannot be loaded, or an unknown option.
        """
        check_seller_attributes(seller_attributes)
        from afmrl.embedder.joined import as_embedder

        check_type("embedder", path, (str, Path), "a model's folder, or its name on the hub")
        model = as_embedder(load_model(path, device=device, dtype=dtype), path)
        settings_path = Path(model_folder(path)) / SETTINGS_FILE
        settings = read_object(settings_path) if settings_path.is_file() else {}
        if max_seq_length:
            model.max_seq_length = max_seq_length
        return cls(model, {**settings, "seller_attributes": seller_attributes} if seller_attributes else settings)

    @property
    def seller_attributes(self) -> SellerAttributes | None:
        """Which of the seller's attributes it reads: "none", "identifying" or "all".

        None: it was trained here before there was a choice, and reads none.
        """
        known: SellerAttributes | None = self.settings.get("seller_attributes")
        return known or (None if self.settings else DEFAULT_SELLER_ATTRIBUTES)

    def text(self, offer: Offer, attributes: KeyAttributes | None = None) -> str:
        """What it reads of an offer beside the image, before a text that is too long is cut."""
        return embedder_text(offer, attributes, seller_attributes=self.seller_attributes or "none")

    def input(
        self,
        offer: Offer,
        attributes: KeyAttributes | None = None,
        modality: Modality = "fused",
        *,
        opened: Image | np.ndarray | None = None,
    ) -> Any:
        """One offer as a sentence-transformers input: text, image, or `{"image": …, "text": …}`.

        A text that is longer than the model reads is cut where the title ends, so that the attributes are read. An
        offer without the part that `modality` asks for is rendered as the empty text, never dropped.

        Args:
            opened: used instead of the offer's own image: an image, or features of one where the model takes them.
        """
        image: Image | np.ndarray | None = None
        if modality == "fused" and (offer.image or opened is not None) and not self.reads_images:
            modality = "text"
        if modality != "text":
            image = opened if opened is not None else open_image(offer.image) if offer.image else None
        text = ""
        if modality != "image":
            title, rest = text_parts(offer, attributes, seller_attributes=self.seller_attributes or "none")
            text = self._room.fit(title, rest, image)
        if image is None:
            return text
        # features that stand for an image (the small model's) are known for one by their name alone
        return {"image": image, "text": text} if text else {"image": image} if isinstance(image, np.ndarray) else image

    @property
    def dimension(self) -> int:
        """D, the length of an embedding."""
        return int(self.model.get_embedding_dimension() or 0)

    @property
    def reads_images(self) -> bool:
        """Whether the model reads images; one that does not is shown the text alone."""
        return bool(self.model.supports("image"))

    def encode(
        self,
        inputs: Iterable[Any],
        attributes: Sequence[KeyAttributes] | None = None,
        *,
        batch_size: int = 64,
        normalize_embeddings: bool = True,
        truncate_dim: int | None = None,
        modality: Modality = "fused",
        progress: bool = False,
        description: str = "embedding",
        opened: Sequence[Image | None] | None = None,
    ) -> np.ndarray:
        """Embeddings of offers, dicts, texts or images.

        Images are opened some at a time, so that a large catalog's need not fit in memory.

        Args:
            inputs: a list; each element is an `Offer`, `{"text": …, "image": …}` with either or both, a row of a
                catalog as a dict, a text (read as an offer's title), or a PIL image.
            attributes: one KeyAttributes an input, written after its text; None: none. The seller's attributes, which
                a model may read too, are the offer's own.
            normalize_embeddings: give every embedding unit length.
            truncate_dim: keep the first numbers alone, for models that were trained for that.
            modality: what of an offer is read: image and text, text alone, image alone.
            opened: an image to read instead of an input's own, or None, an input.

        Shape:
            returns (N, D) float32, or (N, truncate_dim).

        Raises:
            InputError: an input of another kind, an image that cannot be opened, an unknown option.
        """
        read = read_inputs(inputs)
        if opened is not None:
            read = [(offer, mine or own) for (offer, own), mine in zip(read, opened, strict=True)]
        if truncate_dim is not None and not 1 <= truncate_dim <= self.dimension:
            raise InputError(f"embedder: truncate_dim={truncate_dim}: give 1 to {self.dimension}")

        if modality not in get_args(Modality):
            raise InputError(f"modality {modality!r}: one of {', '.join(get_args(Modality))}")
        if attributes is not None and len(attributes) != len(read):
            raise InputError(f"{len(attributes)} key attributes for {len(read)} offers: one an offer is needed")
        rows = np.empty((len(read), truncate_dim or self.dimension), dtype=np.float32)
        starts = range(0, len(read), CHUNK)
        with _evaluation_mode(self.model):
            for start in track(starts, description, show=progress and len(read) > CHUNK):
                stop = min(start + CHUNK, len(read))
                rendered = [
                    self.input(offer, attributes[start + i] if attributes else None, modality, opened=image)
                    for i, (offer, image) in enumerate(read[start:stop])
                ]
                rows[start:stop] = self.model.encode(
                    rendered,
                    batch_size=batch_size,
                    normalize_embeddings=normalize_embeddings,
                    truncate_dim=truncate_dim,
                    show_progress_bar=False,
                )
        if normalize_embeddings:
            # a model of 16 bits normalizes in 16 bits, which is off by some thousandths
            norms = np.linalg.norm(rows, axis=1)
            off = np.flatnonzero((np.abs(norms - 1) > UNIT) & (norms > 0))
            rows[off] /= norms[off, None]
        return rows

    def as_queries(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings as they ask a gallery: of the small model, whose offers may lack a part, otherwise as they are.

        Shape:
            rows (Q, D); returns (Q, D).
        """
        for module in self.model:
            if hasattr(module, "as_queries"):
                return np.asarray(module.as_queries(rows))
        return rows

    def save(self, path: str | Path) -> None:
        """Write model, processor, card and settings as one folder."""
        self.model.save_pretrained(str(path))
        (Path(path) / SETTINGS_FILE).write_text(
            json.dumps(self.settings, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )


@contextlib.contextmanager
def _evaluation_mode(model: SentenceTransformer) -> Iterator[None]:
    if not model.training:  # walking through all modules twice takes as long as a short text
        yield
        return
    model.eval()
    try:
        yield
    finally:
        model.train()
