"""Embeddings in the protocols of OpenAI, Text Embeddings Inference (TEI) and Cohere."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, field_validator

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.data.offer import Offer
from afmrl.serving.batching import cost
from afmrl.serving.inputs import ContentPart, Inputs, Listed, Message, TextImage
from afmrl.serving.problems import refusals
from afmrl.serving.refusal import Refusal
from afmrl.serving.service import MODEL_NAME, Service

Generate = Annotated[bool | None, Field(description="Write key attributes first; by default if there is a generator.")]
EmbeddingType = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]


class EmbeddingsRequest(BaseModel):
    """As OpenAI's; an input may be an object with an image, and `messages` are read as vLLM reads them."""

    input: str | TextImage | Listed[str | TextImage] | None = None
    messages: Listed[Message] | None = Field(None, description="One input of texts and at most one image.")
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: Literal["query", "document"] = "query"
    generator: Generate = None

    @field_validator("input", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int) or (isinstance(first, list) and first and isinstance(first[0], int)):
            raise ValueError("numbers of tokens are not read; send texts (LangChain: check_embedding_ctx_length=False)")
        return value


class Embedding(BaseModel):
    """One input's embedding: numbers, or their float32 bytes as base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """About how many tokens were read."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """As OpenAI's."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class EmbedRequest(BaseModel):
    """As TEI's; an input may be an object with an image."""

    inputs: str | TextImage | Listed[str | TextImage]
    normalize: bool = True
    truncate: bool | None = Field(None, description="Long texts are always cut.")
    dimensions: int | None = None
    prompt_name: str | None = Field(None, description='"query" or "document".')


class CohereInput(BaseModel):
    """Texts and an image that make one input."""

    content: Listed[ContentPart]


class CohereRequest(BaseModel):
    """As Cohere's v2."""

    model: str | None = None
    input_type: Literal["search_document", "search_query", "classification", "clustering", "image"] = "search_document"
    texts: Listed[str] | None = None
    images: Listed[str] | None = None
    inputs: Listed[CohereInput] | None = None
    embedding_types: Listed[EmbeddingType] | None = Field(None, description='By default ["float"].')
    output_dimension: int | None = None


class CohereEmbeddings(BaseModel):
    """One list a type, in the order of the inputs."""

    float: list[list[float]] | None = None
    base64: list[str] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None


class CohereAnswer(BaseModel):
    """As Cohere's v2."""

    response_type: Literal["embeddings_by_type"] = "embeddings_by_type"
    id: str
    embeddings: CohereEmbeddings
    texts: list[str]
    meta: dict[str, Any]


class Model(BaseModel):
    """As OpenAI's."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = MODEL_NAME


class Models(BaseModel):
    """As OpenAI's."""

    object: Literal["list"] = "list"
    data: list[Model]


def embedding_routes(service: Service) -> APIRouter:
    """The routes of embeddings."""
    router = APIRouter(tags=["embeddings"])

    @router.get("/v1/models", responses=refusals("/v1/models"))
    def models() -> Models:
        """The names by which the model may be asked for."""
        return Models(data=[Model(id=name) for name in dict.fromkeys(service.model_names)])

    @router.post("/v1/embeddings", responses=refusals("/v1/embeddings"), response_model=EmbeddingsAnswer)
    def embeddings(request: EmbeddingsRequest) -> JSONResponse:
        """Embeddings of texts, images, or both."""
        deadline = service.deadline()
        service.check_model(request.model)
        _check_dimension(service, request.dimensions, "dimensions")
        with service.inputs(deadline) as read:
            if (request.input is None) == (request.messages is None):
                raise Refusal(400, "give one of input and messages", param="input")
            if request.messages is not None:
                offers = [read.read_messages(request.messages, "messages")]
            else:
                offers = _read_all(service, read, request.input, "input")
            found = service.embed(offers, role=request.input_type, deadline=deadline, generate=request.generator)
        coded: Sequence[Any] = _base64(found) if request.encoding_format == "base64" else found.tolist()
        data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(coded)]
        tokens = _tokens(offers)
        return JSONResponse(
            {
                "object": "list",
                "data": data,
                "model": request.model or MODEL_NAME,
                "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            }
        )

    @router.post("/embed", responses=refusals("/embed"), response_model=list[list[float]])
    def embed(request: EmbedRequest) -> JSONResponse:
        """Embeddings of texts, images, or both, as TEI gives them."""
        deadline = service.deadline()
        _check_dimension(service, request.dimensions, "dimensions")
        if not request.normalize:
            raise Refusal(422, "embeddings have unit length here; leave normalize out", param="normalize")
        with service.inputs(deadline) as read:
            offers = _read_all(service, read, request.inputs, "inputs")
            role = "document" if request.prompt_name == "document" else "query"
            return JSONResponse(service.embed(offers, role=role, deadline=deadline).tolist())

    @router.post(
        "/v2/embed", responses=refusals("/v2/embed"), response_model=CohereAnswer, response_model_exclude_none=True
    )
    def embed_v2(request: CohereRequest) -> JSONResponse:
        """Embeddings of texts, of images, or of inputs that are both, as Cohere gives them."""
        deadline = service.deadline()
        service.check_model(request.model)
        _check_dimension(service, request.output_dimension, "output_dimension")
        given = [values for values in (request.texts, request.images, request.inputs) if values]
        if len(given) != 1:
            raise Refusal(400, "give one of texts, images and inputs", param="texts")
        service.check_batch(len(given[0]), "inputs")
        with service.inputs(deadline) as read:
            offers = [read.read(text, f"texts[{place}]") for place, text in enumerate(request.texts or ())]
            offers += [
                read.read(TextImage(image=image), f"images[{place}]")
                for place, image in enumerate(request.images or ())
            ]
            offers += [
                read.read_parts(one.content, f"inputs[{place}]") for place, one in enumerate(request.inputs or ())
            ]
            role = "document" if request.input_type in ("search_document", "image") else "query"
            found = service.embed(offers, role=role, deadline=deadline)
        types = request.embedding_types or ["float"]
        return JSONResponse(
            {
                "response_type": "embeddings_by_type",
                "id": str(uuid.uuid4()),
                "embeddings": {name: CODINGS[name](found) for name in dict.fromkeys(types)},
                "texts": request.texts or [],
                "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": _tokens(offers)}},
            }
        )

    return router


def _read_all(
    service: Service, read: Inputs, given: str | TextImage | Sequence[str | TextImage] | None, field: str
) -> list[Offer]:
    if isinstance(given, str | TextImage):
        return [read.read(given, field)]
    values = list(given or ())
    service.check_batch(len(values), field)
    return [read.read(value, f"{field}[{place}]") for place, value in enumerate(values)]


def _check_dimension(service: Service, asked: int | None, param: str) -> None:
    whole = service.encoder.embedder.dimension
    if asked is not None and asked != whole:
        raise Refusal(
            400,
            f"{param}: the model was not trained for shorter embeddings; leave it out, or give {whole}",
            param=param,
        )


def _tokens(offers: Sequence[Offer]) -> int:
    return sum(cost(offer, KeyAttributes()) for offer in offers)


def _base64(embeddings: np.ndarray) -> list[str]:
    return [base64.b64encode(row.astype("<f4").tobytes()).decode("ascii") for row in embeddings]


def _int8(embeddings: np.ndarray) -> np.ndarray:
    """Each row by its largest number, so that cosines stay and all bits are used."""
    largest = np.abs(embeddings).max(axis=1, keepdims=True)
    return np.rint(embeddings / np.maximum(largest, 1e-12) * 127).astype(np.int16)


def _bits(embeddings: np.ndarray) -> np.ndarray:
    return np.packbits(embeddings > 0, axis=1)


CODINGS: Mapping[str, Callable[[np.ndarray], Any]] = {
    "float": lambda found: found.tolist(),
    "base64": _base64,
    "int8": lambda found: _int8(found).tolist(),
    "uint8": lambda found: (_int8(found) + 128).tolist(),
    "binary": lambda found: (_bits(found).astype(np.int16) - 128).tolist(),
    "ubinary": lambda found: _bits(found).tolist(),
}
"""Of `embedding_types`. Bits are signs, eight a byte; signed ones are less 128, as Cohere packs them."""
