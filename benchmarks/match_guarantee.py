"""How often `afmrl match --precision P` holds for pairs to come, with `--confidence` and without; and what it finds.

    python benchmarks/match_guarantee.py --data DIR          # Markdown

A set's products are the world. Labeled products are drawn from it, with replacement; a pair belongs to one of its two
products. The threshold is chosen on the pairs of the labeled products. Its precision and recall are those of all
candidates of the set, by the default pair model on words.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.features import IMAGE_FEATURES, TEXT_FEATURES
from afmrl.matching.pair_model import default_model
from afmrl.matching.scorer import Scorer
from afmrl.matching.threshold_aim import JudgedPairs, ThresholdAim
from common import add_data
from match_sets import load_set

SETS = ("wdc_products", "abt_buy", "wdc_lspc")
LABELED, TARGETS, CONFIDENCE = (300, 1000), (0.7, 0.8, 0.9), 0.95


class World:
    """All candidates of a set that no veto keeps apart.

    Args:
        name: of the set.
    """

    def __init__(self, data: Path, name: str) -> None:
        of = load_set(data, name)
        left, right = candidate_pairs(of.table)
        model = default_model(TEXT_FEATURES + IMAGE_FEATURES, dense=False).model
        scores = Scorer(of.table, model).score(left, right)
        kept = ~scores.vetoed
        self.left, self.right, self.logits = left[kept], right[kept], scores.logits[kept]
        self.same = of.products[self.left] == of.products[self.right]
        self.num_products, self.num_offers = int(of.products.max()) + 1, len(of.products)
        ends = of.products[np.stack([self.left, self.right])]
        owner = ends[np.random.default_rng(0).integers(2, size=ends.shape[1]), np.arange(ends.shape[1])]
        self._by_owner = np.argsort(owner, kind="stable")
        self._first = np.searchsorted(owner[self._by_owner], np.arange(self.num_products + 1))

    def labels(self, products: np.ndarray) -> JudgedPairs:
        """The pairs of drawn products; offers of a product that was drawn twice are others each time."""
        copies: dict[int, int] = {}
        rows, shift = [], []
        for product in products.tolist():
            ours = self._by_owner[self._first[product] : self._first[product + 1]]
            rows.append(ours)
            shift.append(np.full(len(ours), copies.get(product, 0) * self.num_offers))
            copies[product] = copies.get(product, 0) + 1
        at, by = np.concatenate(rows), np.concatenate(shift)
        return JudgedPairs(
            self.logits[at], self.same[at], np.zeros(len(at), bool), self.left[at] + by, self.right[at] + by
        )

    def truth(self, logit: float) -> tuple[float, float]:
        """Precision and recall among all candidates."""
        found = self.same[self.logits >= logit]
        return float(found.mean()) if len(found) else 1.0, float(found.sum() / self.same.sum())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    print("| set | labeled products | precision asked | holds | finds | promised: holds | is promised | finds |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in SETS:
        world = World(given.data, name)
        for labeled in LABELED:
            draws = [
                world.labels(np.random.default_rng(seed).integers(world.num_products, size=labeled))
                for seed in range(given.draws)
            ]
            for target in TARGETS:
                cells = []
                for confidence in (None, CONFIDENCE):
                    chosen = [pairs.threshold(ThresholdAim(target, confidence=confidence)) for pairs in draws]
                    truths = [world.truth(logit) for logit, _ in chosen]
                    holds = np.mean(
                        [not reached or truth[0] >= target for truth, (_, reached) in zip(truths, chosen, strict=True)]
                    )
                    finds = [truth[1] for truth, (_, reached) in zip(truths, chosen, strict=True) if reached]
                    share = len(finds) / len(draws)
                    promised = [] if confidence is None else [f"{share:.0%}"]
                    cells += [f"{holds:.0%}", *promised, f"{np.mean(finds):.0%}" if finds else ""]
                print(f"| {name} | {labeled:,} | {target} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
