"""An index of a small shop with the tiny model, served in this process and on loopback."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import threading
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient

from afmrl.bulk.embeddings import EmbedWork
from afmrl.bulk.job import BulkJob
from afmrl.bulk.work import EmbedOptions
from afmrl.data.rows import CatalogFile
from afmrl.index.address import open_index
from afmrl.index.update import update_index
from afmrl.serving.app import create_app
from afmrl.serving.limits import Limits
from afmrl.serving.service import Service
from conftest import save_image

COLORS, SIZES, KINDS = ("red", "navy", "green", "black"), ("s", "m", "l"), ("dress", "coat", "mug", "lamp", "bag")
NUM_OFFERS = len(COLORS) * len(SIZES) * len(KINDS)


def data_uri(path: Path) -> str:
    """A PNG file as a data URI."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


@pytest.fixture(scope="session")
def shop_index(tmp_path_factory, tiny_model) -> Path:
    """The index of 60 offers; tests that write work on a copy."""
    folder = tmp_path_factory.mktemp("shop")
    rows = []
    for number in range(NUM_OFFERS):
        color, size, kind = COLORS[number % 4], SIZES[number // 4 % 3], KINDS[number // 12]
        save_image(folder / "images" / f"{number}.png", number)
        rows.append(
            {
                "id": f"{kind}/{number:02d}",
                "title": f"Maison Lune {kind}, {color}, size {size}",
                "image": f"images/{number}.png" if number % 5 else "",
                "category": kind,
                "seller": ("anna", "bert")[number % 2],
                "attributes": {"color": color, "brand": "Maison Lune"},
            }
        )
    (folder / "offers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = EmbedWork(EmbedOptions(model=str(tiny_model)))
    BulkJob(CatalogFile(folder / "offers.jsonl"), work, folder / "embeddings").run()
    update_index(folder / "embeddings", str(folder / "index"))
    return folder / "index"


@pytest.fixture(scope="session")
def service(shop_index):
    """The shop's service; nothing may be written through it."""
    with open_index(str(shop_index)) as index:
        made = Service(index, str(shop_index))
        yield made
        made.close()


@pytest.fixture(scope="session")
def client(service):
    """Asks the application in this process."""
    return TestClient(create_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture
def own_index(shop_index, tmp_path) -> Path:
    """A copy of the shop's index, to write to."""
    return Path(shutil.copytree(shop_index, tmp_path / "index"))


@pytest.fixture
def served(own_index):
    """A client of an application of its own: `served(keys=…, limits=…, fetch=…)`."""
    made = []

    def start(limits: Limits | None = None, fetch: bool = False, generator: str | None = None, **options) -> TestClient:
        index = open_index(str(own_index))
        service = Service(index, str(own_index), generator=generator, limits=limits, fetch=fetch)
        made.append((index, service))
        return TestClient(create_app(service, **options), base_url="http://127.0.0.1", raise_server_exceptions=False)

    yield start
    for index, service in made:
        service.close()
        index.close()


@contextlib.contextmanager
def on_loopback(app):
    """Serve an application on loopback; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture(scope="session")
def address(service):
    """The address of a real server on loopback."""
    with on_loopback(create_app(service)) as found:
        yield found


@pytest.fixture
def picture(tmp_path) -> str:
    """An image as a data URI."""
    return data_uri(save_image(tmp_path / "picture.png", 1))
