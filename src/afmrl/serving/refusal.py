"""What a server answers instead of a result: one line, in the shape of the protocol that was spoken."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse

from afmrl.errors import printable

_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    409: "conflict_error", 413: "request_too_large", 422: "invalid_request_error", 429: "rate_limit_error",
}  # fmt: skip
_TEI_TYPES = {413: "Validation", 422: "Validation", 400: "Validation", 429: "Overloaded", 503: "Unhealthy"}


class Refusal(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: what is wrong, where, and what to do; one line.
        param: the field that is wrong.
        code: a word for programs.
        retry_after: seconds after which the same request may be answered.
    """

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, printable(" ".join(message.split())), param, code
        self.retry_after = retry_after

    def response(self, path: str) -> JSONResponse:
        """The answer to a request of this path."""
        headers = {"Retry-After": str(math.ceil(self.retry_after))} if self.retry_after else {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(path), self.status, headers)

    def body(self, path: str) -> dict[str, Any]:
        """JSON as the clients of this path read it.

        >>> Refusal(400, "no text").body("/v2/embed")
        {'message': 'no text'}
        >>> Refusal(413, "too long").body("/embed")
        {'error': 'too long', 'error_type': 'Validation'}
        """
        of_tei = {"error": self.message, "error_type": _TEI_TYPES.get(self.status, "Backend")}
        if path == "/embed":
            return of_tei
        if path.startswith("/v2/"):
            return {"message": self.message}
        if path in ("/rerank", "/v1/rerank"):  # Cohere's, Jina's and TEI's clients ask here
            return {"message": self.message, **of_tei}
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


@contextlib.contextmanager
def of_field(field: str) -> Iterator[None]:
    """Let a refusal in the block name the field that it is about."""
    try:
        yield
    except Refusal as refusal:
        raise Refusal(
            refusal.status,
            f"{field}: {refusal.message}",
            param=field,
            code=refusal.code,
            retry_after=refusal.retry_after,
        ) from refusal
