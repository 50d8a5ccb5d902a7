"""A Qdrant server's REST interface in front of the client's local mode: what goes over the wire is Qdrant's own.

It stands in for a server, which is no Python package: requests are parsed, and answers made, by the models that
qdrant-client generates from the server's OpenAPI description. Which rows an approximate search finds, it cannot tell.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "k3y"


@contextmanager
def running_bridge(status: str = "completed") -> Iterator[tuple[str, list[tuple[str, str, dict[str, Any]]]]]:
    """Its URL, and the requests as they come: method, path, body; `status` is what it says of writes."""
    from qdrant_client import QdrantClient

    local = QdrantClient(":memory:")
    requests: list[tuple[str, str, dict[str, Any]]] = []
    one_at_a_time = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            path = self.path.partition("?")[0]
            with one_at_a_time:
                requests.append((self.command, self.path, body))
                if self.headers.get("api-key") != API_KEY:
                    code, result = 401, {"status": {"error": "Must provide an API key"}, "time": 0.0}
                else:
                    try:
                        answer = _result(local, self.command, path, body)
                        if isinstance(answer, dict) and answer.get("status") == "completed":
                            answer["status"] = status
                        code, result = 200, {"result": answer, "status": "ok", "time": 0.0}
                    except ValueError as error:
                        code, result = 404, {"status": {"error": str(error)}, "time": 0.0}
            content = json.dumps(result).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        server.server_close()
        local.close()


def _result(local: Any, method: str, path: str, body: dict[str, Any]) -> Any:
    from qdrant_client.http import models

    _, _, collection, *rest = path.split("/")
    route = f"{method} {'/'.join(rest)}".strip()
    if route == "GET exists":
        return {"exists": local.collection_exists(collection)}
    if route == "PUT":
        given = models.CreateCollection(**body)
        return local.create_collection(
            collection,
            vectors_config=given.vectors,
            sparse_vectors_config=given.sparse_vectors,
            metadata=given.metadata,
        )
    if not local.collection_exists(collection):
        raise ValueError(f"Not found: Collection `{collection}` doesn't exist!")
    if route == "GET":
        return _plain(local.get_collection(collection))
    if route == "PATCH":
        return local.update_collection(collection, metadata=models.UpdateCollection(**body).metadata)
    if route == "PUT index":
        models.CreateFieldIndex(**body)  # nothing to do in local mode but to look whether it is one
        return {"operation_id": 0, "status": "completed"}
    if route == "PUT points":
        return _plain(local.upsert(collection, models.PointsList(**body).points))
    if route == "PUT points/vectors":
        return _plain(local.update_vectors(collection, models.UpdateVectors(**body).points))
    if route == "POST points/delete":
        return _plain(local.delete(collection, models.PointIdsList(**body).points))
    if route == "POST points/count":
        return _plain(local.count(collection))
    if route == "POST points":
        asked = models.PointRequest(**body)
        return [
            _plain(point)
            for point in local.retrieve(
                collection, asked.ids, with_payload=asked.with_payload, with_vectors=asked.with_vector or False
            )
        ]
    if route == "POST points/scroll":
        page = models.ScrollRequest(**body)
        points, offset = local.scroll(
            collection,
            limit=page.limit or 10,
            offset=page.offset,
            with_payload=page.with_payload,
            with_vectors=page.with_vector or False,
        )
        return {"points": [_plain(point) for point in points], "next_page_offset": offset}
    if route == "POST points/query/batch":
        searches = models.QueryRequestBatch(**body).searches
        for search in searches:
            search.params = None  # approximation is the server's
        return [_plain(answer) for answer in local.query_batch_points(collection, searches)]
    if route == "POST facet":
        facet = models.FacetRequest(**body)
        return _plain(local.facet(collection, facet.key, limit=facet.limit or 10))
    raise ValueError(f"no such route: {route}")


def _plain(answer: Any) -> Any:
    return json.loads(answer.model_dump_json())
