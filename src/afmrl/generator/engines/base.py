"""What every engine of the attribute generator takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Completion:
    """What a generator wrote for one offer."""

    text: str
    num_tokens: int
    ended: bool
    """Whether it ended by itself; one cut off at the limit is invalid."""
    failure: str = ""
    """Why there is none: a server refused this one request; "" otherwise."""


@dataclass(frozen=True, slots=True)
class Request:
    """One rendered offer."""

    offer_id: str
    messages: Sequence[Mapping[str, Any]]
    """Of `prompts.generator_messages`: the image's place, not its data."""
    image: str = ""
    """The image's path; "" if there is none."""
    json_schema: Mapping[str, Any] | None = field(default=None, hash=False)
    """Of the answer: engines that can be guided are held to it; the others have the words of the prompt alone."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How completions are drawn."""

    num_completions: int = 1
    temperature: float = 0.0
    """0 is greedy."""
    max_new_tokens: int = 96
    seed: int | None = None


@dataclass
class Usage:
    """What an engine has done since it was opened."""

    requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    """With the image's, where the engine counts them."""
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests ({self.retries:,} tried again), {self.prompt_tokens:,} tokens read, "
            f"{self.completion_tokens:,} written"
        )


class Engine(Protocol):
    """Completions of rendered offers."""

    usage: Usage

    def complete(
        self, requests: Sequence[Request], sampling: Sampling, *, batch_size: int, progress: bool
    ) -> list[list[Completion]]:
        """`sampling.num_completions` completions of each request, in their order.

        Args:
            batch_size: sequences that a local model takes together; servers batch by themselves.
        """
        ...
