"""AGCL: contrastive learning guided by key attributes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses import CachedLossMixin
from sentence_transformers.util import all_gather, all_gather_with_grad, get_rank
from torch import Tensor, nn

from afmrl.attributes import KeyAttributes
from afmrl.errors import InputError
from afmrl.lexical import AttributeBM25

Weighting = Literal["bm25", "cosine", "none"]
Scaling = Literal["raw", "row", "corpus"]
Rule = Literal["margin", "closeness", "agreement", "label"]
Combine = Literal["any", "all"]


class AttributeGuidedContrastiveLoss(CachedLossMixin, nn.Module):
    r"""InfoNCE with hard negatives weighted by BM25 of key attributes, and false negatives left out (AFMRL, AGCL).

    For query i, candidate j, cosine `s_ij`, temperature τ and `B_ij = BM25(attributes of i, attributes of j)`:

    .. math::

        L_i = -\log \frac{w_{ii} e^{s_{ii}/τ}}{w_{ii} e^{s_{ii}/τ} + \sum_{j \in N_i} w_{ij} e^{s_{ij}/τ}},
        \qquad w_{ij} = e^{g (1 + \tanh B_{ij})}

    `g` is `gain` (1 as published). `N_i` holds the candidates j ≠ i that no rule calls a false negative:

    - "margin": `s_ij > s_ii + margin`;
    - "closeness": `|s_ij − s_ii| < margin`;
    - "agreement": both sides have at least `agreement_min_shared` keys in common and every common key agrees;
    - "label": both rows carry the same product id.

    Extra columns after the positive are curated hard negatives: they are weighted, and never left out.

    Args:
        model: the SentenceTransformer that is trained.
        attributes: key attributes by row number: the loss's table.
        temperature: τ of the logits.
        mini_batch_size: inputs embedded at a time, with cached gradients (GradCache); None: all at once.
        weighting: "bm25"; "cosine" adds `gain · stopgrad(s_ij)` to the logits of negatives (LLaVE); "none".
        weight_positive: whether the positive carries `w_ii` (published: yes).
        gain: factor on the exponent.
        scaling: B_ij "raw" (published), divided by the "row"'s maximum, or by the "corpus"' maximum.
        rules, combine: which false-negative rules count, and whether "any" or "all" of them must.
        margin: δ of the margin and closeness rules, in cosine.
        product_ids: a label by row number, for the "label" rule; "" is unknown.
        top_k_hardest: of what is left, keep only this many highest logits a query (UniME).
        symmetric: add the loss of candidates against queries, and take the mean.
        lexical: BM25 statistics, if not the table's own.
        gather_across_devices: candidates of the other processes are negatives too, with gradient.

    Inputs:
        +---------------------------------------+-------------------------------------------------------------+
        | Inputs                                | Labels                                                      |
        +=======================================+=============================================================+
        | (anchor, positive) pairs              | row numbers: one a pair, or one for each of the columns     |
        +---------------------------------------+-------------------------------------------------------------+
        | (anchor, positive, negative, …)       | the same                                                    |
        +---------------------------------------+-------------------------------------------------------------+

    Relations:
        - With `weighting="none"` and no rules it equals `MultipleNegativesRankingLoss(scale=1/τ)`.

    Raises:
        InputError: an unknown option, or the label rule without product ids.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        attributes: Sequence[KeyAttributes],
        *,
        temperature: float = 0.02,
        mini_batch_size: int | None = None,
        weighting: Weighting | str = "bm25",
        weight_positive: bool = True,
        gain: float = 1.0,
        scaling: Scaling | str = "raw",
        rules: Sequence[Rule | str] = (),
        combine: Combine | str = "any",
        margin: float = 0.1,
        agreement_min_shared: int = 3,
        product_ids: Sequence[str] | None = None,
        top_k_hardest: int | None = None,
        symmetric: bool = False,
        lexical: AttributeBM25 | None = None,
        gather_across_devices: bool = False,
    ) -> None:
        super().__init__()
        for name, value, options in (
            ("weighting", weighting, get_args(Weighting)),
            ("scaling", scaling, get_args(Scaling)),
            ("combine", combine, get_args(Combine)),
            *(("rules", rule, get_args(Rule)) for rule in rules),
        ):
            if value not in options:
                raise InputError(f"AGCL: {name}={value!r} is unknown; one of {', '.join(options)}")
        if temperature <= 0:
            raise InputError(f"AGCL: temperature={temperature} must be above 0")
        if "label" in rules and product_ids is None:
            raise InputError("AGCL: the rule 'label' needs product_ids, one a row")
        self.model = model
        self.temperature, self.gain, self.margin = temperature, gain, margin
        self.weighting, self.weight_positive, self.scaling = weighting, weight_positive, scaling
        self.rules, self.combine = tuple(rules), combine
        self.agreement_min_shared = agreement_min_shared
        self.top_k_hardest, self.symmetric = top_k_hardest, symmetric
        self.gather_across_devices = gather_across_devices
        self.uses_gradient_cache = mini_batch_size is not None
        self.mini_batch_size = mini_batch_size or 0
        self.lexical = lexical or (AttributeBM25(attributes) if weighting == "bm25" else None)
        self._codes = _attribute_codes(attributes) if "agreement" in rules else None
        self._products = _label_codes(product_ids) if product_ids is not None else None
        self.last_statistics: dict[str, float] = {}
        """Of the last batch: share of in-batch negatives left out, mean logit offset of the others."""

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Mean loss of a batch (scalar)."""
        features = list(sentence_features)
        if len(features) < 2:
            raise InputError(f"AGCL: {len(features)} input columns, at least (anchor, positive) are needed")
        if self.uses_gradient_cache:
            return self.forward_cached(features, labels)
        return self.calculate_loss([[self.model(column)["sentence_embedding"]] for column in features], labels)

    def calculate_loss(
        self, reps: list[list[Tensor]], labels: Tensor | None = None, *, with_backward: bool = False
    ) -> Tensor:
        """The loss of embeddings: `reps` holds for each column its (B, D) in pieces; `labels` (B,) or (B, columns)."""
        columns = [nn.functional.normalize(torch.cat(pieces), dim=-1) for pieces in reps]
        loss = self.loss_of(columns[0], columns[1:], self._rows(labels, len(columns), len(columns[0])))
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss

    def loss_of(self, queries: Tensor, candidates: list[Tensor], rows: Tensor) -> Tensor:
        """The loss of unit embeddings.

        Shape:
            queries (B, D); candidates: the positives (B, D), then curated negatives (B, D) each;
            rows (B, 1 + len(candidates)) row numbers of the table.
        """
        batch, offset = len(queries), 0
        all_rows = rows
        if self.gather_across_devices:
            candidates = [all_gather_with_grad(column) for column in candidates]
            all_rows = all_gather(rows)
            offset = get_rank() * batch
        positives = torch.arange(offset, offset + batch, device=queries.device)
        cosine = queries @ torch.cat(candidates).T  # (B, C·W), C candidates a query of W gathered queries
        candidate_rows = all_rows[:, 1:].T.reshape(-1)
        own_positive = torch.zeros_like(cosine, dtype=torch.bool)
        own_positive[torch.arange(batch, device=queries.device), positives] = True
        curated = torch.zeros_like(own_positive)
        curated[:, len(candidates[0]) :] = True

        logits = cosine / self.temperature + self._offsets(cosine.detach(), rows[:, 0], candidate_rows, own_positive)
        left_out = self._false_negatives(cosine.detach(), rows[:, 0], candidate_rows, positives)
        left_out &= ~own_positive & ~curated
        self._record(logits.detach() - cosine.detach() / self.temperature, left_out, own_positive)
        logits = logits.masked_fill(left_out, -torch.inf)
        if self.top_k_hardest is not None:
            negatives = logits.detach().masked_fill(own_positive, -torch.inf)
            if negatives.shape[1] > self.top_k_hardest:
                bound = negatives.topk(self.top_k_hardest, dim=1).values[:, -1:]
                logits = logits.masked_fill((negatives < bound) & ~own_positive, -torch.inf)
        loss = nn.functional.cross_entropy(logits, positives)
        if self.symmetric:
            own = logits[:, offset : offset + batch]
            back = nn.functional.cross_entropy(own.T, torch.arange(batch, device=queries.device))
            loss = (loss + back) / 2
        return loss

    def _rows(self, labels: Tensor | None, num_columns: int, batch: int) -> Tensor:
        if labels is None:
            if self.weighting == "bm25" or self._codes is not None or self._products is not None:
                raise InputError("AGCL: the data set needs a 'label' column: the row number in the attribute table")
            return torch.zeros(batch, num_columns, dtype=torch.long)
        if labels.ndim == 1:
            return labels[:, None].expand(-1, num_columns)
        if labels.shape[1] != num_columns:
            raise InputError(f"AGCL: labels of {labels.shape[1]} row numbers for {num_columns} columns")
        return labels

    def _offsets(self, cosine: Tensor, rows: Tensor, candidate_rows: Tensor, own_positive: Tensor) -> Tensor:
        """(B, C) log w_ij, what is added to the logits."""
        if self.weighting == "none":
            return torch.zeros_like(cosine)
        if self.weighting == "cosine":
            return self.gain * cosine.masked_fill(own_positive, 0.0)
        assert self.lexical is not None
        similarity = self.lexical.scores(rows.cpu().numpy(), candidate_rows.cpu().numpy())
        if self.scaling == "corpus":
            similarity = similarity / max(self.lexical.maximum, 1e-9)
        elif self.scaling == "row":
            similarity = similarity / np.maximum(similarity.max(axis=1, keepdims=True), 1e-9)
        weights = self.gain * (1 + torch.tanh(torch.from_numpy(similarity).to(cosine)))
        return weights if self.weight_positive else weights.masked_fill(own_positive, 0.0)

    def _false_negatives(
        self, cosine: Tensor, rows: Tensor, candidate_rows: Tensor, positives: Tensor
    ) -> Tensor:
        """(B, C) which candidates the rules call false negatives."""
        found = []
        own = cosine.gather(1, positives[:, None])
        for rule in self.rules:
            if rule == "margin":
                found.append(cosine > own + self.margin)
            elif rule == "closeness":
                found.append((cosine - own).abs() < self.margin)
            elif rule == "agreement":
                assert self._codes is not None
                agree = _agreement(self._codes, rows.cpu().numpy(), candidate_rows.cpu().numpy(), self.agreement_min_shared)
                found.append(torch.from_numpy(agree).to(cosine.device))
            else:
                assert self._products is not None
                ours, theirs = self._products[rows.cpu().numpy()], self._products[candidate_rows.cpu().numpy()]
                same = (ours[:, None] == theirs[None, :]) & (ours[:, None] >= 0)
                found.append(torch.from_numpy(same).to(cosine.device))
        if not found:
            return torch.zeros_like(cosine, dtype=torch.bool)
        stacked = torch.stack(found)
        return stacked.any(0) if self.combine == "any" else stacked.all(0)

    def _record(self, offsets: Tensor, left_out: Tensor, own_positive: Tensor) -> None:
        negatives = ~own_positive
        relative = (offsets - offsets[own_positive][:, None])[negatives]
        self.last_statistics = {
            "masked_share": float(left_out[negatives].float().mean()) if negatives.any() else 0.0,
            "mean_offset": float(relative.mean()) if negatives.any() else 0.0,
        }

    def get_config_dict(self) -> dict[str, Any]:
        """Hyperparameters for the model card; the attribute table stays out."""
        return {
            "temperature": self.temperature,
            "mini_batch_size": self.mini_batch_size or None,
            "weighting": self.weighting,
            "weight_positive": self.weight_positive,
            "gain": self.gain,
            "scaling": self.scaling,
            "rules": list(self.rules),
            "combine": self.combine,
            "margin": self.margin,
            "agreement_min_shared": self.agreement_min_shared,
            "top_k_hardest": self.top_k_hardest,
            "symmetric": self.symmetric,
            "gather_across_devices": self.gather_across_devices,
        }

    @property
    def citation(self) -> str:
        """BibTeX of the method."""
        return """
@misc{zhang2026afmrl,
    title={AFMRL: Attribute-Enhanced Fine-Grained Multi-Modal Representation Learning in E-commerce},
    author={Zhang and Chen and Zhang and Wang and Liu and Zheng},
    year={2026},
    eprint={2604.20135},
    archivePrefix={arXiv}
}
"""


def _attribute_codes(attributes: Sequence[KeyAttributes]) -> np.ndarray:
    """(N, K) int32: a number for each value of each key, −1 where an offer has none."""
    keys: dict[str, int] = {}
    values: dict[tuple[str, str], int] = {}
    places, numbers = [], []
    for row, of_offer in enumerate(attributes):
        for pair in of_offer:
            places.append((row, keys.setdefault(pair[0], len(keys))))
            numbers.append(values.setdefault(pair, len(values)))
    codes = np.full((len(attributes), max(len(keys), 1)), -1, dtype=np.int32)
    if places:
        rows, columns = np.array(places).T
        codes[rows, columns] = numbers
    return codes


def _agreement(codes: np.ndarray, rows: np.ndarray, candidate_rows: np.ndarray, min_shared: int) -> np.ndarray:
    """(B, C) bool: no common key differs, and at least `min_shared` are common."""
    ours, theirs = codes[rows], codes[candidate_rows]
    shared = np.zeros((len(ours), len(theirs)), dtype=np.int16)
    differ = np.zeros(shared.shape, dtype=bool)
    for key in range(codes.shape[1]):
        left, right = ours[:, key, None], theirs[None, :, key]
        both = (left >= 0) & (right >= 0)
        shared += both
        differ |= both & (left != right)
    return (shared >= min_shared) & ~differ


def _label_codes(product_ids: Sequence[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(p, len(numbers)) if p else -1 for p in product_ids], dtype=np.int64)
