"""Stage 1: attribute-guided contrastive learning of the embedder."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25
from afmrl.data.images import bound_pixels
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder, embedder_input
from afmrl.errors import InputError
from afmrl.files import write_json
from afmrl.training.augmentation import augment, hue_of, is_active
from afmrl.training.batch_plan import batch_size_of, make_plan, plan_batches, positives_by_product
from afmrl.training.checkpoints import last_checkpoint, remove_checkpoints
from afmrl.training.config import AGCLStage
from afmrl.training.lazy_rows import lazy_rows
from afmrl.training.processes import on_first, rank, share, world_size


def run_agcl(
    config: AGCLStage,
    base: str | Path,
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    out_dir: str | Path,
    *,
    queries: Collection[int] = (),
    shown: Sequence[KeyAttributes] | None = None,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train an embedder from `base` and write it to `out_dir`; go on from a checkpoint found there.

    Args:
        base: a plain MLLM folder, a sentence-transformers model, or a name on the hub.
        offers: training offers; those of one `product_id` are each other's positives.
        attributes: key attributes of each offer (labels, or what a generator wrote).
        queries: rows of the offers that are queries, for `across_roles`.
        shown: what the text of each offer shows, where that is something else than the attributes that draw, weigh and
            filter; None: the same.

    Returns:
        {"history": [{"step", "loss", the loss's `last_statistics`, …}], "num_pairs", "num_products"}

    Raises:
        InputError: no positives, no `shown` where the text is to show generated attributes, or an option that the loss
            refuses.
    """
    import torch
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
    from transformers import PrinterCallback

    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
    from afmrl.losses.deferred_inputs import DeferredPreprocessing
    from afmrl.losses.statistics import LogLossStatistics

    if config.text_attributes == "generated" and config.attributes_on != "none" and shown is None:
        raise InputError(
            "agcl.text_attributes 'generated' needs what the generator writes of each offer (`shown`); generate it "
            "first, or take 'targets'"
        )
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)  # the same in every process: they start from equal LoRA layers
    lexical = AttributeBM25(attributes)
    plan = make_plan(offers, attributes, config, lexical, queries)
    num_products = len(positives_by_product(offers, least=1 if config.self_pairs else 2))
    batch_size = batch_size_of(config, num_products)
    of_process = share(batch_size, "agcl.batch_size")
    embedder = Embedder.from_pretrained(base, dtype=config.dtype, max_seq_length=config.max_seq_length)
    if config.max_pixels:
        bound_pixels(embedder.model[0].processor, config.max_pixels)
    card = embedder.model.model_card_data
    card.generate_widget_examples = False  # it would embed examples at every save
    card.widget = [{}]  # any entry keeps the trainer from choosing examples among a thousand rendered rows
    if config.lora_r:
        from peft import LoraConfig

        embedder.model.add_adapter(
            LoraConfig(
                r=config.lora_r,
                lora_alpha=config.lora_alpha or 2 * config.lora_r,
                lora_dropout=config.lora_dropout,
                target_modules="all-linear",
            )
        )
        for parameter in embedder.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
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
        directions=tuple(config.directions),
        product_ids=[offer.product_id for offer in offers],  # for statistics, even where "label" is no rule
        gather_across_devices=world_size() > 1,
    )

    changes = config.augment
    texts = attributes if shown is None else shown
    hidden = (changes.hide_values, changes.hide_values if changes.hide_candidates is None else changes.hide_candidates)
    of_side = [changes.model_copy(update={"hide_values": share}) for share in hidden]

    def side(row: int, told: bool, draw: int, which: int) -> Any:
        offer, label = offers[row], attributes[row]
        image = None
        if is_active(changes):
            hue = hue_of(changes, (config.seed, draw, 2))
            step = (config.seed, draw // batch_size)
            offer, image = augment(
                offer, label, of_side[which], (config.seed, draw, 3 + which), batch_seeds=step, hue=hue
            )
            told = told and hue is None
        return embedder_input(offer, _thinned(texts[row], config, draw, which) if told else None, opened=image)

    def column(rows: list[int], shown: list[bool], draws: list[int], which: int) -> list[Any]:
        # drawn, opened and preprocessed when their mini-batch is embedded; the seeds make it the same both times
        return [partial(side, *one, which) for one in zip(rows, shown, draws, strict=True)]

    def render(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {
            "anchor": column(batch["anchor"], batch["shown_anchor"], batch["draw"], 0),
            "positive": column(batch["candidate"], batch["shown_candidate"], batch["draw"], 1),
            "label": list(zip(batch["anchor"], batch["candidate"], strict=True)),
        }

    rows = lazy_rows(
        {
            "anchor": plan.anchors,
            "candidate": plan.candidates,
            "shown_anchor": plan.with_attributes[:, 0],
            "shown_candidate": plan.with_attributes[:, 1],
            "draw": np.arange(len(plan.anchors)),
        },
        render,
    )
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(out_dir),
        max_steps=config.max_steps,
        # accelerate deals consecutive batches to the processes: a step sees the same rows whatever their number
        per_device_train_batch_size=of_process,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=True,  # a mini-batch without images does not use the vision tower
        use_cpu=not torch.cuda.is_available(),
        seed=config.seed,
        batch_sampler=plan_batches,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=config.log_steps,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = SentenceTransformerTrainer(
        model=embedder.model,
        args=arguments,
        train_dataset=rows,
        loss=loss,
        data_collator=SentenceTransformerDataCollator(
            preprocess_fn=DeferredPreprocessing(
                embedder.model.preprocess,
                keep_bytes=config.keep_bytes if config.mini_batch_size else 0,
                num_workers=2 if config.mini_batch_size and torch.cuda.is_available() else 0,
            )
        ),
        callbacks=[LogLossStatistics(loss), *callbacks],
    )
    card.widget = []
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=on_first(lambda: last_checkpoint(out_dir, config.max_steps)))
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    if config.lora_r:
        _merge_adapters(embedder.model[0].model)
    embedder.settings = {**embedder.settings, "attributes_on": config.attributes_on}
    if rank() == 0:
        embedder.save(out_dir)
        write_json(out_dir / "history.json", history)
        remove_checkpoints(out_dir)
    return {"history": history, "num_pairs": len(rows), "num_products": num_products}


def _merge_adapters(model: Any) -> None:
    """Add LoRA's products to the weights they belong to, so that the folder loads without peft.

    The layers are injected into the model (no PeftModel is around it that could merge itself).
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    model._hf_peft_config_loaded = False  # save_pretrained would write the adapter alone
    del model.peft_config


def _thinned(attributes: KeyAttributes, config: AGCLStage, draw: int, side: int) -> KeyAttributes:
    """A few pairs left out, by a seed of run, draw and side: the same again when a run resumes."""
    if config.value_dropout <= 0:
        return attributes
    kept = np.random.default_rng((config.seed, draw, side)).random(len(attributes)) >= config.value_dropout
    return KeyAttributes(tuple(pair for pair, keep in zip(attributes, kept, strict=True) if keep))
