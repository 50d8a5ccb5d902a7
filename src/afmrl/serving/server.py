"""Runs a service until it is told to stop."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import signal
import socket
import threading
import webbrowser
from pathlib import Path
from typing import NoReturn

from afmrl.errors import InputError
from afmrl.files import read_lines
from afmrl.index.address import open_index
from afmrl.matching.output import GROUPS_FILE
from afmrl.serving.app import LOOPBACK, create_app
from afmrl.serving.keys import VARIABLE, Keys
from afmrl.serving.limits import Limits
from afmrl.serving.overview import MatchFolder
from afmrl.serving.review import ReviewQueue
from afmrl.serving.service import Service

BACKLOG = 2048
"""Connections that wait to be accepted."""


def serve(
    index: str,
    model: str | Path | None = None,
    generator: str | Path | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: str | Path | None = None,
    matches: str | Path | None = None,
    images: Path | None = None,
    fetch: bool = False,
    limits: Limits | None = None,
    open_page: bool = False,
) -> None:
    """Serve an index over HTTP until SIGTERM or Ctrl-C; requests in work are answered first.

    Args:
        index: folder or address.
        model: the embedder; None: the one that the index names.
        generator: writes key attributes; None: none.
        host, port: where the server listens. Another address than the loopback needs keys.
        keys: file of hashed keys, see `Keys.read`.
        matches: folder of `afmrl match`, whose groups the answers name, and whose pairs are reviewed at /review.
        images: folder that keeps images of offers that came in requests; None: of a local index, inside it.
        fetch: fetch images that are http(s) addresses.
        limits: of requests.
        open_page: in this machine's browser.

    Raises:
        InputError: an address that others reach without keys, a port that is taken, an index that cannot be served.
    """
    import uvicorn

    limits, found = limits or Limits(), Keys.read(keys)
    if not found and not _is_loopback(host):
        raise InputError(
            f"serve: others reach --host {host} and there is no key; give --keys FILE or {VARIABLE} or no --host"
        )
    groups = read_groups(matches) if matches is not None else {}
    with contextlib.ExitStack() as held:
        listening = held.enter_context(_bound_socket(host, port))
        opened = held.enter_context(open_index(index))
        service = Service(opened, index, model, generator, limits=limits, fetch=fetch, images=images)
        review = ReviewQueue(Path(matches), service.there) if matches is not None else None
        if review is not None:
            held.callback(review.log.close)
        match = MatchFolder(Path(matches)) if matches is not None else None
        config = uvicorn.Config(
            create_app(service, found, groups=groups, review=review, match=match, hosts={*LOOPBACK, host}),
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(limits.seconds) + 1,
            ws="none",
        )
        address = f"http://{_shown(host)}:{listening.getsockname()[1]}/"
        print(f"afmrl: {len(opened):,} offers on {address}", flush=True)
        if open_page:
            # a text browser ends when its user does, and shows what is answered meanwhile
            threading.Thread(target=_open_page, args=(address,), name="browser", daemon=True).start()
        signal.signal(signal.SIGTERM, _stop)  # uvicorn drains, and then raises the signal again
        uvicorn.Server(config).run(sockets=[listening])


def _open_page(address: str) -> None:
    if not webbrowser.open(address):
        print("afmrl: --open: this machine has no browser; open the address yourself", flush=True)


def read_groups(folder: str | Path) -> dict[str, str]:
    """Id of an offer -> id of its group, of a folder that `afmrl match` wrote.

    Raises:
        InputError: it holds no groups.
    """
    path = Path(folder) / GROUPS_FILE
    groups: dict[str, str] = {}
    try:
        for line in read_lines(path):
            group = json.loads(line)
            groups |= dict.fromkeys(map(str, group["offers"]), str(group["group"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as groups; give a folder that `afmrl match` wrote") from error
    return groups


def _bound_socket(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(BACKLOG)  # from when the address is told, who comes early waits
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"serve: cannot listen on {host}:{port} ({reason}); give another --port or --host") from error
    return bound


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _stop(*_: object) -> NoReturn:
    raise SystemExit(0)
