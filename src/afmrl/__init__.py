"""Is this the same product? Attribute-enhanced fine-grained multimodal representation learning (AFMRL) for offers.

One function or class a command of `afmrl`, with the same words. Importing the package loads nothing: each name is
loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from afmrl.attributes.extractor import AttributeExtractor
    from afmrl.attributes.key_attributes import KeyAttributes
    from afmrl.attributes.schema import AttributeSchema
    from afmrl.data.catalog import read_catalog
    from afmrl.data.offer import Offer
    from afmrl.embedder.embedder import Embedder
    from afmrl.errors import InputError
    from afmrl.evaluation.compare import compare
    from afmrl.evaluation.evaluate import evaluate
    from afmrl.generator.generator import AttributeGenerator
    from afmrl.index.address import open_index
    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
    from afmrl.losses.sampler import similar_batches
    from afmrl.matching.match import match
    from afmrl.matching.search import search
    from afmrl.retrieval.mining import mine_hard_negatives
    from afmrl.rewards.retrieval_reward import RetrievalReward
    from afmrl.training.run import run

    __version__: str

__all__ = [
    "AttributeExtractor",
    "AttributeGenerator",
    "AttributeGuidedContrastiveLoss",
    "AttributeSchema",
    "Embedder",
    "InputError",
    "KeyAttributes",
    "Offer",
    "RetrievalReward",
    "__version__",
    "compare",
    "evaluate",
    "match",
    "mine_hard_negatives",
    "open_index",
    "read_catalog",
    "run",
    "search",
    "similar_batches",
]

_MODULES = {
    "AttributeExtractor": "attributes.extractor",
    "AttributeGenerator": "generator.generator",
    "AttributeGuidedContrastiveLoss": "losses.agcl",
    "AttributeSchema": "attributes.schema",
    "Embedder": "embedder.embedder",
    "InputError": "errors",
    "KeyAttributes": "attributes.key_attributes",
    "Offer": "data.offer",
    "RetrievalReward": "rewards.retrieval_reward",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "match": "matching.match",
    "mine_hard_negatives": "retrieval.mining",
    "open_index": "index.address",
    "read_catalog": "data.catalog",
    "run": "training.run",
    "search": "matching.search",
    "similar_batches": "losses.sampler",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = version("afmrl")
    elif name in _MODULES:
        value = getattr(import_module(f"afmrl.{_MODULES[name]}"), name)
    else:
        raise AttributeError(f"module 'afmrl' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
