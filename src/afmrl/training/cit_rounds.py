"""CIT's rounds within a run: write attributes anew, train again, keep the round that is best on validation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.files import fingerprint, read_lines
from afmrl.generator.generator import AttributeGenerator
from afmrl.training.agcl import run_agcl
from afmrl.training.cit import rewrite, rows_to_rewrite
from afmrl.training.completions import forget_completions
from afmrl.training.ladder import default_attributes_on, score_attributed, training_text_attributes
from afmrl.training.run_state import Run

SEED_STEP = 1000
"""Between the seeds of two rounds: trained on the same pairs from the same start, the control would be a copy."""


def run_rounds(run: Run, reinforce: Callable[[str, str, str], None], *, name: str = "cit") -> None:
    """Do the rounds that are not done yet; leave the best as `run.paths["cit"]` and `run.cit_generator`.

    Round 0 is what AGCL and RAR left: it is kept where no later one retrieves better on the validation split (MRR,
    with the generator's attributes where the recipe has them).

    Args:
        reinforce: RAR of (stage to make, generator's stage, embedder's stage).
        name: of the stages in the ledger.
    """
    cit = run.recipe.cit
    embedder, generator = "agcl", "rar"
    attributes: list[KeyAttributes] | None = None
    measured = [(_on_val(run, f"{name}-val-0", embedder, generator), 0, embedder, generator)]
    for number in range(1, cit.rounds + 1):
        if number > 1:
            reinforced = f"{name}-rar-{number}"
            reinforce(reinforced, generator, embedder)
            generator = reinforced
        written = f"{name}-attributes-{number}"
        attributes = _rewritten(run, written, generator, number, attributes)
        trained = f"{name}-{number}"
        _train(run, trained, attributes, embedder, number, written)
        embedder = trained
        measured.append((_on_val(run, f"{name}-val-{number}", embedder, generator), number, embedder, generator))
    # of equal rounds the earlier
    _, kept, embedder, run.cit_generator = max(measured, key=lambda entry: (entry[0], -entry[1]))
    run.paths["cit"], run.made_of["cit"] = run.paths[embedder], run.made_of[embedder]
    run.cit = {"kept_round": kept, "val_mrr": [round(mrr, 6) for mrr, *_ in measured]}
    run.say(f"{name}: round {kept} of {cit.rounds} is kept; MRR on val by round: {run.cit['val_mrr']}")


def _rewritten(
    run: Run, stage: str, generator: str, number: int, last: list[KeyAttributes] | None = None
) -> list[KeyAttributes]:
    """The text's attributes in a round: those of the one before (`last`; None: AGCL's first training), some anew."""
    before = training_text_attributes(run) if last is None else last
    train, cit, config = run.splits["train"], run.recipe.cit, run.recipe.evaluation
    seed = run.recipe.seed + SEED_STEP * number

    def work(folder: Path) -> dict[str, Any]:
        rows = rows_to_rewrite(train.offers, cit.share, seed)
        attributes = before
        result = {"num_written": 0, "num_changed": 0, "num_invalid": 0}
        if rows:
            found = rewrite(
                AttributeGenerator.from_pretrained(run.paths[generator]),
                train.offers,
                before,
                rows,
                folder,
                max_new_tokens=run.recipe.rar.max_new_tokens,
                batch_size=config.batch_size,
            )
            attributes = found.attributes
            result = {name: getattr(found, name) for name in result}
        with open(folder / "attributes.jsonl", "w", encoding="utf-8") as file:
            for each in attributes:
                file.write(json.dumps(each.as_dict(), ensure_ascii=False) + "\n")
        forget_completions(folder)
        return result

    made_of = fingerprint(cit.share, seed, run.made_of[generator], run.made_of["data"], run.recipe.rar.max_new_tokens)
    if run.recipe.agcl.text_attributes == "generated":
        made_of = fingerprint(made_of, run.made_of["sft"])
    if last is not None:
        made_of = fingerprint(made_of, [str(attributes) for attributes in last])
    folder = run.ledger.run(stage, made_of, work)
    run.made_of[stage] = made_of
    lines = read_lines(folder / "attributes.jsonl")
    return [KeyAttributes.of(json.loads(line)) for line in lines]


def _train(
    run: Run, stage: str, attributes: list[KeyAttributes], before: str, number: int, attributes_stage: str
) -> None:
    recipe, config, train = run.recipe, run.recipe.agcl, run.splits["train"]
    seed = recipe.seed + SEED_STEP * number
    continues = run.recipe.cit.init == "continue"
    start = run.made_of[before] if continues else run.made_of["base"]
    targets_guide = config.text_attributes == "generated" or run.recipe.cit.guidance == "before"
    made_of = fingerprint(
        config, recipe.settings_of_all_stages(), seed, start, run.made_of[attributes_stage], targets_guide
    )

    def work(folder: Path) -> dict[str, Any]:
        return run_agcl(
            config,
            run.paths[before] if continues else run.base,
            train.offers,
            train.targets if targets_guide else attributes,
            folder / "model",
            queries=train.queries,
            text_attributes=attributes,
            hardware=recipe.hardware,
            augmentation=recipe.augment,
            seed=seed,
            callbacks=run.callbacks(stage, f"AGCL again, round {number}", config.max_steps),
        )

    run.paths[stage] = run.ledger.run(stage, made_of, work, together=True) / "model"
    run.made_of[stage] = fingerprint(made_of, run.ledger.weights[stage])


def _on_val(run: Run, stage: str, embedder: str, generator: str) -> float:
    def work(_: Path) -> dict[str, Any]:
        results = score_attributed(run, "val", run.paths[embedder], generator)
        return {metric: interval.mean for metric, interval in results[default_attributes_on(run)].metrics.items()}

    run.ledger.run(stage, fingerprint(run.made_of[embedder], run.made_of[generator]), work)
    return float(run.ledger.results[stage]["mrr"])
