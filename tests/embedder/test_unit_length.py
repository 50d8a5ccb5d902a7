"""Embeddings are of unit length, in whatever type the model computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from afmrl.embedder.embedder import Embedder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lengths_are_one(dtype, quickstart):
    embedder = Embedder.from_pretrained(quickstart / "embedder")
    embedder.model.to(dtype)
    rows = embedder.encode([f"silk dress {number}" for number in range(50)])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=2e-5)
