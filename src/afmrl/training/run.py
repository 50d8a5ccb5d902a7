"""The whole method as one run: catalog → base → SFT → AGCL → RAR → CIT, if asked → evaluation, in one folder.

Read it from `run` downwards: each function is one stage, in their order. A stage is done once: the ledger skips what
is complete and made of the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from afmrl.attributes.attributes_on import AttributesOn, on_gallery
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.files import fingerprint, naming, one_writer
from afmrl.terminal import counted
from afmrl.training.agcl import run_agcl
from afmrl.training.base import prepare_base
from afmrl.training.cit_rounds import run_rounds
from afmrl.training.config import Stage
from afmrl.training.data import prepare_data
from afmrl.training.expected import say_expected
from afmrl.training.ladder import (
    default_attributes_on,
    generated_attributes,
    print_ceiling,
    training_text_attributes,
)
from afmrl.training.ledger import Ledger
from afmrl.training.processes import join_processes, on_first, rank, share
from afmrl.training.rar import run_rar
from afmrl.training.recipe import Recipe, load_recipe
from afmrl.training.run_outcome import finish
from afmrl.training.run_state import Callbacks, Run
from afmrl.training.sft import run_sft, unread_images
from afmrl.training.split_reward import split_reward
from afmrl.training.watch import Validation, kept_in_words


def _no_callbacks(stage: str, title: str, steps: int) -> list[Any]:
    return []


def run(
    recipe: str | Path | Mapping[str, Any] | Recipe,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] = print,
    callbacks: Callbacks = _no_callbacks,
    until: Stage | None = None,
    fetch: bool = False,
) -> Run:
    """Train and measure a recipe: SFT, AGCL, RAR, evaluation.

    Writes OUT/embedder, OUT/generator, OUT/metrics.json, OUT/report.html and OUT/run.json. Stages that are complete are
    not run again, killed ones resume. Under torchrun the stages that train do so in all processes together; everything
    else, and every file, is the first process' work.

    Args:
        recipe: the name of a shipped recipe ("own_catalog"; `afmrl recipe` lists them), the path of a YAML file, nested
            dicts, or a Recipe.
        out: the run's folder.
        overrides: fields by their dotted names, as in {"catalog.path": "offers.jsonl", "agcl.max_steps": 50}.
        say: called with one line of text at a time.
        callbacks: makes trainer callbacks, as of a progress bar.
        until: the last stage to run. Its model is in OUT/stages/NAME/model, and nothing else is written.
        fetch: fetch images of the catalog that are http(s) addresses.

    Raises:
        InputError: anything given that cannot work, before the long stages start where that can be known.
    """
    recipe = load_recipe(recipe, overrides)
    size = join_processes()
    _check_processes(recipe, size)
    if rank():
        say, callbacks = _silent, _no_callbacks
    if size > 1:
        say(f"{size} processes train together")
    folder = Path(out)
    state = Run(folder=folder, recipe=recipe, ledger=Ledger(folder, say), say=say, callbacks=callbacks, fetch=fetch)
    with contextlib.ExitStack() as held:
        on_first(lambda: held.enter_context(one_writer(folder)))
        held.enter_context(naming(folder))
        return _run_stages(state, until)


def _run_stages(state: Run, until: Stage | None) -> Run:
    started = time.time()
    prepare_data(state)
    say_expected(state)
    prepare_base(state)
    for name, train in (("sft", train_generator), ("agcl", train_embedder), ("rar", reinforce_generator)):
        train(state)
        if name == until:
            where = state.paths.get(name, "the recipe leaves it out")
            state.say(f"stopped after {name}, as asked: {where}; the same command without --until continues")
            return state
    if state.recipe.cit.rounds:
        train_in_cycles(state)
    on_first(lambda: finish(state, started))
    return state


def _check_processes(recipe: Recipe, size: int) -> None:
    """Refuse batches that do not divide among the processes, before the first stage and not at the last."""
    wanted = recipe.hardware.processes
    if wanted not in (None, size):
        raise InputError(
            f"'hardware.processes': the recipe wants {wanted} processes and there are {size}; start it with "
            f"torchrun --nproc_per_node {wanted} -m afmrl run RECIPE"
        )
    share(recipe.sft.batch_size, "sft.batch_size")
    share(recipe.agcl.batch_size, "agcl.batch_size")
    if (rar := recipe.rar).max_steps:
        completions = rar.prompts_per_step * rar.num_generations
        share(rar.micro_batch_size or completions, "rar.micro_batch_size")
        if rar.sft_weight:
            share(rar.sft_batch_size, "rar.sft_batch_size")


def _silent(_: str) -> None:
    return None


def train_generator(run: Run) -> None:
    """SFT: the generator learns to write the key attributes of the training offers."""
    recipe, config = run.recipe, run.recipe.sft
    if config.max_steps == 0:
        return
    offers, targets, prompt = run.teaching_set.offers, run.teaching_set.targets, run.teaching_set.prompt
    made_of = fingerprint(
        config,
        recipe.settings_of_all_stages(),
        run.made_of["base"],
        run.made_of["data"],
        [str(target) for target in targets],
        prompt and prompt.as_dict(),
    )

    def work(folder: Path) -> dict[str, Any]:
        if unread := unread_images(run.generator_base, offers):
            run.say(f"sft: the generator reads text alone: {counted(unread, 'image')} of the training offers not shown")
        return run_sft(
            config,
            run.generator_base,
            offers,
            targets,
            folder / "model",
            prompt=prompt,
            hardware=recipe.hardware,
            augmentation=recipe.augment,
            seed=recipe.seed,
            callbacks=run.callbacks("sft", "SFT of the generator", config.max_steps),
        )

    run.paths["sft"] = run.ledger.run("sft", made_of, work, together=True) / "model"
    run.made_of["sft"] = fingerprint(made_of, run.ledger.weights["sft"])


def train_embedder(run: Run) -> None:
    """AGCL: the embedder learns to tell siblings apart, guided by attributes."""
    recipe, config = run.recipe, run.recipe.agcl
    train = run.splits["train"]
    made_of = fingerprint(config, recipe.settings_of_all_stages(), run.made_of["base"], run.made_of["data"])
    text_attributes: list[KeyAttributes] | None = None
    if config.text_attributes == "generated":
        text_attributes = training_text_attributes(run)
        made_of = fingerprint(made_of, run.made_of["sft"])

    def work(folder: Path) -> dict[str, Any]:
        return run_agcl(
            config,
            run.base,
            train.offers,
            train.targets,
            folder / "model",
            queries=train.queries,
            text_attributes=text_attributes,
            hardware=recipe.hardware,
            augmentation=recipe.augment,
            seed=recipe.seed,
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
    recipe, split = run.recipe, run.splits["reward"]
    attributes_on = cast(AttributesOn, recipe.rar.attributes_on or default_attributes_on(run))
    config = recipe.rar.model_copy(update={"attributes_on": attributes_on})
    if config.max_steps == 0:
        if start in run.paths:
            run.paths[name], run.made_of[name] = run.paths[start], run.made_of[start]
        return
    made_of = fingerprint(
        config, recipe.settings_of_all_stages(), run.made_of[start], run.made_of[trained], run.made_of["data"]
    )
    if name == "rar":
        on_first(lambda: print_ceiling(run))
    written: list[KeyAttributes] = []
    if on_gallery(attributes_on) and config.gallery_attributes == "generated":
        written = generated_attributes(run, start, "reward")

    def work(folder: Path) -> dict[str, Any]:
        embedder = Embedder.from_pretrained(run.paths[trained])
        attributes: list[KeyAttributes] | None = None
        if on_gallery(attributes_on):
            known = split.targets if config.gallery_attributes == "targets" else written
            attributes = [known[row] for row in split.gallery]
        reward = split_reward(
            config, run.paths[start], embedder, split, attributes, lambda message: run.say(f"{name}: {message}")
        )
        return run_rar(
            config,
            run.paths[start],
            reward,
            folder / "model",
            validation=_validation(run, embedder, attributes_on),
            anchor=(run.teaching_set.offers, run.teaching_set.targets),
            hardware=recipe.hardware,
            seed=recipe.seed,
            callbacks=run.callbacks(name, "RAR of the generator", config.max_steps),
        )

    run.paths[name] = run.ledger.run(name, made_of, work, together=True) / "model"
    run.made_of[name] = fingerprint(made_of, run.ledger.weights[name])
    if validation := (run.ledger.results[name] or {}).get("validation"):
        run.say(f"{name}: {kept_in_words(validation)}")


def _validation(run: Run, embedder: Embedder, attributes_on: AttributesOn) -> Validation | None:
    """What RAR is watched on; None where the split 'val' is empty."""
    split = run.splits["val"]
    if not split.queries:
        return None
    return Validation(
        split,
        embedder,
        attributes_on=attributes_on,
        max_new_tokens=run.recipe.rar.max_new_tokens,
        batch_size=run.recipe.evaluation.batch_size,
    )


def train_in_cycles(run: Run, name: str = "cit") -> None:
    """CIT: the generator's attributes go back into AGCL; the best round on val is kept."""
    run_rounds(run, lambda *stages: reinforce_generator(run, *stages), name=name)
