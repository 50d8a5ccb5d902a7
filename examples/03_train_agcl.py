"""Trains an embedder with the AGCL loss in sentence-transformers' own trainer.

The training pairs are two offers of one product. Every batch holds products that are similar by their key attributes,
so that the other offers of a batch are hard negatives. The loss weighs them by how similar their attributes are, and
leaves out those whose attributes say that they are the same product. One sees how often the nearest offer is the same
product, before and after some seconds of training: on a drawn catalog, products that were not trained on, and a tiny
model that begins with random weights. Good numbers need minutes and the images too.
"""

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from afmrl import (
    AttributeGuidedContrastiveLoss,
    Embedder,
    KeyAttributes,
    mine_hard_negatives,
    read_catalog,
    similar_batches,
)
from afmrl.embedder.tiny import build_tiny_model
from afmrl.sample.catalog import write_sample_catalog

folder = Path(tempfile.mkdtemp())
catalog = read_catalog(write_sample_catalog(folder / "catalog", families={"train": 60, "test": 10}))
offers = sorted((offer for offer in catalog if offer.title), key=lambda offer: offer.product_id)
pairs = [(a, b) for a, b in pairwise(offers) if a.product_id == b.product_id and a.extra["split"] == "train"]
attributes = [KeyAttributes.of(anchor.extra["visible_attributes"]) for anchor, _ in pairs]
product_ids = [anchor.product_id for anchor, _ in pairs]
embedder = Embedder.from_pretrained(build_tiny_model((offer.title for offer in offers), folder / "model"))


def recall_at_1() -> float:
    """Share of the test queries whose nearest gallery offer is the same product."""
    test = [offer for offer in offers if offer.extra["split"] == "test"]
    queries, gallery = ([o for o in test if o.extra["role"] == role] for role in ("query", "gallery"))
    nearest = np.argmax(embedder.encode(queries) @ embedder.encode(gallery).T, axis=1)
    found = [gallery[row].product_id == query.product_id for row, query in zip(nearest, queries, strict=True)]
    return float(np.mean(found))


mined = mine_hard_negatives(attributes, 16, product_ids=product_ids)
train_dataset = Dataset.from_dict(
    {
        "anchor": [anchor.title for anchor, _ in pairs],
        "positive": [positive.title for _, positive in pairs],
        "label": list(range(len(pairs))),  # the row of the pair's key attributes in the loss's table
    }
)
arguments = SentenceTransformerTrainingArguments(
    output_dir=str(folder / "training"), max_steps=60, per_device_train_batch_size=32, learning_rate=1e-3, seed=0,
    batch_sampler=similar_batches(mined.rows, product_ids), logging_steps=20, report_to="none", disable_tqdm=True,
    use_cpu=True, save_strategy="no",
)  # fmt: skip
loss = AttributeGuidedContrastiveLoss(embedder.model, attributes)
print(f"{len(pairs)} pairs; recall at 1 before: {recall_at_1():.2f}")
SentenceTransformerTrainer(model=embedder.model, args=arguments, train_dataset=train_dataset, loss=loss).train()
print(f"after {arguments.max_steps} steps: {recall_at_1():.2f}")
embedder.save(folder / "embedder")  # plain SentenceTransformer loads it too
