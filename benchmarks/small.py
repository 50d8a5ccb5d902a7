"""The small model: what it learns of images without labels, and how well it retrieves.

    python benchmarks/small.py statistics --data DIR   # writes src/afmrl/embedder/small/image_projection.safetensors
    python benchmarks/small.py zeroshot --data DIR     # the model as it comes, on real sets' val splits; Markdown
    python benchmarks/small.py grocery --data DIR      # trained on grocery_store's train split: R@1 on val
    python benchmarks/small.py mixed --data DIR        # galleries in which some offers lack a part; Markdown
    python benchmarks/small.py clothes --data DIR      # on unseen styles of magento_luma, the folds of magento_cv.py

`statistics` reads the images of grocery_store and magento_luma (train split and galleries, no labels): mean and
standard deviation of each pooled number, and the directions in which images differ most (PCA, half whitened), which
become the image projection. Settings were chosen on the val splits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.catalog import read_catalog
from afmrl.data.images import open_image
from afmrl.data.offer import Offer
from afmrl.data.yaml_text import parse_yaml
from afmrl.embedder.embedder import Embedder
from afmrl.embedder.small import build
from afmrl.embedder.small.towers import TwoTowers
from afmrl.files import file_hash, fingerprint
from afmrl.retrieval.colors import color_scores
from afmrl.retrieval.encoder import visible_part
from afmrl.retrieval.fusion import FusionWeights, learn_fusion_weights, lexical_scores
from afmrl.terminal import quiet_libraries, track
from afmrl.training.agcl import run_agcl
from afmrl.training.config import AGCLStage, Augmentation
from common import add_data
from magento_cv import ONE_IN, STYLE, deal_folds, style_of

IMAGE_SETS = ("grocery_store", "magento_luma")
WHITENING = 0.25
NUM_DIRECTIONS = 381
BATCH = 4
NUM_DRAWS = 10  # of the offers that lack a part


def raw_features(towers: TwoTowers, offers: list[Offer], work: Path) -> np.ndarray:
    """(N, F) numbers of offers' images before they are standardized; kept in `work`."""
    made_of = fingerprint(
        build.EFFICIENTNET.sha256, towers.levels, towers.image_dimension, [file_hash(offer.image) for offer in offers]
    )
    path = work / f"raw-{made_of}.npy"
    if path.is_file():
        return np.load(path)
    rows = []
    with torch.inference_mode():
        for start in track(range(0, len(offers), BATCH), "image features"):
            images = [open_image(offer.image) for offer in offers[start : start + BATCH]]
            rows.append(towers.raw_features(towers.pixels(images)).numpy())
    work.mkdir(parents=True, exist_ok=True)
    np.save(path, np.concatenate(rows))
    return np.concatenate(rows)


def learn(towers: TwoTowers, raw: np.ndarray) -> dict[str, torch.Tensor]:
    """Statistics of raw numbers, and the projection of what `ImageFeatures` makes of them."""
    towers.features.learn_statistics(torch.from_numpy(raw))
    features = towers.features(torch.from_numpy(raw)).numpy()
    _, scales, directions = np.linalg.svd(features, full_matrices=False)
    scale = (scales[:NUM_DIRECTIONS, None] / scales[0]) ** -WHITENING
    return {
        "mean": towers.features.mean.clone(),
        "std": towers.features.std.clone(),
        "projection": torch.from_numpy(directions[:NUM_DIRECTIONS] * scale).half(),
    }


def untaught_towers() -> TwoTowers:
    """Both towers, without statistics of images."""
    from transformers import AutoModel, AutoTokenizer

    text = build.MINILM.path().parent
    return TwoTowers(
        AutoModel.from_pretrained(text),
        AutoTokenizer.from_pretrained(text),
        build.image_tower(build.EFFICIENTNET.path()),
        build.image_processor(),
        levels=build.LEVELS,
    )


def statistics(data: Path, work: Path, out: Path) -> None:
    """Learn from the sets' images and write the package's file."""
    towers = untaught_towers()
    raw = []
    for name in IMAGE_SETS:
        offers = [o for o in read_catalog(data / name / "products.jsonl").offers if o.image]
        rows = [row for row, o in enumerate(offers) if o.extra["split"] in ("train", "gallery")]
        raw.append(raw_features(towers, offers, work)[rows])
    found = learn(towers, np.concatenate(raw))
    save_file(found, out)
    print(f"{out}: {sum(map(len, raw))} images, {out.stat().st_size:,} bytes")


def recall_at_1(
    embedder: Embedder, queries: Sequence[Offer], gallery: Sequence[Offer], modality: Any = "fused"
) -> float:
    """Share of the queries whose first hit is the same product; an offer is no hit of itself."""
    scores = embedder.encode(queries, modality=modality) @ embedder.encode(gallery, modality=modality).T
    return float(np.mean(first_is_right(scores, queries, gallery)))


def first_is_right(scores: np.ndarray, queries: Sequence[Offer], gallery: Sequence[Offer]) -> np.ndarray:
    """(Q,) whether each query's best offer of the gallery is its product."""
    ids = np.array([offer.id for offer in gallery])
    products = np.array([offer.product_id for offer in gallery])
    scores = np.where(np.array([offer.id for offer in queries])[:, None] == ids[None], -np.inf, scores)
    return products[scores.argmax(axis=1)] == np.array([offer.product_id for offer in queries])


def read_set(data: Path, name: str) -> list[Offer]:
    """A set's offers."""
    return list(read_catalog(data / name / "products.jsonl").offers)


def clothes(data: Path, work: Path, seed: int, changes: dict[str, Any]) -> None:
    """Cross-validation over styles: the model alone, and with words and colors whose weights are learned on val."""
    alone, fused, all_weights = [], [], []
    for number, fold in enumerate(folds_of(read_set(data, "magento_luma"))):
        config = changed(CLOTHES, changes)
        embedder = train(config, fold.training, work / f"clothes-{seed}-{number}", Augmentation(), seed)
        weights = _fusion(embedder, fold.validation)
        dense = embedder.encode(fold.queries) @ embedder.encode(fold.gallery).T
        alone.append(first_is_right(dense, fold.queries, fold.gallery))
        scores = weights.fuse_offers(dense, fold.queries, fold.gallery, None, None)
        fused.append(first_is_right(scores, fold.queries, fold.gallery))
        all_weights.append((weights.bm25, weights.color))
        print(number, alone[-1].mean(), fused[-1].mean(), all_weights[-1], flush=True)
    print(f"magento_luma, unseen styles, seed {seed}: R@1 alone {np.concatenate(alone).mean():.3f}, with words and "
          f"colors {np.concatenate(fused).mean():.3f}; weights {all_weights}", changes, flush=True)  # fmt: skip


def _fusion(embedder: Embedder, offers: Sequence[Offer]) -> FusionWeights:
    queries = [offer for offer in offers if offer.extra["role"] == "query"]
    gallery = [offer for offer in offers if offer.extra["role"] == "gallery"]
    products = np.array([offer.product_id for offer in gallery])
    relevant = [np.flatnonzero(products == query.product_id) for query in queries]
    words, attributes = lexical_scores(queries, gallery, None, None, extracted=False)
    dense = embedder.encode(queries) @ embedder.encode(gallery).T
    return learn_fusion_weights(dense, words, attributes, relevant, color_scores(queries, gallery))


def zero_shot(data: Path) -> str:
    """Markdown: the model as it comes."""
    embedder = Embedder.from_pretrained("small")
    lines = ["| set | queries | R@1 |", "|---|---|---|"]
    grocery = read_set(data, "grocery_store")
    queries, gallery = in_split(grocery, "val"), in_split(grocery, "gallery")
    found = recall_at_1(embedder, queries, gallery, "image")
    lines.append(f"| grocery_store, photographs to catalog images | {len(queries)} | {found:.3f} |")
    clothes = read_set(data, "magento_luma")
    for modality in ("text", "image", "fused"):
        right = np.concatenate([_right(embedder, fold, modality) for fold in folds_of(clothes)])
        lines.append(f"| magento_luma, {modality} | {len(right)} | {right.mean():.3f} |")
    return "\n".join(lines)


def _fold_right(fold: Fold, of_queries: np.ndarray, of_gallery: np.ndarray, row: dict[str, int]) -> np.ndarray:
    asked = of_queries[[row[offer.id] for offer in fold.queries]]
    return first_is_right(asked @ of_gallery[[row[offer.id] for offer in fold.gallery]].T, fold.queries, fold.gallery)


def _right(embedder: Embedder, fold: Fold, modality: Any) -> np.ndarray:
    scores = embedder.encode(fold.queries, modality=modality) @ embedder.encode(fold.gallery, modality=modality).T
    return first_is_right(scores, fold.queries, fold.gallery)


def mixed(data: Path) -> str:
    """Markdown: R@1 on magento_luma's unseen styles where a share of the gallery lacks its image, or its text."""
    embedder = Embedder.from_pretrained("small")
    offers = read_set(data, "magento_luma")
    row = {offer.id: place for place, offer in enumerate(offers)}
    gallery = [place for place, offer in enumerate(offers) if offer.extra["role"] == "gallery"]
    rows = {name: embedder.encode(offers, modality=name) for name in ("fused", "text", "image")}
    shares = (0.0, 0.25, 0.5, 0.75)
    lines = [
        "| query | gallery lacks | asked | " + " | ".join(f"{share:.0%}" for share in shares) + " |",
        "|---" * (3 + len(shares)) + "|",
    ]
    for query, missing in (("fused", "image"), ("text", "image"), ("fused", "text"), ("image", "text")):
        left = "text" if missing == "image" else "image"
        for asked, of_queries in (("as it is", rows[query]), ("with marks", embedder.as_queries(rows[query]))):
            cells = []
            for share in shares:
                right = []
                for seed in range(NUM_DRAWS):
                    lacks = np.zeros(len(offers), dtype=bool)
                    lacks[np.random.default_rng(seed).permutation(gallery)[: round(share * len(gallery))]] = True
                    of_gallery = np.where(lacks[:, None], rows[left], rows["fused"])
                    right += [_fold_right(fold, of_queries, of_gallery, row) for fold in folds_of(offers)]
                cells.append(f"{np.concatenate(right).mean():.3f}")
            lines.append(f"| {query} | {missing} | {asked} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def in_split(offers: Sequence[Offer], split: str) -> list[Offer]:
    """The offers of one split."""
    return [offer for offer in offers if offer.extra["split"] == split]


@dataclass(frozen=True)
class Fold:
    """Styles that are only scored, and the offers of all others."""

    queries: list[Offer]
    gallery: list[Offer]
    training: list[Offer]
    validation: list[Offer]


def folds_of(offers: Sequence[Offer], num_folds: int = 4) -> list[Fold]:
    """The folds of magento_cv.py."""
    fold_of = deal_folds(offers, num_folds)
    found = []
    for fold in range(num_folds):
        others = sorted(style for style, of in fold_of.items() if of != fold)
        order = np.random.default_rng(1 + fold).permutation(len(others))
        val = {others[place] for place in order[: len(others) // ONE_IN]}
        held_out = [offer for offer in offers if fold_of[style_of(offer)] == fold]
        rest = [offer for offer in offers if fold_of[style_of(offer)] != fold]
        found.append(
            Fold(
                [offer for offer in held_out if offer.extra["role"] == "query"],
                [offer for offer in held_out if offer.extra["role"] == "gallery"],
                [offer for offer in rest if style_of(offer) not in val],
                [offer for offer in rest if style_of(offer) in val],
            )
        )
    return found


BOTH: dict[str, Any] = {
    "temperature": 0.1,
    "weighting": "none",
    "weight_decay": 0.05,
    "rules": ("label",),
    "directions": ("query_to_doc", "doc_to_query"),
    "attributes_on": "none",
    "frozen_towers": ("image", "text"),
}
"""What training on photographs and on clothes have in common."""
GROCERY = AGCLStage(
    **{**BOTH, "temperature": 0.07},
    max_steps=150,
    batch_size=81,
    learning_rate=1e-3,
    similar_group=1,
    across_roles=0.75,
)
CLOTHES = AGCLStage(
    **BOTH, max_steps=50, batch_size=64, learning_rate=3e-4, group_column=STYLE, similar_group=4, self_pairs=True
)
PHOTOGRAPHS = Augmentation(crop=1.0, smallest_crop=0.55, mirror=True, light=0.2, contrast=0.2, tint=0.05, rotate=0.3)


def changed(config: AGCLStage, changes: dict[str, Any]) -> AGCLStage:
    """A stage with some fields changed, checked."""
    return AGCLStage(**{**config.model_dump(), **changes})


def train(config: AGCLStage, offers: list[Offer], out: Path, augmentation: Augmentation, seed: int) -> Embedder:
    """AGCL from the small model as it comes."""
    queries = [row for row, offer in enumerate(offers) if offer.extra.get("role") == "query"]
    none = [KeyAttributes()] * len(offers)
    run_agcl(config, "small", offers, none, out, queries=queries, augmentation=augmentation, seed=seed)
    return Embedder.from_pretrained(out)


def grocery(data: Path, work: Path, seed: int, changes: dict[str, Any]) -> None:
    """Train on the train split, score on val; both see images alone."""
    offers = [visible_part(offer, "image") for offer in read_set(data, "grocery_store")]
    training = in_split(offers, "train") + in_split(offers, "gallery")
    started = time.process_time()
    embedder = train(changed(GROCERY, changes), training, work / f"grocery-{seed}", PHOTOGRAPHS, seed)
    seconds = time.process_time() - started
    queries, gallery = in_split(offers, "val"), in_split(offers, "gallery")
    found = recall_at_1(embedder, queries, gallery, "image")
    print(f"grocery_store val, seed {seed}: R@1 {found:.3f}, {seconds:.0f} s of processor time", changes, flush=True)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands: Any = parser.add_subparsers(dest="command", required=True)
    for name in ("statistics", "zeroshot", "mixed", "grocery", "clothes"):
        command = commands.add_parser(name)
        add_data(command)
        command.add_argument("--work", type=Path, default=Path("runs/small"), help="features of images")
    commands.choices["statistics"].add_argument(
        "--out", type=Path, default=Path(build.__file__).parent / build.LEARNED_FILE
    )
    for name in ("grocery", "clothes"):
        commands.choices[name].add_argument("--seeds", type=int, nargs="+", default=[0])
        commands.choices[name].add_argument("--set", nargs="*", default=[], metavar="field=value", help="of AGCL")
    given = parser.parse_args()
    quiet_libraries()
    if given.command == "statistics":
        statistics(given.data, given.work, given.out)
    elif given.command in ("zeroshot", "mixed"):
        print({"zeroshot": zero_shot, "mixed": mixed}[given.command](given.data))
    else:
        changes = {name: parse_yaml(value, name) for name, _, value in (pair.partition("=") for pair in given.set)}
        for seed in given.seeds:
            {"grocery": grocery, "clothes": clothes}[given.command](given.data, given.work, seed, changes)


if __name__ == "__main__":
    main()
