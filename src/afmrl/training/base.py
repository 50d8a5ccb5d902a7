"""The model(s) that a run starts from."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from afmrl.data.catalog import read_catalog
from afmrl.data.images import open_image
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.names import is_joined, model_folder
from afmrl.embedder.tiny import build_tiny_model
from afmrl.files import fingerprint
from afmrl.generator.small.build import generator_folder
from afmrl.training.config import SFTStage
from afmrl.training.data import draw_sample, sample_columns
from afmrl.training.processes import on_first
from afmrl.training.recipe import CatalogSection, SampleSection
from afmrl.training.run_state import Run
from afmrl.training.sft import run_sft
from afmrl.training.splits import split_offers

STATISTICS_IMAGES = 512
"""Images of the training split from which two joined models learn what is usual."""


def prepare_base(run: Run) -> None:
    """The model(s) to start from: named in the recipe, or the tiny default, built and pretrained."""
    recipe = run.recipe
    if recipe.tiny is None:
        assert recipe.base is not None
        # what is not installed is said before hours of training
        run.base = recipe.base if is_joined(recipe.base) else model_folder(recipe.base)
        run.generator_base = recipe.generator_base or recipe.base
        if recipe.sft.max_steps:
            run.generator_base = generator_folder(run.generator_base)
        run.made_of["base"] = fingerprint(str(run.base), str(run.generator_base))
        if is_joined(recipe.base):
            _join_base(run)
        return
    tiny, pretrain = recipe.tiny, recipe.tiny.pretrain
    train = run.splits["train"]
    offers, targets = train.offers, train.targets
    if pretrain.families is not None:
        sample = SampleSection(families={"train": pretrain.families})
        folder = run.folder / "stages" / "pretraining-sample"
        path = draw_sample(run, "pretraining-catalog", sample, folder, image_size=pretrain.image_size)
        split = split_offers(read_catalog(path).offers, sample_columns(CatalogSection(sample=sample)))["train"]
        offers, targets = split.offers, split.targets
    alone = pretrain.families is not None and not tiny.own_words
    made_of = fingerprint(tiny, recipe.seed, "" if alone else run.made_of["data"])
    titles = [offer.title for offer in (*offers, *(train.offers if tiny.own_words else ()))]
    texts = [*titles, *map(str, (*targets, *(train.targets if tiny.own_words else ())))]

    def work(folder: Path) -> dict[str, Any]:
        untrained = on_first(
            lambda: build_tiny_model(
                texts,
                folder / "random",
                seed=recipe.seed,
                vocab_size=tiny.vocab_size,
                hidden_size=tiny.hidden_size,
                num_layers=tiny.num_layers,
                vision_layers=max(tiny.num_layers // 2, 1),
                max_image_side=tiny.image_side,
            )
        )
        return run_sft(
            SFTStage(
                max_steps=pretrain.max_steps, batch_size=pretrain.batch_size, learning_rate=pretrain.learning_rate
            ),
            untrained,
            offers,
            targets,
            folder / "model",
            hardware=recipe.hardware.model_copy(update={"lora": None}),  # nothing to freeze yet
            seed=recipe.seed,
            callbacks=run.callbacks("base", "pretraining the tiny model", pretrain.max_steps),
        )

    run.base = run.generator_base = run.ledger.run("base", made_of, work, together=True) / "model"
    run.made_of["base"] = fingerprint(made_of, run.ledger.weights["base"])


def _join_base(run: Run) -> None:
    """A text model and an image model as one embedder; what an image usually shows is learned on training images."""
    name = str(run.base)
    made_of = fingerprint(name, run.recipe.seed, run.made_of["data"])

    def work(folder: Path) -> None:
        from afmrl.embedder.joined import joined_model

        images = [offer.image for offer in run.splits["train"].offers if offer.image]
        chosen = random.Random(run.recipe.seed).sample(images, min(len(images), STATISTICS_IMAGES))
        Embedder(joined_model(name, [open_image(image) for image in chosen])).save(folder / "model")

    run.base = run.ledger.run("base", made_of, work) / "model"
    run.made_of["base"] = fingerprint(made_of, run.made_of["base"], run.ledger.weights["base"])
