"""Golden vectors: what a model gave for the 16 offers, in a file beside it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.embedder.embedder import Embedder
from afmrl.embedder.parity.offers import embed_inputs, list_fingerprint, read_offers
from afmrl.errors import InputError
from afmrl.files import read_object, unsealed, write_sealed

GOLDEN_FILE = "parity.json"
"""In a model's folder."""
FORMAT = 1
LIBRARIES = ("torch", "transformers", "sentence-transformers", "pillow")
"""Whose versions may change an embedding."""
LEAST_COSINE, LEAST_COSINE_16_BITS = 0.9999, 0.999
"""From which two embeddings agree: both computed in float32, or one of them in a type of 16 bits."""
LARGEST_NORM_ERROR = 0.01


@dataclass(frozen=True)
class Golden:
    """What a model gave where its golden vectors were written."""

    embeddings: Mapping[str, np.ndarray]
    """(D,) float32 of unit length, by the offer's id."""
    dtype: str
    device: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Compared:
    """One offer's embedding beside the one that it should have."""

    id: str
    kind: str
    cosine: float
    """NaN where there is nothing to compare."""
    agrees: bool
    why: str = ""
    """Why it differs, where that was found out."""


def compute_golden(embedder: Embedder) -> Golden:
    """Embed the 16 offers; those that the model does not read are absent."""
    read, _ = read_offers(embedder)
    rows = embed_inputs(embedder, [one.input for one in read])
    weights = next(embedder.model.parameters())
    return Golden(
        dict(zip((one.id for one in read), rows, strict=True)), dtype_of(embedder), weights.device.type, versions()
    )


def write_golden(embedder: Embedder, folder: str | Path) -> Golden:
    """Embed the 16 offers and write FOLDER/parity.json, atomically."""
    golden = compute_golden(embedder)
    content = {
        "format": FORMAT,
        "offers": list_fingerprint(),
        "dtype": golden.dtype,
        "device": golden.device,
        "versions": dict(golden.versions),
        "embeddings": {
            name: base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
            for name, row in golden.embeddings.items()
        },
    }
    write_sealed(Path(folder) / GOLDEN_FILE, content)
    return golden


def read_golden(folder: str | Path) -> Golden | None:
    """The golden vectors of a model's folder; None where it has none.

    Raises:
        InputError: the file is damaged, or of another list of offers.
    """
    path = Path(folder) / GOLDEN_FILE
    if not path.exists():
        return None
    again = "remove it; `afmrl parity MODEL --write` writes it again, where the model is known to be right"
    try:
        content: dict[str, Any] = unsealed(read_object(path))
        if (content["format"], content["offers"]) != (FORMAT, list_fingerprint()):
            raise InputError(f"{path}: is of another release's list of offers; {again}")
        rows = {
            str(name): np.frombuffer(base64.b64decode(row, validate=True), dtype="<f4")
            for name, row in content["embeddings"].items()
        }
        return Golden(rows, str(content["dtype"]), str(content["device"]), dict(content["versions"]))
    except InputError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); {again}") from error


def compare_golden(golden: Golden, here: Golden, least: float) -> list[Compared]:
    """The offers of both, in order of the list; one that has no embedding here differs."""
    from afmrl.embedder.parity.offers import golden_offers

    found = []
    for one in golden_offers():
        then, now = golden.embeddings.get(one.offer.id), here.embeddings.get(one.offer.id)
        if then is None:
            continue
        if now is None or now.shape != then.shape:
            why = "is not read here" if now is None else f"has {len(now)} numbers here, {len(then)} then"
            found.append(Compared(one.offer.id, one.kind, float("nan"), False, why))
            continue
        cosine = cosine_of(then, now)
        found.append(Compared(one.offer.id, one.kind, cosine, cosine >= least))
    return found


def cosine_of(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of two vectors, in float64; NaN where one is zero or not finite."""
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    with np.errstate(all="ignore"):
        return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def least_cosine(dtypes: Sequence[str]) -> float:
    """From which cosine embeddings that were computed in these types agree.

    >>> least_cosine(["float32", "bfloat16"]), least_cosine(["float32"])
    (0.999, 0.9999)
    """
    return LEAST_COSINE_16_BITS if {"bfloat16", "float16"} & set(dtypes) else LEAST_COSINE


def dtype_of(embedder: Embedder) -> str:
    """The type of a model's weights: "float32", "bfloat16", "float16"; of several the shortest."""
    import torch

    floats = [weight.dtype for weight in embedder.model.parameters() if weight.is_floating_point()]
    return str(min(floats, key=lambda dtype: dtype.itemsize, default=torch.float32)).removeprefix("torch.")


def versions() -> dict[str, str]:
    """Of the libraries that compute embeddings, as they are installed here."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found
