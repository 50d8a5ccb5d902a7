"""Reinforces a generator of key attributes in trl's GRPOTrainer: the reward is how well they retrieve.

The generator writes attributes of a query. The frozen embedder reads them after the query's title, and the reward is
1 where an offer of the same product is among the first k of the gallery. What is no list of `key: value` pairs earns
the least. One sees two steps and the rewards of each. The tiny model has random weights, so all that it writes is
invalid and earns -0.1; a real run begins with a generator that was fine-tuned (SFT) on some attributes.
"""

import tempfile
from pathlib import Path

import numpy as np
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from afmrl import Embedder, KeyAttributes, RetrievalReward, read_catalog
from afmrl.embedder.tiny import build_tiny_model
from afmrl.generator.prompt import generator_messages
from afmrl.sample.catalog import write_sample_catalog

folder = Path(tempfile.mkdtemp())
catalog = read_catalog(write_sample_catalog(folder / "catalog", families={"reward": 6}))
offers = [offer for offer in catalog if offer.title]
model_path = build_tiny_model((offer.title for offer in offers), folder / "model")
queries = [offer for offer in offers if offer.extra["role"] == "query"]
gallery = [offer for offer in offers if offer.extra["role"] == "gallery"]
products = np.array([offer.product_id for offer in gallery])
relevant = [np.flatnonzero(products == query.product_id) for query in queries]

embedder = Embedder.from_pretrained(model_path)
end = embedder.model.tokenizer.eos_token_id
reward = RetrievalReward(embedder.encode, queries, embedder.encode(gallery), relevant, k=10, end_token_ids=[end])

# Any completion can be scored by hand.
right = str(KeyAttributes.of(queries[0].extra["visible_attributes"]))
scored = reward.score([0, 0], [right, "a red dress, I think"])
print(f"{right!r}: rank {scored.ranks[0]}, reward {scored.reward[0]:.2f}; free text: {scored.reward[1]:.2f}")

prompts = [[{"role": "user", "content": generator_messages(query)[0]["content"][-1]["text"]}] for query in queries]
arguments = GRPOConfig(
    output_dir=str(folder / "training"), max_steps=2, per_device_train_batch_size=8, num_generations=4,
    max_completion_length=16, logging_steps=1, report_to="none", disable_tqdm=True, use_cpu=True, seed=0,
)  # fmt: skip
trainer = GRPOTrainer(
    model=str(model_path),
    reward_funcs=reward,  # type: ignore[arg-type]
    args=arguments,
    train_dataset=Dataset.from_dict({"prompt": prompts, "query_row": list(range(len(queries)))}),
)
trainer.train()
for step in trainer.state.log_history[:2]:
    print(f"step {step['step']}: mean reward {step['reward']:.2f}")
