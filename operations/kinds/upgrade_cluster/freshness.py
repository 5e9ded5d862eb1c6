"""How long what was looked at and kept counts: no control plane is upgraded with a snapshot of last
month.

While an upgrade works it counts, however long that takes: a snapshot from before the first control
plane is the one that is wanted.  After a pause or a failure it may be old.
"""

from datetime import datetime, timedelta

from django.db.models import QuerySet
from django.utils import timezone

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from operations.kinds.base import StepRun
from operations.kinds.upgrade_cluster import facts
from operations.models import MachineStep, Operation, OperationMachine

KEEPS = timedelta(hours=1)
STEPS = ("preCheck", "snapshot")


def outdated(operation: Operation) -> frozenset[str]:
    """The steps to do again before the next control plane; none once all are upgraded."""
    return _before(operation, timezone.now(), MachineStep.objects.all())


def require_fresh(run: StepRun) -> None:
    """What has become old while it waited was done again when it began; this makes sure of it."""
    begun = run.operation.status_changes.filter(new=Operation.Status.RUNNING).last()
    taking_part = MachineStep.objects.filter(
        machine__left_out=False,
        machine__state__in=(OperationMachine.State.WAITING, OperationMachine.State.RUNNING),
    )
    if begun is not None and _before(run.operation, begun.at, taking_part):
        raise PermanentError(
            Sentence(
                "What preCheck has found and the snapshot of etcd are older than an hour by now, "
                "and no control plane is upgraded with them. Retry: both are done again."
            ),
            code="outdated",
        )


def _before(
    operation: Operation, moment: datetime, looked_at: QuerySet[MachineStep]
) -> frozenset[str]:
    """Nothing is done again for machines that are gone."""
    cells = MachineStep.objects.filter(step__operation=operation, machine__machine__isnull=False)
    passed = cells.filter(step__name="controlPlanes", status__in=MachineStep.PASSED)
    left = OperationMachine.objects.filter(operation=operation).exclude(
        pk__in=passed.values("machine")
    )
    if not facts.control_planes_of(list(left)):
        return frozenset()
    old = cells.filter(
        pk__in=looked_at.values("pk"),
        step__name__in=STEPS,
        status=MachineStep.Status.SUCCEEDED,
        finished_at__lt=moment - KEEPS,
    )
    return frozenset(old.values_list("step__name", flat=True))
