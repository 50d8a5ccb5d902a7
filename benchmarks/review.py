"""What do a hundred verdicts of a reviewer teach? Groups of products that nobody reviewed, before and after.

    python benchmarks/review.py --data DIR          # Markdown

Half of a set's products are reviewed, the others are held out. `afmrl match` runs without labels; its review queue asks
for VERDICTS pairs of the reviewed half, and the set's labels answer. `afmrl match --labels` then runs with what was
answered. B-cubed F1 is of the held-out offers, whose groups no verdict binds. SEEDS halves of each set; intervals are
over products.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from afmrl.data.catalog import read_catalog, write_catalog
from afmrl.data.offer import Offer
from afmrl.matching.match import match
from afmrl.matching.result import MatchResult
from afmrl.serving.review import ReviewQueue
from afmrl.terminal import quiet_libraries
from bcubed import bcubed
from common import add_data, percent

SETS = ("wdc_products", "abt_buy", "amazon_google", "magento_luma")
VERDICTS, SEEDS, RESAMPLES = 100, 5, 1000


@dataclass(frozen=True)
class Held:
    """One half that was held out.

    Shape:
        products (N,); before, after (N, 2): B-cubed precision and recall of each offer.
    """

    products: np.ndarray
    before: np.ndarray
    after: np.ndarray
    share_same: float
    """Of the verdicts."""
    estimate: float
    """Precision as the review page tells it, from the pairs that it drew at random."""
    precision: float
    """Precision of all pairs of the reviewed half that are called the same."""
    learned: bool
    """Whether the verdicts changed model or threshold."""


def reviewed(offers: list[Offer], folder: Path, seed: int) -> Held:
    """Match, review, match again."""
    catalog = folder / "catalog.jsonl"
    # labels are for the reviewer alone
    unlabeled = [Offer(o.id, o.title, o.description, o.image, o.category, o.attributes) for o in offers]
    write_catalog(catalog, unlabeled)
    products = {offer.id: offer.product_id for offer in offers}
    names = sorted(set(products.values()))
    ours = {names[row] for row in np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]}
    first = match(catalog, labels=False, verdicts=False, out=folder / "first")
    queue = ReviewQueue(folder / "first", lambda ids: {name for name in ids if products[name] in ours})
    verdicts = []
    with contextlib.closing(queue.log):
        while len(verdicts) < VERDICTS and (pair := queue.next()) is not None:
            verdicts.append(products[pair.left] == products[pair.right])
            queue.log.add("reviewer", pair.pair, "same" if verdicts[-1] else "different")
        estimate = queue.precision()[1].mean
    second = match(catalog, labels=folder / "first" / "labels.jsonl", verdicts=False, out=folder / "second")
    held = [offer for offer in offers if offer.product_id not in ours]
    of_products = np.array([offer.product_id for offer in held])
    called = [(products[p.left.id], products[p.right.id]) for p in first.pairs if p.same]
    right = [left == right for left, right in called if left in ours and right in ours]
    return Held(
        of_products,
        *(np.stack(bcubed(_groups(result, held), of_products), axis=1) for result in (first, second)),
        float(np.mean(verdicts)),
        estimate,
        float(np.mean(right)),
        "the default model and threshold" not in second.summary["threshold"]["from"],
    )


def _groups(result: MatchResult, offers: list[Offer]) -> list[str]:
    """The group of each offer; one without a group is its own."""
    groups = {offer.id: f"group {number}" for number, group in enumerate(result.groups) for offer in group.offers}
    return [groups.get(offer.id, offer.id) for offer in offers]


def gain(halves: list[Held]) -> tuple[float, float, np.ndarray]:
    """B-cubed F1 before and after, means over halves; and (1 + RESAMPLES,) gains, the first of all products."""
    names = np.unique(np.concatenate([half.products for half in halves]))
    draw = np.random.default_rng(0)
    times = [np.ones(len(names))]
    times += [np.bincount(draw.integers(len(names), size=len(names)), minlength=len(names)) for _ in range(RESAMPLES)]
    f1 = np.zeros((2, len(times)))
    for half in halves:
        weights = np.stack(times)[:, np.searchsorted(names, half.products)]
        for row, values in enumerate((half.before, half.after)):
            precision, recall = (weights @ values / weights.sum(axis=1, keepdims=True)).T
            f1[row] += 2 * precision * recall / (precision + recall) / len(halves)
    return float(f1[0, 0]), float(f1[1, 0]), f1[1] - f1[0]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    given = parser.parse_args()
    quiet_libraries()
    print("| set | halves that learned | same | precision told | true | B-cubed F1 before | after | gain |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in given.sets:
        offers = list(read_catalog(given.data / name / "products.jsonl", max_bad=0.05).offers)
        halves = []
        for seed in range(SEEDS):
            with tempfile.TemporaryDirectory() as folder:
                halves.append(reviewed(offers, Path(folder), seed))
        before, after, gains = gain(halves)
        low, high = np.quantile(gains[1:], [0.025, 0.975])
        shares = [np.mean([getattr(half, of) for half in halves]) for of in ("share_same", "estimate", "precision")]
        told = " | ".join(f"{100 * share:.0f}" for share in shares)
        print(
            f"| {name} | {sum(half.learned for half in halves)} of {SEEDS} | {told} | {100 * before:.1f} | "
            f"{100 * after:.1f} | {percent(float(gains[0]), float(low), float(high), sign='+')} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
