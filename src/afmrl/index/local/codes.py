"""How embeddings are stored: float32, float16, or a byte a number and a scale a row."""

from __future__ import annotations

import numpy as np

NUMPY_TYPE = {"f32": np.float32, "f16": np.float16, "i8": np.int8}
LARGEST = 127


def encode(embeddings: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings as they are stored.

    Shape:
        embeddings (N, D) float32; returns codes (N, D), and with "i8" scales (N,) float32.

    >>> codes, scales = encode(np.array([[0.6, -0.8]], dtype=np.float32), "i8")
    >>> codes.tolist(), decode(codes, scales).round(2).tolist()
    ([[95, -127]], [[0.6000000238418579, -0.800000011920929]])
    """
    if dtype != "i8":
        return np.ascontiguousarray(embeddings, dtype=NUMPY_TYPE[dtype]), None
    # a scale of each row: one for all would leave the many small numbers of a long embedding a few steps each
    scales = np.abs(embeddings).max(axis=1, initial=0.0).astype(np.float32) / LARGEST
    steps = np.rint(embeddings / np.where(scales > 0, scales, 1.0)[:, None])
    return np.clip(steps, -LARGEST, LARGEST).astype(np.int8), scales


def decode(codes: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """(N, D) float32 of what `encode` returned."""
    embeddings = np.asarray(codes, dtype=np.float32)
    return embeddings if scales is None else embeddings * np.asarray(scales)[:, None]
