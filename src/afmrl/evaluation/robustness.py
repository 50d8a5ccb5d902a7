"""Robustness: what is left of a result when titles lose words and images lose detail."""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.evaluation.significance import PairedTest, bootstrap_intervals, paired_bootstraps
from afmrl.files import content_hash
from afmrl.retrieval.interval import Interval
from afmrl.terminal import track

if TYPE_CHECKING:
    from PIL.Image import Image

DROPPED_WORDS = 0.3  # of a title's words
BLUR = 0.02  # standard deviation, of the longer side
CROP = 0.7  # of each side that is kept
QUALITY = 10  # of the JPEG
PERTURBATIONS: Mapping[str, str] = {
    "words-dropped": "30 % of the title's words left out, at least one",
    "blurred": "Gaussian blur, standard deviation 2 % of the image's longer side",
    "cropped": "a window of 70 % of each side, anywhere in the image",
    "recompressed": "JPEG of quality 10",
    "no-title": "title and description removed: the image is left",
    "no-image": "image removed: the text is left",
}
"""Name -> what is done to a query; galleries stay as they are."""
IMAGE_PERTURBATIONS = ("blurred", "cropped", "recompressed")
PROGRESS_FROM = 500  # images, from which a bar is drawn
# a word: a run without white space; in scripts without spaces between words, each character
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\s\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


def perturbed(offers: Sequence[Offer], name: str, *, seed: int = 0, folder: str | Path) -> list[Offer]:
    """The offers after one perturbation. What is drawn depends on `seed`, the name and the offer's id alone.

    An offer that the perturbation cannot touch comes back as the same object (`changed[i] is offers[i]`): one
    without an image to blur, with a title of one word, or with nothing left if its only part were removed.

    Args:
        name: one of PERTURBATIONS.
        folder: where changed images are written, as JPEG of at most 2,048 pixels a side; the caller removes it
            (`tempfile.TemporaryDirectory`).

    Raises:
        InputError: an unknown name, or an image that cannot be opened.

    >>> perturbed([Offer("1", title="red silk dress"), Offer("2", title="hat")], "words-dropped", folder="unused")
    [Offer(id='1', title='red silk', ...), Offer(id='2', title='hat', ...)]
    """
    if name not in PERTURBATIONS:
        raise InputError(f"perturbation {name!r}: one of {', '.join(PERTURBATIONS)}")
    if name not in IMAGE_PERTURBATIONS:
        return [_without_parts(offer, name, seed) for offer in offers]

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    num_images = sum(bool(offer.image) for offer in offers)
    return [
        _with_image(offer, name, seed, folder) if offer.image else offer
        for offer in track(offers, f"images {name}", show=num_images > PROGRESS_FROM)
    ]


def drop_words(title: str, draw: random.Random) -> str:
    """The title without DROPPED_WORDS of its words: at least one of two or more, never all of them.

    >>> drop_words("one two three four five six", random.Random(0))
    'one two three five'
    """
    words = list(_WORD.finditer(title))
    number = min(max(1, round(DROPPED_WORDS * len(words))), len(words) - 1)
    if number < 1:
        return title
    kept, end = [], 0
    for place in sorted(draw.sample(range(len(words)), number)):
        kept.append(title[end : words[place].start()])
        end = words[place].end()
    return " ".join("".join([*kept, title[end:]]).split())


@dataclasses.dataclass(frozen=True, slots=True)
class RobustnessScore:
    """One perturbation, measured on the queries that it changed."""

    name: str
    description: str
    num_changed: int
    """Queries that the perturbation changed; the numbers below are theirs."""
    plain: Mapping[str, Interval]
    """Metric -> mean as the queries are."""
    perturbed: Mapping[str, Interval]
    """Metric -> mean after the perturbation."""
    difference: Mapping[str, PairedTest]
    """Metric -> perturbed − plain, query by query."""

    def as_json(self) -> dict[str, Any]:
        """What metrics.json holds: every number as [mean, low, high], 6 decimals."""

        def rounded(interval: Interval) -> list[float]:
            return [round(value, 6) for value in (interval.mean, interval.low, interval.high)]

        return {
            "description": self.description,
            "num_changed": self.num_changed,
            "metrics": {metric: rounded(interval) for metric, interval in self.perturbed.items()},
            "plain": {metric: rounded(interval) for metric, interval in self.plain.items()},
            "difference": {metric: rounded(test.difference) for metric, test in self.difference.items()},
            "p_value": {metric: round(test.p_value, 6) for metric, test in self.difference.items()},
        }


def robustness_score(
    name: str,
    plain: Mapping[str, np.ndarray],
    perturbed: Mapping[str, np.ndarray],
    changed: Sequence[bool],
    clusters: Sequence[str] | None = None,
    *,
    num_resamples: int = 2000,
) -> RobustnessScore | None:
    """The cost of one perturbation, with paired intervals; None where it changed no query.

    Args:
        plain, perturbed: metric -> (Q,) values before and after.
        changed: which queries it changed (`after is not before` of what `perturbed` returns).
        clusters: Q names, the units that the bootstrap draws.

    Raises:
        InputError: lengths that differ.
    """
    lengths = {len(changed), *(len(values) for metrics in (plain, perturbed) for values in metrics.values())}
    if len(lengths) > 1 or (clusters is not None and len(clusters) != len(changed)):
        raise InputError(f"robustness {name}: values, changes and clusters of different numbers of queries")
    rows = [row for row, is_changed in enumerate(changed) if is_changed]
    if not rows:
        return None
    before = {metric: np.asarray(plain[metric])[rows] for metric in plain if metric in perturbed}
    after = {metric: np.asarray(perturbed[metric])[rows] for metric in before}
    names = [clusters[row] for row in rows] if clusters is not None else None
    return RobustnessScore(
        name,
        PERTURBATIONS.get(name, ""),
        len(rows),
        bootstrap_intervals(before, names, num_resamples=num_resamples),
        bootstrap_intervals(after, names, num_resamples=num_resamples),
        paired_bootstraps(after, before, names, num_resamples=num_resamples),
    )


def _draw(offer: Offer, name: str, seed: int) -> tuple[random.Random, str]:
    digest = content_hash(f"{seed}\0{name}\0{offer.id}")
    return random.Random(digest), digest


def _without_parts(offer: Offer, name: str, seed: int) -> Offer:
    if name == "words-dropped":
        title = drop_words(offer.title, _draw(offer, name, seed)[0])
        return offer if title == offer.title else dataclasses.replace(offer, title=title)
    if not offer.image or not offer.title.strip():
        return offer
    if name == "no-title":
        return dataclasses.replace(offer, title="", description="")
    return dataclasses.replace(offer, image="")


def _with_image(offer: Offer, name: str, seed: int, folder: Path) -> Offer:
    draw, digest = _draw(offer, name, seed)
    image = _changed_image(open_image(offer.image), name, draw)
    path = folder / f"{digest[:32]}.jpg"
    if name == "recompressed":
        image.save(path, "JPEG", quality=QUALITY)
    else:  # as good as JPEG can: only the perturbation itself is to be seen
        image.save(path, "JPEG", quality=95, subsampling=0)
    return dataclasses.replace(offer, image=str(path))


def _changed_image(image: Image, name: str, draw: random.Random) -> Image:
    if name == "blurred":
        from PIL import ImageFilter

        return image.filter(ImageFilter.GaussianBlur(BLUR * max(image.size)))
    if name == "cropped":
        width, height = (max(1, math.ceil(CROP * side)) for side in image.size)
        left, top = draw.randint(0, image.width - width), draw.randint(0, image.height - height)
        return image.crop((left, top, left + width, top + height))
    return image
