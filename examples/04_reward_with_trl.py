"""Reinforces a generator of key attributes in trl's GRPOTrainer: the reward is how well they retrieve.

The generator writes attributes of a query. The frozen embedder reads them after the query's title, and the reward is
1 where an offer of the same product is among the first k of the gallery. What is not a list of `key: value` pairs earns
-0.1. A tiny model with random weights is first taught to write such lists (SFT), which takes half a minute. One sees
the mean reward of two steps, and what the generator writes after them. A real run takes hundreds of steps.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from afmrl import AttributeGenerator, Embedder, KeyAttributes, Offer, RetrievalReward, read_catalog
from afmrl.embedder.tiny import build_tiny_model
from afmrl.sample.catalog import write_sample_catalog


def prompt(offer: Offer) -> list[dict[str, str]]:
    """What the generator is asked: its usual prompt, here without the image."""
    return [{"role": "user", "content": f"{offer.title}\nKey attributes:"}]


def visible(offer: Offer) -> str:
    """What can be read in a drawn offer's title or seen in its image."""
    return str(KeyAttributes.of(offer.extra["visible_attributes"]))


folder = Path(tempfile.mkdtemp())
catalog = read_catalog(write_sample_catalog(folder / "catalog", families={"train": 20, "reward": 6}))
offers = [offer for offer in catalog if offer.title]
base = build_tiny_model([f"{offer.title}; {visible(offer)}" for offer in offers] * 4, folder / "base")
common: dict[str, Any] = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "seed": 0}

taught = [offer for offer in offers if offer.extra["split"] == "train"]
answers = [{"prompt": prompt(o), "completion": [{"role": "assistant", "content": visible(o)}]} for o in taught]
steps: dict[str, Any] = {"max_steps": 60, "per_device_train_batch_size": 32, "learning_rate": 3e-3}
arguments = SFTConfig(str(folder / "sft"), logging_steps=20, **steps, **common)
sft = SFTTrainer(str(base), args=arguments, train_dataset=Dataset.from_list(answers))
sft.train()
sft.save_model(str(folder / "generator"))

rewarded = [offer for offer in offers if offer.extra["split"] == "reward"]
queries = [offer for offer in rewarded if offer.extra["role"] == "query"]
gallery = [offer for offer in rewarded if offer.extra["role"] == "gallery"]
products = np.array([offer.product_id for offer in gallery])
relevant = [np.flatnonzero(products == query.product_id) for query in queries]
embedder = Embedder.from_pretrained(base)
end = embedder.model.tokenizer.eos_token_id
reward = RetrievalReward(embedder.encode, queries, embedder.encode(gallery), relevant, k=5, end_token_ids=[end])

rows = Dataset.from_dict({"prompt": [prompt(query) for query in queries], "query_row": list(range(len(queries)))})
steps = {"max_steps": 2, "per_device_train_batch_size": 16, "num_generations": 4, "max_completion_length": 64}
trainer = GRPOTrainer(
    model=str(folder / "generator"), reward_funcs=reward, train_dataset=rows,
    args=GRPOConfig(str(folder / "grpo"), logging_steps=1, **steps, **common),
)  # fmt: skip
trainer.train()
for step in trainer.state.log_history[:2]:
    print(f"step {step['step']}: mean reward {step['reward']:.2f}, valid completions {step['valid']:.0%}")
trainer.save_model(str(folder / "reinforced"))
print(queries[0].title, "->", AttributeGenerator.from_pretrained(folder / "reinforced").attributes(queries[:1])[0])
