"""What the AGCL loss compares: the table its row numbers point into, and each direction's anchors and candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import (
    UNKNOWN_ROW,
    AttributeAgreement,
    AttributeBM25,
    BlockScores,
    ProductIds,
    checked_rows,
)
from afmrl.errors import InputError

MISSING = -2
"""Label of a column that a row leaves empty, say of a second positive: it is neither positive nor negative."""


@dataclass(frozen=True)
class Contrast:
    """One direction of the loss: anchors of this process against the candidates of all W processes.

    There are C = W·B · (positive + curated columns) candidates.

    Candidate `column · W·B + place + i` is anchor i's own: one of its `num_positives` positives, or curated for it.
    """

    anchors: Tensor  # (B, D)
    candidates: Tensor  # (C, D): each column of positives, then each of curated negatives
    anchor_rows: np.ndarray  # (B,)
    place: int  # of the first anchor within a column of the candidates
    num_places: int  # W·B
    num_positives: int
    positive_shares: Tensor | None  # (B, num_positives) of each in the mean, 0 of a missing one; None: there is one
    missing: Tensor | None  # (C,) candidates that are not there; None: all are
    bm25: BlockScores | None  # from rows of anchors (b,) to (b, C); so are the next four
    agree: BlockScores | None
    same: BlockScores | None
    known: BlockScores | None  # whether both offers' products are known
    reference: Callable[[np.ndarray], Tensor] | None  # cosines of a frozen model, NaN where one is unknown


class LossTable:
    """Everything known by row number; the rows of the candidates' table follow those of the anchors' inside.

    Args:
        attributes, candidate_attributes: key attributes of either table; None: candidates are in the anchors' too.
        num_positives: columns of positives after the anchor.
    """

    def __init__(
        self,
        attributes: Sequence[KeyAttributes],
        candidate_attributes: Sequence[KeyAttributes] | None = None,
        *,
        num_positives: int = 1,
    ) -> None:
        self.attributes: list[KeyAttributes] = [*attributes, *(candidate_attributes or ())]
        self.num_positives = num_positives
        self._two_tables = candidate_attributes is not None
        self._num_anchors = len(attributes)
        self._candidate_start = len(attributes) if self._two_tables else 0
        self.lexical: AttributeBM25 | None = None
        self.agreement: AttributeAgreement | None = None
        self.agreement_min_shared = 1
        self.products: ProductIds | None = None
        self.reference: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.attributes)

    def add_lexical(self, lexical: AttributeBM25 | None) -> None:
        """BM25 of the rows, made here unless given.

        Raises:
            InputError: it was made of another number of offers.
        """
        if lexical is not None and lexical.num_offers != len(self):
            raise InputError(f"AGCL: lexical was made of {lexical.num_offers} offers, the table has {len(self)}")
        self.lexical = lexical or AttributeBM25(self.attributes)

    def add_agreement(self, min_shared: int) -> None:
        """Agreement of key attributes."""
        self.agreement, self.agreement_min_shared = AttributeAgreement(self.attributes), min_shared

    def add_products(self, product_ids: Sequence[str] | None, candidate_product_ids: Sequence[str] | None) -> None:
        """Product ids of either table.

        Raises:
            InputError: not one for each row.
        """
        ids = [] if product_ids is None else list(product_ids)
        if self._two_tables and candidate_product_ids is not None:
            ids += list(candidate_product_ids)
        if len(ids) != len(self):
            raise InputError(
                "AGCL: the rule 'label' needs product_ids, and candidate_product_ids with a table of candidates, "
                f"one for each row: {len(ids)} for {len(self)} rows"
            )
        self.products = ProductIds(ids)

    def add_reference(self, reference: np.ndarray, candidate_reference: np.ndarray | None) -> None:
        """A frozen model's embedding of each row, of either table; they may be memory-mapped.

        Raises:
            InputError: not one for each row, of unequal lengths, or of one of two tables alone.
        """
        reference = np.asanyarray(reference)
        theirs = reference if candidate_reference is None else np.asanyarray(candidate_reference)
        if self._two_tables and candidate_reference is None:
            raise InputError(
                "AGCL: reference needs candidate_reference beside it, for the rows of candidate_attributes"
            )
        tables = [("reference", reference, self._num_anchors)]
        if self._two_tables:
            tables.append(("candidate_reference", theirs, len(self) - self._num_anchors))
        for name, rows, count in tables:
            if rows.ndim != 2 or len(rows) != count or rows.shape[1] != reference.shape[1]:
                raise InputError(
                    f"AGCL: {name} of shape {rows.shape}; it must hold one embedding of a frozen model for each of "
                    f"the {count} rows of its attribute table, all of one length"
                )
        self.reference = reference, theirs

    def rows(self, labels: Tensor | None, num_columns: int, batch: int, device: torch.device) -> Tensor:
        """(B, columns) row numbers of the inner table; UNKNOWN_ROW if there is none, MISSING where nothing is.

        Args:
            labels: (B,), (B, 1 + num_positives) or (B, columns), see the loss.

        Raises:
            InputError: labels of another shape or kind, or that are no row numbers.
        """
        first = 1 + self.num_positives
        if first > num_columns:
            raise InputError(
                f"AGCL: num_positives={self.num_positives}, but the data has {num_columns} columns; anchor and "
                f"positives are {first}"
            )
        rows = torch.full((batch, num_columns), UNKNOWN_ROW, dtype=torch.long, device=device)
        if self.lexical is None and self.agreement is None and self.products is None and self.reference is None:
            # only what is missing is asked of the labels
            if labels is not None and labels.shape in ((batch, first), (batch, num_columns)):
                rows[:, 2 : labels.shape[1]].masked_fill_(labels[:, 2:] == MISSING, MISSING)
            return rows
        if labels is None or labels.is_floating_point():
            kind = "" if labels is None else f", not {labels.dtype}"
            raise InputError(f"AGCL: needs a 'label' column: whole numbers, rows of the attribute table{kind}")
        given = labels[:, None].expand(-1, first) if labels.ndim == 1 else labels
        if given.ndim != 2 or len(given) != batch or given.shape[1] not in (first, num_columns):
            raise InputError(
                f"AGCL: labels of shape {tuple(labels.shape)} for {batch} rows of {num_columns} columns; give one row "
                "number a pair, one for anchor and positive each, or one for every column"
            )
        numbers = _numpy(given)
        optional = np.where(numbers[:, 2:] == MISSING, UNKNOWN_ROW, numbers[:, 2:])
        checked_rows(numbers[:, 0], self._num_anchors, "AGCL: label of an anchor")
        theirs = len(self) - self._candidate_start
        checked_rows(numbers[:, 1], theirs, "AGCL: label of a candidate")
        checked_rows(optional, theirs, "AGCL: label of a candidate")
        rows[:, : given.shape[1]] = given
        rows[:, 1:] += self._candidate_start * (rows[:, 1:] >= 0)
        return rows

    def contrasts(
        self, columns: list[Tensor], rows: Tensor, directions: Sequence[str], *, gather: bool
    ) -> Iterator[Contrast]:
        """What is compared with what; the candidates are those of every process if they are to be gathered.

        "query_to_doc" gives one; "doc_to_query" one for each column of positives, with the queries as candidates.
        """
        place = get_rank() * len(rows) if gather else 0
        rows_everywhere = all_gather(rows) if gather else rows  # (W·B, columns)
        shares = None
        if self.num_positives > 1:
            present = (rows[:, 1 : 1 + self.num_positives] != MISSING).float()
            shares = present / present.sum(dim=1, keepdim=True)
        for direction in directions:
            reverse = direction == "doc_to_query"
            for anchor in range(1, 1 + self.num_positives) if reverse else (0,):
                others = columns[:1] if reverse else columns[1:]
                candidates = torch.cat([all_gather_with_grad(column) if gather else column for column in others])
                theirs = _numpy(rows_everywhere[:, 0] if reverse else rows_everywhere[:, 1:].T.reshape(-1))
                there = _known(theirs)
                missing = theirs == MISSING
                yield Contrast(
                    columns[anchor],
                    candidates,
                    _known(_numpy(rows[:, anchor])),
                    place,
                    len(rows_everywhere),
                    1 if reverse else self.num_positives,
                    shares[:, anchor - 1 : anchor] if reverse and shares is not None else shares,
                    torch.from_numpy(missing).to(candidates.device) if missing.any() else None,
                    self.lexical.against(there) if self.lexical else None,
                    self.agreement.against(there, min_shared=self.agreement_min_shared) if self.agreement else None,
                    self.products.against(there) if self.products else None,
                    self.products.known_against(there) if self.products else None,
                    self._reference_against(there, candidates.device) if self.reference else None,
                )

    def _reference_against(self, candidate_rows: np.ndarray, device: torch.device) -> Callable[[np.ndarray], Tensor]:
        theirs = self._reference_rows(candidate_rows, device)

        def cosines(anchor_rows: np.ndarray) -> Tensor:
            return self._reference_rows(anchor_rows, device) @ theirs.T

        return cosines

    def _reference_rows(self, rows: np.ndarray, device: torch.device) -> Tensor:
        """(B, D) unit rows, NaN where nothing is known."""
        assert self.reference is not None
        ours, theirs = self.reference
        found = np.full((len(rows), ours.shape[1]), np.nan, dtype=np.float32)
        late = rows >= self._num_anchors
        early = (rows >= 0) & ~late
        found[early] = ours[rows[early]]
        found[late] = theirs[rows[late] - self._num_anchors]
        return nn.functional.normalize(torch.from_numpy(found).to(device), dim=-1)


def _known(rows: np.ndarray) -> np.ndarray:
    return np.where(rows == MISSING, UNKNOWN_ROW, rows)


def _numpy(rows: Tensor) -> np.ndarray:
    return np.asarray(rows.cpu().numpy())
