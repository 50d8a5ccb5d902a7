"""The attribute generator: one rendering of offers and one reading of completions, over any engine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from afmrl.attributes.key_attributes import InvalidCompletion, KeyAttributes
from afmrl.data.images import MAX_SIDE
from afmrl.data.offer import Offer
from afmrl.errors import InputError
from afmrl.generator.answers import parse_answer
from afmrl.generator.engines.base import Completion, Engine, Request, Sampling
from afmrl.generator.prompt import GeneratorPrompt, generator_messages
from afmrl.generator.small.build import generator_folder

ADDRESSES = ("openai:", "trained:", "recorded:")
"""How the address of a generator begins that is not a local model."""


class AttributeGenerator:
    """Writes key attributes of offers.

    `num_invalid` counts the completions of the last `attributes` call that were no valid list of key attributes,
    `invalid` says which and why, by offer id.

    Args:
        engine: who writes.
        prompt: what it is shown and asked; None: the default of trained generators.
        lenient: read completions as those of general models (`answers.parse_answer`: JSON, code fences, chatter)
            instead of strictly; None: where the prompt asks for JSON, and of the small generator, which now and then
            writes a key twice.
    """

    def __init__(self, engine: Engine, prompt: GeneratorPrompt | None = None, *, lenient: bool | None = None) -> None:
        self.engine = engine
        self.prompt = prompt or GeneratorPrompt()
        self.lenient = (self.prompt.answer == "json" or self.prompt.any_schema) if lenient is None else lenient
        if self.prompt.answer == "json" and not self.lenient:
            raise InputError("generator: answers in JSON are read leniently; leave lenient out, or ask for pairs")
        self.num_invalid = 0
        self.invalid: dict[str, str] = {}

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        prompt: GeneratorPrompt | None = None,
        lenient: bool | None = None,
    ) -> AttributeGenerator:
        """A generator by its address, as `open_generator` lists them: a folder or hub name, a server, a recording.

        Args:
            path: "small", or a local model: any AutoModelForImageTextToText, or any AutoModelForCausalLM, which reads
                text alone.
            device, dtype: of a local model.
            prompt: None: the one that it was trained with; for a server that of general models.
            lenient: see the class.

        Raises:
            InputError: it does not load.
        """
        if str(path).startswith(ADDRESSES):
            given = {name: value for name, value in (("device", device), ("dtype", dtype)) if value is not None}
            return open_generator(path, prompt=prompt, lenient=lenient, **given)
        from afmrl.generator.engines.local import LocalEngine

        path = generator_folder(path)
        engine = LocalEngine.from_pretrained(path, device=device, dtype=dtype)
        return cls(engine, prompt or GeneratorPrompt.load(path), lenient=lenient)

    @property
    def model(self) -> Any:
        """A local engine's model; other engines have none."""
        return cast(Any, self.engine).model

    @property
    def processor(self) -> Any:
        """A local engine's processor; other engines have none."""
        return cast(Any, self.engine).processor

    @property
    def reads_images(self) -> bool:
        """Whether offers are shown with their images."""
        return bool(getattr(self.engine, "reads_images", True))

    def requests(self, offers: Sequence[Offer]) -> list[Request]:
        """The offers as every engine gets them."""
        return [
            Request(offer.id, generator_messages(offer, self.prompt), offer.image, self.prompt.json_schema(offer))
            for offer in offers
        ]

    def generate(
        self,
        offers: Sequence[Offer],
        *,
        num_completions: int = 1,
        temperature: float = 0.0,
        max_new_tokens: int | None = None,
        batch_size: int = 64,
        seed: int | None = None,
        progress: bool = False,
        failures: bool = False,
    ) -> list[list[Completion]]:
        """`num_completions` completions of each offer, in the offers' order.

        Args:
            temperature: 0 is greedy; above, samples.
            max_new_tokens: a completion that needs more is cut off, and invalid; None: 96, for JSON 512.
            batch_size: sequences that a local model takes together, of similar prompt length; servers batch by
                themselves.
            seed: of the sampling.
            failures: requests that a server refused are given back even where it refused every one.

        Raises:
            InputError: several greedy completions, which would be one; numbers below their least; not one request was
                answered.
        """
        if max_new_tokens is None:
            max_new_tokens = 512 if self.prompt.answer == "json" else 96
        for name, value, least in (
            ("num_completions", num_completions, 1),
            ("max_new_tokens", max_new_tokens, 1),
            ("batch_size", batch_size, 1),
            ("temperature", temperature, 0),
        ):
            if value < least:
                raise InputError(f"generator: {name}={value}: at least {least}")
        if num_completions > 1 and temperature == 0:
            raise InputError(
                f"generator: {num_completions} completions at temperature 0 would all be one; set a temperature"
            )
        if not offers:
            return []
        sampling = Sampling(num_completions, temperature, max_new_tokens, seed)
        found = self.engine.complete(self.requests(offers), sampling, batch_size=batch_size, progress=progress)
        if not failures and all(completion.failure for completions in found for completion in completions):
            where = getattr(self.engine, "url", "")
            raise InputError(f"generator {where}: every request was refused, the first: {found[0][0].failure}")
        return found

    def read(self, completion: Completion, offer: Offer) -> KeyAttributes:
        """The key attributes in a completion, in the schema's keys and spelling where the prompt has one.

        Raises:
            InvalidCompletion: it holds no key attributes; the message says why.
        """
        if completion.failure:
            raise InvalidCompletion(completion.failure)
        if not completion.ended:
            raise InvalidCompletion("cut off at the limit of tokens")
        attributes = parse_answer(completion.text) if self.lenient else KeyAttributes.parse(completion.text)
        return self.prompt.in_schema(attributes, offer)

    def attributes(self, offers: Sequence[Offer], **options: Any) -> list[KeyAttributes]:
        """Key attributes of each offer (one greedy completion); an invalid completion counts as none.

        Args:
            options: of `generate`.
        """
        self.num_invalid, self.invalid = 0, {}
        found = []
        for offer, (completion,) in zip(offers, self.generate(offers, **options), strict=True):
            try:
                found.append(self.read(completion, offer))
            except InvalidCompletion as error:
                self.num_invalid += 1
                self.invalid[offer.id] = str(error)
                found.append(KeyAttributes())
        return found


def open_generator(
    address: str | Path,
    *,
    prompt: GeneratorPrompt | None = None,
    lenient: bool | None = None,
    **options: Any,
) -> AttributeGenerator:
    """A generator by its address.

    | address | engine |
    |---|---|
    | a folder or hub name | a local model |
    | `small` | SmolLM2 from its package, taught to write attributes of titles |
    | `openai:http://host:8000/v1#model` | any OpenAI-compatible server; without `#model` the only one it serves |
    | `trained:FOLDER@openai:…` | the generator in FOLDER, served there: asked as it was trained to be |
    | `recorded:FILE` | what was recorded in a JSONL file, and nothing else |
    | `recorded:FILE@ADDRESS` | the same; what is missing is asked of ADDRESS and recorded |

    Args:
        prompt: None: what a local model was trained with; of a server the general model's (`GeneratorPrompt.
            for_teacher`), of a recording that of what was recorded.
        lenient: of `AttributeGenerator`.
        options: of the engine: `device`, `dtype` (local); see `ServerEngine`.

    Raises:
        InputError: the address or an option is not valid, or the engine cannot be opened.
    """
    address = str(address)
    kind, separator, rest = address.partition(":")
    if separator and kind == "openai":
        from afmrl.generator.engines.server import ServerEngine

        url, _, model = rest.partition("#")
        _refuse_unknown(options, ServerEngine.OPTIONS, address)
        engine = ServerEngine(url, model, **options)
        return AttributeGenerator(engine, prompt or GeneratorPrompt.for_teacher(), lenient=lenient)
    if separator and kind == "trained":
        folder, _, served = rest.partition("@")
        if not served.startswith("openai:") or not (Path(folder) / "config.json").is_file():
            raise InputError(
                f"generator {address}: expected trained:FOLDER@openai:http://host:8000/v1#model, FOLDER the generator "
                "that is served there (its prompt is read from it)"
            )
        if prompt is not None:
            raise InputError(f"generator {address}: was trained with a prompt of its own; give none")
        shown: dict[str, Any] = {"max_image_side": MAX_SIDE, **options}  # images as large as in training
        return open_generator(served, prompt=GeneratorPrompt.load(folder), lenient=lenient, **shown)
    if separator and kind == "recorded":
        from afmrl.generator.engines.recorded import RecordedEngine

        file, _, source = rest.partition("@")
        if source:
            asked = open_generator(source, prompt=prompt, lenient=lenient, **options)
            return AttributeGenerator(RecordedEngine(file, asked.engine, asked.prompt), asked.prompt, lenient=lenient)
        _refuse_unknown(options, (), address)
        played = RecordedEngine(file)
        return AttributeGenerator(played, prompt or played.prompt, lenient=lenient)
    _refuse_unknown(options, ("device", "dtype"), address)
    return AttributeGenerator.from_pretrained(address, prompt=prompt, lenient=lenient, **options)


def _refuse_unknown(options: dict[str, Any], known: Sequence[str], address: str) -> None:
    if unknown := sorted(set(options) - set(known)):
        raise InputError(f"generator {address}: unknown option {unknown[0]!r}; known: {', '.join(known) or 'none'}")
