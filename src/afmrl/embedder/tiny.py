"""The tiny default model: a Qwen2-VL of a few million parameters, built from a config with random weights."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from afmrl.files import write_json
from afmrl.generator.prompt import GENERATOR_INSTRUCTION

SPECIAL_TOKENS = {
    "pad": "<|endoftext|>",
    "start": "<|im_start|>",
    "end": "<|im_end|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
}
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATE_WORDS = ["user\n", "assistant\n", f"\n{GENERATOR_INSTRUCTION}"]
# of product images, which are bright: centered pixels let a young vision tower see colors and not the background
PIXEL_MEAN, PIXEL_STD = 0.7, 0.25
PATCH, MERGE = 14, 2  # pixels a patch, patches a side of one image token: Qwen2-VL's own


def build_tiny_model(
    texts: Iterable[str],
    folder: str | Path,
    *,
    seed: int = 0,
    vocab_size: int = 2048,
    hidden_size: int = 128,
    num_layers: int = 4,
    vision_size: int = 128,
    vision_layers: int = 2,
    min_image_side: int = 56,
    max_image_side: int = 84,
    initializer_range: float = 0.06,
) -> Path:
    """Write an ordinary Hugging Face folder: tokenizer trained on `texts`, image processor, random weights.

    The folder loads with plain `AutoProcessor` and `AutoModelForImageTextToText`, with or without torchvision.
    An image of `min_image_side` pixels squared takes 4 image tokens, one of `max_image_side` 9.

    Args:
        texts: what the tokenizer learns its words from; at most `vocab_size` tokens are kept, because an
            untrained model samples ids that no token has where the embedding table is larger.
        seed: of the weights.
        initializer_range: std of the weights; the library's 0.02 is meant for models ten times as wide, and at this
            width lets the image's signal vanish at the start.
    """
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_processor(texts, folder, vocab_size, min_image_side, max_image_side)
    head_dim = 32
    config = Qwen2VLConfig(
        text_config={
            "vocab_size": ids["vocab_size"],
            "hidden_size": hidden_size,
            "intermediate_size": 3 * hidden_size,
            "num_hidden_layers": num_layers,
            "num_attention_heads": hidden_size // head_dim,
            "num_key_value_heads": hidden_size // head_dim,
            "max_position_embeddings": 4096,
            # time, height, width: together half a head
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["start"],
            "eos_token_id": ids["end"],
            "pad_token_id": ids["pad"],
            "tie_word_embeddings": True,
            "initializer_range": initializer_range,
        },
        vision_config={
            "initializer_range": initializer_range,
            "depth": vision_layers,
            "embed_dim": vision_size,
            "hidden_size": hidden_size,
            "num_heads": vision_size // head_dim,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
        },
        image_token_id=ids["image"],
        video_token_id=ids["video"],
        vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"],
        tie_word_embeddings=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Qwen2VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["end"]
    model.generation_config.pad_token_id = ids["pad"]
    model.generation_config.bos_token_id = ids["start"]
    model.save_pretrained(folder)
    return folder


def _write_processor(
    texts: Iterable[str], folder: Path, vocab_size: int, min_side: int, max_side: int
) -> dict[str, int]:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # a tiny model has no capacity to learn that RED is red
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    # "; color:" may become one token and " red" another, so that a pair takes two tokens to write
    words = Regex(r"(; )?\w+:|\s?\w+|\s?[^\w\s]+|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(words, behavior="isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *TEMPLATE_WORDS * 100], trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL_TOKENS["pad"],
        eos_token=SPECIAL_TOKENS["end"],
        # the processor below asks the tokenizer for its image token
        extra_special_tokens={"image_token": SPECIAL_TOKENS["image"]},
        padding_side="left",
        model_max_length=2048,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(folder)

    image: dict[str, Any] = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": [PIXEL_MEAN] * 3,
        "image_std": [PIXEL_STD] * 3,
        "size": {"shortest_edge": min_side**2, "longest_edge": max_side**2},
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
    }
    # Qwen2-VL's own processor class wants torchvision for its video half; this library class takes the same
    # image processor and tokenizer, makes the same tokens, and needs no torchvision.
    write_json(folder / "preprocessor_config.json", {**image, "processor_class": "PaddleOCRVLProcessor"})
    write_json(folder / "processor_config.json", {"processor_class": "PaddleOCRVLProcessor", "image_processor": image})
    video = {**image, "video_processor_type": "Qwen2VLVideoProcessor"}
    del video["image_processor_type"]
    write_json(folder / "video_preprocessor_config.json", video)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    ids: dict[str, int] = {name: int(tokenizer.token_to_id(token) or 0) for name, token in SPECIAL_TOKENS.items()}
    return {**ids, "vocab_size": tokenizer.get_vocab_size()}
