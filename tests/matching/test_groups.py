"""Groups: no chains, no veto inside, bounded size."""

from __future__ import annotations

import itertools

import numpy as np

from afmrl.matching.groups import group_offers


def _grouped(scores: dict[tuple[int, int], float], n: int, threshold: float, veto: set[tuple[int, int]] = frozenset()):
    pairs = np.array(sorted(scores))
    values = np.array([scores[tuple(pair)] for pair in pairs])

    def score(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = [(min(a, b), max(a, b)) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        return np.array([scores.get(key, -8.0) for key in keys]), np.array([key in veto for key in keys])

    vetoed = np.array([tuple(pair) in veto for pair in pairs.tolist()])
    return group_offers(n, pairs[:, 0], pairs[:, 1], values, vetoed, threshold=threshold, score=score)


def test_groups_do_not_chain() -> None:
    chain = {(i, i + 1): 4.0 for i in range(9)}
    groups = _grouped(chain, 10, 1.0)
    assert np.bincount(groups).max() == 2
    clique = dict.fromkeys(itertools.combinations(range(5), 2), 4.0)
    assert _grouped(clique, 6, 1.0).tolist() == [0, 0, 0, 0, 0, 5]


def test_a_vetoed_pair_is_in_no_group_and_the_rest_of_it_stays() -> None:
    clique = dict.fromkeys(itertools.combinations(range(4), 2), 6.0)
    groups = _grouped(clique, 4, 1.0, {(0, 3)})
    assert groups[0] != groups[3] and np.bincount(groups).max() >= 2
    pair = _grouped({(0, 1): 9.0}, 2, 1.0, {(0, 1)})
    assert pair.tolist() == [0, 1]


def test_large_components_are_cut_and_hold_no_veto() -> None:
    n = 450
    scores = {(a, b): 5.0 for a in range(n) for b in range(a + 1, min(a + 12, n))}
    groups = _grouped(scores, n, 1.0, {(0, 1)})
    assert groups[0] != groups[1] and np.bincount(groups).max() <= 200
