"""Two collectors share clusters; one is killed, and the other reads and stores for both.

Measured from ``kill -9`` until an event that was sent after it is found in the database; in the
end all that were sent are there.
"""

import time
from collections.abc import Callable, Iterator

from bench import streams
from bench.report import Measure
from clusters.models import Cluster, CollectorLease
from clusters.services import leases
from events.models import Event

CLUSTERS, RATE, ROUNDS = 10, 10, 5
LEAST_SECONDS, DEADLINE_SECONDS = 15.0, 120


def run() -> Iterator[Measure]:
    found = [_taken_over() for _number in range(ROUNDS)]
    lost = sum(sent - stored for _seconds, sent, stored in found)
    slowest = max(seconds for seconds, _sent, _stored in found)
    yield Measure(
        f"a collector of {CLUSTERS // 2} of {CLUSTERS} clusters killed: until new events of all of "
        f"them are stored ({lost} of {sum(sent for _, sent, _ in found):,} lost)",
        f"{slowest:.1f} s, the slowest of {ROUNDS}",
        f"a lease is {leases.LEASE_SECONDS} s; fastest {min(found)[0]:.1f} s",
        f"<= {LEAST_SECONDS:.0f} s, 0 lost",
        slowest <= LEAST_SECONDS and not lost,
    )


def _taken_over() -> tuple[float, int, int]:
    """Seconds, and how many events were sent and are stored."""
    with streams.served(CLUSTERS, rate=RATE) as served:
        served.adopt()
        keys = set(Cluster.objects.values_list("pk", flat=True))
        rows = Event.objects.filter(cluster_id__in=keys)
        with streams.collecting("database"):
            with streams.collecting("database") as dying:
                _until(lambda: _held_by(dying.pid) == CLUSTERS // 2)
                _until(lambda: set(rows.values_list("cluster_id", flat=True)) == keys)
                dying.kill()
                dying.wait(timeout=30)
                began = time.monotonic()
            late = rows.filter(version__gt=served.newest)
            _until(lambda: set(late.values_list("cluster_id", flat=True)) == keys)
            seconds = time.monotonic() - began
            sent = served.stop()
            _until(lambda: rows.count() >= sent)
        return seconds, sent, rows.count()


def _held_by(pid: int) -> int:
    """The name of a collector has its process in the middle."""
    return CollectorLease.objects.filter(holder__contains=f"-{pid}-").count()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("it takes too long")
        time.sleep(0.1)
