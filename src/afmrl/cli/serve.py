"""`afmrl serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from afmrl.cli.summary import Summary
from afmrl.errors import InputError
from afmrl.serving.limits import Limits

_LIMITS = Group(
    "Limits", help="What goes beyond one is refused: 413 too large, 429 too much at a time, 503 late.", sort_key=90
)


def serve(
    index: str,
    *,
    model: str | None = None,
    generator: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Path | None = None,
    matches: Path | None = None,
    images: Path | None = None,
    fetch: Annotated[bool, Parameter(negative=())] = False,
    open_page: Annotated[bool, Parameter(name="--open", negative=())] = False,
    limits: Annotated[Limits | None, Parameter(group=_LIMITS)] = None,
) -> Summary:
    """Serve an index over HTTP: embeddings, reranking, search, matching, and a page to search with.

    It speaks OpenAI's /v1/embeddings, Cohere's /v2/embed and /v2/rerank, Jina's /v1/rerank, TEI's /embed and /rerank,
    and has routes of its own under /afmrl/v1; /openapi.json describes them all. Clients call the model "afmrl". SIGTERM
    and Ctrl-C stop it once the requests in work are answered.

    Parameters
    ----------
    index
        An index that `afmrl index` made: a folder or an address.
    model
        A trained embedder's folder, or its name; by default the one whose embeddings the index holds.
    generator
        A generator's folder or address: its attributes enrich what is searched for, and offers that are added.
    host
        Where it listens. An address that others reach needs keys.
    port
        Where it listens; 0 takes a free one.
    keys
        A file of clients' keys, one a line: `read sha256:HASH NAME` or `write sha256:HASH NAME`. The variable
        AFMRL_KEYS holds keys themselves: `read:KEY write:KEY`. Without any, who reaches the server may do everything.
    matches
        A folder of `afmrl match`, whose groups the answers name, and whose pairs are reviewed at /review.
    images
        Folder that keeps the images of offers that clients add; by default `images` inside a local index.
    fetch
        Fetch images that are http(s) addresses, from public addresses alone; by default they are refused.
    open_page
        Open the page in this machine's browser.
    """
    limits = limits or Limits()
    limits.check()
    from afmrl.terminal import quiet_libraries

    try:
        from afmrl.serving.server import serve as run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("fastapi", "uvicorn", "starlette", "prometheus_client"):
            raise
        raise InputError("serve: needs the extra `serve`: pip install 'afmrl[serve]'") from error
    quiet_libraries()
    run(
        index,
        model,
        generator,
        host=host,
        port=port,
        keys=keys,
        matches=matches,
        images=images,
        fetch=fetch,
        limits=limits,
        open_page=open_page,
    )
    return {"index": index}
