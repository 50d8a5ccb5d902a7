"""Tiny models of random weights with the layers of Qwen2.5-VL and of Qwen3-VL."""

import json


def qwen3_vl(texts, folder):
    """Qwen3-VL-Embedding's layout: a sentence-transformers folder around a Qwen3-VL of 16-pixel patches."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from afmrl.embedder.tiny import _write_processor

    folder.mkdir(parents=True)
    ids = _write_processor(texts, folder, 400, 64, 96)
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        data = json.loads(path.read_text())
        data.get("image_processor", data)["patch_size"] = 16
        path.write_text(json.dumps(data))
    text = {"vocab_size": ids["vocab_size"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 4,
            "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5],
                                "mrope_interleaved": True},
            "bos_token_id": ids["start"], "eos_token_id": ids["end"], "pad_token_id": ids["pad"]}  # fmt: skip
    vision = {"depth": 3, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "patch_size": 16,
              "spatial_merge_size": 2, "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1, 2],
              "num_position_embeddings": 64}  # fmt: skip
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{f"{name}_token_id": ids[name] for name in ("image", "video", "vision_start", "vision_end")},
    )
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = ids["end"], ids["pad"]
    model.save_pretrained(folder)
    return folder


def qwen2_5_vl(texts, folder):
    """Qwen2.5-VL: windowed attention in the vision tower, gated layers."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from afmrl.embedder.tiny import _write_processor

    folder.mkdir(parents=True)
    ids = _write_processor(texts, folder, 400, 56, 84)
    text = {"vocab_size": ids["vocab_size"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
            "bos_token_id": ids["start"], "eos_token_id": ids["end"], "pad_token_id": ids["pad"],
            "tie_word_embeddings": True}  # fmt: skip
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 2, "patch_size": 14,
              "spatial_merge_size": 2, "out_hidden_size": 64, "window_size": 56,
              "fullatt_block_indexes": [1]}  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        tie_word_embeddings=True,
        **{f"{name}_token_id": ids[name] for name in ("image", "video", "vision_start", "vision_end")},
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = ids["end"], ids["pad"]
    model.save_pretrained(folder)
    return folder
