"""Start latency of a queued step with 200 operations waiting for a free slot on one cluster.

From the moment in which an operation ends and so frees its slot to the moment in which the next
one's step is claimed by a worker: dispatch, queue and claim.  Compared with bare no-op tasks
through the same queue.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from django_q.tasks import async_task

from beidou.base.models import User
from bench import nothing, worker
from bench.report import Measure, middle, p95
from clusters.models import Cluster
from machines.models import Machine
from operations.models import Attempt, ClusterSettings, Operation
from operations.services import start

WAITING = 200
SLOTS = 2


def run() -> Iterator[Measure]:
    nothing.register()
    with worker.knowing_nothing():
        bare = _bare_tasks()
        delays = _operations()
    yield Measure(
        f"start latency of a queued step with {WAITING} waiting, p95",
        f"{p95(delays):.2f} s (median {middle(delays):.2f} s)",
        f"bare queue task p95 {p95(bare):.2f} s",
        "<= 1 s",
        p95(delays) <= 1.0,
    )


def note_time(path: str, sent: str) -> None:
    """The bare task: write down how long it was on its way."""
    with open(path, "a") as file:
        file.write(f"{time.time() - float(sent)}\n")


def _bare_tasks(count: int = 40) -> list[float]:
    """One at a time, as a slot that becomes free enqueues one step; the first ones warm up."""
    path = Path(os.environ["BEIDOU_DATA_DIR"]) / "bare.txt"
    path.touch()
    for number in range(1, count + 1):
        async_task("bench.latency.note_time", str(path), str(time.time()))
        _wait(lambda wanted=number: len(path.read_text().splitlines()) >= wanted)
    return [float(line) for line in path.read_text().splitlines()][5:]


def _operations() -> list[float]:
    admin = User.objects.create_superuser("bench")
    cluster = Cluster.objects.create(name="bench", uid="bench", server="https://x")
    ClusterSettings.objects.create(cluster=cluster, limit=SLOTS)
    for number in range(WAITING):
        machine = Machine.objects.create(
            address=f"10.250.{number // 250}.{number % 250 + 1}",
            hostname=f"bench-{number}",
            state=Machine.State.AVAILABLE,
        )
        start.start_operation(
            kind="Nothing", cluster=cluster, machines=[machine], acting_user=admin
        )
    done = Operation.objects.filter(cluster=cluster, status=Operation.Status.SUCCEEDED)
    _wait(lambda: done.count() == WAITING, seconds=600)
    ended = sorted(end for end in done.values_list("finished_at", flat=True) if end is not None)
    began = sorted(
        Attempt.objects.filter(step__operation__cluster=cluster).values_list(
            "started_at", flat=True
        )
    )
    # The n-th slot that became free was taken by the (n + SLOTS)-th start.
    return [
        max((begin - end).total_seconds(), 0.0)
        for end, begin in zip(ended, began[SLOTS:], strict=False)
    ]


def _wait(condition: object, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise RuntimeError("the worker did not do its tasks in time")
        time.sleep(0.02)
