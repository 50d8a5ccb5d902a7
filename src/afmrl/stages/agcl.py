"""Stage 1: attribute-guided contrastive learning of the embedder."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes import KeyAttributes
from afmrl.embedder import Embedder, embedder_input
from afmrl.errors import InputError
from afmrl.lexical import AttributeBM25
from afmrl.offers import Offer
from afmrl.stages.checkpoints import last_checkpoint, remove_checkpoints, write_json

NEIGHBOURS = 32  # attribute-similar products looked up for one product when batches are made


@dataclass
class AGCLStage:
    """How the embedder is trained; the paper's base recipe (VLM2Vec) is LoRA r=16, τ=0.02, batch 1,024, lr 5e-5."""

    max_steps: int = 400
    """Optimiser steps."""
    batch_size: int = 128
    """Pairs a step; every other candidate of the batch is a negative."""
    mini_batch_size: int | None = None
    """Pairs embedded at a time (GradCache): memory of a mini-batch, negatives of the batch. None: all at once."""
    learning_rate: float = 5e-4
    """Peak learning rate, then linear to 0."""
    warmup_steps: int = 20
    """Steps of linear warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    temperature: float = 0.05
    """τ of the cosine logits."""
    weighting: str = "bm25"
    """"bm25" (AGCL), "cosine" (LLaVE), "none" (InfoNCE)."""
    weight_positive: bool = True
    """Whether the positive's logit carries its weight too, as published."""
    gain: float = 1.0
    """A factor on the exponent of the weight."""
    scaling: str = "raw"
    """BM25 inside tanh: "raw" (published), or divided by the "row"'s or the "corpus"' maximum."""
    rules: tuple[str, ...] = ("agreement",)
    """False-negative rules: any of "agreement", "margin", "closeness", "label"."""
    combine: str = "any"
    """Whether "any" or "all" of the rules must call a candidate a false negative."""
    margin: float = 0.1
    """δ of the margin and closeness rules, in cosine."""
    agreement_min_shared: int = 4
    """Keys that two offers must share before agreeing attributes call them the same product."""
    attributes_on: str = "both"
    """Which sides read key attributes in their text: "none", "query", "both"."""
    attribute_dropout: float = 0.5
    """Share of pairs that are trained without attributes in the text, so that the embedder works with and without;
    of the others the sides lose theirs independently once in `one_sided`."""
    one_sided: float = 0.2
    """Share of the attributed pairs of which only one side shows its attributes."""
    value_dropout: float = 0.1
    """Share of the shown pairs `key: value` that are left out, as a generator leaves some out."""
    similar_group: int = 8
    """Products of similar attributes that enter a batch together; 1: batches are drawn at random."""
    lora_r: int | None = None
    """LoRA rank; None trains all parameters (the tiny default)."""
    bf16: bool = False
    """Train in bfloat16 autocast."""
    seed: int = 0
    """Seed of pairs, batches and dropout."""
    save_steps: int = 100
    """Steps between checkpoints, from which a killed run goes on."""
    log_steps: int = 10
    """Steps between entries of the training curve."""


@dataclass(frozen=True)
class TrainingPlan:
    """Every pair of a run, in order: row r belongs to step r // batch_size."""

    anchors: np.ndarray
    """(S·B,) row numbers of offers."""
    candidates: np.ndarray
    """(S·B,) row numbers of offers: the same product as the anchor."""
    shown: np.ndarray
    """(S·B, 2) whether anchor and candidate show their attributes."""


def positives_by_product(offers: Sequence[Offer]) -> list[list[int]]:
    """Row numbers of the offers of each labelled product that has at least two.

    Raises:
        InputError: no product has two offers, so there is nothing to learn from.
    """
    rows: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        if offer.product_id:
            rows[offer.product_id].append(row)
    groups = [group for group in rows.values() if len(group) > 1]
    if len(groups) < 2:
        raise InputError(
            f"{len(groups)} products have two offers with the same product_id, at least 2 are needed: name the "
            "positives in the recipe (positives: {pairs: FILE} | {column: gtin} | {views: COLUMN})"
        )
    return groups


def make_plan(
    offers: Sequence[Offer], attributes: Sequence[KeyAttributes], config: AGCLStage, lexical: AttributeBM25
) -> TrainingPlan:
    """Draw the pairs of every step. No product stands twice in a batch; similar products stand together."""
    generator = np.random.default_rng(config.seed)
    groups = positives_by_product(offers)
    batch_size = min(config.batch_size, len(groups))
    firsts = np.array([group[0] for group in groups])
    neighbours = _similar_products(firsts, lexical) if config.similar_group > 1 and len(firsts) > 2 else None
    anchors, candidates = [], []
    for _ in range(config.max_steps):
        for product in _draw_products(len(groups), batch_size, neighbours, config.similar_group, generator):
            first, second = generator.choice(groups[product], size=2, replace=False)
            anchors.append(first)
            candidates.append(second)
    count = len(anchors)
    with_attributes = generator.random(count) >= config.attribute_dropout
    sides = generator.random((count, 1))
    shown = np.repeat(with_attributes[:, None], 2, axis=1)
    shown[:, :1] &= sides >= config.one_sided / 2
    shown[:, 1:] &= sides < 1 - config.one_sided / 2
    if config.attributes_on == "none":
        shown[:] = False
    elif config.attributes_on == "query":
        shown[:, 1] = False
        shown[:, 0] = with_attributes
    return TrainingPlan(np.array(anchors), np.array(candidates), shown)


def _similar_products(firsts: np.ndarray, lexical: AttributeBM25) -> np.ndarray:
    """(P, K) product numbers by falling BM25 of the attributes of each product's first offer (rows `firsts`)."""
    width = min(NEIGHBOURS, len(firsts) - 1)
    found = np.empty((len(firsts), width), dtype=np.int64)
    for start in range(0, len(firsts), 1024):
        scores = np.array(lexical.scores(firsts[start : start + 1024], firsts))  # (C, P)
        own = np.arange(len(scores))
        scores[own, start + own] = -1.0
        top = np.argpartition(-scores, width - 1, axis=1)[:, :width]
        order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1, kind="stable")
        found[start : start + 1024] = np.take_along_axis(top, order, axis=1)
    return found


def _draw_products(
    num_products: int, batch_size: int, neighbours: np.ndarray | None, group: int, generator: np.random.Generator
) -> list[int]:
    """`batch_size` different products: at random, or in groups of one and its attribute-similar neighbours."""
    order = [int(product) for product in generator.permutation(num_products)]
    if neighbours is None:
        return order[:batch_size]
    taken: dict[int, None] = {}  # a set that keeps its order
    for product in order:
        if len(taken) >= batch_size:
            break
        if product in taken:
            continue
        near = [int(other) for other in neighbours[product] if int(other) not in taken][: group - 1]
        taken.update(dict.fromkeys([product, *near][: batch_size - len(taken)]))
    return list(taken)


def _plan_batches(dataset: Any, batch_size: int, **_: Any) -> Any:
    """Batches of consecutive rows: the plan already holds the order, so a resumed run sees the same batches."""
    from torch.utils.data import BatchSampler, SequentialSampler

    return BatchSampler(SequentialSampler(dataset), batch_size, drop_last=False)


def run_agcl(
    config: AGCLStage,
    base: str | Path,
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    out_dir: str | Path,
    *,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train an embedder from `base` and write it to `out_dir`; go on from a checkpoint found there.

    Args:
        base: a plain MLLM folder, a sentence-transformers model, or a name on the hub.
        offers: training offers; those of one `product_id` are each other's positives.
        attributes: key attributes of each offer (labels, or what a generator wrote).

    Returns:
        {"history": [{"step", "loss", …}], "num_pairs", "num_products"}

    Raises:
        InputError: no positives, or an option that the loss refuses.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from transformers import PrinterCallback

    from afmrl.losses import AttributeGuidedContrastiveLoss

    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    lexical = AttributeBM25(attributes)
    plan = make_plan(offers, attributes, config, lexical)
    batch_size = min(config.batch_size, len(positives_by_product(offers)))
    embedder = Embedder.from_pretrained(base)
    embedder.model.model_card_data.generate_widget_examples = False  # it would embed examples at every save
    if config.lora_r:
        from peft import LoraConfig

        embedder.model.add_adapter(
            LoraConfig(r=config.lora_r, lora_alpha=2 * config.lora_r, target_modules="all-linear")
        )
    loss = AttributeGuidedContrastiveLoss(
        embedder.model,
        attributes,
        lexical=lexical,
        temperature=config.temperature,
        mini_batch_size=config.mini_batch_size,
        weighting=config.weighting,
        weight_positive=config.weight_positive,
        gain=config.gain,
        scaling=config.scaling,
        rules=tuple(config.rules),
        combine=config.combine,
        margin=config.margin,
        agreement_min_shared=config.agreement_min_shared,
        product_ids=[offer.product_id for offer in offers] if "label" in config.rules else None,
    )

    rows = Dataset.from_dict(
        {
            "anchor": plan.anchors,
            "candidate": plan.candidates,
            "shown_anchor": plan.shown[:, 0],
            "shown_candidate": plan.shown[:, 1],
            "draw": np.arange(len(plan.anchors)),
        }
    )

    def render(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        # pictures are opened when their batch comes, so the catalogue's never lie in memory
        return {
            "anchor": [
                embedder_input(offers[row], _thinned(attributes[row], config, draw, 0) if shown else None)
                for row, shown, draw in zip(batch["anchor"], batch["shown_anchor"], batch["draw"], strict=True)
            ],
            "positive": [
                embedder_input(offers[row], _thinned(attributes[row], config, draw, 1) if shown else None)
                for row, shown, draw in zip(batch["candidate"], batch["shown_candidate"], batch["draw"], strict=True)
            ],
            "label": list(zip(batch["anchor"], batch["candidate"], strict=True)),
        }

    rows.set_transform(render)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(out_dir),
        max_steps=config.max_steps,
        per_device_train_batch_size=batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        batch_sampler=_plan_batches,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=config.log_steps,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SentenceTransformerTrainer(
        model=embedder.model, args=arguments, train_dataset=rows, loss=loss, callbacks=list(callbacks)
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(out_dir))
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    if config.lora_r:
        transformer = embedder.model[0]
        transformer.model = transformer.model.merge_and_unload()
    embedder.settings = {**embedder.settings, "attributes_on": config.attributes_on}
    embedder.save(out_dir)
    write_json(out_dir / "history.json", history)
    remove_checkpoints(out_dir)
    return {"history": history, "num_pairs": len(rows), "num_products": len(positives_by_product(offers))}


def _thinned(attributes: KeyAttributes, config: AGCLStage, draw: int, side: int) -> KeyAttributes:
    """A few pairs left out, by a seed of run, draw and side: the same again when a run resumes."""
    if config.value_dropout <= 0:
        return attributes
    kept = np.random.default_rng((config.seed, draw, side)).random(len(attributes)) >= config.value_dropout
    return KeyAttributes(tuple(pair for pair, keep in zip(attributes, kept, strict=True) if keep))
