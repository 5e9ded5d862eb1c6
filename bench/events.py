"""Events of one cluster through one collector, into the embedded store and into Elasticsearch.

A small server gives a recorded stream as fast as it is taken; in the same run a plain client reads
the same stream and throws it away.  The rate is that of a store that is warm: the first events,
during which Elasticsearch compiles itself, count as stored or lost and not for the time.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import aiohttp
import psutil
from django.conf import settings

from beidou.base.config import EventServer, parse_event_store_url
from bench.report import Measure
from clusters.drivers import kubeconfig, tls
from clusters.drivers.connection import Connection
from clusters.models import Cluster, ClusterCredential
from events.drivers.elastic.server import Server
from events.models import Event, EventStream
from lab import Lab
from tests.fakes.authority import Authority

ROOT = Path(__file__).resolve().parent.parent
EVENTS = 300_000
WARM = 100_000
LOOK_SECONDS = 0.2
WATCH = "/apis/events.k8s.io/v1/events?watch=true&resourceVersion=1000"


def run() -> Iterator[Measure]:
    with Lab.start("bench-events") as lab, _server() as connection:
        plain = asyncio.run(_read_and_throw_away(connection))
        cluster = Cluster.objects.create(
            name="stream", uid="bench-events", server=connection.server, version="v1.36.3"
        )
        ClusterCredential.objects.create(
            cluster=cluster, kubeconfig=kubeconfig.to_kubeconfig(connection)
        )
        yield _measure("the database", "database", plain, _in_database, least=None)
        # The cluster is listed and watched anew, from another collector's empty spool.
        EventStream.objects.all().delete()
        shutil.rmtree(Path(settings.DATA_DIR) / "spool", ignore_errors=True)
        address = f"elasticsearch+{lab.elasticsearch()}/bench"
        server = Server(cast(EventServer, parse_event_store_url(address)), 30)
        yield _measure("Elasticsearch", address, plain, lambda: _on_server(server))


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


def _on_server(server: Server) -> int:
    # 503: an index that was made in this moment has no shards yet.
    found = server.ask("GET", "/bench-events-1-*/_count", ignore_unavailable="true", allowed=(503,))
    count: int = found.get("count", 0)
    return count


@contextmanager
def _server() -> Iterator[Connection]:
    authority = Authority("bench")
    issued = authority.issue("server", names=("127.0.0.1",))
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        certificate.write_text(issued.certificate_pem)
        key.write_text(issued.key_pem)
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.event_server", certificate, key, str(EVENTS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield Connection(
                server=f"https://127.0.0.1:{port}",
                ca_pem=authority.ca_pem,
                token="bench",  # noqa: S106
            )
        finally:
            process.kill()
            process.wait()


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
    process = subprocess.Popen(
        [sys.executable, "manage.py", "collect"],
        cwd=ROOT,
        env={**os.environ, "BEIDOU_EVENT_STORE_URL": address},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    watched, memory, began, already = psutil.Process(process.pid), 0, 0.0, 0
    deadline = time.monotonic() + 600
    try:
        while True:
            memory = max(memory, watched.memory_info().rss)
            stored = count()
            if not began and stored >= WARM:
                began, already = time.perf_counter(), stored
            if stored >= EVENTS:
                seconds = time.perf_counter() - began
                return seconds * (EVENTS - WARM) / (EVENTS - already), memory
            if time.monotonic() > deadline:
                raise RuntimeError(f"the collector has stored {stored} events: {_row()}")
            time.sleep(LOOK_SECONDS)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _row() -> object:
    return EventStream.objects.values().first()
