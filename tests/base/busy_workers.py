"""Run in a portal's shell: keep its workers busy, lose a step, and wait until it is taken over; a
question to a system outside is not kept waiting either."""

import time
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base import tasks
from clusters.models import Cluster
from operations.models import Attempt, Operation, Step


def wait_for(condition, what):
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not happen within 60 s")
        time.sleep(0.1)


def held():
    return OrmQ.objects.filter(key=tasks.WORK, lock__gt=timezone.now()).count()


cluster = Cluster.objects.create(name="busy", uid="busy", server="https://x")
operation = Operation.objects.create(
    name="busy", kind="CleanUp", cluster=cluster, status=Operation.Status.RUNNING
)
step = Step.objects.create(
    operation=operation,
    position=1,
    name="cleanUp",
    status=Step.Status.RUNNING,
    attempt=1,
    holder="elsewhere/boot/1/1",
    lease_until=timezone.now() + timedelta(hours=1),
)
Attempt.objects.create(step=step, number=1, holder=step.holder)
busy = settings.Q_CLUSTER["workers"]
for _number in range(busy + 2):  # one more waits in the pipe, and one behind it
    tasks.enqueue("time.sleep", 300)
wait_for(lambda: held() >= busy, "the workers being busy")
Step.objects.filter(pk=step.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
tasks.enqueue("operations.tasks.maintain", queue=tasks.CLOCK)
wait_for(
    lambda: not Step.objects.filter(pk=step.pk, status=Step.Status.RUNNING).exists(),
    "taking over the lost step",
)
tasks.enqueue("operations.tasks.deliver", 0, queue=tasks.OUTSIDE)
wait_for(lambda: tasks.is_empty(tasks.OUTSIDE), "asking a system outside")
assert held() >= busy, "the workers were not busy"
OrmQ.objects.filter(key=tasks.WORK).delete()
operation.delete()
cluster.delete()
