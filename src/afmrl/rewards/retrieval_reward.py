"""RAR's reward: how well the frozen embedder retrieves with the attributes that a completion gives the query."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Self, get_args

import numpy as np

from afmrl.attributes.key_attributes import MAX_PAIRS, InvalidCompletion, KeyAttributes
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.retrieval.exact import BLOCK_BYTES
from afmrl.retrieval.frozen import FrozenGallery
from afmrl.rewards.options import RewardedPairs, RewardKind
from afmrl.rewards.truth import pair_f_score, true_pairs

Encode = Callable[[Sequence[Offer], Sequence[KeyAttributes]], np.ndarray]
"""Offers and their attributes to (N, D) unit rows: `Embedder.encode`."""
Read = Callable[[str, Offer], KeyAttributes]
"""A completion and the offer that it describes to key attributes, or InvalidCompletion."""


@dataclass(frozen=True)
class Scored:
    """The rewards of one step and what they are made of, one number a completion.

    Of an invalid completion `retrieval` and `faithfulness` are 0, and the rank is one after the gallery's last.
    """

    reward: np.ndarray
    retrieval: np.ndarray
    valid: np.ndarray
    faithfulness: np.ndarray
    ranks: np.ndarray


class RetrievalReward:
    """Rewards the attributes that a completion gives a query by how well they retrieve its product (RAR of AFMRL).

    The gallery and the embedder are frozen. A valid completion earns

        reward = retrieval + faithfulness_weight · F − length_weight · pairs

    and an invalid one (no list of `key: value`, or cut off before its end) earns `invalid_reward`, −0.1 in the paper,
    on top of its query's floor. `retrieval` is one of these kinds:

    - "recall@k": 1 if an offer of the same product is in the top k (the paper's);
    - "reciprocal_rank": 1 / rank;
    - "ndcg@k": NDCG of the top k, which with one relevant offer is 1 / log2(rank + 1);
    - "rank_gain": 1 / rank with the attributes − 1 / rank without;
    - "margin": cosine of the best relevant offer − cosine of the hardest other.

    A floor is the least that a valid completion of a query earns: 0 for the first three kinds, −1 / rank without
    attributes for rank_gain, and for margin the margin without attributes, or 0 if that is less. `length_weight` lowers
    each by the longest list. Without floors garbage would pay with rank_gain and margin, where a hard query's best
    answer may earn less than −0.1.

    `F` is the F score of the completion's pairs against `targets`. Attributes are read by people too, and retrieval
    alone lets them drift into a private code between generator and embedder. What maximizes F1 leaves out every value
    that is right less than half as often as F1 is high; `faithfulness_beta` above 1 asks for more of them.
    `rewarded_pairs="true"` shows the embedder only the pairs that `targets` confirm, so that a false pair earns nothing
    whatever it retrieves. (The paper's reward is "all".)

    The defaults are the paper's reward, which needs no targets. A recipe's defaults (`rar` of `afmrl run --help`) were
    chosen by measuring and need them: reciprocal_rank, "true" pairs, and F with a weight of 0.3.

    A completion's reward depends on its query and its attributes alone, not on the others of its step: ranks are
    counted, not sorted, in blocks (`FrozenGallery`).

    Args:
        encode: the frozen embedder: offers and their attributes to (N, D) unit rows.
        queries: query offers; completions name them by row number.
        gallery: (N, D) embeddings, unit rows.
        relevant: for each query, gallery rows of the same product.
        kind: of the retrieval term, see above.
        k: of recall@k and ndcg@k.
        invalid_reward: of an invalid completion, on top of its query's floor.
        faithfulness_weight: of F; above 0 it needs `targets`.
        faithfulness_beta: how much more recall counts in F than precision.
        length_weight: taken off for each pair written.
        rewarded_pairs: what of a completion retrieves: "all" of it, or the "true" pairs, which need `targets`.
        targets: what can be seen and read of each query, for F and for the true pairs.
        floors: (Q,) of the queries; None: as above. See `lowered_floors`.
        read: how a completion is read; None: `KeyAttributes.parse`. With a schema its keys and spelling belong here.
        end_token_ids: tokens that end a completion. trl hands over token ids alone, so without these a completion cut
            off at the limit counts as whole.
        score_block_bytes: memory of the scoring, whatever the gallery.

    Raises:
        InputError: an unknown kind, an option out of range, numbers of queries that disagree, or a gallery row that is
            not finite.

    References: AFMRL, https://arxiv.org/abs/2604.20135

    Example:
        ::

            end = [tokenizer.eos_token_id]
            reward = RetrievalReward(embedder.encode, queries, gallery, relevant, end_token_ids=end)
            GRPOTrainer(model, reward_funcs=reward, train_dataset=rows, ...)  # rows: columns prompt and query_row
    """

    __name__ = "retrieval_reward"  # what trl logs it as
    described = "queries"  # what completions describe, in messages

    def __init__(
        self,
        encode: Encode,
        queries: Sequence[Offer],
        gallery: np.ndarray,
        relevant: Sequence[np.ndarray],
        *,
        kind: RewardKind | str = "recall@k",
        k: int = 50,
        invalid_reward: float = -0.1,
        faithfulness_weight: float = 0.0,
        faithfulness_beta: float = 1.0,
        length_weight: float = 0.0,
        rewarded_pairs: RewardedPairs | str = "all",
        targets: Sequence[KeyAttributes] | None = None,
        floors: np.ndarray | None = None,
        read: Read | None = None,
        end_token_ids: Collection[int] | None = None,
        score_block_bytes: int = BLOCK_BYTES,
    ) -> None:
        if kind not in get_args(RewardKind):
            raise InputError(f"reward {kind!r} is unknown; one of {', '.join(get_args(RewardKind))}")
        if k < 1:
            raise InputError(f"reward: k={k} must be at least 1")
        for name, table in (("lists of relevant rows", relevant), ("targets", targets), ("floors", floors)):
            if table is not None and len(table) != len(queries):
                raise InputError(f"reward: {len(table)} {name} for {len(queries)} {self.described}; give one for each")
        if faithfulness_beta <= 0:
            raise InputError(f"reward: faithfulness_beta={faithfulness_beta} must be above 0")
        if rewarded_pairs not in get_args(RewardedPairs):
            raise InputError(f"reward: rewarded_pairs {rewarded_pairs!r} is unknown; 'true' or 'all'")
        if targets is None and (faithfulness_weight or rewarded_pairs == "true"):
            option = "faithfulness_weight" if faithfulness_weight else "rewarded_pairs 'true'"
            raise InputError(f"reward: {option} needs targets of the {self.described}")
        self.encode, self.offers = encode, queries
        self.relevant = [np.unique(np.asarray(rows, dtype=np.int64)) for rows in relevant]  # twice named is found once
        self.read: Read = read or (lambda completion, _: KeyAttributes.parse(completion))
        self.end_token_ids = None if end_token_ids is None else frozenset(end_token_ids)
        self.gallery = FrozenGallery(gallery, block_bytes=score_block_bytes)
        self.rewarded_pairs, self.faithfulness_beta = rewarded_pairs, faithfulness_beta
        self.kind, self.k, self.invalid_reward = kind, k, invalid_reward
        self.faithfulness_weight, self.length_weight, self.targets = faithfulness_weight, length_weight, targets
        self._floors = None if floors is None else np.asarray(floors, dtype=np.float64)
        self._plain_ranks: np.ndarray | None = None

    def with_(self, *, k: int | None = None, floors: np.ndarray | None = None) -> Self:
        """This reward with another k or other floors; embeddings and what was found of plain queries are shared."""
        other = copy.copy(self)
        if k is not None:
            other.k = k
        if floors is not None:
            other._floors = np.asarray(floors, dtype=np.float64)
        return other

    @property
    def holds_to_targets(self) -> bool:
        """Whether what is false costs anything."""
        return self.targets is not None and (self.rewarded_pairs == "true" or self.faithfulness_weight > 0)

    def score(self, rows: Sequence[int], completions: Sequence[str], ended: Sequence[bool] | None = None) -> Scored:
        """Rewards of completions; completion i describes query `rows[i]`.

        Args:
            ended: whether each completion ended by itself; None: all did.
        """
        attributes: list[KeyAttributes | None] = []
        for place, completion in enumerate(completions):
            try:
                if ended is not None and not ended[place]:
                    raise InvalidCompletion("cut off")
                attributes.append(self.read(completion, self.offers[rows[place]]))
            except InvalidCompletion:
                attributes.append(None)
        valid = np.array([a is not None for a in attributes])
        retrieval, ranks = np.zeros(len(attributes)), np.full(len(attributes), len(self.gallery) + 1)
        if valid.any():
            chosen = np.flatnonzero(valid).tolist()
            pairs = [(rows[i], attributes[i] or KeyAttributes()) for i in chosen]
            retrieval[chosen], ranks[chosen] = self._retrieve(pairs)
        faithfulness = np.zeros(len(attributes))
        if self.targets is not None:
            faithfulness = np.array(
                [
                    0.0 if a is None else pair_f_score(a, self.targets[row], self.faithfulness_beta)
                    for row, a in zip(rows, attributes, strict=True)
                ]
            )
        num_pairs = np.array([0 if a is None else len(a) for a in attributes])
        reward = retrieval + self.faithfulness_weight * faithfulness - self.length_weight * num_pairs
        if not valid.all():
            least = self.floors()[np.asarray(rows, dtype=np.int64)]
            reward = np.where(valid, reward, least + self.invalid_reward)
        return Scored(reward, retrieval, valid, faithfulness, ranks)

    def floors(self) -> np.ndarray:
        """(Q,) the least that a valid completion of each query earns, 0 at most; made once."""
        if self._floors is None:
            least = np.zeros(len(self.offers))
            if self.kind == "rank_gain":
                least = -self.plain_reciprocal_ranks()
            elif self.kind == "margin":
                plain = self.encode(self.offers, [KeyAttributes()] * len(self.offers))
                least = np.minimum(self._values(plain, list(range(len(self.offers))))[0], 0.0)
            self._floors = least - self.length_weight * MAX_PAIRS
        return self._floors

    def lowered_floors(self, rows: Sequence[int], scored: Scored) -> np.ndarray:
        """(Q,) floors under which none of the valid completions that were scored falls, for `with_`."""
        floors = self.floors().copy()
        valid = scored.valid
        np.minimum.at(floors, np.asarray(rows, dtype=np.int64)[valid], scored.reward[valid])
        return floors

    def _retrieve(self, pairs: list[tuple[int, KeyAttributes]]) -> tuple[np.ndarray, np.ndarray]:
        if self.rewarded_pairs == "true" and self.targets is not None:
            pairs = [(row, true_pairs(written, self.targets[row])) for row, written in pairs]
        unique = list(dict.fromkeys(pairs))
        place = {pair: number for number, pair in enumerate(unique)}
        embeddings = self.encode([self.offers[row] for row, _ in unique], [a for _, a in unique])
        values, ranks = self._values(embeddings, [row for row, _ in unique])
        back = [place[pair] for pair in pairs]
        return values[back], ranks[back]

    def _values(self, embeddings: np.ndarray, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The retrieval term of each embedded query, and its rank."""
        relevant = [self.relevant[row] for row in rows]
        placed = self.gallery.place(
            embeddings, relevant, all_ranks=self.kind == "ndcg@k", hardest=self.kind == "margin"
        )
        if self.kind == "recall@k":
            # what is nowhere in the gallery has the rank after its last
            values = (placed.ranks <= min(self.k, len(self.gallery))).astype(np.float64)
        elif self.kind == "reciprocal_rank":
            values = np.where(placed.ranks <= len(self.gallery), 1.0 / placed.ranks, 0.0)
        elif self.kind == "ndcg@k":
            values = np.array([ndcg_of_ranks(ranks, self.k) for ranks in placed.relevant_ranks])
        elif self.kind == "rank_gain":
            values = 1.0 / placed.ranks - self.plain_reciprocal_ranks()[rows]
        else:
            values = placed.best_scores.astype(np.float64) - placed.hardest_scores
            values[np.isnan(values)] = 0.0  # nothing to find, or nothing to take for it
        return values, placed.ranks

    def plain_ranks(self) -> np.ndarray:
        """(Q,) ranks without any attributes, computed once."""
        if self._plain_ranks is None:
            embeddings = self.encode(self.offers, [KeyAttributes()] * len(self.offers))
            self._plain_ranks = self.gallery.place(embeddings, self.relevant).ranks
        return self._plain_ranks

    def plain_reciprocal_ranks(self) -> np.ndarray:
        """(Q,) 1 / rank without any attributes."""
        return 1.0 / self.plain_ranks()

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        query_row: Sequence[int],
        ended: Sequence[bool] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **_: Any,
    ) -> list[float]:
        """One reward for each completion: the call that trl makes.

        Args:
            ended: whether each completion ended by itself; None: as `completion_ids` and `end_token_ids` say.
        """
        if ended is None and completion_ids is not None:
            if self.end_token_ids is None:
                warnings.warn(
                    "RetrievalReward knows no end_token_ids: a completion cut off at the limit counts as whole",
                    stacklevel=2,
                )
            else:
                ended = [bool(len(ids)) and int(ids[-1]) in self.end_token_ids for ids in completion_ids]
        texts = [c if isinstance(c, str) else str(c[-1]["content"]) for c in completions]
        scored = self.score(query_row, texts, ended)
        if log_metric is not None:
            log_metric("valid", float(scored.valid.mean()))
            if scored.valid.any():
                log_metric("retrieval", float(scored.retrieval[scored.valid].mean()))
            log_metric("faithfulness", float(scored.faithfulness.mean()))
        return [float(value) for value in scored.reward]


def ndcg_of_ranks(ranks: np.ndarray, k: int) -> float:
    """NDCG of the top k, from the rank of every relevant offer; 0 if there is none.

    >>> ndcg_of_ranks(np.array([2]), 10)
    0.6309297535714575
    """
    if not len(ranks):
        return 0.0
    ideal = (1.0 / np.log2(np.arange(2, min(len(ranks), k) + 2))).sum()
    return float((1.0 / np.log2(ranks[ranks <= k] + 1)).sum() / ideal)
