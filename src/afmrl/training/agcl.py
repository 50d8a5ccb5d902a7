"""AGCL: attribute-guided contrastive learning of the embedder.

One step of AGCL:

1. A batch is drawn: pairs of two offers of one product, and beside each the products most similar to it
   (`batch_plan`, drawn for the whole run beforehand).
2. Each offer becomes text and image; half of the pairs carry key attributes in their text (`pair_rows`).
3. The embedder embeds both columns, mini-batch by mini-batch where `mini_batch_size` is set.
4. The loss contrasts each anchor with every candidate of the batch. Those of similar attributes weigh more; those whose
   attributes agree with the anchor's are left out as false negatives (`afmrl.losses.agcl`).
5. AdamW steps; the loss's statistics go into the training curve.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.relations import AttributeBM25
from afmrl.bulk.fingerprints import model_fingerprint
from afmrl.data.images import bound_pixels
from afmrl.data.offer import Offer
from afmrl.embedder.embedder import Embedder
from afmrl.errors import InputError
from afmrl.files import write_json
from afmrl.training.batch_plan import make_plan
from afmrl.training.checkpoints import remove_checkpoints, train_from_checkpoint
from afmrl.training.config import AGCLStage, Augmentation, Hardware
from afmrl.training.image_views import NUM_VIEWS, ImageViews, remove_image_views, write_image_views
from afmrl.training.lora import add_adapters, cast_weights, lora_config, merge_adapters
from afmrl.training.pair_rows import PairInputs, pair_rows
from afmrl.training.processes import on_first, rank, world_size
from afmrl.training.trainer_arguments import agcl_arguments

if TYPE_CHECKING:
    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss


def run_agcl(
    config: AGCLStage,
    base: str | Path,
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    out_dir: str | Path,
    *,
    queries: Collection[int] = (),
    text_attributes: Sequence[KeyAttributes] | None = None,
    hardware: Hardware | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train an embedder from `base` and write it to `out_dir`; resume from a checkpoint found there.

    Args:
        base: a plain MLLM folder, a sentence-transformers model, or a name on the hub.
        offers: training offers; those of one `product_id` are each other's positives.
        attributes: key attributes of each offer, which draw batches, weigh negatives and filter them.
        queries: rows of the offers that are queries, for `across_roles`.
        text_attributes: key attributes that the text of each offer carries; None: the same.
        hardware: as in a recipe; None: its defaults.
        augmentation: as in a recipe; None: offers as they are.
        seed: of pairs, batches, dropout and augmentation.

    Returns:
        {"history": [{"step", "loss", the loss's `last_statistics`, …}], "num_pairs", "num_products"}

    Raises:
        InputError: no positives, no `text_attributes` where the text is to carry generated ones, or an option that the
            loss refuses.
    """
    import torch
    from sentence_transformers import SentenceTransformerTrainer
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

    from afmrl.losses.deferred_inputs import KEEP_BYTES, DeferredPreprocessing
    from afmrl.losses.statistics import LogLossStatistics

    if config.text_attributes == "generated" and config.attributes_on != "none" and text_attributes is None:
        raise InputError(
            "agcl.text_attributes 'generated' needs what the generator writes of each offer (`text_attributes`); "
            "generate it first, or choose 'targets'"
        )
    hardware, augmentation = hardware or Hardware(), augmentation or Augmentation()
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)  # the same in every process: they start from equal LoRA layers
    lexical = AttributeBM25(attributes)
    plan = make_plan(offers, attributes, config, lexical, queries, seed=seed)
    embedder = _load(hardware, base, config)
    if not embedder.reads_images and not any(offer.title.strip() for offer in offers):
        raise InputError(f"{base}: reads text alone, and no offer has a title; train a model that reads images")
    views = None
    if "image" in config.frozen_towers:
        path = on_first(
            lambda: write_image_views(
                embedder.model[0],
                offers,
                out_dir,
                num_views=NUM_VIEWS,
                augmentation=augmentation,
                seed=seed,
                made_by=model_fingerprint(base),
            )
        )
        views = ImageViews(path, offers)
    inputs = PairInputs(
        embedder,
        offers,
        attributes,
        attributes if text_attributes is None else text_attributes,
        plan.batch_size,
        augmentation=augmentation,
        value_dropout=config.value_dropout,
        seed=seed,
        views=views,
    )
    rows = pair_rows(plan, inputs)
    arguments = agcl_arguments(config, hardware, seed, out_dir, plan.batch_size, embedder.model)
    loss = _loss(config, embedder, offers, attributes, lexical)
    preprocess = DeferredPreprocessing(
        embedder.model.preprocess,
        keep_bytes=KEEP_BYTES if config.mini_batch_size else 0,
        num_workers=2 if config.mini_batch_size and torch.cuda.is_available() else 0,
    )
    trainer = SentenceTransformerTrainer(
        model=embedder.model,
        args=arguments,
        train_dataset=rows,
        loss=loss,
        data_collator=SentenceTransformerDataCollator(preprocess_fn=preprocess),
        callbacks=[LogLossStatistics(loss), *callbacks],
    )
    embedder.model.model_card_data.widget = []
    history = train_from_checkpoint(trainer, out_dir)
    if hardware.lora_of("agcl"):
        merge_adapters(embedder.model)
    embedder.settings = {
        **embedder.settings,
        "attributes_on": config.attributes_on,
        "seller_attributes": config.seller_attributes,
    }
    if rank() == 0:
        cast_weights(embedder.model, hardware.precision)
        embedder.save(out_dir)
        write_json(out_dir / "history.json", history)
        remove_checkpoints(out_dir)
        remove_image_views(out_dir)
    return {"history": history, "num_pairs": len(rows), "num_products": plan.num_products}


def _load(hardware: Hardware, base: str | Path, config: AGCLStage) -> Embedder:
    """The base as an embedder to train: towers frozen, with LoRA layers, as it is asked for."""
    dtype = hardware.weights_dtype("agcl")
    embedder = Embedder.from_pretrained(
        base, dtype=dtype, max_seq_length=hardware.max_seq_length, seller_attributes=config.seller_attributes
    )
    if hardware.max_pixels:
        bound_pixels(embedder.model[0].processor, hardware.max_pixels)
    if config.frozen_towers:
        if not hasattr(embedder.model[0], "freeze"):
            raise InputError("agcl.frozen_towers: only the small model has towers that can be frozen; leave it out")
        embedder.model[0].freeze(config.frozen_towers)
    card = embedder.model.model_card_data
    card.generate_widget_examples = False  # it would embed examples at every save
    card.widget = [{}]  # any entry keeps the trainer from choosing examples among a thousand rendered rows
    if lora := hardware.lora_of("agcl"):
        add_adapters(embedder.model, lora_config(lora))
    return embedder


def _loss(
    config: AGCLStage,
    embedder: Embedder,
    offers: Sequence[Offer],
    attributes: Sequence[KeyAttributes],
    lexical: AttributeBM25,
) -> AttributeGuidedContrastiveLoss:
    from afmrl.losses.agcl import AttributeGuidedContrastiveLoss

    return AttributeGuidedContrastiveLoss(
        embedder.model,
        attributes,
        lexical=lexical,
        temperature=config.temperature,
        mini_batch_size=config.mini_batch_size,
        weighting=config.weighting,
        weight_positive=config.weight_positive,
        gain=config.gain,
        scaling=config.scaling,
        rules=config.rules,
        margin=config.margin,
        margin_warmup_steps=config.margin_warmup_steps,
        reference=embedder.encode(offers) if config.reference else None,  # nothing is trained yet: the base's own
        agreement_min_shared=config.agreement_min_shared,
        directions=config.directions,
        product_ids=[offer.product_id for offer in offers],  # for statistics, even where "label" is no rule
        gather_across_devices=world_size() > 1,
    )
