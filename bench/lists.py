"""The big lists: server time and queries at full size, and how they grow with ten times the rows.

Through the whole stack of the page (middleware, admin, template) with Django's test client, signed
in as a superuser; the comparison is the same page with a tenth of the rows.
"""

import time
from collections.abc import Callable, Iterator

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from beidou.base.models import User
from bench.report import Measure, middle, p95
from clusters.models import Cluster, Node
from machines.models import Machine

ROUNDS = 15


def run() -> Iterator[Measure]:
    user = User.objects.create_superuser("bench-lists")
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    for name, path, rows, fill in (
        ("machine list", "/machines/machine/", 50_000, _machines),
        ("cluster list", "/clusters/cluster/", 200, _clusters),
        ("node list", "/clusters/node/", 5_000, _nodes),
    ):
        yield _measure(client, name, path, rows, fill)


def _measure(
    client: Client, name: str, path: str, rows: int, fill: Callable[[int, int], None]
) -> Measure:
    fill(0, rows // 10)
    small, _queries = _times(client, path)
    fill(rows // 10, rows)
    big, queries = _times(client, path)
    growth = middle(big) / middle(small)
    return Measure(
        f"{name}, {rows:,} rows",
        f"p95 {p95(big) * 1000:.0f} ms, {queries} queries",
        f"{growth:.2f} x the time of {rows // 10:,} rows",
        "<= 200 ms, <= 15 queries, <= 1.3 x",
        p95(big) <= 0.2 and queries <= 15 and growth <= 1.3,
    )


def _times(client: Client, path: str) -> tuple[list[float], int]:
    times = []
    for number in range(ROUNDS + 2):
        began = time.perf_counter()
        with CaptureQueriesContext(connection) as captured:
            answer = client.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}")
        if number >= 2:  # templates and the content of the page cache are warm by then
            times.append(time.perf_counter() - began)
    return times, len(captured)


def _machines(low: int, high: int) -> None:
    states = [Machine.State.AVAILABLE, Machine.State.IN_SERVICE, Machine.State.FAULTY]
    Machine.objects.bulk_create(
        (
            Machine(
                address=f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}",
                hostname=f"node-{n:06}",
                serial=f"SN{n:08}",
                rack=f"r{n // 40:04}",
                state=states[n % 3],
            )
            for n in range(low, high)
        ),
        batch_size=2000,
    )


def _clusters(low: int, high: int) -> None:
    Cluster.objects.bulk_create(
        Cluster(
            name=f"list-{n}",
            uid=f"list-{n}",
            server="https://x",
            version="v1.36.3",
            health=Cluster.Health.HEALTHY,
            nodes_total=100,
            nodes_ready=99,
            cpu_allocatable=100_000,
            cpu_requested=60_000,
            observed_at=timezone.now(),
        )
        for n in range(low, high)
    )


def _nodes(low: int, high: int) -> None:
    cluster = Cluster.objects.filter(name__startswith="list-").first()
    now = timezone.now()
    Node.objects.bulk_create(
        (
            Node(
                cluster=cluster,
                name=f"node-{n:05}",
                uid=f"uid-{n}",
                is_ready=True,
                observed_at=now,
                internal_ip=f"10.9.{n // 250}.{n % 250 + 1}",
            )
            for n in range(low, high)
        ),
        batch_size=1000,
    )
