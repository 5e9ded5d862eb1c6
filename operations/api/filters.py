"""What lists of operations can be narrowed by."""

from typing import Any

import django_filters
from django.db.models import QuerySet

from beidou.base.api.filters import MomentFilter
from beidou.base.numbers import as_key
from operations.models import Operation


class OperationFilter(django_filters.FilterSet):
    """``machine`` takes a key or an address; times are inclusive."""

    cluster = django_filters.CharFilter(method="by_cluster", label="Name or key of the cluster.")
    kind = django_filters.CharFilter()
    status = django_filters.MultipleChoiceFilter(choices=Operation.Status.choices)
    active = django_filters.BooleanFilter(method="by_active", label="Not ended yet.")
    machine = django_filters.CharFilter(method="by_machine", label="Key or address of a machine.")
    requested_by = django_filters.CharFilter(field_name="requested_by_name")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lte")

    class Meta:
        model = Operation
        fields: list[str] = ["name"]

    def by_cluster(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        if (key := as_key(value)) is not None:
            return rows.filter(cluster_id=key)
        return rows.filter(cluster__name=value)

    def by_active(self, rows: QuerySet[Any], name: str, value: bool) -> QuerySet[Any]:
        condition = {"status__in": Operation.ACTIVE}
        return rows.filter(**condition) if value else rows.exclude(**condition)

    def by_machine(self, rows: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        if (key := as_key(value)) is not None:
            return rows.filter(machines__machine_id=key)
        return rows.filter(machines__address=value).distinct()
