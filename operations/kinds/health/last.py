"""The results of earlier HealthChecks, newest first."""

from collections.abc import Collection
from typing import Any, Final

from django.db.models import Max, QuerySet

from operations.models import MachineStep

KIND: Final = "HealthCheck"
ENDED: Final = (
    MachineStep.Status.SUCCEEDED,
    MachineStep.Status.FAILED,
    MachineStep.Status.SKIPPED,  # the checks are those of the failure that was skipped
)


def cells(operations: QuerySet[Any] | None = None) -> QuerySet[MachineStep]:
    """Every result, of these operations alone if they are given."""
    rows = MachineStep.objects.filter(
        step__operation__kind=KIND,
        status__in=ENDED,
    ).exclude(checks=[])
    return rows if operations is None else rows.filter(step__operation__in=operations)


def before(
    machines: Collection[int], *, operation: int, cluster: int
) -> dict[int, list[dict[str, Any]]]:
    """Key of the machine → the checks of its last result in this cluster that was asked for before
    ``operation``.  Two queries, however many machines."""
    rows = cells().filter(
        machine__machine__in=machines,
        step__operation__cluster=cluster,
        step__operation__lt=operation,
    )
    newest = rows.order_by().values("machine__machine").annotate(newest=Max("pk"))
    keys = {row["newest"]: row["machine__machine"] for row in newest}
    found = MachineStep.objects.in_bulk(list(keys))
    return {keys[key]: cell.checks for key, cell in found.items()}
