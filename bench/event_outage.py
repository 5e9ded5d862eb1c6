"""The event store away for an hour of 500 events a second, and back again.

The hour's events are there at once and are read as fast as the collector takes them; 500 a second
go on arriving all the while.  Between the collector and Elasticsearch is a port of ours that
refuses whoever connects until it is opened.  ``BENCH_OUTAGE_EVENTS`` is how many wait in the end,
1,800,000 by default.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import urlsplit

import psutil
from django.conf import settings

from beidou.base.config import EventServer, parse_event_store_url
from bench import streams
from bench.events import on_server
from bench.report import Measure
from events.drivers.elastic.server import Server
from events.models import EventStream
from events.services import flow
from lab import Lab

RATE = 500
AN_HOUR = 3600 * RATE
EVENTS = int(os.environ.get("BENCH_OUTAGE_EVENTS", AN_HOUR))
DEADLINE_SECONDS = 3600
CHUNK = 1 << 16


def run() -> Iterator[Measure]:
    with (
        Lab.start("bench-event-outage") as lab,
        streams.served(at_once=EVENTS, rate=RATE) as served,
    ):
        url = lab.elasticsearch()
        server = Server(cast(EventServer, parse_event_store_url(f"elasticsearch+{url}/bench")), 30)
        way = _Way(url)
        served.adopt()
        with streams.collecting(f"elasticsearch+http://127.0.0.1:{way.port}/bench") as process:
            memory = _while_away(process)
            waiting = EventStream.objects.get()
            way.open()
            began = time.perf_counter()
            _until(lambda: on_server(server) > 0 and not flow.is_late(EventStream.objects.get()))
            rate = on_server(server) / (time.perf_counter() - began)
            took = time.perf_counter() - began
            sent = served.stop()
            _until(lambda: on_server(server) >= sent)
        stored = on_server(server)
    half = len(memory) // 2
    first, second = max(memory[:half]) / 2**20, max(memory[half:]) / 2**20
    each = waiting.waiting_bytes / waiting.waiting
    needed = AN_HOUR * each / 2**20
    yield Measure(
        f"{waiting.waiting:,} events waited while Elasticsearch was away "
        f"({sent - stored} of {sent:,} lost)",
        f"collector {first:.0f} MiB at most in the first half, {second:.0f} in the second",
        f"{each:.0f} bytes an event on disk: an hour of {RATE}/s is {needed:,.0f} MiB of "
        f"{settings.EVENT_SPOOL_MIB:,}",
        "0 lost, second half <= 1.1 of the first, the hour has room",
        stored == sent and second <= 1.1 * first and needed <= settings.EVENT_SPOOL_MIB,
    )
    yield Measure(
        f"caught up, while {RATE} events/s went on arriving",
        f"{rate:,.0f} events/s, {rate / RATE:.1f} times what arrives",
        f"after {took:,.0f} s",
        ">= 5 times",
        rate >= 5 * RATE,
    )


def _while_away(process: psutil.Process) -> list[int]:
    """Until all wait; gives the resident memory, again and again since the first event came."""
    memory = []

    def all_wait() -> bool:
        row = EventStream.objects.first()
        if row is not None and row.waiting:
            memory.append(process.memory_info().rss)
        return row is not None and row.waiting >= EVENTS

    _until(all_wait)
    return memory


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"it takes too long: {EventStream.objects.values().first()}")
        time.sleep(0.5)


class _Way:
    """A port that leads to a server when it is open, and refuses whoever connects until then."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 9200))
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # ours from here on, though nobody listens
        self.port = int(self._socket.getsockname()[1])

    def open(self) -> None:
        self._socket.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _address = self._socket.accept()
            target = socket.create_connection(self._target)
            for one, other in ((client, target), (target, client)):
                threading.Thread(target=_carry, args=(one, other), daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    try:
        while content := source.recv(CHUNK):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one of both is gone, and the other learns it from its own side
