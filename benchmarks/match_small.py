"""Groups by `afmrl match` with the small model's embeddings, beside words alone: B-cubed F1 and its difference.

    python benchmarks/match_small.py --data DIR          # Markdown

No labels are used: pair models and thresholds are the defaults. Measured are the offers of the split test (val, where
there is no test), among all offers of the set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from afmrl.embedder.embedder import Embedder, Modality
from afmrl.matching.matched_table import match_table
from afmrl.terminal import quiet_libraries
from bcubed import bcubed
from common import add_data, percent
from match_sets import SETS, load_set
from match_task import RESAMPLES, Task

SIDES: tuple[Modality, ...] = ("text", "image")


def resampled_f1(groups: np.ndarray, products: np.ndarray) -> np.ndarray:
    """(1 + RESAMPLES,) B-cubed F1, of all offers and of products drawn anew; the draws are the same for all groups."""
    precision, recall = bcubed(groups, products)
    units = np.unique(products, return_inverse=True)[1]
    count, draw = units.max() + 1, np.random.default_rng(0)
    times = [np.ones(count)]
    times += [np.bincount(draw.integers(count, size=count), minlength=count) for _ in range(RESAMPLES)]
    weights = np.stack(times)[:, units]
    p, r = (weights @ values / weights.sum(axis=1) for values in (precision, recall))
    return np.asarray(2 * p * r / (p + r))


def row(data: Path, name: str, embedder: Embedder) -> str:
    """A line of the table."""
    of = load_set(data, name)
    task = Task(of)
    products = of.products[task.measured]
    words = resampled_f1(match_table(of.table).groups[task.measured], products)
    of.table.dense = {"fused": embedder.encode(of.table.offers)}
    if any(offer.image for offer in of.table.offers):
        of.table.dense |= {side: embedder.encode(of.table.offers, modality=side) for side in SIDES}
    small = resampled_f1(match_table(of.table).groups[task.measured], products)
    return f"| {name} | {len(products):,} | {_shown(words)} | {_shown(small)} | {_shown(small - words, sign='+')} |"


def _shown(f1: np.ndarray, sign: str = "") -> str:
    low, high = np.quantile(f1[1:], [0.025, 0.975])
    return percent(float(f1[0]), float(low), float(high), sign)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    given = parser.parse_args()
    quiet_libraries()
    embedder = Embedder.from_pretrained("small")
    print("| set | offers | words | small | small − words |\n|---|---|---|---|---|", flush=True)
    for name in given.sets:
        print(row(given.data, name, embedder), flush=True)


if __name__ == "__main__":
    main()
