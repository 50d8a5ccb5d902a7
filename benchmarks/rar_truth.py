"""What RAR wins in retrieval and what it costs the attributes' truth, by setting of its reward.

    python benchmarks/rar_truth.py run --seeds 0 1 2 --settings default "paper, recall@10"
    python benchmarks/rar_truth.py headroom --seeds 6 7 8 9   # what choosing among SFT's own samples could win
    python benchmarks/rar_truth.py table
    python benchmarks/rar_truth.py plot      # docs/images/rar_length.svg (pip install afmrl[bench])

SFT and AGCL are the quickstart's, once a seed; every setting reinforces the same generator. Accuracy is of greedy
attributes of the test families' offers against what can be seen and read of each.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.embedder.embedder import Embedder
from afmrl.evaluation.significance import over_seeds
from afmrl.files import fingerprint
from afmrl.generator.generator import AttributeGenerator
from afmrl.rewards.retrieval_reward import RetrievalReward
from afmrl.terminal import quiet_libraries
from afmrl.training.base import prepare_base
from afmrl.training.config import SFTStage
from afmrl.training.ladder import generated_attributes, score_attributed
from afmrl.training.ledger import Ledger
from afmrl.training.run import reinforce_generator, train_embedder, train_generator
from afmrl.training.run_state import Run
from afmrl.training.sft import run_sft
from afmrl.training.splits import Split
from afmrl.training.trainer_arguments import SAMPLING_TEMPERATURE
from cells import Cells
from common import HERE, add_results, percent, run_and_table
from ladder import PAPERS_REWARD
from sample_run import file_name, new_run, sample_recipe

ALONE = "SFT alone, 200 steps"
"""The control of the default: as many steps of its SFT loss, on as many offers a step, without any reward."""
PAPER: dict[str, Any] = {**PAPERS_REWARD, "max_steps": 60}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "no SFT loss": {"sft_weight": 0.0},
    "SFT loss 0.2": {"sft_weight": 0.2},
    "gallery of labels, SFT loss 0.2": {"gallery_attributes": "targets", "sft_weight": 0.2},
    "all pairs": {"rewarded_pairs": "all"},
    "all pairs, no SFT loss": {"rewarded_pairs": "all", "sft_weight": 0.0},
    "all pairs, SFT loss 0.2": {"rewarded_pairs": "all", "sft_weight": 0.2},
    "all pairs, F 1": {"rewarded_pairs": "all", "faithfulness_weight": 1.0},
    "rate 5e-4": {"learning_rate": 5e-4},
    "rate 1e-3": {"learning_rate": 1e-3},
    **{f"recall@{k}": {"reward": "recall@k", "k": k} for k in (1, 5, 10)},
    **{f"paper, recall@{k}": {**PAPER, "k": k} for k in (1, 5, 10, 50)},
    "paper, recall@10, 100 steps": {**PAPER, "k": 10, "max_steps": 100},
    "paper, recall@10, dapo, 100 steps": {**PAPER, "k": 10, "max_steps": 100, "loss_type": "dapo"},
    "default, 200 steps": {"max_steps": 200},
    ALONE: {"max_steps": 200},
}
"""Changes of the quickstart's RAR section, which takes 40 steps."""
PLOT = HERE.parent / "docs" / "images" / "rar_length.svg"
PLOTTED = {
    "default, 200 steps": "default reward, grpo",
    "paper, recall@10, 100 steps": "paper's reward, grpo",
    "paper, recall@10, dapo, 100 steps": "paper's reward, dapo",
}
"""Settings of the plot, and what they are called there."""
SCORED = 150  # test families
WINDOW = 10  # steps whose mean length is one number of the table
SAMPLES = 8  # of a query, as in a group of GRPO


def trained(seed: int, work: Path, families: int, scored: int) -> Run:
    """Base, SFT and AGCL of one seed, trained unless they are there; what is scored is the first test families."""
    quiet_libraries()
    recipe = sample_recipe(seed, work, families, {"rar.eval_steps": 0})
    run = new_run(recipe, work / f"seed-{seed}")
    prepare_base(run)
    train_generator(run)
    train_embedder(run)
    run.splits[_split(scored)] = first_families(run.splits["test"], scored)
    return run


def run_cell(seed: int, name: str, work: Path, cells: Cells, families: int, scored: int) -> None:
    """One setting of one seed, unless it is there and measured on as many families."""
    known = cells.get((name, seed))
    if known is not None and known["num_families"] == scored:
        print(f"{name}, seed {seed}: complete, not run again", flush=True)
        return
    run = trained(seed, work, families, scored)
    recipe = run.recipe
    before = generated_attributes(run, "sft", _split(scored))
    changes = SETTINGS[name]
    setting = recipe.rar.model_copy(update=changes)
    other = dataclasses.replace(
        run, recipe=recipe.model_copy(update={"rar": setting}), ledger=Ledger(run.folder / f"rar-{file_name(name)}")
    )
    if name == ALONE:
        _teach_on(other)
    else:
        reinforce_generator(other)
    after = generated_attributes(other, "rar", _split(scored))
    split = run.splits[_split(scored)]
    both = run.paths["agcl"]
    scores = {
        f"{which}:{attributes_on}": result
        for which, of in (("sft", run), ("rar", other))
        for attributes_on, result in score_attributed(of, _split(scored), both, which).items()
    }
    keys = sorted({key for label in split.targets for key, _ in label})
    stage = other.ledger.results["rar"]
    cells.put(
        (name, seed),
        {
            "changes": changes,
            "rar": setting.model_dump(mode="json"),
            "seconds": other.ledger.seconds["rar"],
            "validation": stage.get("validation"),
            "length": [round(entry["length"], 2) for entry in stage.get("history", []) if "length" in entry],
            "num_offers": len(split.offers),
            "num_families": len(set(split.families)),
            "recall@1": {row: round(float((r.ranks == 1).mean()), 6) for row, r in scores.items()},
            "mrr": {row: round(float((1 / r.ranks).mean()), 6) for row, r in scores.items()},
            "ranks": {row: scores[row].ranks for row in ("sft:both", "rar:both")},
            # of every offer that shows the key, in catalog order: whether SFT's and RAR's value is right
            "right": {key: _right(key, split.targets, before, after) for key in keys},
        },
    )


def _teach_on(run: Run) -> None:
    """SFT of the SFT generator by the steps, offers a step and rate of the run's RAR, in the place of RAR."""
    rar = run.recipe.rar
    config = SFTStage(
        max_steps=rar.max_steps,
        batch_size=rar.sft_batch_size,
        learning_rate=rar.learning_rate,
        warmup_steps=rar.warmup_steps,
    )
    offers, targets, prompt = run.teaching_set.offers, run.teaching_set.targets, run.teaching_set.prompt

    def work(folder: Path) -> dict[str, Any]:
        return run_sft(config, run.paths["sft"], offers, targets, folder / "model", prompt=prompt, seed=run.recipe.seed)

    made_of = fingerprint(config, run.recipe.seed, run.made_of["sft"], run.made_of["data"])
    run.paths["rar"] = run.ledger.run("rar", made_of, work) / "model"
    run.made_of["rar"] = fingerprint(made_of, run.ledger.weights["rar"])


def run_headroom(seed: int, work: Path, cells: Cells, families: int, scored: int) -> None:
    """What is found with one of SFT's samples, with the best of them, and with the truth; gallery as SFT writes it."""
    if cells.get((seed,)) is not None:
        print(f"seed {seed}: complete, not run again", flush=True)
        return
    run = trained(seed, work, families, scored)
    split, config = run.splits[_split(scored)], run.recipe.rar
    written = generated_attributes(run, "sft", _split(scored))
    embedder = Embedder.from_pretrained(run.paths["agcl"])
    queries = split.query_offers()
    gallery = embedder.encode(split.gallery_offers(), [written[row] for row in split.gallery])
    reward = RetrievalReward(embedder.encode, queries, gallery, split.relevant, kind="reciprocal_rank")
    sampled = AttributeGenerator.from_pretrained(run.paths["sft"]).generate(
        queries,
        num_completions=SAMPLES,
        temperature=SAMPLING_TEMPERATURE,
        max_new_tokens=config.max_new_tokens,
        batch_size=96,
        seed=seed,
    )
    rows = np.repeat(np.arange(len(queries)), SAMPLES).tolist()
    of_all = [completion for of_query in sampled for completion in of_query]
    ranks = reward.score(rows, [c.text for c in of_all], [c.ended for c in of_all]).ranks.reshape(-1, SAMPLES)
    told = {
        "greedy": [written[r] for r in split.queries],
        "truth on the query": [split.targets[r] for r in split.queries],
    }
    found = {
        name: reward.gallery.place(embedder.encode(queries, of), split.relevant).ranks == 1 for name, of in told.items()
    }
    found |= {"a sample": (ranks == 1).mean(axis=1), f"best of {SAMPLES}": (ranks == 1).any(axis=1)}
    cells.put(
        (seed,),
        {
            "samples": SAMPLES,
            "num_queries": len(queries),
            "num_families": len(set(split.families)),
            "found": {name: of.astype(float).round(3) for name, of in found.items()},
        },
    )


def headroom_table(cells: list[dict[str, Any]]) -> str:
    """Markdown: R@1 by the attributes in the query's text."""
    lines = ["| attributes of the query | seeds | R@1 |", "|---|---|---|"]
    for name in cells[0]["found"] if cells else ():
        of = np.stack([cell["found"][name] for cell in cells])
        families = [str(place * cells[0]["num_families"] // of.shape[1]) for place in range(of.shape[1])]
        interval = over_seeds(of, families).difference
        lines.append(f"| {name} | {len(cells)} | {percent(interval.mean, interval.low, interval.high)} |")
    return "\n".join(lines)


def _split(scored: int) -> str:
    """What the ledger calls the split of so many families."""
    return "scored" if scored == SCORED else f"scored-{scored}"


def first_families(split: Split, number: int) -> Split:
    """The queries and gallery offers of a split's first families: reading the others would only take time."""
    families = [offer.extra["family_id"] for offer in split.offers]
    kept = set(list(dict.fromkeys(families))[:number])
    rows = [row for row, family in enumerate(families) if family in kept]
    new = {row: place for place, row in enumerate(rows)}
    gallery = [row for row in split.gallery if row in new]
    position = {row: place for place, row in enumerate(gallery)}
    chosen = [place for place, row in enumerate(split.queries) if row in new]
    return Split(
        [split.offers[row] for row in rows],
        [split.targets[row] for row in rows],
        [new[split.queries[place]] for place in chosen],
        [new[row] for row in gallery],
        [np.array([position[split.gallery[at]] for at in split.relevant[place]]) for place in chosen],
        [split.families[place] for place in chosen],
    )


def _right(key: str, labels: list, before: list, after: list) -> dict[str, np.ndarray]:
    shown = [row for row, label in enumerate(labels) if key in label.as_dict()]
    return {
        name: np.array([int(of[row].as_dict().get(key) == labels[row].as_dict()[key]) for row in shown])
        for name, of in (("sft", before), ("rar", after))
    }


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: points won and lost by setting, with intervals over seeds and offers."""
    cells = _by_setting(found)
    keys = sorted({key for of in cells.values() for cell in of for key in cell["right"]})
    lines = ["| setting | seeds | R@1 | " + " | ".join(keys) + " |", "|---|---|---|" + "---|" * len(keys)]
    for name, of in cells.items():
        columns = [_change(of, lambda c, w: c["ranks"][f"{w}:both"] == 1)]
        columns += [_change(of, lambda c, w, key=key: c["right"][key][w]) for key in keys]
        lines.append(f"| {name} | {len(of)} | " + " | ".join(columns) + " |")
    return "\n".join([*lines, "", *_lengths(cells)])


def _by_setting(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_setting: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        by_setting.setdefault(cell["setting"], []).append(cell)
    return by_setting


def _lengths(cells: dict[str, list[dict]]) -> list[str]:
    """Tokens of a completion, by steps of training: mean over seeds."""
    told = {name: [cell["length"] for cell in of if cell.get("length")] for name, of in cells.items()}
    told = {name: lengths for name, lengths in told.items() if lengths}
    if not told:
        return []
    steps = min(len(length) for lengths in told.values() for length in lengths)
    starts = range(0, steps, WINDOW)
    lines = ["| tokens by step | " + " | ".join(f"{at + 1}–{min(at + WINDOW, steps)}" for at in starts) + " |"]
    lines.append("|---|" + "---|" * len(starts))
    for name, lengths in told.items():
        means = [np.mean([length[at : min(at + WINDOW, steps)] for length in lengths]) for at in starts]
        lines.append(f"| {name} | " + " | ".join(f"{mean:.1f}" for mean in means) + " |")
    return lines


def plot(found: list[dict[str, Any]], path: Path) -> str:
    """Tokens of a completion over the steps of training, both loss types: mean of the seeds, and their range."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "rar", "font.size": 9, "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(figsize=(6.4, 2.8))
    told, by_setting = [], _by_setting(found)
    for place, (setting, name) in enumerate(PLOTTED.items()):
        lengths = np.array([cell["length"] for cell in by_setting.get(setting, ()) if cell.get("length")])
        if not len(lengths):
            continue
        steps, color = np.arange(1, lengths.shape[1] + 1), f"C{place}"
        counted = f"{len(lengths)} seed{'s' if len(lengths) > 1 else ''}"
        name, stroke = f"{name} ({counted})", "--" if "dapo" in setting else "-"
        axes.plot(steps, lengths.mean(axis=0), stroke, color=color, label=name, linewidth=1.5)
        axes.fill_between(steps, lengths.min(axis=0), lengths.max(axis=0), color=color, alpha=0.12, linewidth=0)
        told.append(name)
    axes.set(xlabel="step of GRPO", ylabel="tokens of a completion", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    return f"{path}: {'; '.join(told) or 'no cells'}"


def _change(cells: list[dict], of: Any) -> str:
    sft, rar = (np.stack([of(cell, which) for cell in cells]).astype(float) for which in ("sft", "rar"))
    change = over_seeds(rar - sft).difference
    return f"{100 * sft.mean():.1f} {percent(change.mean, change.low, change.high, '+')}"


def main() -> None:
    """Parse the command line."""
    parser, commands, run, _ = run_and_table(__doc__, "rar_truth")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    headroom = commands.add_parser("headroom", help="what choosing among SFT's samples could win")
    headroom.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for command in (run, headroom):
        command.add_argument("--families", type=int, default=400, help="test families of 5 products, two offers each")
        command.add_argument("--scored", type=int, default=SCORED, help="of them, those that are measured")
        command.add_argument("--work", type=Path, default=Path("runs/rar_truth"), help="models and catalog")
    drawn = commands.add_parser("plot", help="draw the lengths of completions by step")
    drawn.add_argument("--out", type=Path, default=PLOT)
    add_results(drawn, "rar_truth")
    add_results(headroom, "rar_truth_headroom")
    given = parser.parse_args()
    if given.command == "headroom":
        cells = Cells(given.results, "seed")
        for seed in given.seeds:
            run_headroom(seed, given.work, cells, given.families, given.scored)
        print(headroom_table(cells.all()))
        return
    cells = Cells(given.results, "setting", "seed")
    if given.command == "plot":
        print(plot(cells.all(), given.out))
        return
    if given.command == "run":
        for seed in given.seeds:
            for name in given.settings:
                run_cell(seed, name, given.work, cells, given.families, given.scored)
    print(table(cells.all()))


if __name__ == "__main__":
    main()
