"""Why a server's embeddings differ: the mistakes that reproduce them here."""

from __future__ import annotations

import contextlib
import copy
import io
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.embedder.embedder import Embedder
from afmrl.embedder.parity.golden import (
    LARGEST_NORM_ERROR,
    LEAST_COSINE_16_BITS,
    Compared,
    cosine_of,
    dtype_of,
)
from afmrl.embedder.parity.offers import ReadOffer, embed_inputs

if TYPE_CHECKING:
    from PIL.Image import Image

SLIGHT = 0.99
"""A cosine below is no matter of a number's bits."""
NO_EXPLANATION = "no explanation: none of those that were tried gives its vector"
POOLINGS = {"mean": "the mean of all tokens", "cls": "the first token", "lasttoken": "the last token"}
SIDES = (224, 336, 384, 448, 512)  # pixels that servers bring images to
LIMITS = (64, 128, 256, 512)  # tokens that servers cut at
PIXEL_BOUNDS = ((56 * 56, 28 * 28 * 1280), (56 * 56, 12_845_056), (256 * 256, 4096 * 4096))
"""Of Qwen's processors, where a folder's own bound is not read: `min_pixels`, `max_pixels`."""
Rows = list[np.ndarray | None]
"""An embedding an offer; None: the mistake does not touch it."""
Mistake = tuple[str, Callable[[], Rows], float]
"""What it is called, what it gives, and the cosine from which it is taken for the server's."""


def compare_served(
    embedder: Embedder, offers: Sequence[ReadOffer], served: Sequence[np.ndarray], least: float
) -> list[Compared]:
    """A server's embeddings beside those computed here, and why they differ.

    An embedding agrees if its direction, its length and how many numbers it has do. Mistakes are made here one after
    the other until all differing offers are explained; each takes about as long as embedding the offers.

    Args:
        served: what the server gave for `offers`.
        least: the cosine from which two embeddings agree.
    """
    here = embed_inputs(embedder, [one.input for one in offers])
    dimension = here.shape[1]
    cosines = [_cosine(row, own) for row, own in zip(served, here, strict=True)]
    turned = [place for place, cosine in enumerate(cosines) if not cosine >= least]
    why = dict.fromkeys(turned, NO_EXPLANATION) | _reasons(embedder, offers, served, here, turned, least)
    found = []
    for place, (offer, row) in enumerate(zip(offers, served, strict=True)):
        reasons = [why[place]] if place in why else []
        if len(row) != dimension:
            reasons.append(f"has {len(row)} numbers, the model gives {dimension}" + " (cut)" * (len(row) < dimension))
        norm = float(np.linalg.norm(row.astype(np.float64)))
        if not abs(norm - 1) <= LARGEST_NORM_ERROR:
            reasons.append(f"is not normalized (its length is {norm:.3g})")
        cosine = cosines[place]
        found.append(Compared(offer.id, offer.golden.kind, cosine, not reasons, "; ".join(reasons)))
    return found


def _reasons(
    embedder: Embedder,
    offers: Sequence[ReadOffer],
    served: Sequence[np.ndarray],
    here: np.ndarray,
    turned: Sequence[int],
    least: float,
) -> dict[int, str]:
    """Of each offer that was explained the mistake that explains most offers."""
    if not turned:
        return {}
    explained: list[tuple[str, set[int]]] = []
    if order := _other_order(offers, served, here, turned, least):
        return order
    for name, rows_of, needed in _mistakes(embedder, offers, served, here, turned, least):
        rows = rows_of()
        places = {p for p in turned if (row := rows[p]) is not None and _cosine(served[p], row) >= needed}
        explained.append((name, places))
        if len(places) == len(turned):
            break
    explained.sort(key=lambda one: -len(one[1]))  # stable: of equals the likelier one
    return {place: name for name, places in reversed(explained) for place in places}


def _other_order(
    offers: Sequence[ReadOffer],
    served: Sequence[np.ndarray],
    here: np.ndarray,
    turned: Sequence[int],
    least: float,
) -> dict[int, str]:
    """The offers whose vector is another's; none if two have the same, which is no matter of order."""
    found = {}
    for place in turned:
        cosines = [_cosine(served[place], row) for row in here]
        if (best := int(np.nanargmax([-2.0, *cosines])) - 1) >= 0 and cosines[best] >= least:
            found[place] = best
    if len(set(found.values())) < len(found) or len(found) < len(turned):
        return {}
    return {place: f"is the vector of {offers[best].id!r}: the order is another" for place, best in found.items()}


def _mistakes(
    embedder: Embedder,
    offers: Sequence[ReadOffer],
    served: Sequence[np.ndarray],
    here: np.ndarray,
    turned: Sequence[int],
    least: float,
) -> Iterator[Mistake]:
    """Mistakes of servers, the likelier first."""
    slight = all(_cosine(served[place], here[place]) >= SLIGHT for place in turned)
    with_image = [place for place in turned if offers[place].image is not None]
    if with_image and len(with_image) == len(turned):
        yield from _image_mistakes(embedder, offers, least)
    if slight and dtype_of(embedder) == "float32":
        yield from _types_of_16_bits(embedder, offers)
    yield from _rendering_mistakes(embedder, offers, least)
    if len(with_image) < len(turned):
        yield from _image_mistakes(embedder, offers, least)
    for limit in LIMITS:

        def cut(limit: int = limit) -> Rows:
            with _set(embedder.model, "max_seq_length", limit):
                return _embed_each(embedder, [one.input for one in offers])

        if limit < (embedder.model.max_seq_length or 0):
            yield f"what is longer than {limit} tokens is cut", cut, least


def _rendering_mistakes(embedder: Embedder, offers: Sequence[ReadOffer], least: float) -> Iterator[Mistake]:
    """Every way to render an offer with every pooling; the right rendering with its own pooling is no mistake."""
    renderings = _renderings(embedder)
    poolings = _poolings(embedder)
    pairs = [(r, p) for p in poolings for r in renderings if r or p]
    # one mistake alone is likelier than two
    for rendering, pooling in sorted(pairs, key=lambda pair: bool(pair[0]) + bool(pair[1])):
        name = " and ".join([part for part in (rendering, pooling) if part])

        def rows(rendering: str = rendering, pooling: str = pooling) -> Rows:
            with renderings[rendering](), poolings[pooling]():
                return _embed_each(embedder, [one.input for one in offers])

        yield name, rows, least


def _renderings(embedder: Embedder) -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    """Names of mistakes → what makes them; "": none."""
    model, first = embedder.model, embedder.model[0]
    found: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {"": contextlib.nullcontext}
    known = getattr(first, "modality_config", None)
    if isinstance(known, dict) and "message" in known:
        asked = dict(first.processing_kwargs)
        if opens_turn(embedder):
            template = {**asked["chat_template"], "add_generation_prompt": False}
            found["the assistant's turn is not opened (add_generation_prompt)"] = lambda: _set(
                first, "processing_kwargs", {**asked, "chat_template": template}
            )
        else:
            template = {**asked.get("chat_template", {}), "add_generation_prompt": True}
            found["the assistant's turn is opened (add_generation_prompt)"] = lambda: _set(
                first, "processing_kwargs", {**asked, "chat_template": template}
            )
        bare = {kind: of for kind, of in known.items() if kind != "message"}
        found["the chat template is missing"] = lambda: _set(first, "modality_config", bare)
    if prompt := model.prompts.get(model.default_prompt_name or ""):
        found[f"the prompt {prompt[:40]!r} is missing"] = lambda: _set(model, "default_prompt_name", None)
    return found


def _poolings(embedder: Embedder) -> dict[str, Callable[[], contextlib.AbstractContextManager[None]]]:
    from sentence_transformers.sentence_transformer.modules import Pooling

    model = embedder.model
    found: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {"": contextlib.nullcontext}
    for module in model:
        if isinstance(module, Pooling):
            for mode, words in POOLINGS.items():
                if mode != module.pooling_mode:
                    found[f"pools {words}, the model {POOLINGS.get(str(module.pooling_mode), 'otherwise')}"] = (
                        lambda mode=mode, module=module: _set(module, "pooling_mode", mode)  # type: ignore[misc]
                    )
    return found


def _image_mistakes(embedder: Embedder, offers: Sequence[ReadOffer], least: float) -> Iterator[Mistake]:
    def changed(change: Callable[[Image], Any]) -> Callable[[], Rows]:
        inputs = [_with_image(one, change(one.image)) if one.image is not None else None for one in offers]
        return lambda: _embed_each(embedder, inputs)

    yield "the image is not read", changed(lambda image: None), least
    for bounds in _pixel_bounds(embedder):

        def rows(bounds: dict[str, int] = bounds) -> Rows:
            with _set(_image_processor(embedder), "size", bounds):
                return _embed_each(embedder, [one.input if one.image is not None else None for one in offers])

        most = bounds["longest_edge"]
        yield f"images are resized otherwise: the folder's bound is not read, but {most:,} pixels", rows, least
    for side in SIDES:
        yield (
            f"images are resized otherwise: to {side} × {side} pixels before the model's own processor",
            changed(lambda image, side=side: image.resize((side, side), 3)),  # type: ignore[misc]
            least,
        )
    for share in (2, 4):
        yield (
            f"images are resized otherwise: to 1/{share} before the model's own processor",
            changed(lambda image, share=share: image.resize(_shrunk(image, share), 3)),  # type: ignore[misc]
            least,
        )
    if getattr(_image_processor(embedder), "resample", None) is not None:
        for resample, name in ((0, "nearest"), (2, "bilinear"), (3, "bicubic"), (1, "Lanczos")):

            def filtered(resample: int = resample) -> Rows:
                with _set(_image_processor(embedder), "resample", resample):
                    return _embed_each(embedder, [one.input if one.image is not None else None for one in offers])

            if int(_image_processor(embedder).resample) != resample:
                yield f"images are resized otherwise: by the {name} filter", filtered, least
    for quality in (95, 85, 75):
        yield (
            f"images are compressed as JPEG on the way (quality about {quality})",
            changed(lambda image, quality=quality: _as_jpeg(image, quality)),  # type: ignore[misc]
            least,
        )


def _types_of_16_bits(embedder: Embedder, offers: Sequence[ReadOffer]) -> Iterator[Mistake]:
    import torch

    for dtype in (torch.bfloat16, torch.float16):

        def rows(dtype: torch.dtype = dtype) -> Rows:
            model = copy.deepcopy(embedder.model).to(dtype)
            return _embed_each(Embedder(model, embedder.settings), [one.input for one in offers])

        name = str(dtype).removeprefix("torch.")
        yield f"computes in 16 bits ({name}); --dtype {name} compares with that", rows, LEAST_COSINE_16_BITS


def _embed_each(embedder: Embedder, inputs: Sequence[Any]) -> Rows:
    """Embeddings of those inputs that there are and that the model, as it now is, can read."""
    rows: Rows = []
    for value in inputs:
        row = None
        if value is not None:
            with contextlib.suppress(ValueError, TypeError, KeyError, RuntimeError):  # of libraries: it reads no such
                row = embed_inputs(embedder, [value])[0]
        rows.append(row)
    return rows


def opens_turn(embedder: Embedder) -> bool:
    """Whether the model's prompts end with the beginning of the assistant's turn."""
    asked = getattr(embedder.model[0], "processing_kwargs", None) or {}
    return bool(asked.get("chat_template", {}).get("add_generation_prompt"))


def reads_messages(embedder: Embedder) -> bool:
    """Whether inputs go through a chat template."""
    return "message" in (getattr(embedder.model[0], "modality_config", None) or ())


def _image_processor(embedder: Embedder) -> Any:
    processor = getattr(embedder.model, "processor", None)
    return getattr(processor, "image_processor", processor)


def _pixel_bounds(embedder: Embedder) -> list[dict[str, int]]:
    size = getattr(_image_processor(embedder), "size", None)
    if not size or "longest_edge" not in size or not hasattr(_image_processor(embedder), "merge_size"):
        return []
    now = (size["shortest_edge"], size["longest_edge"])
    return [{"shortest_edge": low, "longest_edge": high} for low, high in PIXEL_BOUNDS if (low, high) != now]


def _with_image(offer: ReadOffer, image: Image | None) -> Any:
    if image is None:
        return offer.text
    return {"image": image, "text": offer.text} if offer.text else image


def _shrunk(image: Image, share: int) -> tuple[int, int]:
    return math.ceil(image.width / share), math.ceil(image.height / share)


def _as_jpeg(image: Image, quality: int) -> Image:
    from PIL import Image as Images

    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Images.open(data).convert("RGB")


@contextlib.contextmanager
def _set(target: Any, name: str, value: Any) -> Iterator[None]:
    """Another value while the block runs."""
    before = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, before)


def _cosine(served: np.ndarray, own: np.ndarray) -> float:
    """Of a server's vector, which may be cut, and one of the model's."""
    if len(served) > len(own):
        return float("nan")
    return cosine_of(served, own[: len(served)])
