"""A Kubernetes API server on a real TLS socket of 127.0.0.1 that does what a test tells it.

Every path is given one answer or a sequence of answers (the last one stays)::

    with FakeKubeApi() as api:
        api.on("GET", "/version", Reply(body={"gitVersion": "v1.36.3", …}))
        api.on("GET", "/api/v1/nodes", Reply(status=410), node_list("n1"))
        client = KubernetesClient(api.connection(), cluster_name="a")

Answers are values: ``Reply``, ``Hang``, ``Trickle``, ``Cut`` and ``Stream`` (for watches, fed while
it runs).  A callable may be given instead; it gets the ``Request`` and returns one of them.  What
was asked stays in ``api.requests``.
"""

import json
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from clusters.drivers.connection import Connection
from tests.fakes.authority import Authority, Issued
from tests.fakes.kube_objects import (
    admin_certificate,
    authority,
    base64_text,
    bookmark,
    event,
    intermediate_authority,
    make_kubeconfig,
    node,
    pod,
    server_certificate,
)

__all__ = [
    "Answer",
    "Cut",
    "FakeKubeApi",
    "Hang",
    "Reply",
    "Request",
    "Stream",
    "Trickle",
    "admin_certificate",
    "authority",
    "base64_text",
    "bookmark",
    "event",
    "intermediate_authority",
    "list_reply",
    "make_kubeconfig",
    "node",
    "pod",
    "status_reply",
]

DEADLINE = 30.0
TOKEN = "test-token"


@dataclass(frozen=True)
class Request:
    """One request as the server saw it; ``client`` is the CN of the client certificate."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    client: str


@dataclass(frozen=True)
class Reply:
    """An ordinary answer; a dict becomes JSON."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """No answer at all, until the client leaves."""


@dataclass(frozen=True)
class Trickle:
    """A valid answer, one byte at a time, from the first header on."""

    body: Any = field(default_factory=dict)
    seconds_per_byte: float = 0.05


@dataclass(frozen=True)
class Cut:
    """An answer that breaks off after ``text``, though more was announced."""

    text: str = '{"items": [{"meta'


class Stream:
    """A chunked answer that a test feeds while it runs; it stays open until ended.

    Several connections may be given the same stream one after the other; each takes what is sent
    while it is the one that listens.
    """

    def __init__(self, *events: dict[str, Any] | str | bytes) -> None:
        self._queue: queue.Queue[bytes | str] = queue.Queue()
        self.listeners = 0
        for item in events:
            self.send(item)

    def send(self, event: dict[str, Any] | str | bytes) -> "Stream":
        """A watch event as one line, or raw text, or bytes, as they stand."""
        text = json.dumps(event) + "\n" if isinstance(event, dict) else event
        self._queue.put(text if isinstance(text, bytes) else text.encode())
        return self

    def close(self) -> "Stream":
        """End the answer properly, as a server does when its time is over."""
        self._queue.put("close")
        return self

    def cut(self) -> "Stream":
        """Drop the connection in the middle of the answer."""
        self._queue.put("cut")
        return self

    def parts(self, stopped: threading.Event) -> Iterator[bytes | str]:
        while not stopped.is_set():
            try:
                yield self._queue.get(timeout=0.02)
            except queue.Empty:
                yield b""


Answer = Reply | Hang | Trickle | Cut | Stream
Answerer = Callable[[Request], Answer]


class FakeKubeApi:
    """The server; see the module's text.

    ``certificate`` chooses what it shows: "good", "expired", "not_yet_valid", "wrong_name",
    "other_ca" or "intermediate_ca".  ``speaks`` is "tls", "plain" (HTTP without TLS) or "nothing"
    (accepts and waits).
    """

    def __init__(
        self,
        *,
        certificate: str = "good",
        speaks: str = "tls",
        require_client_certificate: bool = False,
        port: int = 0,
    ) -> None:
        self.requests: list[Request] = []
        self.authority = authority()
        self._answers: dict[tuple[str, str], list[Answer | Answerer]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._speaks = speaks
        self._context = _server_context(
            server_certificate(certificate), self.authority, require_client_certificate
        )
        self._connections: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and every connection; the port refuses afterwards."""
        self._stopped.set()
        self._server.shutdown()
        self.drop_connections()
        self._server.server_close()
        self._thread.join(DEADLINE)

    def drop_connections(self) -> None:
        """Cut all open connections, as the fall of a load balancer does."""
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was quicker

    # --- what the client needs --------------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def connection(self, *, token: str | None = TOKEN, **changes: Any) -> Connection:
        """A connection that fits, by token or (``token=None``) by client certificate."""
        values: dict[str, Any] = {
            "server": self.server,
            "ca_pem": self.authority.ca_pem,
            "token": token,
        }
        if token is None:
            admin = admin_certificate()
            values["client_certificate_pem"] = admin.certificate_pem
            values["client_key_pem"] = admin.key_pem
        return Connection(**{**values, **changes})

    def kubeconfig(self, **changes: Any) -> str:
        """A kubeconfig with the admin's client certificate; see ``make_kubeconfig``."""
        return make_kubeconfig(server=self.server, **changes)

    # --- what it answers --------------------------------------------------------------------------

    def on(self, method: str, path: str, *answers: Answer | Answerer) -> None:
        """Set the answers of a path (without query); the last one stays for all later requests."""
        with self._lock:
            self._answers[method, path] = list(answers)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            known = self._answers.get((request.method, request.path))
            if not known:
                return status_reply(404, "the server could not find the requested resource")
            chosen = known.pop(0) if len(known) > 1 else known[0]
        return chosen(request) if callable(chosen) else chosen

    def asked(self, method: str, path: str) -> list[Request]:
        """The requests for one path so far."""
        with self._lock:
            return [item for item in self.requests if (item.method, item.path) == (method, path)]

    def wait_for(self, method: str, path: str, count: int = 1) -> list[Request]:
        """Wait until a path was asked for ``count`` times."""
        until = time.monotonic() + DEADLINE
        while len(found := self.asked(method, path)) < count:
            if time.monotonic() > until:
                raise AssertionError(f"{method} {path} was asked {len(found)} times, not {count}")
            time.sleep(0.01)
        return found


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], api: FakeKubeApi) -> None:
        self.api = api
        super().__init__(address, _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread: TLS, then HTTP; a client may leave at any point."""
        api = self.api
        with api._lock:
            api._connections.add(request)
        try:
            if api._speaks == "nothing":
                api._stopped.wait(DEADLINE)
            elif api._speaks == "plain":
                _Handler(request, client_address, self)
            else:
                self._secure(request, client_address)
        except OSError:
            return  # refused by the client, or gone
        finally:
            with api._lock:
                api._connections.discard(request)

    def _secure(self, request: socket.socket, client_address: Any) -> None:
        api = self.api
        request.settimeout(DEADLINE)
        with api._context.wrap_socket(
            request, server_side=True, do_handshake_on_connect=False
        ) as secured:
            with api._lock:
                api._connections.add(secured)
            try:
                secured.do_handshake()
                _Handler(secured, client_address, self)
            except ssl.SSLError:
                _let_the_alert_arrive(secured)
            finally:
                with api._lock:
                    api._connections.discard(secured)


def _let_the_alert_arrive(secured: ssl.SSLSocket) -> None:
    """Closing with unread data would reset the connection and take the alert back."""
    socket.socket.shutdown(secured, socket.SHUT_WR)
    while socket.socket.recv(secured, 4096):
        pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written one after the other
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Tests read ``requests`` instead."""

    def handle_any(self) -> None:
        api = self.server.api
        api_answer = api.answer(self._request())
        if isinstance(api_answer, Reply):
            self._reply(api_answer)
        elif isinstance(api_answer, Hang):
            self._wait_for_client_to_leave()
        elif isinstance(api_answer, Trickle):
            self._trickle(api_answer)
        elif isinstance(api_answer, Cut):
            self._cut(api_answer)
        else:
            self._stream(api_answer)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815 - http.server's names

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        client = ""
        if isinstance(self.connection, ssl.SSLSocket):
            shown = self.connection.getpeercert() or {}
            names = dict(item[0] for item in shown.get("subject", ()))  # type: ignore[misc]
            client = str(names.get("commonName", ""))
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=dict(self.headers.items()),
            body=json.loads(body) if body else None,
            client=client,
        )

    def _reply(self, reply: Reply) -> None:
        data = _encode(reply.body)
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _wait_for_client_to_leave(self) -> None:
        self.close_connection = True
        self.server.api._stopped.wait(DEADLINE)

    def _trickle(self, answer: Trickle) -> None:
        self.close_connection = True
        data = _encode(answer.body)
        head = (
            f"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        )
        for byte in head + data:
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            if self.server.api._stopped.wait(answer.seconds_per_byte):
                return

    def _cut(self, answer: Cut) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.text.encode())

    def _stream(self, stream: Stream) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        stream.listeners += 1
        for part in stream.parts(self.server.api._stopped):
            if part == "cut" or self._client_left():
                return
            if part == "close":
                self.wfile.write(b"0\r\n\r\n")
                return
            if part:
                data = part if isinstance(part, bytes) else part.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()

    def _client_left(self) -> bool:
        """A client that ends TLS or TCP makes the socket readable; watches send nothing else."""
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1)
        except (ssl.SSLWantReadError, BlockingIOError):
            return False
        finally:
            self.connection.settimeout(DEADLINE)


def _encode(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body)).encode()


def _server_context(
    issued: Issued, clients: Authority, require_client_certificate: bool
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with os.fdopen(os.memfd_create("server-certificate"), "w") as file:
        file.write(issued.certificate_pem + issued.key_pem)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
    context.load_verify_locations(cadata=clients.ca_pem)
    context.verify_mode = ssl.CERT_REQUIRED if require_client_certificate else ssl.CERT_OPTIONAL
    return context


# --- replies --------------------------------------------------------------------------------------


def status_reply(status: int, message: str, reason: str = "") -> Reply:
    """A refusal as Kubernetes words it."""
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
    }
    return Reply(body=body, status=status)


def list_reply(
    items: list[dict[str, Any]],
    *,
    version: str = "100",
    continue_: str = "",
    remaining: int | None = None,
) -> Reply:
    """One page of a LIST."""
    metadata: dict[str, Any] = {"resourceVersion": version}
    if continue_:
        metadata["continue"] = continue_
    if remaining is not None:
        metadata["remainingItemCount"] = remaining
    return Reply(body={"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items})
