"""The portal as a real server in this process: uvicorn on its own port, the test's database."""

import json
import socket
import threading
import time
from collections.abc import Callable

import httpx
import uvicorn
from asgiref.sync import SyncToAsync
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.test import Client

from beidou.base import streaming

END_SECONDS = 60


class Portal:
    """``stop`` and ``start`` use the same port, so that readers can connect again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = uvicorn.Config(
            ASGIStaticFilesHandler(get_asgi_application()),
            host="127.0.0.1",
            port=self.port,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self.before = set(threading.enumerate())
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until(lambda: self.server.started, "the server has started")

    def stop(self) -> None:
        """Nothing of it uses the database afterwards: the tables are emptied next, and whoever
        still reads or writes would meet that (PostgreSQL ends one of the two as a deadlock)."""
        self.server.should_exit = True
        # It ends when the last request has, which may wait for a lock of the database.
        self.thread.join(timeout=END_SECONDS)
        assert not self.thread.is_alive()
        until(lambda: not self._working(), "what requests began has ended", END_SECONDS)
        _let_readers_end()

    def _working(self) -> list[threading.Thread]:
        """Threads of requests that were broken off: their views are worked through all the same,
        and a server that ends no longer waits for them."""
        lasting = SyncToAsync.single_thread_executor._threads
        return [
            thread
            for thread in threading.enumerate()
            if thread.name.startswith("ThreadPoolExecutor-")
            and thread not in self.before
            and thread not in lasting
        ]


def _let_readers_end() -> None:
    """A stream that was broken off leaves its look at the database to a thread of the pool."""
    for pool in streaming.POOLS:
        meeting = threading.Barrier(pool._max_workers, timeout=END_SECONDS)
        for each in [pool.submit(meeting.wait) for _ in range(pool._max_workers)]:
            each.result()


def until(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait for ``condition``; the sentence says what never came true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"Not within {seconds} s: {what}."
        time.sleep(0.02)


def session_of(user) -> str:
    """The key of a signed-in session."""
    client = Client()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client.cookies["beidou_session"].value


class Reader:
    """Reads a stream of events in a thread; ``events`` are (name, data, id)."""

    def __init__(self, portal, user, path, *, headers=None):
        self.events, self.comments, self.error = [], 0, None
        self.is_over = False
        self.url = f"{portal.url}{path}"
        self.cookies = {"beidou_session": session_of(user)}
        self.headers = {"Accept": "text/event-stream", **(headers or {})}
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            with (
                httpx.Client(cookies=self.cookies, timeout=20) as client,
                client.stream("GET", self.url, headers=self.headers) as answer,
            ):
                self.answer = answer
                name, number = "", None
                for line in answer.iter_lines():
                    if self.stopped.is_set():
                        return
                    kind, _, rest = line.partition(": ")
                    if kind == "event":
                        name = rest
                    elif kind == "id":
                        number = rest
                    elif kind == "data":
                        self.events.append((name, json.loads(rest), number))
                        name, number = "", None
                    elif line.startswith(":"):
                        self.comments += 1
        except httpx.TransportError as error:  # the server has gone: for the test to judge
            self.error = error
        finally:
            self.is_over = True

    def named(self, name):
        return [data for event, data, _ in list(self.events) if event == name]
