"""Tasks as lists show them: with how many of their machines failed, in one query."""

from typing import Any

from django.db.models import Count, Exists, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep


def _count(rows: QuerySet[Any]) -> Coalesce:
    """A subquery per shown row: a join would group the whole table first."""
    counted = (
        rows.filter(task=OuterRef("pk"))
        .order_by()
        .values("task")
        .annotate(number=Count("pk"))
        .values("number")
    )
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)


def with_counts(queryset: QuerySet[AutoOperationTask]) -> QuerySet[Any]:
    steps = TaskStep.objects.all()
    return queryset.select_related("cluster", "parent").annotate(
        machines_total=_count(TaskMachine.objects.all()),
        machines_failed=_count(TaskMachine.objects.filter(state=TaskMachine.State.FAILED)),
        steps_total=_count(steps),
        steps_passed=_count(steps.filter(status__in=TaskStep.PASSED)),
        is_asking=Exists(
            steps.filter(
                task=OuterRef("pk"), status=TaskStep.Status.RUNNING, progress__has_key="asks"
            )
        ),
    )
