"""The server engine: any OpenAI-compatible chat server (vLLM, SGLang, a hosted teacher)."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Any

from afmrl.errors import InputError
from afmrl.generator.engine import Completion, Request, Sampling, Usage
from afmrl.generator.picture_url import picture_url

log = logging.getLogger(__name__)
RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
REFUSED = frozenset({400, 413, 422})
"""What a server answers to one request that it does not like, where others may still go well."""
CUT_OFF = frozenset({"length", "content_filter"})
"""What a server says of an answer that did not end by itself."""
LONGEST_WAIT = 300.0
"""Seconds: no `Retry-After` is waited for longer."""
Guide = Callable[[Mapping[str, Any]], dict[str, Any]]
GUIDES: tuple[tuple[str, Guide], ...] = (
    (
        "response_format json_schema",
        lambda schema: {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "key_attributes", "schema": schema, "strict": True},
            }
        },
    ),
    ("guided_json", lambda schema: {"guided_json": schema}),
    ("response_format json_object", lambda schema: {"response_format": {"type": "json_object"}}),
    ("the prompt alone", lambda schema: {}),
)
"""Ways to hold a server to a JSON schema, the best first; the next is tried where a server answers 400."""


class ServerEngine:
    """Completions by an OpenAI-compatible server, over `POST {url}/chat/completions`.

    A request that fails for a passing reason (429, 5xx, no connection, no answer in time) is tried again, after the
    time that `Retry-After` names or twice the last wait. A request that the server refuses (400, 413, 422) has a
    Completion with `failure`; where it refuses every one, that is an error.

    Args:
        url: the server's address up to and with /v1.
        model: its name there; "": the only one that the server has.
        api_key_env: environment variable that holds the key; it is sent, and never printed or saved.
        concurrency: requests under way at a time.
        timeout: seconds for one answer.
        max_retries: of one request.
        max_image_side: pictures are brought down to this many pixels a side before they travel.
        top_p: of sampling; 1.0 samples from all tokens, as the local engine does.
        extra: further fields of every request's body, as this server knows them.

    Raises:
        InputError: the address is none, the server is not there, or has several models and none is named.
    """

    OPTIONS = ("api_key_env", "concurrency", "timeout", "max_retries", "max_image_side", "top_p", "extra")

    def __init__(
        self,
        url: str,
        model: str = "",
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout: float = 300.0,
        max_retries: int = 6,
        max_image_side: int = 1024,
        top_p: float = 1.0,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        import httpx2

        if not url.startswith(("http://", "https://")):
            raise InputError(f"generator openai:{url}: expected openai:http://host:8000/v1#model")
        for name, value in (("concurrency", concurrency), ("max_image_side", max_image_side), ("timeout", timeout)):
            if value <= 0:
                raise InputError(f"generator openai:{url}: {name}={value} must be above 0")
        if max_retries < 0:
            raise InputError(f"generator openai:{url}: max_retries={max_retries} must be at least 0")
        self.url = url.rstrip("/")
        self.concurrency, self.max_retries, self.max_image_side = concurrency, max_retries, max_image_side
        self.top_p, self.extra = top_p, dict(extra or {})
        self.usage = Usage()
        self._api_key_env = api_key_env
        self._key = os.environ.get(api_key_env, "").strip()
        self._lock = Lock()
        self._stopped = Event()
        self._guide = 0
        self._waiting = False
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 30.0)),
            limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
        )
        self.model_name = model or self._only_model()

    def complete(
        self, requests: Sequence[Request], sampling: Sampling, *, batch_size: int, progress: bool
    ) -> list[list[Completion]]:
        """See `Engine.complete`; the server batches by itself, so `batch_size` is nothing to it."""
        from rich.progress import track

        self._stopped.clear()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="server-engine")
        try:
            answers: Any = pool.map(lambda request: self._answer(request, sampling), requests)
            written = list(track(answers, "writing attributes", len(requests)) if progress else answers)
        finally:
            self._stopped.set()  # after a failure or Ctrl-C nobody waits for a next try
            pool.shutdown(wait=True, cancel_futures=True)
        if written and all(completion.failure for completions in written for completion in completions):
            raise InputError(f"generator {self.url}: every request was refused, the first: {written[0][0].failure}")
        return written

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _answer(self, request: Request, sampling: Sampling) -> list[Completion]:
        body: dict[str, Any] = {
            "model": self.model_name,
            "messages": self._messages(request),
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            **({"top_p": self.top_p} if sampling.temperature > 0 else {}),
            **self.extra,
        }
        completions: list[Completion] = []
        while len(completions) < sampling.num_completions:  # some servers give one, whatever n says
            missing = sampling.num_completions - len(completions)
            if missing > 1:
                body["n"] = missing
            else:
                body.pop("n", None)
            if sampling.seed is not None:
                body["seed"] = sampling.seed + len(completions)
            try:
                given = self._completions(self._guided(body, request))
            except _Refused as refused:
                return [Completion("", 0, False, str(refused))] * sampling.num_completions
            completions += given[:missing]
        return completions

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        """The rendered messages, with the picture where its place is."""
        if not request.image:
            return [dict(message) for message in request.messages]
        picture = {"type": "image_url", "image_url": {"url": picture_url(request.image, max_side=self.max_image_side)}}
        return [
            {**message, "content": [picture if part["type"] == "image" else part for part in message["content"]]}
            for message in request.messages
        ]

    def _guided(self, body: dict[str, Any], request: Request) -> Mapping[str, Any]:
        """The answer to a request whose answer is held to its schema as well as this server can."""
        if request.json_schema is None:
            return self._post("/chat/completions", body)
        first: _Refused | None = None
        for guide in range(self._guide, len(GUIDES)):
            try:
                answer = self._post("/chat/completions", {**body, **GUIDES[guide][1](request.json_schema)})
            except _Refused as refused:
                if refused.status == 413:  # too large, however it is guided
                    raise
                first = first or refused
            else:
                with self._lock:
                    self._guide = max(self._guide, guide)
                return answer
        assert first is not None
        raise first  # not the guide's fault, so the guide stays

    def _completions(self, answer: Mapping[str, Any]) -> list[Completion]:
        try:
            choices = answer["choices"]
            used = answer.get("usage") or {}
            texts = [(choice["message"].get("content") or "", choice.get("finish_reason")) for choice in choices]
            written = int(used.get("completion_tokens") or 0)
            read = int(used.get("prompt_tokens") or 0)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise InputError(
                f"generator {self.url}: its answer is no chat completion ({type(error).__name__}: {error}); "
                "is the address that of an OpenAI-compatible server, up to and with /v1?"
            ) from error
        if not texts:
            raise _Refused(200, "the server gave no choice")
        with self._lock:
            self.usage.prompt_tokens += read
            self.usage.completion_tokens += written
        return [
            # servers count all choices' tokens together
            Completion(str(text).strip(), written // len(texts), ended=reason not in CUT_OFF)
            for text, reason in texts
        ]

    def _only_model(self) -> str:
        try:
            data = self._request("GET", "/models", None).get("data")
            models = [str(model["id"]) for model in data or []]
        except (_Refused, KeyError, TypeError) as error:
            raise InputError(
                f"generator openai:{self.url}: does not say which models it has ({error}); name one behind '#'"
            ) from error
        if len(models) != 1:
            listed = ", ".join(models[:10]) or "none"
            raise InputError(f"generator openai:{self.url}: has these models: {listed}; name one behind '#'")
        return models[0]

    def _post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """One answer, tried again where the reason passes.

        Raises:
            _Refused: the server does not want this request.
            InputError: the server cannot be used.
        """
        import httpx2

        wait, reason = 1.0, ""
        for attempt in range(self.max_retries + 1):
            with self._lock:
                self.usage.requests += not attempt
                self.usage.retries += bool(attempt)
            retry_after = None
            try:
                response = self._client.request(method, self.url + path, json=body)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise InputError(f"generator openai:{self.url}: is no address ({error})") from error
            except httpx2.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if response.status_code == 200:
                    with suppress(ValueError):
                        answer = response.json()
                        if isinstance(answer, dict):
                            self._waiting = False
                            return answer
                    raise InputError(f"generator openai:{self.url}: answers with something that is no JSON object")
                reason = f"{response.status_code}: {self._said(response)}"
                if response.status_code not in RETRIED:
                    self._refuse(response.status_code, reason)
                retry_after = _seconds(response.headers.get("retry-after"))
            if attempt < self.max_retries:
                self._say_once(reason)
                # spread, or all requests that were refused together come back together
                seconds = retry_after if retry_after is not None else wait * random.uniform(0.5, 1.5)
                if self._stopped.wait(min(seconds, LONGEST_WAIT)):
                    break
                wait = min(2 * wait, 60.0)
        raise InputError(
            f"generator openai:{self.url}: no answer in {attempt + 1} tries, the last: {reason}; "
            "is the server there, and not overloaded (concurrency)?"
        )

    def _say_once(self, reason: str) -> None:
        """Say that the server is waited for; once, until it answers again."""
        with self._lock:
            first, self._waiting = not self._waiting, True
        if first:
            log.warning("generator openai:%s: %s; it is tried %d times more", self.url, reason, self.max_retries)

    def _refuse(self, status: int, reason: str) -> None:
        if status in REFUSED:
            raise _Refused(status, reason)
        if status in (401, 403):
            held = "holds no key it takes" if self._key else "is not set"
            raise InputError(f"generator openai:{self.url}: answered {reason}; the variable {self._api_key_env} {held}")
        if status == 404:
            model = getattr(self, "model_name", "")
            raise InputError(
                f"generator openai:{self.url}: answered {reason}; no such address or model {model!r} "
                "(expected openai:http://host:8000/v1#model)"
            )
        raise InputError(f"generator openai:{self.url}: answered {reason}")

    def _said(self, response: Any) -> str:
        """What the server said of an error, in short, without the key should it repeat it."""
        text = response.text
        with suppress(ValueError, AttributeError):
            error = response.json().get("error", text)
            text = str(error.get("message", error) if isinstance(error, dict) else error)
        text = " ".join(text.split())
        return (text.replace(self._key, "***") if self._key else text)[:300]


class _Refused(Exception):
    """The server does not want this one request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _seconds(header: str | None) -> float | None:
    """Seconds of a `Retry-After`, which holds a number or a date."""
    if not header:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        with suppress(ValueError, TypeError):
            return max(parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    return None
