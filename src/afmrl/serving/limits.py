"""How much one request may ask for, and how much a server holds at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one server. What goes beyond one is refused, and the answer names the bound."""

    body_bytes: int = 32 * 2**20
    bodies_bytes: int = 256 * 2**20
    """Of all requests in work."""
    image_bytes: int = 10 * 2**20
    """Of one image's file."""
    image_pixels: int = 20_000_000
    text_characters: int = 20_000
    """Of one text."""
    hits: int = 200
    batch: int = 256
    """Texts, images, offers of one request."""
    documents: int = 1000
    """Of one request to rerank."""
    requests: int = 128
    """In work at a time; the next one is answered 429."""
    waiting: int = 2048
    """Inputs that wait for the model; a request that does not find room is answered 429."""
    seconds: float = 60.0
    """For one request."""
    window: float = 0.003
    """Seconds for which a batch waits for more requests, while requests come side by side."""
