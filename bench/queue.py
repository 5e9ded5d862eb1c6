"""2,000 queued operations that do nothing, 20 at a time, of 20 teams on 20 clusters.

How long a freed slot stays empty: from the end of an operation to the claim of the step of the one
that has its slots next.  None may be lost, and the queue's page asks the database as often with
2,000 waiting as with none.
"""

from collections.abc import Iterator

from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from beidou.base.models import User
from bench import nothing, worker
from bench.latency import _wait
from bench.report import Measure, middle, p95
from clusters.models import Cluster
from machines.models import Machine
from operations.models import Attempt, MachineStep, Operation, OperationMachine, Step
from operations.services import dispatch, queue

WAITING = 2000
AT_ONCE = 20
LANES = 20
SECONDS = 1200


def run() -> Iterator[Measure]:
    nothing.register()
    admin = User.objects.create_superuser("bench-queue")
    queries_of_none = _queries(admin)
    _fill(admin)
    queries_of_all = _queries(admin)
    with worker.knowing_nothing():
        dispatch.dispatch()
        _wait(lambda: not Operation.objects.filter(status__in=Operation.ACTIVE).exists(), SECONDS)
    done = Operation.objects.filter(status=Operation.Status.SUCCEEDED).count()
    delays = _delays()
    yield Measure(
        f"a free slot with {WAITING} queued, {AT_ONCE} at a time, stays empty, p95",
        f"{p95(delays):.2f} s (median {middle(delays):.2f} s)",
        "",
        "<= 2 s",
        p95(delays) <= 2.0,
    )
    yield Measure(
        "of these operations succeeded", f"{done} of {WAITING}", "", "all", done == WAITING
    )
    yield Measure(
        f"queries of the queue's page with {WAITING} waiting",
        f"{queries_of_all}",
        f"{queries_of_none} with none",
        "at most 14",
        queries_of_all <= 14,
    )


def _queries(user: User) -> int:
    with CaptureQueriesContext(connection) as captured:
        queue.look(user)
    return len(captured)


def _fill(user: User) -> None:
    """The rows that ``start_operation`` would write, in bulk."""
    teams = [Group.objects.create(name=f"bench-{number}") for number in range(LANES)]
    clusters = [
        Cluster.objects.create(name=f"bench-{n}", uid=f"bench-{n}", server="https://x")
        for n in range(LANES)
    ]
    operations = Operation.objects.bulk_create(
        Operation(
            name=f"bench-{number}",
            kind="Nothing",
            requested_by=user,
            requested_by_name=user.username,
            cluster=clusters[number % LANES],
            team=teams[number // 7 % LANES],
        )
        for number in range(WAITING)
    )
    machines = Machine.objects.bulk_create(
        Machine(
            address=f"10.240.{number // 250}.{number % 250 + 1}",
            hostname=f"queued-{number}",
            state=Machine.State.AVAILABLE,
        )
        for number in range(WAITING)
    )
    members = OperationMachine.objects.bulk_create(
        OperationMachine(
            operation=operation, machine=machine, address=machine.address, holds_machine=True
        )
        for operation, machine in zip(operations, machines, strict=True)
    )
    steps = Step.objects.bulk_create(
        Step(operation=operation, position=1, name="nothing") for operation in operations
    )
    MachineStep.objects.bulk_create(
        MachineStep(step=step, machine=member) for step, member in zip(steps, members, strict=True)
    )


def _delays() -> list[float]:
    """The n-th slot that became free was taken by the (n + AT_ONCE)-th claim."""
    ended = Operation.objects.exclude(finished_at=None).order_by("finished_at")
    claimed = Attempt.objects.filter(number=1).order_by("started_at")
    pairs = zip(
        ended.values_list("finished_at", flat=True),
        claimed.values_list(F("started_at"), flat=True)[AT_ONCE:],
        strict=False,
    )
    return [max((begin - end).total_seconds(), 0.0) for end, begin in pairs if end is not None]
