"""AGCL: contrastive learning guided by key attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import CachedLossMixin, has_static_embedding_input
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25, BlockScores
from afmrl.errors import InputError
from afmrl.losses.deferred_inputs import waiting_inputs
from afmrl.losses.frozen_tower import STATES, frozen_tower
from afmrl.losses.options import Combine, Direction, Rule, Scaling, Weighting
from afmrl.losses.statistics import LogLossStatistics, LossStatistics
from afmrl.losses.table import MISSING, Contrast, LossTable

__all__ = ["MISSING", "AttributeGuidedContrastiveLoss", "LogLossStatistics"]

_HYPERPARAMETERS = (
    *("temperature", "weighting", "weight_positive", "gain", "scaling", "rules", "combine", "margin"),
    *("agreement_min_shared", "margin_warmup_steps", "top_k_hardest", "directions", "gather_across_devices"),
    "num_positives",
)
_TIE = 1e-4  # logits this near the k-th hardest equal it: duplicates differ by rounding
_TINY = 1e-9  # guards a division where no pair of a row (or of the corpus) shares a token


class AttributeGuidedContrastiveLoss(CachedLossMixin, nn.Module):
    r"""Contrastive loss guided by key attributes: similar negatives weigh more, and false negatives are left out.

    This is AGCL of AFMRL: InfoNCE whose negatives are weighted by BM25 of their key attributes.

    With cosine :math:`s_{ij}` of query i and candidate j, temperature τ, and
    :math:`B_{ij} = \mathrm{BM25}(\text{attributes of } i, \text{attributes of } j)`:

    .. math::

        L_i = -\log \frac{w_{ii} e^{s_{ii}/τ}}{w_{ii} e^{s_{ii}/τ} + \sum_{j \in N_i} w_{ij} e^{s_{ij}/τ}},
        \qquad w_{ij} = e^{g (1 + \tanh B_{ij})}

    The loss is the mean of :math:`L_i`; `g` is `gain`; weights and masks carry no gradient. The constant cancels: a
    negative's logit moves by :math:`g (\tanh B_{ij} − \tanh B_{ii})` against the positive's. As published that
    discounts easy negatives by at most a factor e, lifts none above a positive with the anchor's own attributes, and
    saturates at B of about 2.

    :math:`N_i` is every other candidate of the batch that the `rules` do not call a false negative:

    - "margin": :math:`s_{ij} > s_{ii} + δ`. For a pretrained start, or after `margin_warmup_steps`: at random weights
      it leaves out just the hardest negatives;
    - "closeness": :math:`|s_{ij} − s_{ii}| < δ`, the other reading of the paper's rule: no further than δ from the
      positive's similarity;
    - "agreement": i and j have at least `agreement_min_shared` keys in common, and every common key has one value;
    - "label": both carry the same known product id.

    Columns after the positive are curated hard negatives. Query i's own are in :math:`N_i` whatever `rules` and
    `top_k_hardest` say; for other queries they are candidates like any other. One without a row number of its own
    weighs what an offer without key attributes does, :math:`B = 0`.

    With `num_positives` above 1 query i has a set :math:`P_i` of positives, and :math:`L_i` is the mean of the loss
    with each of them alone, the others left out:

    .. math::

        L_i = \frac{1}{|P_i|} \sum_{p \in P_i} -\log
            \frac{w_{ip} e^{s_{ip}/τ}}{w_{ip} e^{s_{ip}/τ} + \sum_{j \in N_i^p} w_{ij} e^{s_{ij}/τ}}

    No positive of i is in :math:`N_i^p`, and "margin" and "closeness" compare with :math:`s_{ip}`. So an offer of the
    query's product is a positive where it is given as one; otherwise "label" masks it. It is never a negative.

    Args:
        model: the SentenceTransformer that is trained.
        attributes: key attributes by row number: the table that the data set's `label` column points into.
        candidate_attributes: another table for all columns but the anchor (say, of another shop); the default is
            `attributes`. Document frequencies are counted over both.
        temperature: τ; 0.02 is that of VLM2Vec, the paper's base. Small models want more: the recipes of the tiny
            default set 0.03 to 0.07.
        mini_batch_size: inputs embedded, and rows of the loss computed, at a time (GradCache); None: all at once.
        weighting: "bm25"; "cosine" adds `gain · stopgrad(s_ij)` to the logits of negatives (LLaVE, gain 9 there);
            "none" is InfoNCE.
        weight_positive: whether the positive carries :math:`w_{ii}` (published: yes) or 1; "cosine" never weights it.
        gain: g, 1 as published.
        scaling: B_ij "raw" (published), divided by the maximum of its "row" in the batch, or by the "corpus" maximum,
            the highest BM25 of an offer with itself.
        rules: the false-negative rules that count; () for none.
        combine: whether "any" of the rules, or "all", must call a candidate a false negative.
        margin: δ of "margin" and "closeness", in cosine.
        reference, candidate_reference: (N, D) embeddings of a frozen model by row number of either table. "margin" and
            "closeness" are then judged by its cosines instead of the model's own, from the first batch on, and call
            nothing where a row is unknown. Anchor and positive need rows of their own: one row is as near as can be.
        agreement_min_shared: of "agreement". 3 suits attributes taken from titles, which share few keys; the AGCL
            stage's default, 4, is for labeled attributes.
        margin_warmup_steps: training batches before "margin" and "closeness", which trust the model's own
            similarities, call anything a false negative. Where a run resumes, `LogLossStatistics` sets `num_batches`.
        product_ids, candidate_product_ids: product ids by row number of either table, "" or None for unknown: for
            "label", and for precision and recall of the rules in `last_statistics`.
        num_positives: columns after the anchor that are positives; those after them are curated negatives. For library
            use, as `combine` and `top_k_hardest` are: no recipe sets them.
        top_k_hardest: of the candidates left, keep for each query the k of highest weighted logit (UniME), and any
            equal to the k-th; None keeps all.
        directions: "query_to_doc", and optionally "doc_to_query", the same loss with anchor and positive in each
            other's place (each of several positives in turn) and without curated negatives. The loss is their mean.
        lexical: BM25 of the table's rows (those of `attributes`, then of `candidate_attributes`), to reuse one or to
            choose other k1, b or fields.
        gather_across_devices: the other processes' candidates are negatives too, with gradient.

    References: AFMRL, https://arxiv.org/abs/2604.20135

    Requirements:
        1. a `label` column of row numbers, -1 for an offer without known attributes, -2 (`MISSING`) for a column that
           the row leaves empty (it holds ""): a second positive, a curated negative. Not needed where none of
           `weighting="bm25"`, "agreement", `product_ids` and `reference` is asked for, and no column is empty;
        2. the same batch size in every process, when negatives are gathered.

    Inputs:
        +---------------------------------------------+-----------------------------------------------------------+
        | Inputs                                      | Labels                                                    |
        +=============================================+===========================================================+
        | (anchor, positive) pairs                    | (B,): row of both, each in its table; or (B, 2): row each |
        +---------------------------------------------+-----------------------------------------------------------+
        | (anchor, positive, negative_1, …) tuples    | the same, or (B, columns): row of each column             |
        +---------------------------------------------+-----------------------------------------------------------+
        | (anchor, positive_1, …, positive_P, …),     | (B,): row of all P + 1; or (B, 1 + P); or (B, columns)    |
        | `num_positives=P`                           |                                                           |
        +---------------------------------------------+-----------------------------------------------------------+

    Relations:
        - with `weighting="none", rules=()`: `MultipleNegativesRankingLoss(scale=1/τ)`; with "cosine", its
          `hardness_mode="all_negatives", hardness_strength=gain`;
        - `mini_batch_size` does what `CachedMultipleNegativesRankingLoss` does; `MatryoshkaLoss` may wrap either.

    Raises:
        InputError: an option unknown or out of range, tables of unequal length, or a label that is no row number.

    Example:
        ::

            attributes = [KeyAttributes.of({"color": "red"}), KeyAttributes.of({"color": "blue"})]
            train_dataset = Dataset.from_dict({
                "anchor": ["red silk dress", "dress in blue"],
                "positive": ["silk gown, red", "blue dress"],
                "label": [0, 1],
            })
            loss = AttributeGuidedContrastiveLoss(model, attributes, mini_batch_size=64)
            SentenceTransformerTrainer(model=model, train_dataset=train_dataset, loss=loss).train()
    """

    def __init__(
        self,
        model: SentenceTransformer,
        attributes: Sequence[KeyAttributes],
        *,
        candidate_attributes: Sequence[KeyAttributes] | None = None,
        temperature: float = 0.02,
        mini_batch_size: int | None = None,
        weighting: Weighting | str = "bm25",
        weight_positive: bool = True,
        gain: float = 1.0,
        scaling: Scaling | str = "raw",
        rules: Sequence[Rule | str] = ("agreement",),
        combine: Combine | str = "any",
        margin: float = 0.1,
        agreement_min_shared: int = 3,
        margin_warmup_steps: int = 0,
        product_ids: Sequence[str] | None = None,
        candidate_product_ids: Sequence[str] | None = None,
        top_k_hardest: int | None = None,
        directions: Sequence[Direction | str] = ("query_to_doc",),
        lexical: AttributeBM25 | None = None,
        gather_across_devices: bool = False,
        num_positives: int = 1,
        reference: np.ndarray | None = None,
        candidate_reference: np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.temperature, self.weighting, self.weight_positive = temperature, weighting, weight_positive
        self.gain, self.scaling, self.rules, self.combine = gain, scaling, tuple(rules), combine
        self.margin, self.margin_warmup_steps = margin, margin_warmup_steps
        self.agreement_min_shared = agreement_min_shared
        self.top_k_hardest, self.directions = top_k_hardest, tuple(directions)
        self.gather_across_devices, self.num_positives = gather_across_devices, num_positives
        self.uses_gradient_cache = mini_batch_size is not None
        self.mini_batch_size = 0 if mini_batch_size is None else mini_batch_size
        self._check_options()
        if candidate_attributes is None and (candidate_product_ids is not None or candidate_reference is not None):
            raise InputError("AGCL: candidate_product_ids and candidate_reference go with candidate_attributes")

        self._table = LossTable(attributes, candidate_attributes, num_positives=num_positives)
        if weighting == "bm25":
            self._table.add_lexical(lexical)
        if "agreement" in self.rules:
            self._table.add_agreement(agreement_min_shared)
        if "label" in self.rules or product_ids is not None:
            self._table.add_products(product_ids, candidate_product_ids)
        if reference is not None:
            self._table.add_reference(reference, candidate_reference)
        self._another_dimension = False
        self.num_batches = 0
        """Training batches seen; only `margin_warmup_steps` looks at it."""
        self._statistics = LossStatistics()

    def _check_options(self) -> None:
        for name, values, options in (
            ("weighting", [self.weighting], Weighting),
            ("scaling", [self.scaling], Scaling),
            ("combine", [self.combine], Combine),
            ("rules", self.rules, Rule),
            ("directions", self.directions, Direction),
        ):
            for value in values:
                if value not in get_args(options):
                    raise InputError(f"AGCL: {name}={value!r} is unknown; one of {', '.join(get_args(options))}")
        least = {"margin": 0, "margin_warmup_steps": 0, "agreement_min_shared": 1, "top_k_hardest": 1}
        least["num_positives"] = 1
        if self.uses_gradient_cache:
            least["mini_batch_size"] = 1
        for name, minimum in least.items():
            if getattr(self, name) is not None and getattr(self, name) < minimum:
                raise InputError(f"AGCL: {name}={getattr(self, name)} must be at least {minimum}")
        if not self.temperature > 0:
            raise InputError(f"AGCL: temperature={self.temperature} must be above 0")
        if "query_to_doc" not in self.directions:
            raise InputError(f"AGCL: directions={self.directions} must hold 'query_to_doc'")
        if self.uses_gradient_cache and has_static_embedding_input(self.model):
            raise InputError("AGCL: a StaticEmbedding cannot be split into mini-batches; leave mini_batch_size out")

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Mean loss of a batch: scalar. `labels` are row numbers, see Inputs."""
        features = list(sentence_features)
        if len(features) < 2:
            raise InputError(f"AGCL: {len(features)} input columns, at least (anchor, positive) are needed")
        # MatryoshkaLoss calls once a dimension, over embeddings that it has kept
        first, now = (getattr(getattr(self.model, "forward", None), name, None) for name in ("cache_dim", "dim"))
        self._another_dimension = torch.is_grad_enabled() and first is not None and first != now
        if self.uses_gradient_cache:
            cached: Any = self.forward_cached  # typed as a Tensor: nn.Module hides it
            loss = cached(features, labels)
            waiting = [column for each in features if (column := waiting_inputs(each)) is not None]
            if waiting and torch.is_grad_enabled():
                kept = sum(column.num_kept for column in waiting)
                self._statistics.kept_share = kept / sum(map(len, waiting))
        else:
            whole = [self._tensors(column) for column in features]
            loss = self.calculate_loss([[self.model(column)["sentence_embedding"]] for column in whole], labels)
        self.num_batches += torch.is_grad_enabled() and not self._another_dimension
        return loss

    def embed_minibatch(
        self,
        sentence_feature: dict[str, Any],
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: Any = None,
    ) -> tuple[Tensor, Any]:
        """Embed a mini-batch of inputs, preprocessing them now if they wait (`DeferredPreprocessing`)."""
        waiting = waiting_inputs(sentence_feature)
        if waiting is None:
            return super().embed_minibatch(sentence_feature, begin, end, with_grad, copy_random_state, random_state)
        # the random states are copied in the first of the two passes
        features = self._tensors(sentence_feature, begin, end, again=copy_random_state)
        with frozen_tower(self.model, features) as found:
            embedded: tuple[Tensor, Any] = super().embed_minibatch(
                features, 0, end - begin, with_grad, copy_random_state, random_state
            )
        if copy_random_state and STATES in found:
            waiting.keep_states((begin, end), found[STATES])
        return embedded

    def _tensors(self, features: dict[str, Any], *span: int, again: bool = False) -> dict[str, Any]:
        """A column's features as tensors on the model's device."""
        waiting = waiting_inputs(features)
        if waiting is None:
            return features
        device = next(self.model.parameters()).device
        return dict(batch_to_device(waiting.features(*span, again=again), device))

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of embeddings, in blocks of `mini_batch_size` rows where that is set.

        Shape:
            reps: for each column its embeddings (B, D) in pieces; labels (B,) or (B, columns). Returns a scalar,
            detached if `with_backward`, which leaves the gradients in `reps`.
        """
        device, batch = reps[0][0].device, sum(len(piece) for piece in reps[0])
        self._statistics.clear()
        ends: list[tuple[Tensor, Tensor]] = []
        total = torch.zeros((), device=device)
        # no autocast: logits are cosines over τ, half precision would round them by tenths
        with torch.autocast(device.type, enabled=False):
            columns = [_unit(torch.cat(pieces)) for pieces in reps]
            rows = self._table.rows(labels, len(columns), batch, device)
            for contrast in self._table.contrasts(columns, rows, self.directions, gather=self.gather_across_devices):
                anchors, candidates = contrast.anchors, contrast.candidates
                if with_backward:
                    # each block's backward pass ends at leaves, so that normalizing and gathering run back only once
                    leaves = anchors.detach().requires_grad_(), candidates.detach().requires_grad_()
                    ends += zip((anchors, candidates), leaves, strict=True)
                    anchors, candidates = leaves
                for begin in range(0, batch, self.mini_batch_size or batch):
                    block = slice(begin, min(begin + (self.mini_batch_size or batch), batch))
                    part = self._block_loss(contrast, block, anchors[block] @ candidates.T)
                    part = part / (batch * len(self.directions))
                    if with_backward:
                        part.backward()
                        part = part.detach()
                    total = total + part
            if with_backward:
                torch.autograd.backward([tensor for tensor, _ in ends], [leaf.grad for _, leaf in ends])
        return total

    def _block_loss(self, contrast: Contrast, block: slice, cosine: Tensor) -> Tensor:
        """Summed loss of a block of anchors, from their cosines (b, C) with the candidates of `contrast`."""
        numbers = torch.arange(cosine.shape[1], device=cosine.device)
        places = torch.arange(contrast.place + block.start, contrast.place + block.stop, device=cosine.device)  # (b,)
        own = numbers % contrast.num_places == places[:, None]  # (b, C) positives, and what was curated for this anchor
        positives = own & (numbers < contrast.num_positives * contrast.num_places)
        logits = cosine / self.temperature
        offsets = self._log_weights(contrast, block, cosine.detach(), positives)
        if offsets is not None:
            logits = logits + offsets
        evidence = _Evidence(contrast, block, cosine.detach(), self.rules)
        if contrast.positive_shares is None:
            left_out = self._left_out(evidence, contrast, places, own, logits.detach(), offsets)
            return nn.functional.cross_entropy(logits.masked_fill(left_out, -torch.inf), places, reduction="sum")
        total = torch.zeros((), device=cosine.device)
        for number, share in enumerate(contrast.positive_shares[block].T):
            target = places + number * contrast.num_places
            there = (share > 0)[:, None]
            left_out = self._left_out(evidence, contrast, target, own, logits.detach(), offsets, there)
            left_out |= positives & (numbers != target[:, None])
            terms = nn.functional.cross_entropy(logits.masked_fill(left_out, -torch.inf), target, reduction="none")
            total = total + (terms * share).sum()
        return total

    def _left_out(
        self,
        evidence: _Evidence,
        contrast: Contrast,
        target: Tensor,
        own: Tensor,
        logits: Tensor,
        offsets: Tensor | None,
        there: Tensor | None = None,
    ) -> Tensor:
        """(b, C) which candidates are no negatives of the anchors with their positives `target` (b,).

        `own` (b, C) are never called false; `there` (b, 1) tells for which anchors the positive is not missing.
        """
        calls = self._calls(evidence, target)
        stacked = torch.stack(list(calls.values())) if calls else torch.zeros_like(own)[None]
        false = (stacked.any(0) if self.combine == "any" else stacked.all(0)) & ~own
        negatives = ~own if contrast.missing is None else ~(own | contrast.missing)
        left_out = false if contrast.missing is None else false | contrast.missing
        if self.top_k_hardest is not None and self.top_k_hardest < own.shape[1]:
            others = logits.masked_fill(left_out | own, -torch.inf)
            left_out = left_out | (others < others.topk(self.top_k_hardest).values[:, -1:] - _TIE) & ~own
        if contrast.missing is not None:  # the term of a missing positive counts 0, but must be a number
            left_out = left_out.scatter(1, target[:, None], False)
        counted = negatives if there is None else negatives & there
        self._statistics.add(
            contrast,
            block=evidence.block,
            negatives=counted,
            calls=calls,
            false=false & counted,
            kept=counted & ~left_out,
            offsets=None if offsets is None else offsets - offsets.gather(1, target[:, None]),
            same=evidence.same,
            known=evidence.known,
        )
        return left_out

    def _log_weights(self, contrast: Contrast, block: slice, cosine: Tensor, positives: Tensor) -> Tensor | None:
        """(b, C) log w_ij, what is added to the logits; None adds nothing."""
        if self.weighting == "cosine":
            return self.gain * cosine.masked_fill(positives, 0.0)
        if contrast.bm25 is None or self.lexical is None:
            return None
        similarity = torch.from_numpy(contrast.bm25(contrast.anchor_rows[block])).to(cosine)  # B_ij
        if self.scaling == "row":
            similarity /= similarity.amax(dim=1, keepdim=True).clamp_min(_TINY)
        elif self.scaling == "corpus":
            similarity /= max(self.lexical.maximum, _TINY)
        offsets = similarity.tanh_().add_(1.0).mul_(self.gain)
        return offsets if self.weight_positive else offsets.masked_fill_(positives, 0.0)

    def _calls(self, evidence: _Evidence, target: Tensor) -> dict[str, Tensor]:
        """By rule (b, C) what it calls a false negative; until it is warm a rule calls nothing so."""
        similarity = evidence.similarity
        seen = self.num_batches - self._another_dimension
        is_warm = self._table.reference is not None or seen >= self.margin_warmup_steps
        calls: dict[str, Tensor] = {}
        for rule in self.rules:
            if rule in evidence.records:
                calls[rule] = evidence.records[rule]
            elif not is_warm:
                calls[rule] = torch.zeros_like(similarity, dtype=torch.bool)
            elif rule == "margin":
                calls[rule] = similarity > similarity.gather(1, target[:, None]) + self.margin
            else:
                calls[rule] = (similarity - similarity.gather(1, target[:, None])).abs() < self.margin
        return calls

    @property
    def lexical(self) -> AttributeBM25 | None:
        """BM25 of the table's rows; None unless `weighting="bm25"`."""
        return self._table.lexical

    @property
    def last_statistics(self) -> dict[str, Any]:
        """Of the last batch, and of this process's anchors; {} before the first. `LogLossStatistics` logs it.

        A pair is an anchor and a candidate that is neither its positive nor curated for it; with several positives it
        counts once for each.

        - `num_negatives`: pairs; `masked_share`: share that the rules called false negatives together;
          `masked_share_RULE`: that each did alone;
        - `kept_share` (GradCache with `DeferredPreprocessing`): inputs that were decoded once, not twice;
        - `mean_offset`: mean of log w_ij − log w_ii over the pairs left in the denominator;
        - `bm25_by_decile`, `offset_by_decile` (with "bm25"): means of B_ij and of that offset in each tenth of the
          pairs left, by rising B_ij, of the first 64 anchors. Equal values count in the lowest of their deciles;
          None: there are none;
        - with `product_ids`, over the pairs of which both products are known: `same_product_share`, of one product;
          `precision`, the share of those among the called (None: none called); `recall`, the share of them that were
          called (None: there are none); with several rules `precision_RULE` and `recall_RULE` of each alone.
        """
        return self._statistics.read()

    def get_config_dict(self) -> dict[str, Any]:
        """Hyperparameters for the model card, JSON-able; the attribute tables stay out."""
        config = {name: getattr(self, name) for name in _HYPERPARAMETERS}
        config |= {"rules": list(self.rules), "directions": list(self.directions)}
        config["reference"] = self._table.reference is not None
        if self.lexical is not None:
            config |= {"fields": self.lexical.fields, "k1": self.lexical.k1, "b": self.lexical.b}
        return config | {"mini_batch_size": self.mini_batch_size or None}

    @property
    def citation(self) -> str:
        """BibTeX of the method."""
        return """
@inproceedings{zhang2026afmrl,
    title={AFMRL: Attribute-Enhanced Fine-Grained Multi-Modal Representation Learning in E-commerce},
    author={Zhang and Chen and Zhang and Wang and Liu and Zheng},
    booktitle={Findings of the Association for Computational Linguistics: ACL 2026},
    year={2026},
    eprint={2604.20135},
    archivePrefix={arXiv}
}
"""


class _Evidence:
    """What a block's rules judge by; the same for each of several positives."""

    def __init__(self, contrast: Contrast, block: slice, cosine: Tensor, rules: Sequence[str]) -> None:
        rows = contrast.anchor_rows[block]
        self.block = block
        self.similarity = cosine if contrast.reference is None else contrast.reference(rows)  # (b, C)

        def mask(scores: BlockScores | None) -> Tensor | None:
            return None if scores is None else torch.from_numpy(scores(rows)).to(cosine.device)

        self.same, self.known = mask(contrast.same), mask(contrast.known)  # (b, C)
        found = {"agreement": mask(contrast.agree), "label": self.same}
        self.records = {rule: called for rule in rules if (called := found.get(rule)) is not None}


def _unit(column: Tensor) -> Tensor:
    return nn.functional.normalize(column if column.dtype == torch.float64 else column.float(), dim=-1)
