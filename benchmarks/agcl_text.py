"""AGCL beside InfoNCE, LLaVE and UniME on real offers and real pretrained weights: all-MiniLM-L6-v2 on three text sets.

    python benchmarks/agcl_text.py run --seeds 0 1 2 --data DIR   # continues where it was
    python benchmarks/agcl_text.py table                          # means, differences to InfoNCE, intervals; Markdown
    python benchmarks/agcl_text.py model --out MODEL --data DIR  # one model, ready for `afmrl evaluate --fuse`

DIR holds wdc_products, abt_buy and amazon_google (products.jsonl each). One model is trained on the training splits of
all three: every query's title once an epoch, with the title of one of its matches, each time another as far as it has
more. Within a seed all arms see the same pairs in the same batches, but the arms `…_similar`, whose batches bring
offers of similar attributes together. It is measured on wdc_products' val split and the others' test split. The gallery
is the set's whole one, of all splits: a split's own is too easy (BM25 finds 91 % of WDC's). Key attributes come from
the rule-based extractor, whose brands are learned on the training splits, or, in the arms "generated", from a generator
that learned from it; they steer the loss and do not stand in the text.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

from afmrl.attributes.extractor import AttributeExtractor
from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.text import embedder_text
from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.significance import holm, over_seeds
from afmrl.files import file_hash, fingerprint, read_lines
from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
from afmrl.losses.sampler import similar_batches
from afmrl.losses.statistics import LogLossStatistics
from afmrl.retrieval.bm25 import bm25_scores
from afmrl.retrieval.exact import ranks_of_scores
from afmrl.retrieval.fusion import FusionWeights, learn_fusion_weights, lexical_scores, scaled
from afmrl.retrieval.mining import mine_hard_negatives
from afmrl.terminal import quiet_libraries
from afmrl.training.ledger import Ledger
from cells import Cells
from common import add_data, minilm, p_text, percent, rows_by_product, run_and_table, versions

SETS = {"wdc_products": "val", "abt_buy": "test", "amazon_google": "test"}  # and the split that is measured


@dataclass(frozen=True)
class Training:
    """What all arms share."""

    max_seq_length: int = 48
    epochs: int = 3
    batch_size: int = 64
    mini_batch_size: int = 32
    learning_rate: float = 1e-4
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    temperature: float = 0.05


NOTHING: dict[str, Any] = {"weighting": "none", "rules": ()}
ARMS: dict[str, tuple[str, dict[str, Any], bool]] = {
    # name, options of the loss, whether batches bring similar offers together
    "infonce": ("InfoNCE", NOTHING, False),
    "llave": ("LLaVE (cosine hardness, α = 9)", {"weighting": "cosine", "gain": 9.0, "rules": ()}, False),
    "unime": (
        "UniME (margin 0.1, 8 hardest)",
        {"weighting": "none", "rules": ("margin",), "margin": 0.1, "top_k_hardest": 8},
        False,
    ),
    "agcl": ("AGCL (as published)", {"weighting": "bm25", "rules": ("margin",), "margin": 0.1}, False),
    "agcl_free": (
        "AGCL, positive unweighted, gain 4 of the corpus' maximum, agreement",
        {"weighting": "bm25", "weight_positive": False, "gain": 4.0, "scaling": "corpus", "rules": ("agreement",)},
        False,
    ),
    "infonce_similar": ("InfoNCE, similar offers in a batch", NOTHING, True),
    "agcl_similar": (
        "AGCL (as published), similar offers in a batch",
        {"weighting": "bm25", "rules": ("margin",), "margin": 0.1},
        True,
    ),
    "agcl_free_similar": (
        "AGCL, positive unweighted, gain 4, similar offers in a batch",
        {"weighting": "bm25", "weight_positive": False, "gain": 4.0, "scaling": "corpus", "rules": ("agreement",)},
        True,
    ),
    "agcl_generated_similar": (
        "the same, attributes of a generator",
        {"weighting": "bm25", "weight_positive": False, "gain": 4.0, "scaling": "corpus", "rules": ("agreement",)},
        True,
    ),
}
GENERATED = ("agcl_generated_similar",)
"""Arms whose attributes (of the loss and of the batches) a generator wrote, and not the rules."""
GENERATOR_STEPS = 600
ZERO_SHOT = "zero_shot"
METRICS = {"mrr": reciprocal_rank, "recall@1": lambda ranks: recall_at_k(ranks, 1)}
REFERENCE = "infonce"
KEY = ("arm", "seed")  # the seed of ZERO_SHOT, which has none, is 0


@dataclass(frozen=True)
class Task:
    """One set's test: queries with at least one match, and the whole gallery."""

    name: str
    queries: list[Offer]
    gallery: list[Offer]
    relevant: list[np.ndarray]


@dataclass(frozen=True)
class Data:
    """What is trained on and what is measured."""

    offers: list[Offer]
    attributes: list[KeyAttributes]
    matches: dict[int, list[int]]
    """Rows of `offers`: for each query the gallery offers of its product."""
    tasks: list[Task]
    validation: list[Task]
    extractor: AttributeExtractor
    hashes: dict[str, str]


def read_data(folder: Path) -> Data:
    """The three sets, one training catalog of them, and the tasks."""
    offers: list[Offer] = []
    tasks, validation, hashes = [], [], {}
    for name, measured in SETS.items():
        path = folder / name / "products.jsonl"
        if not path.is_file():
            raise SystemExit(f"{path}: no such file; --data names the folder that holds {', '.join(SETS)}")
        hashes[name] = file_hash(path)
        of_set = read_catalog(path, max_bad=0.05).offers
        offers += [o for o in of_set if o.extra["split"] == "train"]
        tasks.append(_task(name, of_set, measured))
        validation.append(_task(name, of_set, "val"))
    extractor = AttributeExtractor.learn(offers)
    gallery = [row for row, offer in enumerate(offers) if offer.extra["role"] == "gallery"]
    places = rows_by_product([offers[row] for row in gallery])
    matches = {
        row: [gallery[place] for place in places[offer.product_id]]
        for row, offer in enumerate(offers)
        if offer.extra["role"] == "query" and offer.product_id in places
    }
    return Data(offers, extractor.extract_all(offers), matches, tasks, validation, extractor, hashes)


def training_pairs(data: Data, epochs: int, seed: int) -> np.ndarray:
    """(epochs · queries, 2) rows of a query and a match."""
    draw = np.random.default_rng(seed)
    pairs = []
    for row, others in data.matches.items():
        order = draw.permutation(others)
        pairs += [(row, int(order[epoch % len(order)])) for epoch in range(epochs)]
    return np.array(pairs)


def _task(name: str, offers: Sequence[Offer], split: str) -> Task:
    gallery = [o for o in offers if o.extra["role"] == "gallery"]
    places = rows_by_product(gallery)
    queries = [o for o in offers if o.extra["role"] == "query" and o.extra["split"] == split and o.product_id in places]
    return Task(name, queries, gallery, [np.array(places[o.product_id]) for o in queries])


class ByLength(SentenceTransformerDataCollator):
    """A batch's pairs by length, so that a mini-batch of short titles is not padded to the batch's longest.

    The order of a batch's pairs changes nothing in any of the losses.
    """

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        return super().__call__(sorted(features, key=lambda row: len(row["anchor"]) + len(row["positive"])))


def train(arm: str, seed: int, data: Data, training: Training, folder: Path) -> tuple[Embedder, list[dict[str, Any]]]:
    """One model, from MiniLM; its embedder and its training curve with the loss's statistics."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from transformers import PrinterCallback

    _, options, similar = ARMS[arm]
    attributes = generated_attributes(data, folder.parent) if arm in GENERATED else data.attributes
    torch.manual_seed(seed)
    embedder = Embedder.from_pretrained(minilm(), max_seq_length=training.max_seq_length, seller_attributes="none")
    card = embedder.model.model_card_data
    card.generate_widget_examples, card.widget = False, [{}]
    loss = AttributeGuidedContrastiveLoss(
        embedder.model,
        attributes,
        temperature=training.temperature,
        mini_batch_size=training.mini_batch_size,
        product_ids=[offer.product_id for offer in data.offers],
        **options,
    )
    pairs = training_pairs(data, training.epochs, seed)
    anchors = pairs[:, 0]
    products = [data.offers[row].product_id for row in anchors]
    neighbors = np.full((len(anchors), 1), -1)
    if similar:
        neighbors = mine_hard_negatives([attributes[row] for row in anchors], 16, product_ids=products).rows
    texts = [embedder_text(offer) for offer in data.offers]
    rows = Dataset.from_dict(
        {
            "anchor": [texts[row] for row in anchors],
            "positive": [texts[row] for row in pairs[:, 1]],
            "label": pairs.tolist(),
        }
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder / "trainer"),
        num_train_epochs=1,  # of rows that hold every query `epochs` times
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_ratio,
        weight_decay=training.weight_decay,
        batch_sampler=similar_batches(neighbors, products, similar_group=8 if similar else 1),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        save_strategy="no",
        logging_steps=5,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SentenceTransformerTrainer(
        model=embedder.model,
        args=arguments,
        train_dataset=rows,
        loss=loss,
        data_collator=ByLength(preprocess_fn=embedder.model.preprocess),
        callbacks=[LogLossStatistics(loss)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    shutil.rmtree(folder / "trainer", ignore_errors=True)
    return embedder, [entry for entry in trainer.state.log_history if "loss" in entry]


def generated_attributes(data: Data, work: Path) -> list[KeyAttributes]:
    """What the tiny default generator writes of each training offer, taught what the rules read (its teacher).

    It has no other teacher: the sets' own attributes are prices and a few brands. All seeds share one generator.
    """
    from afmrl.embedder.tiny import build_tiny_model
    from afmrl.generator.generator import AttributeGenerator
    from afmrl.rewards.truth import pair_f_score
    from afmrl.training.config import SFTStage
    from afmrl.training.sft import run_sft

    config = SFTStage(max_steps=GENERATOR_STEPS, batch_size=32, learning_rate=2e-3)

    def write(folder: Path) -> dict[str, Any]:
        texts = [embedder_text(offer) for offer in data.offers] + [str(of_offer) for of_offer in data.attributes]
        base = build_tiny_model(texts, folder / "random", vocab_size=4096)
        run_sft(config, base, data.offers, data.attributes, folder / "model")
        generator = AttributeGenerator.from_pretrained(folder / "model")
        written = generator.attributes(data.offers, progress=True)
        (folder / "attributes.jsonl").write_text("".join(json.dumps(of.as_dict()) + "\n" for of in written))
        return {"invalid": generator.num_invalid}

    stage = Ledger(work).run("generator", fingerprint(config, data.hashes), write)
    lines = read_lines(stage / "attributes.jsonl")
    written = [KeyAttributes.of(json.loads(line)) for line in lines]
    agree = np.mean([pair_f_score(ours, theirs) for ours, theirs in zip(written, data.attributes, strict=True)])
    print(f"generator: {len(written)} offers, F1 against the rules {agree:.3f}", flush=True)
    return written


def measure(embedder: Embedder, tasks: Sequence[Task]) -> dict[str, dict[str, np.ndarray]]:
    """By task the rank of each query's best match, (Q,), and with BM25 summed to the cosine."""
    found = {}
    for task in tasks:
        dense = embedder.encode(task.queries) @ embedder.encode(task.gallery).T
        words = bm25_scores([o.title for o in task.queries], [o.title for o in task.gallery])
        found[task.name] = {
            "dense": ranks_of_scores(dense, task.relevant),
            "bm25": ranks_of_scores(words, task.relevant),
            "sum": ranks_of_scores(dense + scaled(words), task.relevant),
        }
    return found


def run_cell(arm: str, seed: int, data: Data, training: Training, work: Path, cells: Cells, keep: bool) -> None:
    """Train and measure one cell unless it is there and made of the same."""
    made_of = fingerprint(training, data.hashes, *([arm] if arm == ZERO_SHOT else [ARMS[arm][1:], seed]))
    seed = 0 if arm == ZERO_SHOT else seed
    known = cells.get((arm, seed))
    if known is not None and known["made_of"] == made_of:
        print(f"{arm}, seed {seed}: complete, not run again", flush=True)
        return
    started = time.time()
    history: list[dict[str, Any]] = []
    if arm == ZERO_SHOT:
        embedder = Embedder.from_pretrained(minilm(), max_seq_length=training.max_seq_length, seller_attributes="none")
    else:
        embedder, history = train(arm, seed, data, training, work / f"{arm}-seed{seed}")
    found = measure(embedder, data.tasks)
    pooled = {kind: np.concatenate([of[kind] for of in found.values()]) for kind in ("dense", "bm25", "sum")}
    cell = {
        "made_of": made_of,
        "training": dataclasses.asdict(training),
        "options": {} if arm == ZERO_SHOT else {**ARMS[arm][1], "similar": ARMS[arm][2]},
        "mrr": {kind: round(float(reciprocal_rank(ranks).mean()), 6) for kind, ranks in pooled.items()},
        "recall@1": {kind: round(float(recall_at_k(ranks, 1).mean()), 6) for kind, ranks in pooled.items()},
        "num_pairs": training.epochs * len(data.matches),
        "seconds": round(time.time() - started, 1),
        "versions": versions("torch", "transformers", "sentence-transformers"),
        "history": history,
        "ranks": found,
        "products": {task.name: " ".join(o.product_id for o in task.queries) for task in data.tasks},
    }
    cells.put((arm, seed), cell)
    if keep and history:
        embedder.save(work / f"{arm}-seed{seed}")
    print(f"{arm}, seed {seed}: MRR {cell['mrr']}, R@1 {cell['recall@1']}, {cell['seconds']:.0f} s", flush=True)


def table(of_benchmark: Cells) -> str:
    """Markdown: each arm's MRR and R@1 (pooled, and by set), and its difference to InfoNCE with interval and p."""
    cells = of_benchmark.all()
    if not cells:
        return f"no cells in {of_benchmark.path}; `python benchmarks/agcl_text.py run` makes them"
    settings = {json.dumps(cell["training"], sort_keys=True) for cell in cells}
    if len(settings) > 1:
        raise SystemExit(
            f"{of_benchmark.path}: cells of {len(settings)} different trainings do not add up; remove the old ones"
        )
    clusters = [f"{name} {product}" for name in SETS for product in cells[0]["products"][name].split(" ")]
    ranks: dict[str, dict[int, np.ndarray]] = {}
    for cell in cells:
        of_cell = np.concatenate([cell["ranks"][name]["dense"] for name in SETS])
        ranks.setdefault(cell["arm"], {})[cell["seed"]] = of_cell
    sizes = [len(cells[0]["products"][name].split(" ")) for name in SETS]
    bounds = np.cumsum([0, *sizes])
    lines = [
        f"{len(clusters)} queries ({', '.join(f'{n} {s}' for n, s in zip(SETS, sizes, strict=True))}) of "
        f"{len(set(clusters))} products; mean [95 % interval], over other seeds and products; differences are "
        "paired by seed, over the seeds that both have; p of MRR, after Holm.",
        "",
        "| arm | seeds | MRR | R@1 | MRR " + " | MRR ".join(SETS) + " | MRR to InfoNCE, points | p |",
        "|---|---|---|---|" + "---|" * len(SETS) + "---|---|",
    ]
    compared = [arm for arm in ARMS if arm in ranks and arm != REFERENCE and REFERENCE in ranks]
    tests = {}
    for arm in compared:
        both = sorted(set(ranks[arm]) & set(ranks[REFERENCE]))
        if both:
            ours, theirs = (np.stack([reciprocal_rank(ranks[a][s]) for s in both]) for a in (arm, REFERENCE))
            tests[arm] = over_seeds(ours - theirs, clusters)
    adjusted = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    names = {ZERO_SHOT: "MiniLM, zero-shot", **{arm: name for arm, (name, _, _) in ARMS.items()}}
    for arm, name in names.items():
        if arm not in ranks:
            continue
        stacked = np.stack([ranks[arm][seed] for seed in sorted(ranks[arm])])
        overall = [over_seeds(of(stacked), clusters).difference for of in METRICS.values()]
        by_set = [reciprocal_rank(stacked[:, a:b]).mean() for a, b in zip(bounds, bounds[1:], strict=False)]
        row = [name, "–" if arm == ZERO_SHOT else str(len(stacked))]
        row += [percent(i.mean, i.low, i.high) for i in overall]
        row += [f"{100 * value:.1f}" for value in by_set]
        if arm in tests:
            change = tests[arm].difference
            row += [percent(change.mean, change.low, change.high, "+"), p_text(adjusted[arm], 2)]
        else:
            row += ["", ""]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def make_model(arm: str, seed: int, data: Data, training: Training, out: Path, trained: Path | None) -> None:
    """Train one arm and write OUT: the model, and the weights of `afmrl evaluate --fuse`, learned on the val splits."""
    embedder = Embedder.from_pretrained(trained) if trained else train(arm, seed, data, training, out)[0]
    embedder.save(out)
    fuse(embedder, data).save(out)
    found = measure(embedder, data.validation)
    for name, of in found.items():
        print(name, "val:", {kind: round(float((ranks == 1).mean()), 4) for kind, ranks in of.items()})


def fuse(embedder: Embedder, data: Data) -> FusionWeights:
    """The weights of cosine and BM25 that rank best on the val splits of all sets, in one gallery.

    Every match is a query of its own, without the product's other matches: a hidden gallery may hold one.
    """
    queries = [offer for task in data.validation for offer in task.queries]
    gallery = [offer for task in data.validation for offer in task.gallery]
    starts = np.cumsum([0, *[len(task.gallery) for task in data.validation]])
    matches = [places + start for task, start in zip(data.validation, starts, strict=False) for places in task.relevant]
    rows = np.array([row for row, places in enumerate(matches) for _ in places])
    single = [np.array([place]) for places in matches for place in places]
    hidden = [(copy, place) for copy, row in enumerate(rows) for place in set(matches[row]) - set(single[copy])]
    dense = (embedder.encode(queries) @ embedder.encode(gallery).T)[rows]
    for copy, place in hidden:
        dense[copy, place] = -np.inf
    found = []
    for extracted in (False, True):
        words = lexical_scores(queries, gallery, None, None, extracted=extracted, seller_attributes="none")[0][rows]
        weights = learn_fusion_weights(dense, words, np.zeros_like(words), single)
        weights = dataclasses.replace(weights, attributes=0.0, extracted=extracted)
        ranks = ranks_of_scores(weights.fuse(dense, words, np.zeros_like(words)), single)
        found.append((float(reciprocal_rank(ranks).mean()), float(recall_at_k(ranks, 1).mean()), weights))
        print(
            f"val splits in one gallery, one match at a time: MRR {found[-1][0]:.4f}, R@1 {found[-1][1]:.4f}, {weights}"
        )
    return max(found, key=lambda one: one[0])[2]


def main() -> None:
    """Parse the command line."""
    parser, commands, run, _ = run_and_table(__doc__, "agcl_text")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    run.add_argument("--arms", nargs="+", default=[ZERO_SHOT, *ARMS], choices=[ZERO_SHOT, *ARMS])
    run.add_argument("--keep", action="store_true", help="leave every cell's model in --work")
    model = commands.add_parser("model", help="train one arm and write the model with its fusion weights")
    model.add_argument("--arm", choices=list(ARMS), default="agcl_free_similar")
    model.add_argument("--seed", type=int, default=0)
    model.add_argument("--out", type=Path, required=True)
    model.add_argument("--from", dest="trained", type=Path, help="a model of `run --keep`, instead of training one")
    for command in (run, model):
        add_data(command)
        command.add_argument("--work", type=Path, default=Path("runs/agcl_text"), help="models")
        for field in dataclasses.fields(Training):
            flag = "--" + field.name.replace("_", "-")
            command.add_argument(flag, type=type(field.default), default=field.default)
    given = parser.parse_args()
    if given.command == "table":
        print(table(Cells(given.results, *KEY)))
        return
    quiet_libraries()
    training = Training(**{field.name: getattr(given, field.name) for field in dataclasses.fields(Training)})
    data = read_data(given.data)
    if given.command == "model":
        make_model(given.arm, given.seed, data, training, given.out, given.trained)
        return
    cells = Cells(given.results, *KEY)
    for seed in given.seeds:
        for arm in given.arms:
            run_cell(arm, seed, data, training, given.work, cells, given.keep)
    print(table(cells))


if __name__ == "__main__":
    main()
