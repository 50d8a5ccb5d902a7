"""The server engine: any OpenAI-compatible chat server (vLLM, SGLang, a hosted teacher)."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from email.utils import parsedate_to_datetime
from threading import Event, Lock
from typing import Any
from urllib.parse import urlsplit

from afmrl.errors import InputError, shown_address
from afmrl.generator.engines.base import Completion, Request, Sampling, Usage
from afmrl.generator.engines.image_url import image_url
from afmrl.terminal import track

log = logging.getLogger(__name__)
RETRIED = frozenset({408, 409, 425, 429})
"""Tried again beside every 5xx."""
REFUSED = frozenset({400, 413, 422, 451})
"""What a server answers to one request that it does not like, where others may still go well."""
CUT_OFF = frozenset({"length", "content_filter"})
"""What a server says of an answer that did not end by itself."""
TEXT_PARTS = ("text", "output_text")
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


def names_a_host(url: str) -> bool:
    """Whether an address is one of http(s) with a host, and a port that is a number where there is one."""
    try:
        parts = urlsplit(url)
        known = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return known and parts.scheme in ("http", "https") and bool(parts.hostname) and not any(map(str.isspace, url))


class ServerEngine:
    """Completions by an OpenAI-compatible server, over `POST {url}/chat/completions`.

    A request that fails for a passing reason (429, 5xx, no connection, no answer in time, a torn answer) is tried
    again, after the time that `Retry-After` names or twice the last wait. A request that the server refuses (400, 413,
    422, 451), answers without a message, or does not answer in all its tries has a Completion with `failure`. It is an
    error if nobody is there, if a wrong key, address or model is given, or if `2 * concurrency` requests one after the
    other stay without an answer; what the same call was answered before is given back all the same, the rest has a
    `failure`, and the next call is the error.

    Args:
        url: the server's address up to and with /v1.
        model: its name there; "": the only one that the server has.
        api_key_env: environment variable that holds the key; it is sent, and never printed or saved.
        concurrency: requests under way at a time.
        timeout: seconds for one answer.
        max_retries: of one request.
        max_image_side: images are brought down to this many pixels a side before they travel.
        top_p: of sampling; 1.0 samples from all tokens, as the local engine does.
        extra: further fields of every request's body, as this server knows them.

    Raises:
        InputError: the address is not valid, the server is not there, or has several models and none is named.
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

        if not names_a_host(url):
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
        self._guide: dict[bool, int] = {}  # of schemas that name keys, and of those that name none
        self._waiting = False
        self._known = False  # it has answered as a chat server does
        self._unanswered = 0  # requests in a row whose tries ran out
        self._broken: InputError | None = None
        if not self._key.isascii():
            raise InputError(f"generator openai:{url}: the variable {api_key_env} holds a key that is not ASCII")
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
        if broken := self._broken:
            self._broken = None
            raise broken
        self._stopped.clear()
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="server-engine")
        written: list[list[Completion]] = []
        try:
            answers = [pool.submit(self._answer, request, sampling) for request in requests]
            for answer in track(answers, "writing attributes", show=progress):
                written.append(answer.result())
        except InputError as error:
            self._stopped.set()
            pool.shutdown(wait=True, cancel_futures=True)
            written = [_answered(answer) or [_no_answer(error)] * sampling.num_completions for answer in answers]
            if all(completion.failure for completions in written for completion in completions):
                raise
            log.warning("%s; what was answered before is kept", error)
            self._broken = error
        finally:
            self._stopped.set()  # after a failure or Ctrl-C nobody waits for a next try
            pool.shutdown(wait=True, cancel_futures=True)
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
        """The rendered messages, with the image where its place is."""
        if not request.image:
            return [dict(message) for message in request.messages]
        image = {"type": "image_url", "image_url": {"url": image_url(request.image, max_side=self.max_image_side)}}
        return [
            {**message, "content": [image if part["type"] == "image" else part for part in message["content"]]}
            for message in request.messages
        ]

    def _guided(self, body: dict[str, Any], request: Request) -> Mapping[str, Any]:
        """The answer to a request whose answer is held to its schema as well as this server can."""
        if request.json_schema is None:
            return self._post("/chat/completions", body)
        first: _Refused | None = None
        names_keys = "properties" in request.json_schema
        for guide in range(self._guide.get(names_keys, 0), len(GUIDES)):
            try:
                answer = self._post("/chat/completions", {**body, **GUIDES[guide][1](request.json_schema)})
            except _Refused as refused:
                if refused.status not in (400, 422):  # too large, or not answered, however it is guided
                    raise
                first = first or refused
            else:
                with self._lock:
                    self._guide[names_keys] = max(self._guide.get(names_keys, 0), guide)
                return answer
        assert first is not None
        raise first  # not the guide's fault, so the guide stays

    def _completions(self, answer: Mapping[str, Any]) -> list[Completion]:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
            if self._known or "error" in answer:  # some tell an error with status 200
                raise _Refused(200, f"no chat completion: {self._short(answer.get('error', answer))}")
            raise InputError(
                f"generator {self.url}: its answer is no chat completion ({self._short(answer)}); "
                "is the address that of an OpenAI-compatible server, up to and with /v1?"
            )
        if not choices:
            raise _Refused(200, "the server gave no choice")
        texts = [(_text_of(choice.get("message")), choice.get("finish_reason")) for choice in choices]
        used = answer.get("usage")
        read, written = (_count(used, f"{kind}_tokens") for kind in ("prompt", "completion"))
        with self._lock:
            self._known = True
            self.usage.prompt_tokens += read
            self.usage.completion_tokens += written
        return [
            # servers count all choices' tokens together
            Completion(text.strip(), written // len(texts), ended=reason not in CUT_OFF)
            for text, reason in texts
        ]

    def _only_model(self) -> str:
        try:
            data = self._request("GET", "/models", None).get("data")
            models = [str(model["id"]) for model in data or []]
        except (_Refused, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"generator openai:{self.url}: does not say which models it has ({error}); name one after '#'"
            ) from error
        if len(models) != 1:
            listed = ", ".join(models[:10]) or "none"
            raise InputError(f"generator openai:{self.url}: has these models: {listed}; name one after '#'")
        return models[0]

    def _post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._request("POST", path, body)

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """One answer, tried again where the reason passes.

        Raises:
            _Refused: the server does not want this request, or does not answer it.
            InputError: the server cannot be used.
        """
        import httpx2

        wait, reason, absent = 1.0, "", False
        for attempt in range(self.max_retries + 1):
            with self._lock:
                self.usage.requests += not attempt
                self.usage.retries += bool(attempt)
            retry_after = None
            absent = False
            try:
                response = self._client.request(method, self.url + path, json=body)
            except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
                raise InputError(f"generator openai:{self.url}: is no address ({error})") from error
            except httpx2.RequestError as error:
                reason = f"{type(error).__name__}: {error}"
                absent = isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout))
            else:
                if response.status_code == 200:
                    answer = _object(response)
                    if answer is not None and (method == "GET" or "choices" in answer or "error" not in answer):
                        with self._lock:
                            self._waiting, self._unanswered = False, 0
                        return answer
                    if answer is None and not self._known:
                        raise InputError(f"generator openai:{self.url}: answers with something that is no JSON object")
                    reason = "an answer that is torn" if answer is None else self._short(answer["error"])
                else:
                    reason = f"{response.status_code}: {self._said(response)}"
                    if response.status_code not in RETRIED and response.status_code < 500:
                        with self._lock:
                            self._unanswered = 0
                        self._refuse(response.status_code, reason)
                    retry_after = _seconds(response.headers.get("retry-after"))
            if attempt < self.max_retries:
                self._say_once(reason)
                # spread, or all requests that were refused together come back together
                seconds = retry_after or wait * random.uniform(0.5, 1.5)
                if self._stopped.wait(min(seconds, LONGEST_WAIT)):
                    break
                wait = min(2 * wait, 60.0)
        failure = f"no answer in {attempt + 1} tries, the last: {reason}"
        with self._lock:
            self._unanswered += 1
            given_up = absent or method == "GET" or self._unanswered >= 2 * self.concurrency
        if given_up:
            raise InputError(
                f"generator openai:{self.url}: {failure}; is the server there, and not overloaded (concurrency)?"
            )
        raise _Refused(0, failure)

    def _say_once(self, reason: str) -> None:
        """Say that the server is waited for; once, until it answers again."""
        with self._lock:
            first, self._waiting = not self._waiting, True
        if first:
            log.warning(
                "generator openai:%s: %s; it is tried %d times more", shown_address(self.url), reason, self.max_retries
            )

    def _refuse(self, status: int, reason: str) -> None:
        if status in REFUSED or (self._known and status not in (401, 403, 404)):
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
        answer = _object(response)
        return self._short(response.text if answer is None else answer.get("error", response.text))

    def _short(self, said: Any) -> str:
        text = " ".join(str(said.get("message", said) if isinstance(said, Mapping) else said).split())
        return (text.replace(self._key, "***") if self._key else text)[:300]


class _Refused(Exception):
    """The server does not want this one request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def _answered(answer: Future[list[Completion]]) -> list[Completion] | None:
    """What a request was answered; None where it was not asked or failed."""
    return None if answer.cancelled() or answer.exception() else answer.result()


def _no_answer(error: InputError) -> Completion:
    return Completion("", 0, False, str(error))


def _object(response: Any) -> dict[str, Any] | None:
    """The JSON object of an answer; None where it is something else."""
    with suppress(ValueError):  # an invalid encoding is a ValueError, too
        answer = response.json()
        if isinstance(answer, dict):
            return answer
    return None


def _text_of(message: Any) -> str:
    """The text of an answer's message, which some servers give in parts, thoughts among them.

    Raises:
        _Refused: there is no message, or its form is not the protocol's.
    """
    content = message.get("content") if isinstance(message, Mapping) else 0
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        content = "".join(str(part.get("text", "")) for part in content if part.get("type") in TEXT_PARTS)
    if content is not None and not isinstance(content, str):
        raise _Refused(200, "a choice without a message that can be read")
    return (content or "").encode("utf-8", "replace").decode()  # half a surrogate pair can be written nowhere


def _count(used: Any, name: str) -> int:
    count = used.get(name) if isinstance(used, Mapping) else None
    return int(count) if isinstance(count, (int, float)) and count == count else 0


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
