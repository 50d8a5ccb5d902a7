"""How batches are drawn: offers of similar key attributes and different products enter one batch together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np


def draw_batches(
    products: np.ndarray,
    batch_size: int,
    neighbors: Callable[[], np.ndarray],
    generator: np.random.Generator,
    *,
    similar_group: int,
    similar_share: float = 1.0,
    num_rounds: int | None = None,
) -> Iterator[list[int]]:
    """Batches of rows, in groups of one row and those most similar to it; no product is twice in a batch.

    A round draws every row once, so what is similar decides who meets whom, not how often. A batch may hold the end of
    one round and the beginning of the next. A row that would meet its own product waits for a later batch. Drawing a
    batch costs no more than its rows and their neighbors, whatever the number of rows.

    Args:
        products: (N,) a number for the product of each row.
        batch_size: rows of a batch; fewer at the end of the last round, and where all rows that are left are of
            products that the batch has already.
        neighbors: called at the beginning of each round: (N, K) the rows most similar to each row, -1 for none.
        similar_group: rows that enter a batch together; 1: at random.
        similar_share: share of the batches that are drawn in such groups; the others are random.
        num_rounds: rounds to draw; None: without end.
    """
    num_rows, product_of = len(products), products.tolist()
    due = np.zeros(num_rows, dtype=bool)  # not yet drawn in this round
    order: Iterator[int] = iter(())
    table = np.empty((num_rows, 0), dtype=np.int64)
    waiting: dict[int, list[int]] = {}  # by product, the rows that would have met it
    begun = 0

    def take(row: int, batch: list[int], inside: set[int]) -> None:
        """Put one row into the batch, and the rows most similar to it."""
        room = min(group_size, batch_size - len(batch))
        near = (other for other in table[row].tolist() if other >= 0 and due[other] and product_of[other] not in inside)
        while row >= 0 and room:
            batch.append(row)
            inside.add(product_of[row])
            due[row] = False
            room -= 1
            row = next(near, -1)

    while num_rows:
        group_size = similar_group if similar_share >= 1 or generator.random() < similar_share else 1
        batch: list[int] = []
        inside: set[int] = set()  # products of the batch
        for product in list(islice(waiting, batch_size)):
            rows = waiting[product]
            while rows and not due[rows[-1]]:  # drawn since, beside another row
                rows.pop()
            if rows and product not in inside and len(batch) < batch_size:
                take(rows.pop(), batch, inside)
            if not rows:
                del waiting[product]
        while len(batch) < batch_size:
            row = next(order, -1)
            if row < 0:
                if waiting or begun == num_rounds:
                    break
                begun += 1
                due[:] = True
                order = iter(generator.permutation(num_rows).tolist())
                table = neighbors()
            elif due[row] and product_of[row] in inside:
                waiting.setdefault(product_of[row], []).append(row)
            elif due[row]:
                take(row, batch, inside)
        if batch:
            yield batch
        elif not waiting:
            return
