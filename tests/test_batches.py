from collections import Counter

import numpy as np
import pytest

from afmrl.batches import SimilarBatchSampler, similar_batches
from afmrl.errors import InputError


def sampler(num_rows=200, batch_size=16, *, of_product=2, group=4, seed=0, drop_last=False):
    """Rows in families of twenty; the neighbours of a row are the others of its family."""
    rows = np.arange(num_rows)
    neighbours = rows[:, None] // 20 * 20 + (rows[:, None] + np.arange(1, 20)) % 20
    products = [f"p{row // of_product}" if row % 3 else "" for row in rows]
    made = SimilarBatchSampler(
        rows,
        batch_size,
        drop_last,
        neighbours=neighbours,
        product_ids=products,
        similar_group=group,
        seed=seed,
    )
    return made, products


@pytest.mark.parametrize("of_product", [1, 2, 50])
def test_every_row_once_and_no_product_twice_in_a_batch(of_product):
    made, products = sampler(of_product=of_product)
    batches = list(made)
    assert sorted(row for batch in batches for row in batch) == list(range(200))
    for batch in batches:
        assert len(batch) <= 16
        known = Counter(products[row] for row in batch if products[row])
        assert max(known.values(), default=0) <= 1
    if of_product == 1:
        assert [len(batch) for batch in batches] == [16] * 12 + [8]
        assert len(list(sampler(of_product=1, drop_last=True)[0])) == 12


def test_similar_rows_stand_together():
    def together(group):
        batches = list(sampler(group=group, of_product=1)[0])
        return np.mean([len(batch) / len({row // 20 for row in batch}) for batch in batches[:8]])

    assert together(8) > 1.4 * together(1)


def test_an_epoch_has_its_own_order_and_a_resumed_run_the_same():
    made, _ = sampler()
    first = list(made)
    assert list(made) == first == list(sampler()[0])
    made.set_epoch(1)
    second = list(made)
    assert second != first != list(sampler(seed=1)[0])
    again, _ = sampler()
    again.set_epoch(1)
    assert list(again) == second


def test_one_product_with_most_rows_does_not_stop_it():
    made = SimilarBatchSampler(range(60), 8, neighbours=np.full((60, 2), -1), product_ids=["a"] * 50 + [""] * 10)
    batches = list(made)
    assert sorted(row for batch in batches for row in batch) == list(range(60))
    assert all(sum(row < 50 for row in batch) <= 1 for batch in batches)


def test_it_is_the_trainers_batch_sampler():
    make = similar_batches(np.full((10, 1), -1), similar_group=2)
    made = make(range(10), batch_size=4, drop_last=False, valid_label_columns=["label"], generator=None, seed=3)
    assert len(made) == 3 and sorted(row for batch in made for row in batch) == list(range(10))


def test_wrong_tables_are_named():
    with pytest.raises(InputError, match="3 neighbours for 4 training rows"):
        SimilarBatchSampler(range(4), 2, neighbours=np.zeros((3, 1), dtype=int))
    with pytest.raises(InputError, match="1 product_ids for 4 training rows"):
        SimilarBatchSampler(range(4), 2, neighbours=np.zeros((4, 1), dtype=int), product_ids=["a"])
    with pytest.raises(InputError, match="similar_group=0"):
        SimilarBatchSampler(range(4), 2, neighbours=np.zeros((4, 1), dtype=int), similar_group=0)
