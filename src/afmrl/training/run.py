"""The whole method as one run: catalog → base → SFT → AGCL → RAR → evaluation, in one folder."""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import TypeAdapter

from afmrl.attributes.attributes_on import AttributesOn, on_gallery
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import Catalog, read_catalog
from afmrl.errors import InputError
from afmrl.files import fingerprint, replace_folder, write_json
from afmrl.training.data import draw_sample, prepare_data, sample_columns
from afmrl.training.ledger import Ledger
from afmrl.training.processes import join_processes, on_first, rank, share, world_size
from afmrl.training.recipe import CatalogSection, Recipe
from afmrl.training.splits import Split, split_offers
from afmrl.training.teaching import TeachingSet

if TYPE_CHECKING:
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.watch import Validation

LIBRARIES = ("afmrl", "torch", "transformers", "sentence-transformers", "trl", "datasets", "numpy", "pillow", "bm25s")

Until = Literal["sft", "agcl", "rar"]


@dataclass
class Run:
    """A run on its way: its folder, recipe, data, and where each stage left its model."""

    folder: Path
    recipe: Recipe
    ledger: Ledger
    say: Callable[[str], None]
    callbacks: Callable[[str, str, int], list[Any]]
    """Makes trainer callbacks (a progress bar) for a stage, its title and its number of steps."""
    catalog: Catalog | None = None
    splits: dict[str, Split] = field(default_factory=dict)
    taught: TeachingSet = ([], [], None)
    """What the generator's SFT learns from."""
    made_of: dict[str, str] = field(default_factory=dict)
    base: Path | str = ""
    generator_base: Path | str = ""
    paths: dict[str, Path] = field(default_factory=dict)
    cit: dict[str, Any] = field(default_factory=dict)
    """Which of CIT's rounds was kept; empty without rounds."""
    cit_generator: str = "rar"
    """Stage of the generator that belongs to the kept round."""


def run_recipe(
    recipe: Recipe,
    out: str | Path,
    *,
    say: Callable[[str], None] = print,
    callbacks: Callable[[str, str, int], list[Any]] = lambda stage, title, steps: [],
    until: Until | None = None,
) -> Run:
    """Run every stage that is not complete yet and write DIR/{embedder,generator,metrics.json,report.html,run.json}.

    Under torchrun the stages that train do so in all processes together; everything else, and every file, is the
    first process' work.

    Args:
        until: the last stage to run. Its model is in DIR/stages/NAME/model, and nothing else is written.

    Raises:
        InputError: anything the user gave that cannot work, before the long stages start where that can be known.
    """
    from afmrl.training.ladder import evaluate_run  # after the heavy imports of the stages

    size = join_processes()
    if recipe.world_size not in (None, size):
        raise InputError(
            f"'world_size': the recipe wants {recipe.world_size} processes and there are {size}; "
            f"torchrun --nproc_per_node {recipe.world_size} -m afmrl run RECIPE"
        )
    _refuse_parts(recipe)
    if rank():
        say, callbacks = _silent, _no_callbacks
    if size > 1:
        say(f"{size} processes train together")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder=folder, recipe=recipe, ledger=Ledger(folder, say), say=say, callbacks=callbacks)
    started = time.time()
    prepare_data(run)
    prepare_base(run)
    for name, train in (("sft", train_generator), ("agcl", train_embedder), ("rar", reinforce_generator)):
        train(run)
        if name == until:
            say(f"stopped behind {name}, as asked: {run.paths[name]}; the same command without --until goes on")
            return run
    if recipe.cit.rounds:
        train_in_cycles(run)

    def finish() -> None:
        _publish(run.paths["cit" if run.cit else "agcl"], folder / "embedder")
        _publish(run.paths[run.cit_generator], folder / "generator")
        result = evaluate_run(run)
        write_json(folder / "run.json", _run_record(run, started, result))

    on_first(finish)
    return run


def _refuse_parts(recipe: Recipe) -> None:
    """Batches that do not divide among the processes, before the first stage and not at the last."""
    share(recipe.sft.batch_size, "sft.batch_size")
    share(recipe.agcl.batch_size, "agcl.batch_size")
    if (rar := recipe.rar).max_steps:
        completions = rar.prompts_per_step * rar.num_generations
        share(rar.micro_batch_size or completions, "rar.micro_batch_size")
        if rar.sft_weight:
            share(rar.sft_batch_size, "rar.sft_batch_size")


def _silent(_: str) -> None:
    return None


def _no_callbacks(stage: str, title: str, steps: int) -> list[Any]:
    return []


def prepare_base(run: Run) -> None:
    """The model(s) to start from: named in the recipe, or the tiny default, built and pretrained."""
    recipe = run.recipe
    if recipe.tiny is None:
        assert recipe.base is not None
        run.base, run.generator_base = recipe.base, recipe.generator_base or recipe.base
        run.made_of["base"] = fingerprint(recipe.base, recipe.generator_base)
        return
    tiny = recipe.tiny
    offers, labels = run.splits["train"].offers, run.splits["train"].labels
    if tiny.sample is not None:
        path = draw_sample(run, "pretraining-catalog", tiny.sample, run.folder / "stages" / "pretraining-sample")
        section = CatalogSection(sample=tiny.sample)
        split = split_offers(read_catalog(path).offers, sample_columns(section))["train"]
        offers, labels = split.offers, split.labels
    alone = tiny.sample is not None and not tiny.own_words
    made_of = fingerprint(tiny, recipe.seed, "" if alone else run.made_of["data"])

    def work(folder: Path) -> dict[str, Any]:
        from afmrl.embedder.tiny import build_tiny_model
        from afmrl.training.sft import run_sft

        train = run.splits["train"]
        own = range(len(train.offers)) if tiny.own_words else range(0)
        texts = [o.title for o in (*offers, *(train.offers[row] for row in own))]
        texts += [str(a) for a in (*labels, *(train.labels[row] for row in own))]
        random = on_first(
            lambda: build_tiny_model(
                texts,
                folder / "random",
                seed=recipe.seed,
                vocab_size=tiny.vocab_size,
                hidden_size=tiny.hidden_size,
                num_layers=tiny.num_layers,
                vision_layers=tiny.vision_layers,
                max_image_side=tiny.image_side,
            )
        )
        config = tiny.pretrain.model_copy(update={"seed": tiny.pretrain.seed + recipe.seed})
        return run_sft(
            config,
            random,
            offers,
            labels,
            folder / "model",
            callbacks=run.callbacks("base", "pretraining the tiny model", config.max_steps),
        )

    run.base = run.generator_base = run.ledger.run("base", made_of, work, together=True) / "model"
    run.made_of["base"] = fingerprint(made_of, run.ledger.weights["base"])


def train_generator(run: Run) -> None:
    """SFT: the generator learns to write the key attributes of the training offers."""
    from afmrl.training.sft import run_sft

    config = run.recipe.sft.model_copy(update={"seed": run.recipe.sft.seed + run.recipe.seed})
    offers, labels, prompt = run.taught
    made_of = fingerprint(
        config, run.made_of["base"], run.made_of["data"], [str(label) for label in labels], prompt and prompt.as_dict()
    )

    def work(folder: Path) -> dict[str, Any]:
        return run_sft(
            config,
            run.generator_base,
            offers,
            labels,
            folder / "model",
            prompt=prompt,
            callbacks=run.callbacks("sft", "SFT of the generator", config.max_steps),
        )

    run.paths["sft"] = run.ledger.run("sft", made_of, work, together=True) / "model"
    run.made_of["sft"] = fingerprint(made_of, run.ledger.weights["sft"])


def train_embedder(run: Run) -> None:
    """AGCL: the embedder learns to tell siblings apart, guided by attributes."""
    from afmrl.training.agcl import run_agcl
    from afmrl.training.ladder import training_text_attributes

    config = run.recipe.agcl.model_copy(update={"seed": run.recipe.agcl.seed + run.recipe.seed})
    train = run.splits["train"]
    made_of = fingerprint(config, run.made_of["base"], run.made_of["data"])
    text_attributes: list[KeyAttributes] | None = None
    if config.text_attributes == "generated" and config.attributes_on != "none":
        text_attributes = training_text_attributes(run)
        made_of = fingerprint(made_of, run.made_of["sft"])

    def work(folder: Path) -> dict[str, Any]:
        return run_agcl(
            config,
            run.base,
            train.offers,
            train.labels,
            folder / "model",
            queries=train.queries,
            text_attributes=text_attributes,
            callbacks=run.callbacks("agcl", "AGCL of the embedder", config.max_steps),
        )

    run.paths["agcl"] = run.ledger.run("agcl", made_of, work, together=True) / "model"
    run.made_of["agcl"] = fingerprint(made_of, run.ledger.weights["agcl"])


def reinforce_generator(run: Run, name: str = "rar", start: str = "sft", trained: str = "agcl") -> None:
    """RAR: GRPO of the generator, rewarded by retrieval of the frozen embedder on the reward split.

    Args:
        name: the stage to make.
        start: the stage whose generator is reinforced.
        trained: the stage whose embedder is the environment.
    """
    from afmrl.embedder.embedder import Embedder
    from afmrl.training.ladder import default_attributes_on, generated_attributes, print_ceiling
    from afmrl.training.rar import run_rar
    from afmrl.training.rar_rewards import split_reward
    from afmrl.training.watch import kept_in_words

    attributes_on = cast(AttributesOn, run.recipe.rar.attributes_on or default_attributes_on(run))
    config = run.recipe.rar.model_copy(
        update={"seed": run.recipe.rar.seed + run.recipe.seed, "attributes_on": attributes_on}
    )
    made_of = fingerprint(config, run.made_of[start], run.made_of[trained], run.made_of["data"])
    split = run.splits["reward"]
    if config.max_steps == 0:
        run.paths[name], run.made_of[name] = run.paths[start], run.made_of[start]
        return

    if name == "rar":
        on_first(lambda: print_ceiling(run))
    written: list[KeyAttributes] = []
    if on_gallery(attributes_on) and config.gallery_attributes == "generated":
        written = generated_attributes(run, start, "reward")

    def work(folder: Path) -> dict[str, Any]:
        embedder = Embedder.from_pretrained(run.paths[trained])
        attributes: list[KeyAttributes] | None = None
        if on_gallery(attributes_on):
            known = split.labels if config.gallery_attributes == "targets" else written
            attributes = [known[row] for row in split.gallery]
        reward = split_reward(
            config, run.paths[start], embedder, split, attributes, lambda message: run.say(f"{name}: {message}")
        )
        offers, targets, _ = run.taught
        return run_rar(
            config,
            run.paths[start],
            reward,
            folder / "model",
            validation=_validation(run, embedder, attributes_on),
            anchor=(offers, targets),
            callbacks=run.callbacks(name, "RAR of the generator", config.max_steps),
        )

    run.paths[name] = run.ledger.run(name, made_of, work, together=True) / "model"
    run.made_of[name] = fingerprint(made_of, run.ledger.weights[name])
    if validation := (run.ledger.results[name] or {}).get("validation"):
        run.say(f"{name}: {kept_in_words(validation)}")


def train_in_cycles(run: Run, name: str = "cit") -> None:
    """CIT: the generator's attributes go back into AGCL; the best round on val is kept."""
    from afmrl.training.cit_rounds import run_rounds

    run_rounds(run, lambda *stages: reinforce_generator(run, *stages), name=name)


def _validation(run: Run, embedder: Embedder, attributes_on: AttributesOn) -> Validation | None:
    """What RAR is watched on; None where the split 'val' is empty."""
    from afmrl.training.watch import Validation

    split, config = run.splits["val"], run.recipe.evaluation
    if not split.queries:
        return None
    return Validation(
        split,
        embedder,
        attributes_on=attributes_on,
        max_new_tokens=config.max_new_tokens,
        batch_size=config.batch_size,
    )


def _publish(model: Path, target: Path) -> None:
    """A whole copy at `target`, or what stood there before: the copy is renamed into place."""
    temporary = target.with_name(target.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(model, temporary, ignore=shutil.ignore_patterns("checkpoint-*", "training_args.bin"))
    replace_folder(temporary, target)


def _run_record(run: Run, started: float, result: dict[str, Any]) -> dict[str, Any]:
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            versions[library] = "not installed as a package"
    return {
        "recipe": TypeAdapter(Recipe).dump_python(run.recipe, mode="json"),
        "seed": run.recipe.seed,
        "versions": {**versions, "python": platform.python_version()},
        "fingerprints": run.made_of,
        "processes": world_size(),
        "skipped_rows": len(run.catalog.skipped) if run.catalog else 0,
        "stage_seconds": run.ledger.seconds,
        "total_seconds": round(time.time() - started, 1),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "result": result,
    }
