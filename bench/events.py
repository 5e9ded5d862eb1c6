"""Events of one cluster through one collector, into the embedded store and into Elasticsearch.

A small server gives a recorded stream as fast as it is taken; in the same run a plain client reads
the same stream and throws it away.  The rate is that of a store that is warm: the first events,
during which Elasticsearch compiles itself, count as stored or lost and not for the time.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import cast

import aiohttp

from beidou.base.config import EventServer, parse_event_store_url
from bench import streams
from bench.report import Measure
from clusters.drivers import tls
from clusters.drivers.connection import Connection
from events.drivers.elastic.server import Server
from events.models import Event, EventStream
from lab import Lab

EVENTS = 300_000
WARM = 100_000
LOOK_SECONDS = 0.2
WATCH = "/apis/events.k8s.io/v1/events?watch=true&resourceVersion=1000"


def run() -> Iterator[Measure]:
    with Lab.start("bench-events") as lab, streams.served(at_once=EVENTS) as served:
        plain = asyncio.run(_read_and_throw_away(served.connection()))
        served.adopt()
        yield _measure("the database", "database", plain, _in_database, least=None)
        # The cluster is listed and watched anew.
        served.adopt()
        address = f"elasticsearch+{lab.elasticsearch()}/bench"
        server = Server(cast(EventServer, parse_event_store_url(address)), 30)
        yield _measure("Elasticsearch", address, plain, lambda: on_server(server))


def _measure(
    place: str,
    address: str,
    plain: float,
    count: Callable[[], int],
    *,
    least: int | None = 5000,
) -> Measure:
    """``least`` is how many events a second are asked for, if any."""
    seconds, memory = _collect(address, count)
    rate, stored = (EVENTS - WARM) / seconds, count()
    return Measure(
        f"{EVENTS:,} events from a watch into {place} ({EVENTS - stored} lost)",
        f"{rate:,.0f} events/s, collector {memory / 2**20:.0f} MiB at most",
        f"read and thrown away: {EVENTS / plain:,.0f} events/s",
        (f">= {least:,} events/s, " if least else "") + "<= 200 MiB",
        rate >= (least or 0) and memory <= 200 * 2**20 and stored == EVENTS,
    )


def _in_database() -> int:
    return Event.objects.order_by("-id").values_list("id", flat=True).first() or 0


def on_server(server: Server) -> int:
    """How many are found."""
    # 503: an index that was made in this moment has no shards yet.
    found = server.ask(
        "GET",
        f"/{server.address.prefix}-events-1-*/_count",
        ignore_unavailable="true",
        allowed=(503,),
    )
    count: int = found.get("count", 0)
    return count


async def _read_and_throw_away(connection: Connection) -> float:
    """Seconds from the first byte to the last event."""
    connector = aiohttp.TCPConnector(ssl=tls.make_context(connection))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(connection.server + WATCH) as got,
    ):
        began, lines = time.perf_counter(), 0
        while lines < EVENTS:
            lines += (await got.content.readany()).count(b"\n")
        return time.perf_counter() - began


def _collect(address: str, count: Callable[[], int]) -> tuple[float, int]:
    """Seconds for all but the first ``WARM`` events, and the greatest resident memory."""
    memory, began, already = 0, 0.0, 0
    deadline = time.monotonic() + 600
    with streams.collecting(address) as process:
        while True:
            memory = max(memory, process.memory_info().rss)
            stored = count()
            if not began and stored >= WARM:
                began, already = time.perf_counter(), stored
            if stored >= EVENTS:
                seconds = time.perf_counter() - began
                return seconds * (EVENTS - WARM) / (EVENTS - already), memory
            if time.monotonic() > deadline:
                raise RuntimeError(f"the collector has stored {stored} events: {_row()}")
            time.sleep(LOOK_SECONDS)


def _row() -> object:
    return EventStream.objects.values().first()
