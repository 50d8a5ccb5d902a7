"""How much one request may ask for, and how much a server holds at a time."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from afmrl.errors import InputError

MOST_LISTED = 2_000
"""Of any list of a request, whatever its limits: reading it must stay cheap."""
MOST_SECONDS = 86_400
"""Of a request: waits of many years are more than a thread can be asked for."""
MOST = 2**62
"""Of any number."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. What goes beyond one is refused, and the answer names the bound."""

    body_bytes: int = 32 * 2**20
    """Of one request's body."""
    bodies_bytes: int = 256 * 2**20
    """Of the bodies of all requests in work."""
    image_bytes: int = 10 * 2**20
    """Of one image's file."""
    image_pixels: int = 20_000_000
    """Of one image."""
    text_characters: int = 20_000
    """Of one text."""
    hits: int = 200
    """Of one search."""
    batch: int = 256
    """Texts, images or offers of one request, at most 2,000."""
    documents: int = 1000
    """Of one request to rerank, at most 2,000."""
    requests: int = 128
    """In work at a time; the next one is answered 429."""
    waiting: int = 2048
    """Inputs that wait for the model; a request that finds no room is answered 429."""
    seconds: float = 60.0
    """For one request, at most 86,400."""
    tokens: int = 16_384
    """Of one pass of the model, about; its memory grows with them. 1: every input is a pass of its own."""
    window: float = 0.003
    """Seconds for which a pass waits for more requests, while requests come side by side."""

    def check(self) -> None:
        """Refuse bounds with which nothing could be answered.

        Raises:
            InputError: which one, and what it may be.
        """
        for name, value in asdict(self).items():
            if isinstance(value, int) and abs(value) > MOST:  # not shown: its digits may fill a page
                raise InputError(f"{_option(name)}: has too many digits; give at most {MOST:,}")
            if not math.isfinite(value) or value < 0 or (value == 0 and name != "window"):
                raise InputError(
                    f"{_option(name)} {value}: give a number {'of 0 or more' if name == 'window' else 'above 0'}"
                )
        bounds = {"batch": MOST_LISTED, "documents": MOST_LISTED, "seconds": MOST_SECONDS, "window": self.seconds}
        for name, most in bounds.items():
            if getattr(self, name) > most:
                raise InputError(f"{_option(name)} {getattr(self, name):,}: give at most {most:,}")
        if self.bodies_bytes < self.body_bytes:
            raise InputError(
                f"{_option('bodies_bytes')} {self.bodies_bytes:,}: one request may have {self.body_bytes:,}; give more"
            )


def _option(name: str) -> str:
    return f"--limits.{name.replace('_', '-')}"
