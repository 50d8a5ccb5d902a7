"""The 16 offers, sent to an OpenAI-compatible `/v1/embeddings`."""

from __future__ import annotations

import base64
import binascii
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np

from afmrl.embedder.parity.offers import ReadOffer
from afmrl.errors import InputError
from afmrl.generator.engines.server import names_a_host

OURS = "afmrl"
"""What `afmrl serve` says of its models: `owned_by`."""
TIMEOUT = 120.0  # seconds for one answer
Form = Literal["objects", "messages", "texts"]
"""How offers are sent: objects of text and image, one chat message each, or plain texts."""


class EmbeddingServer:
    """Asks a server for embeddings. It sends what `embed` is given, and asks once which models there are.

    Args:
        url: the server's address, with or without /v1.
        model: its name there; "": the only one that the server has.
        api_key_env: environment variable that holds the key; it is sent, and never printed or saved.

    Raises:
        InputError: the address is not valid, the server is not there, or has several models and none is named.
    """

    def __init__(self, url: str, model: str = "", *, api_key_env: str = "OPENAI_API_KEY") -> None:
        import httpx2

        if not names_a_host(url):
            raise InputError(f"server {url}: expected http://host:8000")
        self.url = url.rstrip("/").removesuffix("/v1") + "/v1"
        self._api_key_env = api_key_env
        self._key = os.environ.get(api_key_env, "").strip()
        if not self._key.isascii():
            raise InputError(f"server {url}: the variable {api_key_env} holds a key that is not ASCII")
        self._client = httpx2.Client(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=httpx2.Timeout(TIMEOUT, connect=30.0),
        )
        known = self._models()
        self.is_ours = any(one.get("owned_by") == OURS for one in known)
        """Whether it is `afmrl serve`, which reads objects of text and image."""
        names = [str(one.get("id")) for one in known]
        if not model and len(names) != 1 and not self.is_ours:
            raise InputError(
                f"server {self.url}: has these models: {', '.join(names[:10]) or 'none'}; name one by --model-name"
            )
        self.model_name = model or names[0]

    def __enter__(self) -> EmbeddingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def embed(self, offers: Sequence[ReadOffer], form: Form, *, generation_prompt: bool = False) -> list[np.ndarray]:
        """The server's embeddings of offers, as it gives them.

        Args:
            form: "messages" asks for one offer at a time, the others for all at once.
            generation_prompt: ask for the assistant's turn to be opened behind each message.

        Shape:
            each (d,) float32, of the server's d.

        Raises:
            InputError: it does not answer, refuses, or answers with something else.
        """
        if form == "messages":
            extra = {"add_generation_prompt": True} if generation_prompt else {}
            return [self._ask({"messages": [_message(one)], **extra}, 1)[0] for one in offers]
        if form == "objects":
            body = {"input": [_object_of(one) for one in offers], "input_type": "document", "generator": False}
            return self._ask(body, len(offers))
        return self._ask({"input": [one.text for one in offers]}, len(offers))

    def _models(self) -> list[Mapping[str, Any]]:
        data = self._request("GET", "/models", None).get("data")
        if not isinstance(data, list) or not all(isinstance(one, Mapping) for one in data):
            raise InputError(f"server {self.url}: does not say which models it has; is it OpenAI-compatible?")
        return data

    def _ask(self, body: dict[str, Any], number: int) -> list[np.ndarray]:
        answer = self._request("POST", "/embeddings", {"model": self.model_name, "encoding_format": "float", **body})
        data = answer.get("data")
        if not isinstance(data, list) or len(data) != number:
            given = len(data) if isinstance(data, list) else "no list of"
            raise InputError(f"server {self.url}: was asked for {number} embeddings and gave {given}")
        try:
            indexes = [int(one.get("index", place)) for place, one in enumerate(data)]
            rows = [_vector(one["embedding"]) for one in data]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"server {self.url}: an embedding in its answer cannot be read ({error})") from error
        if sorted(indexes) != list(range(number)):
            raise InputError(f"server {self.url}: the numbers (`index`) of its embeddings are not 0 to {number - 1}")
        by_index = dict(zip(indexes, rows, strict=True))
        return [by_index[place] for place in range(number)]

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
        import httpx2

        try:
            response = self._client.request(method, self.url + path, json=body)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as error:
            raise InputError(f"server {self.url}: is no address ({error})") from error
        except httpx2.RequestError as error:
            raise InputError(f"server {self.url}: {type(error).__name__}: {error}; is it there?") from error
        if response.status_code != 200:
            advice = ""
            if response.status_code in (401, 403):
                advice = f"; the variable {self._api_key_env} {'holds no key it takes' if self._key else 'is not set'}"
            said = " ".join(response.text.split())
            said = (said.replace(self._key, "***") if self._key else said)[:300]
            raise InputError(f"server {self.url}{path}: answered {response.status_code}: {said}{advice}")
        with suppress(ValueError):
            answer = response.json()
            if isinstance(answer, Mapping):
                return answer
        raise InputError(f"server {self.url}{path}: answers with something that is no JSON object")


def image_data(offer: ReadOffer) -> str:
    """The image as a data URI of PNG, which loses nothing."""
    assert offer.image is not None
    data = io.BytesIO()
    offer.image.save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _object_of(offer: ReadOffer) -> dict[str, str]:
    image = {"image": image_data(offer)} if offer.image is not None else {}
    return {**({"text": offer.text} if offer.text else {}), **image}


def _message(offer: ReadOffer) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    if offer.image is not None:
        parts.append({"type": "image_url", "image_url": {"url": image_data(offer)}})
    if offer.text:
        parts.append({"type": "text", "text": offer.text})
    return {"role": "user", "content": parts}


def _vector(value: Any) -> np.ndarray:
    if isinstance(value, str):
        try:
            return np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
        except binascii.Error as error:
            raise ValueError("no base64") from error
    row = np.asarray(value, dtype=np.float32)
    if row.ndim != 1 or not row.size:
        raise ValueError("no list of numbers")
    return row
