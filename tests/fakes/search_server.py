"""As much of Elasticsearch as a collector needs to write there; keeps what it takes.

::

    with FakeSearchServer() as server:
        server.refuses_all = (401, "security_exception", "token expired")
        server.refuses_each = (429, "cluster_block_exception", "flood stage")
        server.owner, server.generation = "another portal", None

What is none of these is taken; the real servers of the lab have the rest.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Refusal = tuple[int, str, str]
"""Status, the name of the error, and its reason."""


class FakeSearchServer:
    def __init__(self) -> None:
        self.refuses_all: Refusal | None = None
        """Every request."""
        self.refuses_each: Refusal | None = None
        """Every document; the request itself is answered with 200, as a real server does."""
        self.owner: str | None = None
        """Of the index template; whoever writes first, if nobody."""
        self.generation: int | None = 1
        """What the mapping of an index says of itself."""
        self.documents: dict[str, dict[str, Any]] = {}
        self._versions: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- what it answers --------------------------------------------------------------------------

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        name = path.strip("/").partition("?")[0]
        if self.refuses_all is not None:
            status, kind, reason = self.refuses_all
            return status, {"error": _error(kind, reason)}
        if name == "_bulk":
            return 200, {"items": [self._written(*pair) for pair in _pairs(body)]}
        if name == "_mget":
            wanted = [each["_id"] for each in json.loads(body)["docs"]]
            return 200, {"docs": [self._kept(key) for key in wanted]}
        if name.startswith("_index_template/"):
            if method == "PUT":
                self.owner = json.loads(body)["_meta"]["portal"]
                return 200, {}
            if self.owner is None:
                return 404, {}
            return 200, {"index_templates": [{"index_template": {"_meta": {"portal": self.owner}}}]}
        if name.endswith("/_mapping"):
            said = {} if self.generation is None else {"_meta": {"beidou": self.generation}}
            return 200, {name.removesuffix("/_mapping"): {"mappings": said}}
        return 200, {}

    def _written(self, action: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        if self.refuses_each is not None:
            status, kind, reason = self.refuses_each
            return {"index": {"status": status, "error": _error(kind, reason)}}
        key, version = action["index"]["_id"], action["index"]["version"]
        if version <= self._versions.get(key, -1):
            conflict = _error("version_conflict_engine_exception", "it is there")
            return {"index": {"status": 409, "error": conflict}}
        self._versions[key], self.documents[key] = version, document
        return {"index": {"status": 201}}

    def _kept(self, key: str) -> dict[str, Any]:
        if key not in self.documents:
            return {"_id": key, "found": False}
        place = {"_seq_no": self._versions[key], "_primary_term": 1}
        return {"_id": key, "found": True, "_source": self.documents[key], **place}


def _error(kind: str, reason: str) -> dict[str, Any]:
    return {"type": kind, "reason": reason, "root_cause": []}


def _pairs(body: bytes) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    lines = [json.loads(line) for line in body.splitlines()]
    return list(zip(lines[::2], lines[1::2], strict=True))


def _handler(fake: FakeSearchServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, content = fake.answer(self.command, self.path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *_args: object) -> None:
            """Tests look at ``documents``."""

    return Handler
