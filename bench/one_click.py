"""The whole way in one click: many machines from the start of a task to all schedulable.

Workers and collector run as in a portal; the two approvals are given as soon as they are asked for,
so that no person's time is in the figure.  The article brings twenty machines in within ten
minutes; here the same two cores are the portal, the cluster and all the hosts.
"""

import os
import time
from collections.abc import Iterator

from beidou.base.models import User
from bench.report import Measure
from bench.scale_up import Site, register
from bench.worker import portal
from lab import Lab
from operations.flows import control, start
from operations.flows.models import AutoOperationTask, WorkOrder

LIMIT_SECONDS = 300.0
GIVEN_UP_AFTER = 1200.0


def run() -> Iterator[Measure]:
    count = int(os.environ.get("BENCH_MACHINES", "20"))
    with Lab.start("bench-one-click") as lab:
        site = Site(lab, "bench-one-click")
        machines = register(lab.hosts(count, prefix="new"))
        approver = User.objects.create_superuser("bench-approver")
        with portal():
            began = time.perf_counter()
            task = start.start_task(
                cluster=site.cluster,
                machines=machines,
                specs=start.specs_of("ScaleUp"),
                template="ScaleUp",
                acting_user=site.admin,
            )
            _carry(task, approver)
            seconds = time.perf_counter() - began
        steps = ", ".join(
            f"{step.name} {(step.finished_at - step.started_at).total_seconds():.0f} s"
            for step in task.steps.order_by("position")
            if step.started_at and step.finished_at
        )
    yield Measure(
        f"one click, {count} machines, to all schedulable",
        f"{seconds:.0f} s ({steps})",
        "the article: 10 minutes",
        f"<= {LIMIT_SECONDS:.0f} s",
        seconds <= LIMIT_SECONDS,
    )


def _carry(task: AutoOperationTask, approver: User) -> None:
    """Say yes to what is asked, until the task has ended."""
    deadline = time.monotonic() + GIVEN_UP_AFTER
    while task.status in AutoOperationTask.ACTIVE:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{task} has not ended: {task.status} {task.waiting_for}")
        for order in WorkOrder.objects.filter(step__task=task, status=WorkOrder.Status.OPEN):
            control.approve(order, acting_user=approver, reason="bench", digest=order.digest)
        time.sleep(0.2)
        task.refresh_from_db()
    if task.status != AutoOperationTask.Status.SUCCEEDED:
        raise RuntimeError(f"{task}: {task.status} {task.message}")
