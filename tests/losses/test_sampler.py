import pickle
from collections import Counter

import numpy as np
import pytest

from afmrl.errors import InputError
from afmrl.losses.sampler import SimilarBatchSampler, similar_batches


def sampler(num_rows=200, batch_size=16, *, of_product=2, group=4, seed=0, drop_last=False):
    """Rows in families of twenty; the neighbors of a row are the others of its family."""
    rows = np.arange(num_rows)
    neighbors = rows[:, None] // 20 * 20 + (rows[:, None] + np.arange(1, 20)) % 20
    products = [f"p{row // of_product}" if row % 3 else "" for row in rows]
    made = SimilarBatchSampler(
        rows,
        batch_size,
        drop_last,
        neighbors=neighbors,
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


@pytest.mark.parametrize("similar_share", [0.0, 0.5, 1.0])
def test_a_share_of_the_batches_is_drawn_so(similar_share):
    rows = np.arange(4_000)  # in families of twenty
    neighbors = rows[:, None] // 20 * 20 + (rows[:, None] + np.arange(1, 20)) % 20
    batches = list(SimilarBatchSampler(rows, 16, neighbors=neighbors, similar_group=4, similar_share=similar_share))
    assert sorted(row for batch in batches for row in batch) == list(range(4_000))
    similar = [len({row // 20 for row in batch}) < 10 for batch in batches]
    assert np.mean(similar) == pytest.approx(similar_share, abs=0.1)


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
    made = SimilarBatchSampler(range(60), 8, neighbors=np.full((60, 2), -1), product_ids=["a"] * 50 + [""] * 10)
    batches = list(made)
    assert sorted(row for batch in batches for row in batch) == list(range(60))
    assert all(sum(row < 50 for row in batch) <= 1 for batch in batches)


def test_it_is_the_trainers_batch_sampler():
    make = similar_batches(np.full((10, 1), -1), similar_group=2)
    made = make(range(10), batch_size=4, drop_last=False, valid_label_columns=["label"], generator=None, seed=3)
    assert len(made) == 3 and sorted(row for batch in made for row in batch) == list(range(10))


@pytest.mark.parametrize("of_product", [1, 7, 50])
@pytest.mark.parametrize("drop_last", [False, True])
def test_its_length_is_what_it_gives(of_product, drop_last):
    made, _ = sampler(of_product=of_product, drop_last=drop_last)
    for epoch in range(3):
        made.set_epoch(epoch)
        assert len(made) == len(list(made)) > 0


def test_a_batch_that_products_cannot_fill_is_refused_where_only_full_ones_count():
    options = {"neighbors": np.full((60, 1), -1), "product_ids": [f"p{row % 12}" for row in range(60)]}
    with pytest.raises(InputError, match="12 products do not fill a batch of 16"):
        SimilarBatchSampler(range(60), 16, True, **options)
    assert len(SimilarBatchSampler(range(60), 12, True, **options)) == 5


def test_cells_that_are_empty_are_no_product():
    made = SimilarBatchSampler(range(6), 6, neighbors=np.full((6, 1), -1), product_ids=[float("nan")] * 3 + [None] * 3)
    assert len(made) == 1


def test_a_training_with_them_saves_evaluates_and_sees_every_row(tmp_path):
    """The trainer pickles its arguments into each checkpoint, and asks the same sampler for evaluation's batches."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [f"w{number}" for number in range(40)]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
    seen = []

    class Seen(torch.nn.Module):
        def forward(self, features, labels):
            if torch.is_grad_enabled():
                seen.extend(labels.tolist())
            left, right = (model(column)["sentence_embedding"] for column in features)
            return ((left - right) ** 2).mean()

    rows = {"anchor": words[:32], "positive": words[8:40], "label": list(range(32))}
    arguments = Arguments(
        output_dir=str(tmp_path), num_train_epochs=2, per_device_train_batch_size=8, per_device_eval_batch_size=4,
        save_strategy="steps", save_steps=2, eval_strategy="steps", eval_steps=3, report_to="none", use_cpu=True,
        disable_tqdm=True,
        batch_sampler=similar_batches(np.full((32, 1), -1), ["big"] * 6 + [""] * 26, similar_group=2),
    )  # fmt: skip
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=Dataset.from_dict(rows), loss=Seen(),
        eval_dataset=Dataset.from_dict({name: column[:12] for name, column in rows.items()}),
    )  # fmt: skip
    trainer.train()
    assert sorted(seen) == sorted([*range(32)] * 2)
    assert any("eval_loss" in entry for entry in trainer.state.log_history)
    assert (tmp_path / "checkpoint-2" / "training_args.bin").stat().st_size < 20_000


def test_what_a_checkpoint_keeps_of_it_says_that_it_is_nothing():
    kept = pickle.loads(pickle.dumps(similar_batches(np.full((4, 1), -1))))  # noqa: S301
    with pytest.raises(InputError, match="is not kept in training_args.bin"):
        kept(range(4), 2, False)


def test_wrong_tables_are_named():
    with pytest.raises(InputError, match="3 neighbors for 4 training rows"):
        SimilarBatchSampler(range(4), 2, neighbors=np.zeros((3, 1), dtype=int))
    with pytest.raises(InputError, match="1 product_ids for 4 training rows"):
        SimilarBatchSampler(range(4), 2, neighbors=np.zeros((4, 1), dtype=int), product_ids=["a"])
    with pytest.raises(InputError, match="similar_share=1.5 must be between 0 and 1"):
        SimilarBatchSampler(range(4), 2, neighbors=np.zeros((4, 1), dtype=int), similar_share=1.5)
    with pytest.raises(InputError, match="similar_group=0"):
        SimilarBatchSampler(range(4), 2, neighbors=np.zeros((4, 1), dtype=int), similar_group=0)
