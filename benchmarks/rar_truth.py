"""What RAR wins in retrieval and what it costs the attributes' truth, by setting of its reward.

    python benchmarks/rar_truth.py run --seeds 0 1 2 --settings default "paper, recall@10"
    python benchmarks/rar_truth.py headroom --seeds 6 7 8 9   # what choosing among SFT's own samples could win
    python benchmarks/rar_truth.py table
    python benchmarks/rar_truth.py plot      # docs/images/rar_length.svg (pip install afmrl[bench])

SFT and AGCL are the quickstart's, once a seed; every setting reinforces the same generator. Accuracy is of greedy
attributes of the test families' offers against what can be seen and read of each. One JSON a cell.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from ablation import CATALOG_SEED, TRAINING
from afmrl.embedder.embedder import Embedder
from afmrl.evaluation.significance import bootstrap_seeds, paired_bootstrap_seeds
from afmrl.files import fingerprint, write_json
from afmrl.generator.generator import AttributeGenerator
from afmrl.rewards.query import RetrievalReward
from afmrl.sample.catalog import write_sample_catalog
from afmrl.terminal import StageProgress, quiet_libraries
from afmrl.training.config import SFTStage
from afmrl.training.data import prepare_data
from afmrl.training.ladder import generated_attributes, score_attributed
from afmrl.training.ledger import Ledger
from afmrl.training.recipe import load_recipe
from afmrl.training.run import Run, prepare_base, reinforce_generator, train_embedder, train_generator
from afmrl.training.sft import run_sft
from afmrl.training.splits import Split
from ladder import PAPERS_REWARD

RESULTS = Path(__file__).resolve().parent / "results" / "rar_truth"
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
PLOT = Path(__file__).resolve().parents[1] / "docs" / "images" / "rar_length.svg"
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
    folder = work / f"catalog-{families}"
    if not (folder / "catalog.jsonl").is_file():
        write_sample_catalog(folder, families={**TRAINING, "test": families}, seed=CATALOG_SEED)
    with resources.as_file(resources.files("afmrl.demo") / "quickstart.yaml") as path:
        recipe = load_recipe(path, [f"seed={seed}", "rar.eval_steps=0", "evaluation.num_resamples=200"])
    recipe.catalog.sample, recipe.catalog.path = None, str(folder / "catalog.jsonl")
    recipe.catalog.labels.column = "visible_attributes"
    home = work / f"seed-{seed}"
    run = Run(folder=home, recipe=recipe, ledger=Ledger(home), say=print, callbacks=StageProgress())
    prepare_data(run)
    prepare_base(run)
    train_generator(run)
    train_embedder(run)
    run.splits[_split(scored)] = first_families(run.splits["test"], scored)
    return run


def run_cell(seed: int, name: str, work: Path, results: Path, families: int, scored: int) -> None:
    """One setting of one seed."""
    run = trained(seed, work, families, scored)
    recipe = run.recipe
    before = generated_attributes(run, "sft", _split(scored))
    changes = SETTINGS[name]
    setting = recipe.rar.model_copy(update=changes)
    other = dataclasses.replace(
        run, recipe=dataclasses.replace(recipe, rar=setting), ledger=Ledger(run.folder / f"rar-{_file_name(name)}")
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
    write_json(
        results / f"{_file_name(name)}-seed{seed}.json",
        {
            "setting": name,
            "seed": seed,
            "changes": changes,
            "rar": setting.model_dump(mode="json"),
            "seconds": other.ledger.seconds["rar"],
            "validation": stage.get("validation"),
            "length": [round(entry["length"], 2) for entry in stage.get("history", []) if "length" in entry],
            "num_offers": len(split.offers),
            "num_families": len(set(split.families)),
            "recall@1": {row: round(float((r.ranks == 1).mean()), 6) for row, r in scores.items()},
            "mrr": {row: round(float((1 / r.ranks).mean()), 6) for row, r in scores.items()},
            "ranks": {row: " ".join(map(str, scores[row].ranks.tolist())) for row in ("sft:both", "rar:both")},
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
        seed=rar.seed + run.recipe.seed,
    )
    offers, targets, prompt = run.teaching_set.offers, run.teaching_set.targets, run.teaching_set.prompt

    def work(folder: Path) -> dict[str, Any]:
        return run_sft(config, run.paths["sft"], offers, targets, folder / "model", prompt=prompt)

    made_of = fingerprint(config, run.made_of["sft"], run.made_of["data"])
    run.paths["rar"] = run.ledger.run("rar", made_of, work) / "model"
    run.made_of["rar"] = fingerprint(made_of, run.ledger.weights["rar"])


def run_headroom(seed: int, work: Path, results: Path, families: int, scored: int) -> None:
    """What is found with one of SFT's samples, with the best of them, and with the truth; gallery as SFT writes it."""
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
        temperature=config.temperature,
        max_new_tokens=config.max_completion_length,
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
    write_json(
        results / "headroom" / f"seed{seed}.json",
        {
            "seed": seed,
            "samples": SAMPLES,
            "num_queries": len(queries),
            "num_families": len(set(split.families)),
            "found": {name: [round(float(value), 3) for value in of] for name, of in found.items()},
        },
    )


def headroom_table(results: Path) -> str:
    """Markdown: R@1 by what stands behind the query's text."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((results / "headroom").glob("*.json"))]
    lines = ["| attributes of the query | seeds | R@1 |", "|---|---|---|"]
    for name in cells[0]["found"] if cells else ():
        of = np.stack([np.asarray(cell["found"][name]) for cell in cells])
        families = [str(place * cells[0]["num_families"] // of.shape[1]) for place in range(of.shape[1])]
        interval = bootstrap_seeds(of, families)
        mean, low, high = (100 * x for x in (interval.mean, interval.low, interval.high))
        lines.append(f"| {name} | {len(cells)} | {mean:.1f} [{low:.1f}, {high:.1f}] |")
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


def _right(key: str, labels: list, before: list, after: list) -> dict[str, str]:
    shown = [row for row, label in enumerate(labels) if key in label.as_dict()]
    return {
        name: "".join(str(int(of[row].as_dict().get(key) == labels[row].as_dict()[key])) for row in shown)
        for name, of in (("sft", before), ("rar", after))
    }


def _file_name(setting: str) -> str:
    return setting.replace(",", "").replace(" ", "_")


def table(results: Path) -> str:
    """Markdown: points won and lost by setting, with intervals over seeds and offers."""
    cells: dict[str, list[dict]] = {}
    for path in sorted(results.glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        cells.setdefault(cell["setting"], []).append(cell)
    keys = sorted({key for of in cells.values() for cell in of for key in cell["right"]})
    lines = ["| setting | seeds | R@1 | " + " | ".join(keys) + " |", "|---|---|---|" + "---|" * len(keys)]
    for name, of in cells.items():
        columns = [_change(of, lambda c, w: np.array([int(r) == 1 for r in c["ranks"][f"{w}:both"].split()]))]
        columns += [_change(of, lambda c, w, key=key: np.array(list(c["right"][key][w])) == "1") for key in keys]
        lines.append(f"| {name} | {len(of)} | " + " | ".join(columns) + " |")
    return "\n".join([*lines, "", *_lengths(cells)])


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


def plot(results: Path, path: Path) -> str:
    """Tokens of a completion over the steps of training, both loss types: mean of the seeds, and their range."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams.update({"svg.hashsalt": "rar", "font.size": 9, "svg.fonttype": "none"})
    figure, axes = pyplot.subplots(figsize=(6.4, 2.8))
    told = []
    for place, (setting, name) in enumerate(PLOTTED.items()):
        paths = sorted(results.glob(f"{_file_name(setting)}-seed*.json"))
        cells = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        lengths = np.array([cell["length"] for cell in cells if cell.get("length")])
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
    change = paired_bootstrap_seeds(rar, sft, None, num_resamples=2000).difference
    mean, low, high = (100 * x for x in (change.mean, change.low, change.high))
    return f"{100 * sft.mean():.1f} {mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and score what is missing")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    headroom = commands.add_parser("headroom", help="what choosing among SFT's samples could win")
    headroom.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    for command in (run, headroom):
        command.add_argument("--families", type=int, default=400, help="test families of 5 products, two offers each")
        command.add_argument("--scored", type=int, default=SCORED, help="of them, those that are measured")
        command.add_argument("--work", type=Path, default=Path("runs/rar_truth"), help="models and catalog")
        command.add_argument("--results", type=Path, default=RESULTS)
    shown = commands.add_parser("table", help="print the table of the cells that are there")
    shown.add_argument("--results", type=Path, default=RESULTS)
    drawn = commands.add_parser("plot", help="draw the lengths of completions by step")
    drawn.add_argument("--results", type=Path, default=RESULTS)
    drawn.add_argument("--out", type=Path, default=PLOT)
    given = parser.parse_args()
    if given.command == "plot":
        print(plot(given.results, given.out))
        return
    if given.command == "headroom":
        (given.results / "headroom").mkdir(parents=True, exist_ok=True)
        for seed in given.seeds:
            run_headroom(seed, given.work, given.results, given.families, given.scored)
        print(headroom_table(given.results))
        return
    if given.command == "run":
        given.results.mkdir(parents=True, exist_ok=True)
        for seed in given.seeds:
            for name in given.settings:
                run_cell(seed, name, given.work, given.results, given.families, given.scored)
    print(table(given.results))


if __name__ == "__main__":
    main()
