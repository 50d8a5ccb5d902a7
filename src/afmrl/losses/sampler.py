"""Batches for sentence-transformers' trainer in which offers of similar key attributes meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from sentence_transformers.base.sampler import DefaultBatchSampler

from afmrl.attributes.relations import product_codes
from afmrl.errors import InputError
from afmrl.losses.batch_drawing import draw_batches


class SimilarBatchSampler(DefaultBatchSampler):
    """Draws every row once an epoch, in groups of one and its most similar rows; no product is twice in a batch.

    The AGCL stage draws its batches in the same way (`draw_batches`). A row that would meet its own product waits for
    a later batch. Each epoch has an order of its own, and a run that resumes draws the same.

    Args:
        dataset: anything with a length.
        batch_size: rows of a batch; the last ones of an epoch may be smaller, or are left out with `drop_last`. A
            product of more rows than N / `batch_size` makes more and smaller batches: at least as many as it has rows.
        neighbors: (N, K) for each row of `dataset` the similar ones, -1 for none: `HardNegatives.rows`.
        product_ids: by row, "" or None for unknown; None: nothing is known.
        similar_group: rows that enter a batch together; 1: at random.
        similar_share: share of the batches that are drawn in such groups; the others are random, which keeps what tells
            categories apart.
        seed: of the order.

    Raises:
        InputError: tables of unequal length, an option out of range, or `drop_last` with fewer products than
            `batch_size`, when no batch would be full.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        drop_last: bool = False,
        *,
        neighbors: np.ndarray,
        product_ids: Sequence[str] | None = None,
        similar_group: int = 8,
        similar_share: float = 1.0,
        seed: int = 0,
        **_: Any,
    ) -> None:
        super().__init__(range(len(dataset)), batch_size=batch_size, drop_last=drop_last, seed=seed)
        if similar_group < 1:
            raise InputError(f"batches: similar_group={similar_group} must be at least 1")
        if not 0 <= similar_share <= 1:
            raise InputError(f"batches: similar_share={similar_share} must be between 0 and 1")
        for name, table in (("neighbors", neighbors), ("product_ids", product_ids)):
            if table is not None and len(table) != len(dataset):
                raise InputError(
                    f"batches: {len(table)} {name} for {len(dataset)} training rows; give one for each: mine "
                    "over the rows of the data set (their anchors), not over the catalog"
                )
        self.neighbors, self.similar_group, self.similar_share = neighbors, similar_group, similar_share
        self._products = np.arange(-1, -1 - len(dataset), -1)  # an unknown product is a row's own
        if product_ids is not None:
            codes = product_codes(product_ids)
            self._products = np.where(codes >= 0, codes, self._products)
        num_products = len(np.unique(self._products))
        if drop_last and num_products < batch_size:
            raise InputError(
                f"batches: {num_products} products do not fill a batch of {batch_size}, and drop_last leaves out what "
                "is not full; choose a smaller batch, or dataloader_drop_last=False"
            )
        self._counted: tuple[int, int] | None = None  # an epoch, and how many batches it has

    def __len__(self) -> int:
        """Batches of this epoch. Epochs can differ by a few, where products have many rows."""
        if self._counted is None or self._counted[0] != self.epoch:
            self._counted = self.epoch, sum(1 for _ in self)
        return self._counted[1]

    def __iter__(self) -> Iterator[list[int]]:
        batches = draw_batches(
            self._products,
            self.batch_size,
            lambda: self.neighbors,
            np.random.default_rng((self.seed or 0, self.epoch)),
            similar_group=self.similar_group,
            similar_share=self.similar_share,
            num_rounds=1,
        )
        return (batch for batch in batches if len(batch) == self.batch_size or not self.drop_last)


class similar_batches:  # named like the function that it is to its users; as a class it can be pickled
    """Makes a `batch_sampler` for SentenceTransformerTrainingArguments whose batches hold similar offers.

    Every row is drawn once an epoch, in groups of one and its most similar rows, and no product is twice in a batch:
    every other row of a batch is a negative, so the batch is made of hard ones that are no false ones. AGCL's stage
    draws its batches in the same way.

    Args:
        neighbors: (N, K) for each row of the training set the similar ones, -1 for none: `mine_hard_negatives(...)`
            over the rows' anchors gives them.
        product_ids: by row, "" or None for unknown; None: nothing is known.
        similar_group: rows that enter a batch together; 1: at random.
        similar_share: share of the batches that are drawn in such groups; the others are random.

    A data set of another length than the table (an evaluation's, another one of several) gets random batches, once one
    of the table's length has been seen.

    Raises:
        InputError: when training begins: tables of unequal length, or an option out of range.

    Example:
        ::

            mined = mine_hard_negatives(attributes, 16, product_ids=product_ids)  # of each row's anchor
            arguments = SentenceTransformerTrainingArguments(
                ..., batch_sampler=similar_batches(mined.rows, product_ids, similar_group=8)
            )
    """

    def __init__(
        self,
        neighbors: np.ndarray,
        product_ids: Sequence[str] | None = None,
        *,
        similar_group: int = 8,
        similar_share: float = 1.0,
    ) -> None:
        self.neighbors, self.product_ids = neighbors, product_ids
        self.similar_group, self.similar_share = similar_group, similar_share
        self._used = False

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, seed: int = 0, **_: Any) -> SimilarBatchSampler:
        """The sampler of one data set."""
        others = self._used and len(dataset) != len(self.neighbors)
        sampler = SimilarBatchSampler(
            dataset,
            batch_size,
            drop_last,
            neighbors=np.full((len(dataset), 1), -1) if others else self.neighbors,
            product_ids=None if others else self.product_ids,
            similar_group=1 if others else self.similar_group,
            similar_share=self.similar_share,
            seed=seed,
        )
        self._used = True
        return sampler

    def __deepcopy__(self, memo: dict[int, Any]) -> similar_batches:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # the trainer pickles its arguments into every checkpoint and never reads them: the table stays out
        return _as_kept, ()


def _as_kept() -> Callable[..., SimilarBatchSampler]:
    return _refuse


def _refuse(*_: Any, **__: Any) -> SimilarBatchSampler:
    raise InputError(
        "batches: the table of neighbors is not kept in training_args.bin; pass similar_batches(...) again"
    )
