"""The server's application: its routes behind its gate, and the page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from jinja2 import Environment, PackageLoader, StrictUndefined
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from afmrl.errors import InputError
from afmrl.matching.verdicts import VERDICTS_FILE
from afmrl.serving.embedding_routes import embedding_routes
from afmrl.serving.gate import STATIC, Gate
from afmrl.serving.group_routes import group_routes
from afmrl.serving.keys import Keys
from afmrl.serving.metrics import PATH as METRICS
from afmrl.serving.metrics import Measured
from afmrl.serving.offer_routes import offer_routes
from afmrl.serving.overview import MatchFolder, overview_routes
from afmrl.serving.problems import refusals
from afmrl.serving.refusal import Refusal
from afmrl.serving.rerank_routes import rerank_routes
from afmrl.serving.review import ReviewQueue
from afmrl.serving.review_routes import review_routes
from afmrl.serving.service import MODEL_NAME, Service
from afmrl.serving.verdicts import LABELS_FILE

LOOPBACK = ("localhost", "127.0.0.1", "::1")
ASSETS = {
    "report.css": ("afmrl.report", "text/css"),
    "match.css": ("afmrl.report", "text/css"),
    "search.css": ("afmrl.serving", "text/css"),
    "common.js": ("afmrl.serving", "text/javascript"),
    "search.js": ("afmrl.serving", "text/javascript"),
    "review.js": ("afmrl.serving", "text/javascript"),
    "overview.js": ("afmrl.serving", "text/javascript"),
}
"""What the pages load: package and type."""
SPARE_THREADS = 8
"""For pages, health and metrics, while every request that may be in work is."""
INVALID = {"/v1/embeddings": 400}
"""Paths that answer a request of another shape with another status than 422, as their protocol does."""


class Health(BaseModel):
    """The server answers."""

    status: str = "ok"


class Info(BaseModel):
    """What is served, as TEI says it, and what the index holds."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_client_batch_size: int
    auto_truncate: bool = True
    version: str
    dimension: int
    reads: list[str]
    rows: int
    generator: bool
    fetches_images: bool
    batches: int
    """Passes of the model since the start."""
    inputs: int
    """Embedded in them."""


def create_app(
    service: Service,
    keys: Keys | None = None,
    *,
    groups: Mapping[str, str] | None = None,
    review: ReviewQueue | None = None,
    match: MatchFolder | None = None,
    hosts: Collection[str] = LOOPBACK,
) -> FastAPI:
    """The application that answers for a service; it closes the service when it ends.

    Args:
        keys: of the clients; none: everybody who reaches the server may do everything.
        groups: id of an offer -> id of its group.
        review: pairs to judge; None: there is no review.
        match: what the overview says of the match; None: it says nothing of one.
        hosts: names by which the server may be asked, if there are no keys.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = service.limits.requests + SPARE_THREADS
        yield
        await anyio.to_thread.run_sync(service.close)

    app = FastAPI(
        title="afmrl",
        version=version("afmrl"),
        summary="Embeddings, reranking, search and matching of offers by text and image.",
        docs_url=None,  # the usual page of documentation is loaded from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(Gate, keys=keys or Keys({}), limits=service.limits, hosts=hosts)
    _answer_refusals(app, service)
    # the gate asks for the key; this describes it
    described = [Security(HTTPBearer(auto_error=False, description="A key of the server."))] if keys else []
    routers = [embedding_routes(service), rerank_routes(service), offer_routes(service, groups or {})]
    routers.append(overview_routes(service, match))
    if match is not None:
        routers.append(group_routes(service, groups or {}, match.folder))
    if review is not None:
        routers.append(review_routes(service, review))
    for router in routers:
        app.include_router(router, dependencies=described)
    _add_pages(app, service, described, has_review=review is not None)
    paths = [route.path for router in (app.router, *routers) for route in router.routes if isinstance(route, APIRoute)]
    app.add_middleware(Measured, metrics=service.metrics, paths=paths)
    return app


def _add_pages(app: FastAPI, service: Service, described: Sequence[Any], *, has_review: bool) -> None:
    templates = Environment(loader=PackageLoader("afmrl.serving"), autoescape=True, undefined=StrictUndefined)
    page = templates.get_template("search.html.j2").render(version=version("afmrl"), has_review=has_review)
    review = templates.get_template("review.html.j2").render(
        version=version("afmrl"), verdicts=VERDICTS_FILE, labels=LABELS_FILE
    )
    overview = templates.get_template("overview.html.j2").render(version=version("afmrl"), has_review=has_review)
    assets = {name: ((files(package) / name).read_bytes(), kind) for name, (package, kind) in ASSETS.items()}

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def search_page() -> str:
        """The page to search with."""
        return page

    @app.get("/overview", response_class=HTMLResponse, include_in_schema=False)
    def overview_page() -> str:
        """The page that shows the server at a glance."""
        return overview

    if has_review:

        @app.get("/review", response_class=HTMLResponse, include_in_schema=False)
        def review_page() -> str:
            """The page to judge pairs."""
            return review

    @app.get(STATIC + "{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        """What the page loads."""
        if name not in assets:
            raise HTTPException(404)
        content, kind = assets[name]
        return Response(content, media_type=kind)

    @app.get("/health", tags=["server"])
    async def health() -> Health:  # needs no thread: all of them may wait
        """Whether the server answers."""
        return Health()

    @app.get(
        METRICS,
        tags=["server"],
        responses={**refusals(METRICS), 200: {"content": {CONTENT_TYPE_LATEST: {}}}},
        response_class=PlainTextResponse,
        dependencies=described,
    )
    def metrics() -> Response:
        """What the server has counted since its start, for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/info", tags=["server"], responses=refusals("/info"), dependencies=described)
    def info() -> Info:
        """What is served."""
        model = service.encoder.embedder.model
        return Info(
            model_id=MODEL_NAME,
            model_sha=(service.index.settings.get("model") or {}).get("fingerprint"),
            model_dtype=str(getattr(model, "dtype", "float32")).removeprefix("torch."),
            model_type={"embedding": {"pooling": "model"}},
            max_concurrent_requests=service.limits.requests,
            max_input_length=int(getattr(model, "max_seq_length", None) or 0),
            max_batch_tokens=service.limits.tokens,
            max_client_batch_size=service.limits.batch,
            version=version("afmrl"),
            dimension=service.index.dimension,
            reads=list(service.encoder.reads),
            rows=service.index.rows.now(),
            generator=service.has_generator,
            fetches_images=service.fetch,
            batches=service.batcher.num_batches,
            inputs=service.batcher.num_embedded,
        )


def _answer_refusals(app: FastAPI, service: Service) -> None:
    @app.exception_handler(Refusal)
    def refused(request: Request, error: Refusal) -> JSONResponse:
        return error.response(request.url.path)

    @app.exception_handler(InputError)
    def wrong(request: Request, error: InputError) -> JSONResponse:
        return Refusal(400, service.without_folders(str(error))).response(request.url.path)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        path = request.url.path
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        message = f"{where[:200]}: {first['msg']}" if where else str(first["msg"])
        return Refusal(INVALID.get(path, 422), message, param=where[:200] or None).response(path)

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> Response:
        messages = {404: "there is no such path", 405: f"{request.method} is not answered here"}
        answer = Refusal(error.status_code, messages.get(error.status_code, str(error.detail))).response(
            request.url.path
        )
        if methods := app.openapi()["paths"].get(request.url.path):  # the router names the first method alone
            answer.headers["Allow"] = ", ".join(sorted(name.upper() for name in methods))
        return answer

    @app.exception_handler(Exception)
    def failed(request: Request, error: Exception) -> JSONResponse:
        return Refusal(500, "the server failed to answer; its log says why").response(request.url.path)
