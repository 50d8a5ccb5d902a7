"""Batches that teach: offers of similar key attributes and different products stand in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from sentence_transformers.base.sampler import DefaultBatchSampler

from afmrl.attributes.relations import product_codes
from afmrl.errors import InputError


class SimilarBatchSampler(DefaultBatchSampler):
    """Every row once an epoch, in groups of one and its most similar rows; no product stands twice in a batch.

    A row that would meet its own product waits for the next batch. Drawing a batch costs no more than its rows and
    their neighbors, whatever the number of rows. Each epoch has an order of its own, a run that resumes the same.

    Args:
        dataset: anything with a length.
        batch_size: rows a batch; the last ones of an epoch may be smaller, or are left out with `drop_last`. A product
            of more rows than N / `batch_size` makes more and smaller ones: as many as it has rows, at least.
        neighbors: (N, K) for each row of `dataset` the similar ones, -1 for none: `HardNegatives.rows`.
        product_ids: by row, "" or None for unknown; None: nothing is known.
        similar_group: rows that enter a batch together; 1: at random.
        seed: of the order.

    Raises:
        InputError: tables of unequal length, `similar_group` below 1, or `drop_last` with fewer products than
            `batch_size`: no batch would be full.

    Example:
        ::

            mined = mine_by_attributes(attributes, 16, product_ids=product_ids)  # of each row's anchor
            arguments = SentenceTransformerTrainingArguments(
                ..., batch_sampler=similar_batches(mined.rows, product_ids, similar_group=8)
            )
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
        seed: int = 0,
        **_: Any,
    ) -> None:
        super().__init__(range(len(dataset)), batch_size=batch_size, drop_last=drop_last, seed=seed)
        if similar_group < 1:
            raise InputError(f"similar_group={similar_group} must be at least 1")
        for name, table in (("neighbors", neighbors), ("product_ids", product_ids)):
            if table is not None and len(table) != len(dataset):
                raise InputError(
                    f"batches: {len(table)} {name} for {len(dataset)} training rows; one each is needed, so mine over "
                    "the rows of the data set (their anchors), not over the catalog"
                )
        self.neighbors, self.similar_group = neighbors, similar_group
        self._products = np.arange(-1, -1 - len(dataset), -1)  # an unknown product is a row's own
        if product_ids is not None:
            codes = product_codes(product_ids)
            self._products = np.where(codes >= 0, codes, self._products)
        num_products = len(np.unique(self._products))
        if drop_last and num_products < batch_size:
            raise InputError(
                f"batches: {num_products} products do not fill a batch of {batch_size}, and drop_last leaves out what "
                "is not full; take a smaller batch, or dataloader_drop_last=False"
            )
        self._counted: tuple[int, int] | None = None  # an epoch, and how many batches it has

    def __len__(self) -> int:
        """Batches of this epoch. Epochs can differ by a few, where products have many rows."""
        if self._counted is None or self._counted[0] != self.epoch:
            self._counted = self.epoch, sum(1 for _ in self)
        return self._counted[1]

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng((self.seed or 0, self.epoch))
        order = draw.permutation(len(self._products))
        used = np.zeros(len(order), dtype=bool)
        waiting: dict[int, list[int]] = {}  # rows by product, that met it in their batch
        seeds = iter(order)
        more = True
        while more or waiting:
            batch: list[int] = []
            inside: set[int] = set()
            # at most one of each product, so no more than a batch is looked at
            for product in [product for product, _ in zip(waiting, range(self.batch_size), strict=False)]:
                self._take(waiting[product].pop(), batch, inside, used)
                if not waiting[product]:
                    del waiting[product]
            while more and len(batch) < self.batch_size:
                row = int(next(seeds, -1))
                if row < 0:
                    more = False
                elif not used[row]:
                    if self._products[row] in inside:
                        used[row] = True
                        waiting.setdefault(int(self._products[row]), []).append(row)
                    else:
                        self._take_group(row, batch, inside, used)
            if len(batch) == self.batch_size or (batch and not self.drop_last):
                yield batch

    def _take(self, row: int, batch: list[int], inside: set[int], used: np.ndarray) -> None:
        batch.append(row)
        inside.add(int(self._products[row]))
        used[row] = True

    def _take_group(self, row: int, batch: list[int], inside: set[int], used: np.ndarray) -> None:
        self._take(row, batch, inside, used)
        room = min(self.similar_group - 1, self.batch_size - len(batch))
        for other in self.neighbors[row].tolist() if room else ():
            if other >= 0 and not used[other] and self._products[other] not in inside:
                self._take(other, batch, inside, used)
                room -= 1
                if not room:
                    break


class similar_batches:  # named like the function that it is to its users; as a class it can be pickled
    """A `batch_sampler` for SentenceTransformerTrainingArguments, see SimilarBatchSampler.

    A data set of another length than the table (an evaluation's, another one of several) gets random batches, once one
    of the table's length has been seen.
    """

    def __init__(
        self, neighbors: np.ndarray, product_ids: Sequence[str] | None = None, *, similar_group: int = 8
    ) -> None:
        self.neighbors, self.product_ids, self.similar_group = neighbors, product_ids, similar_group
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
            seed=seed,
        )
        self._used = True
        return sampler

    def __deepcopy__(self, memo: dict[int, Any]) -> similar_batches:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # the trainer pickles its arguments into every checkpoint and never reads them: the table stays out
        return _what_is_kept, ()


def _what_is_kept() -> Callable[..., SimilarBatchSampler]:
    return _not_kept


def _not_kept(*_: Any, **__: Any) -> SimilarBatchSampler:
    raise InputError("batches: the table of neighbors is not kept in training_args.bin; give similar_batches(...) anew")
