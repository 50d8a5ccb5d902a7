"""SFT: a generator learns to write the key attributes that can be seen and read of an offer.

One step of SFT: a batch of offers is drawn, each becomes a prompt (title, image, …), and the
model learns to write the offer's targets, `key: value; key: value`. The loss counts the completion's tokens alone.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.images import bound_pixels, bound_saved_pixels, open_image
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.files import write_json
from afmrl.generator.prompt import PROMPT_FILE, GeneratorPrompt, generator_messages
from afmrl.generator.small.build import generator_folder
from afmrl.training.augmentation import augment, is_active
from afmrl.training.checkpoints import remove_checkpoints, resume_by_own_names, train_from_checkpoint
from afmrl.training.config import Augmentation, Hardware, Precision, SFTStage
from afmrl.training.lazy_rows import lazy_rows
from afmrl.training.lora import cast_weights, lora_config
from afmrl.training.processes import rank
from afmrl.training.trainer_arguments import sft_arguments

PROCESSOR_FILES = (
    *("tokenizer", "special_tokens", "chat_template", "preprocessor", "processor", "video_", "vocab", "merges"),
    *("added_tokens", PROMPT_FILE),
)
"""How the names of the files begin that a generator's folder takes over from its base."""


def run_sft(
    config: SFTStage,
    base: str | Path,
    offers: Sequence[Offer],
    targets: Sequence[KeyAttributes],
    out_dir: str | Path,
    *,
    prompt: GeneratorPrompt | None = None,
    hardware: Hardware | None = None,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    callbacks: Sequence[Any] = (),
) -> dict[str, Any]:
    """Train the model in `base` to write `str(targets[i])` for offer i; write an ordinary folder to `out_dir`.

    Training resumes from a checkpoint found in `out_dir`.

    Args:
        prompt: what the model is shown and asked; it is saved with the model, and whoever loads that asks the same.
            None: what `base` was trained with.
        hardware: as in a recipe; None: its defaults.
        augmentation: as in a recipe; None: offers as they are.
        seed: of order, dropout and augmentation.

    Returns:
        {"history": [{"step", "loss", …}], "num_offers"}

    Raises:
        InputError: not one target for each offer, a prompt that asks for other than pairs, or batches that do not
            divide.
    """
    from trl import SFTTrainer
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from afmrl.generator.local_model import load_model, load_processor, visible_offers

    if len(offers) != len(targets) or not offers:
        raise InputError(f"SFT: {len(offers)} offers and {len(targets)} targets; give one target for each offer")
    base = generator_folder(base)
    hardware, augmentation = hardware or Hardware(), augmentation or Augmentation()
    lora = hardware.lora_of("sft")
    own = GeneratorPrompt.load(base)
    prompt = dataclasses.replace(prompt or own, normalized=own.normalized, any_schema=False)
    if prompt.answer != "pairs":
        raise InputError(f"SFT: a generator learns to answer in pairs, not in {prompt.answer!r}")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    processor = load_processor(base)
    if hardware.max_pixels:
        bound_pixels(processor, hardware.max_pixels)
    examples = _Examples(visible_offers(offers, processor), targets, prompt, processor, augmentation, seed)
    trainer = SFTTrainer(
        model=load_model(base, dtype=hardware.weights_dtype("sft")),
        args=sft_arguments(config, hardware, seed, out_dir, len(offers)),
        train_dataset=_training_rows(examples, config.max_steps * config.batch_size),
        processing_class=processor,
        data_collator=DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True),
        callbacks=list(callbacks),
        peft_config=lora_config(lora) if lora else None,
    )
    resume_by_own_names(trainer)
    history = train_from_checkpoint(trainer, out_dir)
    trained: Any = trainer.model
    if lora:
        trained = trained.merge_and_unload()
    if rank() == 0:
        save_generator(trained, base, out_dir, dtype=hardware.precision)
        prompt.save(out_dir)
        if hardware.max_pixels:
            bound_saved_pixels(out_dir, hardware.max_pixels)
        write_json(out_dir / "history.json", history)
        remove_checkpoints(out_dir)
    return {"history": history, "num_offers": len(offers)}


def sft_example(
    offer: Offer, target: KeyAttributes, images: Sequence[Any], prompt: GeneratorPrompt, processor: Any
) -> dict[str, Any]:
    """One row for trl's collator: the prompt, the completion to learn, and the offer's opened images."""
    messages = generator_messages(offer, prompt)
    return {
        "prompt": processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False),
        "completion": str(target) + processor.tokenizer.eos_token,
        "images": list(images),
    }


@dataclass(frozen=True)
class _Examples:
    """Offers and targets as rows to learn from, each draw augmented in another way."""

    offers: Sequence[Offer]
    targets: Sequence[KeyAttributes]
    prompt: GeneratorPrompt
    processor: Any
    augmentation: Augmentation
    seed: int

    @property
    def vary(self) -> bool:
        """Whether two draws of an offer differ."""
        return is_active(self.augmentation)

    def make(self, row: int, draw: int) -> dict[str, Any]:
        """One draw of an offer; the same again when a run resumes."""
        offer, target, seeds = self.offers[row], self.targets[row], (self.seed, draw)
        if self.vary:
            offer, image = augment(offer, target, self.augmentation, seeds, batch_seeds=seeds)
        else:
            image = open_image(offer.image) if offer.image else None
        return sft_example(offer, target, [] if image is None else [image], self.prompt, self.processor)


def _training_rows(examples: _Examples, num_drawn: int) -> Any:
    """A Dataset of all offers, or where draws differ of as many draws as training takes."""

    def render(rows: dict[str, list[int]]) -> dict[str, list[Any]]:
        made = [examples.make(row, draw) for row, draw in zip(rows["row"], rows["draw"], strict=True)]
        return {name: [one[name] for one in made] for name in ("prompt", "completion", "images")}

    num_offers = len(examples.offers)
    num_rows = num_offers * (math.ceil(num_drawn / num_offers) if examples.vary else 1)
    return lazy_rows({"row": np.arange(num_rows) % num_offers, "draw": np.arange(num_rows)}, render)


def unread_images(base: str | Path, offers: Sequence[Offer]) -> int:
    """How many of the offers' images the model in `base` does not read: all of them, or none."""
    from afmrl.generator.local_model import load_processor, reads_images

    images = sum(bool(offer.image) for offer in offers)
    return images if images and not reads_images(load_processor(generator_folder(base))) else 0


def save_generator(model: Any, base: str | Path, out_dir: Path, *, dtype: Precision = "float32") -> None:
    """Write weights and processor as one ordinary folder.

    The processor's files are the base's own, so every setting of them (and what it needs to load without torchvision)
    stays as it was.

    Args:
        dtype: of the weights in the file; `model` is turned into it.
    """
    cast_weights(model, dtype).save_pretrained(str(out_dir))
    base = Path(base)
    if base.is_dir():
        for name in PROCESSOR_FILES:
            for path in base.glob(f"{name}*"):
                shutil.copy2(path, out_dir / path.name)
        return
    from afmrl.generator.local_model import load_processor, reads_images

    processor = load_processor(base)
    (processor if reads_images(processor) else processor.tokenizer).save_pretrained(str(out_dir))
