"""Reranking in the protocols of Cohere, Jina and TEI, by the pair model of matching."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from afmrl.attributes.key_attributes import KeyAttributes
from afmrl.serving.answers import ReasonsOut, reasons_out
from afmrl.serving.batching import cost
from afmrl.serving.inputs import Listed, TextImage
from afmrl.serving.problems import refusals
from afmrl.serving.refusal import Refusal
from afmrl.serving.service import MODEL_NAME, Ranked, Service


class RerankRequest(BaseModel):
    """As Cohere's and Jina's with `documents`, as TEI's with `texts`."""

    query: str | TextImage
    documents: Listed[str | TextImage] | None = None
    texts: Listed[str] | None = None
    model: str | None = None
    top_n: int | None = Field(None, ge=1)
    return_documents: bool = False
    return_text: bool = False
    raw_scores: bool = Field(False, description="TEI: log-odds instead of probabilities.")


class Document(BaseModel):
    """A document as it was sent; an image is not sent back."""

    text: str


class RankedDocument(BaseModel):
    """One document, best first."""

    index: int
    relevance_score: float = Field(description="Between 0 and 1; near 0 where something vetoes.")
    document: Document | None = None
    reasons: ReasonsOut | None = Field(None, description="The query's value is left.")
    why: str = ""


class TokenUsage(BaseModel):
    """About how many tokens were read."""

    total_tokens: int


class RerankAnswer(BaseModel):
    """As Cohere's and Jina's, with reasons."""

    id: str
    model: str
    results: list[RankedDocument]
    usage: TokenUsage
    meta: dict[str, Any]


class RankedText(BaseModel):
    """As TEI's, with reasons."""

    index: int
    score: float
    text: str | None = None
    reasons: ReasonsOut | None = None
    why: str = ""


def rerank_routes(service: Service) -> APIRouter:
    """The routes of reranking."""
    router = APIRouter(tags=["reranking"])

    def rerank(request: RerankRequest) -> RerankAnswer | list[RankedText]:
        """Documents by how surely the pair model calls them the product that the query names, with reasons."""
        deadline = service.deadline()
        service.check_model(request.model)
        if (request.documents is None) == (request.texts is None):
            raise Refusal(422, "give one of documents (Cohere, Jina) and texts (TEI)", param="documents")
        name = "texts" if request.documents is None else "documents"
        given: Sequence[str | TextImage] = request.texts if request.documents is None else request.documents  # type: ignore[assignment]
        service.check_batch(len(given), name, service.limits.documents)
        with service.inputs(deadline) as read:
            query = read.read(request.query, "query")
            documents = [read.read(document, f"{name}[{place}]") for place, document in enumerate(given)]
            ranked = service.rerank(query, documents, deadline, request.top_n)
        texts = [one if isinstance(one, str) else one.text for one in given]
        if request.documents is None:
            return [_ranked_text(one, request, texts) for one in ranked]
        tokens = sum(cost(offer, KeyAttributes()) for offer in (query, *documents) if not offer.image)
        return RerankAnswer(
            id=str(uuid.uuid4()),
            model=request.model or MODEL_NAME,
            results=[
                RankedDocument(
                    index=one.place,
                    relevance_score=one.relevance,
                    document=Document(text=texts[one.place]) if request.return_documents else None,
                    reasons=reasons_out(one.reasons),
                    why=str(one.reasons or ""),
                )
                for one in ranked
            ],
            usage=TokenUsage(total_tokens=tokens),
            meta={"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
        )

    for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
        name = path[1:].replace("/", "_")
        router.post(path, name=name, responses=refusals(path), response_model_exclude_none=True)(rerank)
    return router


def _ranked_text(one: Ranked, request: RerankRequest, texts: Sequence[str]) -> RankedText:
    return RankedText(
        index=one.place,
        score=one.score if request.raw_scores else one.relevance,
        text=texts[one.place] if request.return_text else None,
        reasons=reasons_out(one.reasons),
        why=str(one.reasons or ""),
    )
