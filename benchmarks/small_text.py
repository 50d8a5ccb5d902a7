"""The small model's text tower, trained once on labeled offers of many shops: a delta to MiniLM's weights.

    python benchmarks/small_text.py --data DIR --out FIRST
    python benchmarks/small_text.py --data DIR --start FIRST --seed 1 \\
        --set max_steps=80 learning_rate=4e-4 warmup_steps=8 single=0.1   # writes the package's text_delta.safetensors
    python benchmarks/small_text.py --data DIR --without wdc_lspc --out DELTA

Trained on the train splits of SETS, and on titles of UNLABELED sets as views of themselves. A product is left out if
one of its titles is also a title of a val or test split, of whatever set. `small_text_scores.py` scores it.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from torch import Tensor

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.attributes.words import tokenize
from afmrl.data.catalog import read_catalog
from afmrl.data.offer import Offer
from afmrl.data.splits import split_of
from afmrl.data.yaml_text import parse_yaml
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.small import build as small
from afmrl.embedder.small.text_delta import add_text_delta, delta_of, joined_deltas
from afmrl.embedder.text import embedder_text
from afmrl.files import fingerprint
from afmrl.losses.agcl import AttributeGuidedContrastiveLoss
from afmrl.losses.sampler import SimilarBatchSampler
from afmrl.retrieval.mining import mine_hard_negatives
from afmrl.terminal import quiet_libraries
from afmrl.training.lora import add_adapters
from common import add_data, minilm

SETS = ("wdc_products", "abt_buy", "amazon_google", "wdc_lspc", "grocery_store", "magento_luma")
UNLABELED = ("oa_mine", "ae110k")
CHUNK = 32
FEWEST_WORDS = 3
"""That a title keeps more of: two views of a short one would have nothing in common."""
TRAINED_SPLITS = ("train", "gallery", "")
"""Of grocery_store the gallery is one of all splits; sets without splits have no test."""


@dataclass(frozen=True)
class Training:
    """How the delta is trained."""

    max_seq_length: int = 40
    rank: int = 16
    trained_layers: str = r".*encoder\.layer\.[2-5]\..*(query|key|value|dense)"
    """The first two layers stay as they are, which saves a fifth of the time."""
    max_steps: int = 200
    batch_size: int = 64
    learning_rate: float = 5e-4
    warmup_steps: int = 20
    weight_decay: float = 0.01
    temperature: float = 0.05
    similar_group: int = 8
    similar_share: float = 0.8
    most_pairs: int = 4
    """Pairs of one product an epoch, at most."""
    changed: float = 0.5
    """Share of the titles that lose words."""
    lost_words: float = 0.2
    lost_numbers: float = 0.03
    """Of the words of such a title, without digits and with them."""
    with_attributes: float = 0.5
    """Share of the offers whose text carries what the seller states."""
    single: float = 0.3
    """Share of the products of one offer that an epoch has, each as two views of its own."""


def training_offers(data: Path) -> tuple[list[Offer], list[str]]:
    """Train splits of all sets, without products of held-out titles, and each offer's set.

    Products that share a title are one.
    """
    offers, names, held_out = [], [], set()
    for name in (*SETS, *UNLABELED):
        for offer in read_catalog(data / name / "products.jsonl", max_bad=0.05).offers:
            title = _key(offer)
            if split_of(offer) not in TRAINED_SPLITS:
                held_out.add(title)
            elif title:
                product = f"{name} {offer.product_id or offer.id}"
                offers.append(dataclasses.replace(offer, product_id=product))
                names.append(name)
    products = _joined_products(offers)
    lost = {product for offer, product in zip(offers, products, strict=True) if _key(offer) in held_out}
    kept = [row for row, product in enumerate(products) if product not in lost]
    return [dataclasses.replace(offers[row], product_id=products[row]) for row in kept], [names[row] for row in kept]


def _key(offer: Offer) -> str:
    return " ".join(tokenize(offer.title))


def _joined_products(offers: Sequence[Offer]) -> list[str]:
    """Product ids; two products that share a title are one: a shop's offer is in several sets."""
    first: dict[str, str] = {}
    parent: dict[str, str] = {}

    def root(product: str) -> str:
        while product in parent:
            product = parent[product]
        return product

    for offer in offers:
        ours, theirs = root(offer.product_id), root(first.setdefault(_key(offer), offer.product_id))
        if ours != theirs:
            parent[ours] = theirs
    return [root(offer.product_id) for offer in offers]


def training_pairs(offers: Sequence[Offer], training: Training, generator: np.random.Generator) -> np.ndarray:
    """(P, 2) rows of one epoch: offers of one product; a product of one offer with itself."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, offer in enumerate(offers):
        rows[offer.product_id].append(row)
    pairs = []
    for of_product in rows.values():
        if len(of_product) == 1 and generator.random() >= training.single:
            continue
        order = generator.permutation(of_product)
        for place in range(min(len(order), training.most_pairs) if len(order) > 2 else 1):
            pairs.append((int(order[place]), int(order[(place + 1) % len(order)])))
    return np.array(pairs)


def written(offer: Offer, training: Training, generator: np.random.Generator) -> str:
    """What the embedder reads of the offer, as another shop might have written it."""
    if generator.random() < training.changed:
        chance = generator.random(256)
        words = offer.title.split()
        kept = [
            word
            for word, draw in zip(words, np.resize(chance, len(words)), strict=True)
            if draw >= (training.lost_numbers if any(map(str.isdigit, word)) else training.lost_words)
        ]
        offer = dataclasses.replace(offer, title=" ".join(kept if len(kept) > FEWEST_WORDS else words))
    which: Any = "identifying" if generator.random() < training.with_attributes else "none"
    return embedder_text(offer, seller_attributes=which)


def train(
    data: Path,
    training: Training,
    work: Path,
    *,
    start: Path | None = None,
    without: Collection[str] = (),
    seed: int = 0,
) -> Embedder:
    """MiniLM with trained LoRA layers beside its weights.

    Args:
        start: a delta that is added before; None: MiniLM as it comes.
        work: where what MiniLM makes of the offers is kept.
        without: sets that it reads nothing of.
    """
    from transformers import get_linear_schedule_with_warmup

    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    offers, names = training_offers(data)
    embedder = Embedder.from_pretrained(minilm(), max_seq_length=training.max_seq_length)
    unit = kept_embeddings(embedder, offers, work)
    if start is not None:
        add_text_delta(embedder.model[0].model, start)
    rows = [row for row, name in enumerate(names) if name not in without]
    offers, unit = [offers[row] for row in rows], unit[rows]
    ids = [offer.product_id for offer in offers]
    model = embedder.model
    add_adapters(
        model, LoraConfig(r=training.rank, lora_alpha=2 * training.rank, target_modules=training.trained_layers)
    )
    loss = AttributeGuidedContrastiveLoss(
        model,
        [KeyAttributes()] * len(offers),
        temperature=training.temperature,
        weighting="none",
        rules=("label",),
        directions=("query_to_doc", "doc_to_query"),
        product_ids=ids,
    )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=training.weight_decay)
    schedule = get_linear_schedule_with_warmup(optimizer, training.warmup_steps, training.max_steps)
    model.train()
    for step, pairs in enumerate(training_batches(offers, unit, training, generator)):
        texts = [[written(offers[row], training, generator) for row in column] for column in pairs.T]
        value = loss.calculate_loss([[embedded(model, of_column)] for of_column in texts], torch.from_numpy(pairs))
        value.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            print(f"step {step}: loss {float(value.detach()):.3f}, {time.process_time():.0f} s", flush=True)
    return embedder


def kept_embeddings(embedder: Embedder, offers: Sequence[Offer], work: Path) -> np.ndarray:
    """(N, D), computed once."""
    path = work / f"minilm-{fingerprint([embedder.text(offer) for offer in offers])}.npy"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        np.save(path, embedder.encode(offers))
    return np.asarray(np.load(path))


def training_batches(
    offers: Sequence[Offer], unit: np.ndarray, training: Training, generator: np.random.Generator
) -> Iterator[np.ndarray]:
    """(B, 2) rows of the pairs of each step; products that MiniLM takes for alike are in one batch."""
    steps = training.max_steps
    while steps:
        pairs = training_pairs(offers, training, generator)
        ids = [offers[row].product_id for row in pairs[:, 0]]
        mined = mine_hard_negatives(None, 32, by="embeddings", embeddings=unit[pairs[:, 0]], product_ids=ids)
        batches = SimilarBatchSampler(
            pairs,
            training.batch_size,
            drop_last=True,
            neighbors=mined.rows,
            product_ids=ids,
            similar_group=training.similar_group,
            similar_share=training.similar_share,
            seed=int(generator.integers(2**31)),
        )
        for batch in itertools.islice(batches, steps):
            yield pairs[batch]
            steps -= 1


def embedded(model: Any, texts: Sequence[str]) -> Tensor:
    """(N, D) of texts, those of like length together: padding would cost half of the time."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    parts = [
        model(model.preprocess([texts[row] for row in order[start : start + CHUNK]]))["sentence_embedding"]
        for start in range(0, len(order), CHUNK)
    ]
    return torch.cat(parts)[np.argsort(order)]


@dataclass(frozen=True)
class Task:
    """Queries of a split that have a match in the gallery."""

    queries: list[Offer]
    gallery: list[Offer]


def task_of(data: Path, name: str, split: str, *, within: bool = False) -> Task:
    """A set's task; within: the gallery is that of the split."""
    offers = read_catalog(data / name / "products.jsonl", max_bad=0.05).offers
    gallery = [o for o in offers if o.extra["role"] != "query" and (not within or split_of(o) == split)]
    of_product: dict[str, list[str]] = defaultdict(list)
    for offer in gallery:
        of_product[offer.product_id].append(offer.id)
    queries = [
        o
        for o in offers
        if o.extra["role"] != "gallery" and split_of(o) == split and set(of_product[o.product_id]) - {o.id}
    ]
    return Task(queries, gallery)


CHOSEN_ON = {"abt_buy": False, "amazon_google": False, "wdc_lspc": True}
"""Sets with a val split beside what is reported, and whether the gallery is that of the split alone."""


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data(parser)
    parser.add_argument("--out", type=Path, default=Path(small.__file__).parent / small.DELTA_FILE)
    parser.add_argument("--work", type=Path, default=Path("runs/small_text"), help="what is computed once")
    parser.add_argument("--start", type=Path, help="a delta to go on from")
    parser.add_argument("--without", nargs="*", default=[], choices=(*SETS, *UNLABELED), help="sets not to read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], metavar="field=value", help="of Training")
    given = parser.parse_args()
    quiet_libraries()
    changes = {name: parse_yaml(value, name) for name, _, value in (pair.partition("=") for pair in given.set)}
    training = dataclasses.replace(Training(), **changes)
    embedder = train(given.data, training, given.work, start=given.start, without=given.without, seed=given.seed)
    delta = delta_of(embedder.model[0].model)
    save_file(delta if given.start is None else joined_deltas(load_file(given.start), delta), given.out)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes, {time.process_time():.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
