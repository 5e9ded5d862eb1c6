"""Operations as lists show them: with how many of their machines are through, in one query."""

from typing import Any

from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from operations.models import Operation, OperationMachine


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
    return queryset.select_related("cluster").annotate(
        machines_total=_count(),
        machines_succeeded=_count(state=OperationMachine.State.SUCCEEDED),
        machines_failed=_count(state=OperationMachine.State.FAILED),
    )
