"""Search: vectors, vectors and words, and both reranked by the pair model of `afmrl match`, on labeled public sets.

    python benchmarks/search.py run --split val --data DIR          # continues where it was
    python benchmarks/search.py run --split test --models bm25 tfidf minilm trained=MODEL --data DIR
    python benchmarks/search.py table --split val                   # Markdown

DIR holds wdc_products, abt_buy, amazon_google, wdc_lspc, magento_luma and grocery_store; a set without the split, or
whose queries a model cannot read, is left out. Queries are those of the split with a match, the gallery is the set's
whole one, as in `afmrl evaluate --split SPLIT --gallery-splits all`. Models are the floors, MiniLM as it comes
("minilm"), and others as NAME=FOLDER. The default pair model was learned on the train splits of four of the sets;
wdc_lspc and grocery_store had no part in it.

Milliseconds: one query at a time, one core, from its text to its explained hits, in a local index of the set that is
open already.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.bulk.fingerprints import model_fingerprint
from afmrl.data.catalog import Catalog, read_catalog
from afmrl.data.splits import split_of
from afmrl.errors import InputError
from afmrl.evaluation.catalog_tasks import CatalogTasks
from afmrl.evaluation.metrics import recall_at_k, reciprocal_rank
from afmrl.evaluation.significance import bootstrap_interval, paired_bootstrap
from afmrl.evaluation.task_run import TaskRun
from afmrl.index.address import open_index
from afmrl.index.backend import Rows
from afmrl.matching.rerank import Reranker
from afmrl.matching.search import open_search
from afmrl.retrieval.encoder import OfferEncoder
from afmrl.retrieval.fusion import FusionWeights
from afmrl.retrieval.scorer import FLOOR_READS, FloorScorer, Scorer
from afmrl.terminal import quiet_libraries
from cells import Cells
from common import add_data, minilm, percent, run_and_table

SETS = ("wdc_products", "abt_buy", "amazon_google", "wdc_lspc", "magento_luma", "grocery_store")
TEXT_SETS = ("wdc_products", "abt_buy", "amazon_google")
"""Pooled in the table's last rows."""
MODELS = ("bm25", "tfidf", "tfidf+color", "minilm")
KEY = ("split", "set", "model", "search")
PLAIN, WORDS, RERANKED = "plain", "words", "reranked"
"""A floor's own scores or cosines; cosines and BM25; the best of them reranked."""
TIMED = 40  # queries


def run(data: Path, cells: Cells, split: str, models: list[str], sets: list[str]) -> None:
    """Every search of every model on every set that allows it."""
    done = set(cells.keys())
    for name in sets:
        catalog = read_catalog(data / name / "products.jsonl", max_bad=0.05)
        if split not in map(split_of, catalog):
            continue
        for model in models:
            label, _, folder = model.partition("=")
            if (split, name, label, RERANKED) in done or (label == "tfidf+color" and not any(o.image for o in catalog)):
                continue
            path = "" if label in FLOOR_READS else folder or str(minilm())
            scorer: Scorer = OfferEncoder.load(path) if path else FloorScorer(label)
            for search in (PLAIN, WORDS, RERANKED):
                if isinstance(scorer, OfferEncoder):  # what it has embedded stays
                    scorer.weights = None if search == PLAIN else FusionWeights.of_model(path)
                elif search == WORDS:
                    continue
                found = scored(catalog, scorer, split, rerank=search == RERANKED)
                if found is None:
                    break
                record = record_of(found)
                if isinstance(scorer, OfferEncoder) and search != PLAIN:
                    record["milliseconds"] = _milliseconds(scorer, path, found, rerank=search == RERANKED)
                cells.put((split, name, label, search), record)
                print(split, name, label, search, f"R@1 {100 * recall_at_k(record['ranks'], 1).mean():.1f}", flush=True)


def scored(catalog: Catalog, scorer: Scorer, split: str, *, rerank: bool, gallery: str = "all") -> TaskRun | None:
    """The task "fine" against the gallery of one split or of all; None where the scorer cannot do it."""
    tasks = CatalogTasks(catalog, tasks=["fine"], split=split, gallery_splits=[gallery])
    try:
        result = tasks.evaluate(
            scorer, model="", slices=False, floors=False, num_resamples=10, reranker=Reranker() if rerank else None
        )
    except InputError:
        return None
    return result.runs[0]


def record_of(found: TaskRun) -> dict[str, Any]:
    """Ranks of the best matches, and the queries' products."""
    rows = found.result.counted
    clusters = np.unique([found.task.clusters[row] for row in rows], return_inverse=True)[1]
    return {"gallery": len(found.task.gallery), "ranks": found.result.ranks[rows], "clusters": clusters}


def _milliseconds(encoder: OfferEncoder, model: str, found: TaskRun, *, rerank: bool) -> float:
    """Median milliseconds of a query in a local index of the gallery."""
    offers = list(found.task.gallery)
    settings = {
        "model": {"path": model, "fingerprint": model_fingerprint(model)},
        "attributes_on": "query",
        "seller_attributes": encoder.embedder.seller_attributes or "none",
    }
    ids = [offer.id for offer in offers]
    rows = Rows(ids, encoder.embed(offers), offers, [KeyAttributes()] * len(offers), ["1"] * len(offers))
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "index")
        with open_index(address, create=True, dimension=rows.embeddings.shape[1], settings=settings) as index:
            index.upsert(rows)
        with open_search(address, model, rerank=rerank) as searcher:
            times = []
            for query in found.task.queries[: TIMED + 1]:
                start = time.process_time()
                searcher.hits([query], 10, own_hits=False)
                times.append(1000 * (time.process_time() - start))
    return float(np.median(times[1:]))  # the first one loads the model


def table(cells: Cells, split: str) -> None:
    """Markdown: R@1 and MRR with 95 % intervals over products; what reranking adds."""
    records = {(r["set"], r["model"], r["search"]): r for r in cells.all() if r["split"] == split}
    if not records:
        print(f"no cells of the split {split} in {cells.path}; measure them with `search.py run --split {split}`")
        return
    sets = [name for name in SETS if any(key[0] == name for key in records)]
    models = list(dict.fromkeys(key[1] for key in records))
    print("| set | model | search | queries | R@1 | MRR | reranking adds to R@1 | ms a query |")
    print("|---|---|---|---|---|---|---|---|")
    for name in [*sets, "pooled"]:
        for model in models:
            names = [n for n in TEXT_SETS if n in sets] if name == "pooled" else [name]
            found = {
                search: pooled([records[n, model, search] for n in names])
                for search in (PLAIN, WORDS, RERANKED)
                if all((n, model, search) in records for n in names)
            }
            if not names or RERANKED not in found:
                continue
            before = WORDS if WORDS in found else PLAIN
            for search, (ranks, clusters, milliseconds) in found.items():
                r1, mrr = (
                    bootstrap_interval(values, clusters) for values in (recall_at_k(ranks, 1), reciprocal_rank(ranks))
                )
                adds = ""
                if search == RERANKED:
                    ours, theirs = (recall_at_k(found[which][0], 1) for which in (RERANKED, before))
                    gain = paired_bootstrap(ours, theirs, clusters).difference
                    adds = percent(gain.mean, gain.low, gain.high, sign="+")
                shown = [percent(of.mean, of.low, of.high) for of in (r1, mrr)]
                cost = f"{milliseconds:.0f}" if milliseconds else ""
                print("|", " | ".join([name, model, search, f"{len(ranks):,}", *shown, adds, cost]), "|")


def pooled(records: list[dict[str, Any]]) -> tuple[np.ndarray, list[str], float]:
    """Ranks, clusters and milliseconds of the queries of several sets together."""
    clusters = [f"{record['set']} {number}" for record in records for number in record["clusters"]]
    cost = [record["milliseconds"] for record in records if "milliseconds" in record]
    return np.concatenate([record["ranks"] for record in records]), clusters, float(np.mean(cost)) if cost else 0.0


def main() -> None:
    """`run` or `table`."""
    parser, _, running, shown = run_and_table(__doc__, "search")
    add_data(running)
    running.add_argument("--models", nargs="+", default=list(MODELS), help="floors, minilm, or NAME=FOLDER")
    running.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    for command in (running, shown):
        command.add_argument("--split", default="val", choices=("val", "test"))
    arguments = parser.parse_args()
    quiet_libraries()
    cells = Cells(arguments.results, *KEY)
    if arguments.command == "run":
        run(arguments.data, cells, arguments.split, arguments.models, arguments.sets)
    else:
        table(cells, arguments.split)


if __name__ == "__main__":
    main()
