"""Operations as lists show them: with how many of their machines are through, in one query."""

from typing import Any

from django.db.models import (
    Count,
    DurationField,
    ExpressionWrapper,
    F,
    IntegerField,
    OuterRef,
    QuerySet,
    Subquery,
    Sum,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from operations.models import Attempt, Operation, OperationMachine


def _count(**condition: Any) -> Coalesce:
    """A subquery per shown row: a join would group the whole table first."""
    rows = (
        OperationMachine.objects.filter(operation=OuterRef("pk"), **condition)
        .order_by()
        .values("operation")
        .annotate(number=Count("pk"))
        .values("number")
    )
    return Coalesce(Subquery(rows, output_field=IntegerField()), 0)


def with_counts(queryset: QuerySet[Operation]) -> QuerySet[Any]:
    return queryset.select_related("cluster", "team").annotate(
        machines_total=_count(),
        machines_succeeded=_count(state=OperationMachine.State.SUCCEEDED),
        machines_failed=_count(state=OperationMachine.State.FAILED),
    )


def with_times(queryset: QuerySet[Operation]) -> QuerySet[Any]:
    """How long steps ran, ``worked``: what an operation lay failed or paused does not count."""
    spans = ExpressionWrapper(
        Coalesce("finished_at", timezone.now()) - F("started_at"), output_field=DurationField()
    )
    sums = (
        Attempt.objects.filter(step__operation=OuterRef("pk"))
        .order_by()
        .values("step__operation")
        .annotate(seconds=Sum(spans))
        .values("seconds")
    )
    return queryset.annotate(worked=Subquery(sums, output_field=DurationField()))
