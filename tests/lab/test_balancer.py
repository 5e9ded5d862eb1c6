"""The balancer before several servers: who gets a connection, and who loses one."""

import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from lab.process import Server, start_server, wait_for
from lab.services.endpoint import accepts


class Answering(http.server.BaseHTTPRequestHandler):
    """Says its server's name, with the status that the server has at the moment."""

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.name.encode())

    def log_message(self, *_arguments: object) -> None:
        """Nothing on the terminal."""


class Backend(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name: str, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.name, self.status = name, status
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/readyz"

    def end(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    both = [Backend("one"), Backend("two")]
    yield both
    for backend in both:
        backend.end()


@pytest.fixture
def balance(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``balance(url, …)``: the address of a balancer before these."""
    started: list[Server] = []

    def start(*urls: str) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = start_server(
            "balancer",
            sys.executable, "-m", "lab.balancer", "127.0.0.1", str(port), *urls,
            folder=tmp_path,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        started.append(server)
        server.wait_until(lambda: accepts(port), timeout=30)
        return f"http://127.0.0.1:{port}/"

    yield start
    for server in started:
        server.stop()


def who_answers(url: str) -> str:
    """Empty when nobody does."""
    try:
        return httpx.get(url, timeout=5).text
    except httpx.TransportError:
        return ""


def wait_for_answers(url: str, wanted: set[str]) -> None:
    def seen() -> bool:
        return {who_answers(url) for _time in range(4)} == wanted

    wait_for(f"answers of {wanted}", seen, timeout=20)


def test_all_that_are_ready_have_their_turn(backends: list[Backend], balance: Callable[..., str]):
    wait_for_answers(balance(*(backend.url for backend in backends)), {"one", "two"})


def test_one_that_says_it_is_not_ready_gets_nothing(
    backends: list[Backend], balance: Callable[..., str]
):
    url = balance(*(backend.url for backend in backends))
    wait_for_answers(url, {"one", "two"})
    backends[0].status = 500
    wait_for_answers(url, {"two"})


def test_one_that_is_gone_gets_nothing(backends: list[Backend], balance: Callable[..., str]):
    url = balance(*(backend.url for backend in backends))
    wait_for_answers(url, {"one", "two"})
    backends[1].end()
    wait_for_answers(url, {"one"})


def test_one_that_becomes_ready_is_taken_in(backends: list[Backend], balance: Callable[..., str]):
    backends[0].status = 500
    url = balance(backends[0].url)
    assert who_answers(url) == ""
    backends[0].status = 200
    wait_for_answers(url, {"one"})


def test_one_that_is_gone_loses_the_connections_it_had(
    backends: list[Backend], balance: Callable[..., str]
):
    """They would hang: what is switched off closes nothing."""
    url = balance(backends[0].url)
    wait_for_answers(url, {"one"})
    with socket.create_connection(("127.0.0.1", httpx.URL(url).port), timeout=20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        backends[0].end()
        assert connection.recv(1) == b""
