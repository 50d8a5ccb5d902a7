"""The reward that a recipe asks RAR for: of completions for queries, or for the gallery's offers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.generator.prompt import GeneratorPrompt
from afmrl.generator.small.build import generator_folder
from afmrl.rewards.gallery_reward import GalleryRetrievalReward
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.training.config import RARStage

if TYPE_CHECKING:
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.splits import Split


def query_reward(
    config: RARStage,
    generator_path: str | Path,
    embedder: Embedder,
    queries: Sequence[Offer],
    gallery: Sequence[Offer],
    relevant: Sequence[np.ndarray],
    *,
    targets: Sequence[KeyAttributes] | None = None,
    gallery_attributes: Sequence[KeyAttributes] | None = None,
) -> RetrievalReward:
    """The reward of completions that describe queries.

    Args:
        generator_path: of the generator that is reinforced: it says how completions are read, and where they end.
        embedder: frozen; queries and gallery are of families that it was not trained on.
        relevant: for each query, positions in `gallery` of the same product.
        targets: what can be seen and read of each query; None: the reward is retrieval alone.
        gallery_attributes: key attributes in the text of each offer of the gallery; None: none.
    """
    frozen = embedder.encode(gallery, gallery_attributes)
    return RetrievalReward(embedder.encode, queries, frozen, relevant, **_options(config, generator_path, targets))


def gallery_reward(
    config: RARStage,
    generator_path: str | Path,
    embedder: Embedder,
    described: Sequence[int],
    gallery: Sequence[Offer],
    queries: Sequence[Offer],
    relevant: Sequence[np.ndarray],
    *,
    targets: Sequence[KeyAttributes] | None = None,
    gallery_attributes: Sequence[KeyAttributes] | None = None,
) -> GalleryRetrievalReward:
    """The reward of completions that describe offers of the gallery; queries have no attributes in their text.

    Args:
        described: positions in `gallery` of the offers that completions describe; a query looks for each of them.
        relevant: for each query, positions in `gallery` of the same product.
        targets: what can be seen and read of each described offer; None: the reward is retrieval alone.
        gallery_attributes: key attributes in the text of each offer of the gallery; None: none.
    """
    return GalleryRetrievalReward(
        embedder.encode,
        [gallery[place] for place in described],
        embedder.encode(gallery, gallery_attributes),
        described,
        embedder.encode(queries),
        relevant,
        **_options(config, generator_path, targets),
    )


def split_reward(
    config: RARStage,
    generator_path: str | Path,
    embedder: Embedder,
    split: Split,
    gallery_attributes: Sequence[KeyAttributes] | None,
    say: Callable[[str], None],
) -> RetrievalReward:
    """The reward on a split's queries, or with `config.attributes_on` "gallery" on those offers that they look for.

    What has no targets is left out where the reward holds to targets: there silence would earn most.

    Args:
        say: called with a message that says what is left out.
    """
    places, targets = rewarded_places(config, split, say)
    queries, gallery, relevant = split.query_offers(), split.gallery_offers(), split.relevant
    given: dict[str, Any] = {"targets": targets, "gallery_attributes": gallery_attributes}
    if config.attributes_on == "gallery":
        return gallery_reward(config, generator_path, embedder, places, gallery, queries, relevant, **given)
    chosen = [queries[place] for place in places]
    found = [relevant[place] for place in places]
    return query_reward(config, generator_path, embedder, chosen, gallery, found, **given)


def describes(config: RARStage) -> str:
    """What completions describe, in words.

    >>> describes(RARStage())
    'queries'
    """
    return GalleryRetrievalReward.described if config.attributes_on == "gallery" else RetrievalReward.described


def rewarded_places(
    config: RARStage, split: Split, say: Callable[[str], None] = lambda line: None
) -> tuple[list[int], list[KeyAttributes] | None]:
    """The places, among a split's queries or its gallery, of the offers that RAR samples, and their targets.

    Args:
        say: called with a message that says what is left out.

    Returns:
        The places, and the targets of each; None where the reward is retrieval alone.
    """
    places, rows, what = list(range(len(split.queries))), split.queries, describes(config)
    if config.attributes_on == "gallery":
        places, rows = sorted({int(place) for found in split.relevant for place in found}), split.gallery
    with_targets = [place for place in places if len(split.targets[rows[place]])]
    if not with_targets:
        say(f"no {what} of the split 'reward' have attributes to hold them to; the reward is retrieval alone")
        return places, None
    if config.rewarded_pairs == "true" or config.faithfulness_weight > 0:
        if left := len(places) - len(with_targets):
            say(f"{left} of {len(places)} {what} have no attributes to hold them to and are left out")
        places = with_targets
    return places, [split.targets[rows[place]] for place in places]


def end_token_ids(generator_path: str | Path) -> set[int]:
    """The tokens at which trl ends a completion: the tokenizer's, and those of the generation config."""
    from transformers import AutoConfig, GenerationConfig

    from afmrl.generator.local_model import load_processor

    try:
        generation = GenerationConfig.from_pretrained(str(generator_path))
    except OSError:  # as a model does that has none
        generation = GenerationConfig.from_model_config(AutoConfig.from_pretrained(str(generator_path)))
    ends = generation.eos_token_id
    found = set(ends if isinstance(ends, list) else [] if ends is None else [ends])
    return found | {load_processor(generator_path).tokenizer.eos_token_id}


def _options(config: RARStage, generator_path: str | Path, targets: Sequence[KeyAttributes] | None) -> dict[str, Any]:
    generator_path = generator_folder(generator_path)
    prompt = GeneratorPrompt.load(generator_path)
    return {
        "kind": config.reward,
        "k": config.k or 1,  # the survey finds it
        "faithfulness_weight": config.faithfulness_weight if targets is not None else 0.0,
        "rewarded_pairs": config.rewarded_pairs if targets is not None else "all",
        "targets": targets,
        "read": lambda completion, offer: prompt.in_schema(KeyAttributes.parse(completion), offer),
        "end_token_ids": end_token_ids(generator_path),
    }
