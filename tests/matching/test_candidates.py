"""Candidate pairs: all that may be the same, and few others."""

from __future__ import annotations

import itertools

import numpy as np
from match_catalogs import catalog, table_of

from afmrl.matching.candidates import candidate_pairs
from afmrl.matching.table import offer_table


def test_candidates_hold_the_pairs_that_share_a_code_or_words_and_few_others() -> None:
    offers, products = catalog(seed=3, families=60)
    table = offer_table(sorted(offers, key=lambda offer: offer.id))
    left, right = candidate_pairs(table)
    assert (left < right).all() and len(set(zip(left.tolist(), right.tolist(), strict=True))) == len(left)
    found = set(zip(left.tolist(), right.tolist(), strict=True))
    ids = [products[offer.id] for offer in table.offers]
    true = {pair for pair in itertools.combinations(range(len(ids)), 2) if ids[pair[0]] == ids[pair[1]]}
    assert true <= found
    assert len(found) <= 31 * len(ids)
    # nothing in common but the code, spelled in another way
    apart = table_of("zzz s-0720680 aaa", "foo bar S0720680", *(f"filler{i} words{i}" for i in range(50)))
    assert (0, 1) in set(zip(*(side.tolist() for side in candidate_pairs(apart)), strict=True))


def test_embeddings_and_images_bring_candidates_that_words_do_not() -> None:
    table = table_of(*(f"word{i}" for i in range(30)))
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(30, 16)).astype(np.float32)
    rows[7] = rows[3] + 0.01
    table.dense = {"fused": rows / np.linalg.norm(rows, axis=1, keepdims=True)}
    assert (3, 7) in set(zip(*(side.tolist() for side in candidate_pairs(table)), strict=True))
