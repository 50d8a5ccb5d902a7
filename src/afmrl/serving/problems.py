"""Refusals in the OpenAPI description: which shape each path has, and when it is given."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ProblemDetail(BaseModel):
    """What is wrong, and what to do."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class Problem(BaseModel):
    """A refusal in OpenAI's shape; our own routes speak it too."""

    error: ProblemDetail


class CohereProblem(BaseModel):
    """A refusal in Cohere's shape."""

    message: str


class TeiProblem(BaseModel):
    """A refusal in TEI's shape; to rerank it also has Cohere's `message`."""

    error: str
    error_type: str
    message: str | None = None


_MEANINGS = {
    400: "The request cannot be answered.", 401: "A key is needed.", 403: "The key may only read.",
    404: "There is no such model or offer.", 409: "The index cannot be written now.", 413: "Too large.",
    422: "The request has another shape.", 429: "Too much at a time; Retry-After says when.",
    503: "Too slow, or stopping.",
}  # fmt: skip


def refusals(path: str) -> dict[int | str, dict[str, Any]]:
    """The refusals of a path, as FastAPI's `responses`. `Refusal.body` gives the same shapes."""
    shape: type[BaseModel] = Problem
    if path in ("/embed", "/rerank", "/v1/rerank"):
        shape = TeiProblem
    elif path.startswith("/v2/"):
        shape = CohereProblem
    return {status: {"model": shape, "description": text} for status, text in _MEANINGS.items()}
