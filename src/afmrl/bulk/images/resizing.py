"""The resize of a model's image processor, done ahead of it: where the image is decoded, with the same pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
PROBES = ((37, 61), (640, 480), (90, 700))  # width, height
ENOUGH = 6
"""A scaled JPEG is decoded at no less than this many times the size that it is then brought to. With 3 the embeddings
of grainy images fell to a cosine of 0.9925 with the unscaled ones, with 5 to 0.9986, with 6 to 0.9996
(benchmarks/embed_cost.py, 800 drawn images)."""


class Resizing:
    """Brings images to the size that a processor would, by the same filter; its own resize then changes nothing.

    An image of four megapixels is twelve megabytes; what the model sees of it often some kilobytes. Done in the thread
    that decodes, the resize runs beside the model, and the small image is what waits in memory.

    Args:
        target: (width, height) of an image to the size that the processor gives it.
        resample: Pillow's filter.
        pixels_a_token: of the resized image; 0: every image has as many tokens.
    """

    def __init__(self, target: Callable[[Size], Size], resample: int, pixels_a_token: int = 0) -> None:
        self._target, self._resample, self._pixels_a_token = target, resample, pixels_a_token

    @classmethod
    def of(cls, processor: Any) -> Resizing | None:
        """The resizing of a processor (or of an image processor), None where it is not known to be exactly the same.

        Known are Pillow's resizes to a fixed size, to a shortest edge, and within bounds of pixels (Qwen2-VL and its
        successors). Whether they are what this processor does is tried on images of noise, not believed.
        """
        images = getattr(processor, "image_processor", processor)
        if not getattr(images, "do_resize", False) or getattr(images, "backend", "") != "pil":
            return None
        try:
            found = _known(cls, images)
            return found if found and all(_same(images, found, size) for size in PROBES) else None
        except Exception:  # a processor of another kind than all known ones: it does its own work, as without us
            return None

    def target(self, size: Size) -> Size | None:
        """What an image of `size` (width, height) is brought to; None: leave it to the processor."""
        try:
            target = self._target(size)
            return target if self._target(target) == target else None
        except ValueError:  # the processor will say what it does not like
            return None

    def resize(self, image: Image, size: Size) -> Image:
        """An image of `size`, perhaps decoded at a fraction of it, at its target size."""
        target = self.target(size)
        return image if target is None else image.resize(target, self._resample)

    def enough(self, size: Size) -> Size | None:
        """What an image of `size` may be decoded at when its exact pixels do not matter."""
        target = self.target(size)
        return (ENOUGH * target[0], ENOUGH * target[1]) if target else None

    def num_tokens(self, size: Size) -> int:
        """How many tokens an image of `size` takes, resized already or not; 0 where all take as many."""
        if not self._pixels_a_token:
            return 0
        try:
            width, height = self._target(size)
        except ValueError:
            return 0
        return width * height // self._pixels_a_token


def _known(cls: type[Resizing], images: Any) -> Resizing | None:
    from transformers.image_transforms import get_resize_output_image_size
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    size = dict(images.size)
    size = {key: value for key, value in size.items() if value}
    resample = int(images.resample)
    if set(size) == {"height", "width"}:
        fixed = size["width"], size["height"]
        return cls(lambda _: fixed, resample)
    if set(size) == {"shortest_edge"}:
        edge = size["shortest_edge"]

        def to_edge(size: Size) -> Size:
            blank = np.broadcast_to(np.uint8(0), (3, size[1], size[0]))
            height, width = get_resize_output_image_size(blank, edge, default_to_square=False)
            return width, height

        return cls(to_edge, resample)
    if set(size) == {"shortest_edge", "longest_edge"} and hasattr(images, "merge_size"):
        factor = images.patch_size * images.merge_size

        def within(given: Size) -> Size:
            height, width = smart_resize(given[1], given[0], factor, size["shortest_edge"], size["longest_edge"])
            return width, height

        return cls(within, resample, factor**2)
    return None


def _same(images: Any, resizing: Resizing, size: Size) -> bool:
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    theirs, ours = (images(images=[one], return_tensors="np") for one in (image, resizing.resize(image, image.size)))
    return theirs.keys() == ours.keys() and all(np.array_equal(theirs[key], ours[key]) for key in theirs)
