"""Querysets for lists: what they show beside the row, and without what they need not read."""

from typing import Any

from django.db.models import Count, F, Func, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast

from clusters.models import Cluster, Node

# Operations are an app above this one: known by the name of the relation and their words alone.
ACTIVE_OPERATIONS = ("waiting", "running", "paused", "canceling")
_HEAVY = ("components", "capabilities", "workloads")


def with_running_operations(rows: QuerySet[Cluster]) -> QuerySet[Cluster]:
    """Adds ``operations_running``."""
    active = Q(operations__status__in=ACTIVE_OPERATIONS)
    return rows.annotate(operations_running=Count("operations", filter=active, distinct=True))


def with_credential(rows: QuerySet[Cluster]) -> QuerySet[Cluster]:
    """Adds what may be told of the credential, without reading the secret."""
    return rows.annotate(
        credential_subject=F("credential__subject"),
        credential_expires_at=F("credential__expires_at"),
    )


def slim_clusters(rows: QuerySet[Cluster]) -> QuerySet[Cluster]:
    """Without the documents that only the cluster's own page shows."""
    return rows.defer(*_HEAVY)


def slim_nodes(rows: QuerySet[Node]) -> QuerySet[Node]:
    """With the cluster's name and freshness, without the node's documents."""
    return rows.select_related("cluster").defer(
        "annotations",
        "labels",
        "addresses",
        "conditions",
        "taints",
        "resources",
        "pod_cidrs",
        "cluster__description",
        "cluster__labels",
        *(f"cluster__{name}" for name in _HEAVY),
    )


class _LabelText(Func):
    """The text under a key; Django's own transform takes a key of digits for a place in a list."""

    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        labels, key = self.get_source_expressions()
        path = Func(labels, Value(f'$."{key.value}"'), function="JSON_EXTRACT")
        return compiler.compile(path)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(
            compiler, connection, template="(%(expressions)s::text)", arg_joiner=" ->> "
        )


def with_label(queryset: QuerySet[Any], label: str) -> QuerySet[Any]:
    """Rows whose ``labels`` hold ``key=value``, or ``key`` with any value."""
    key, equals, value = label.partition("=")
    if not key or any(sign in key for sign in '"\\\0'):
        return queryset.none()  # no label has them, and SQLite's paths cannot say them
    rows = queryset.annotate(_label=_LabelText(F("labels"), Value(key)))
    narrowed: QuerySet[Any] = (
        rows.filter(_label=value) if equals else rows.filter(_label__isnull=False)
    )
    return narrowed


def with_role(queryset: QuerySet[Node], role: str) -> QuerySet[Node]:
    """Nodes with a role; ``none`` for those without any (JSON arrays differ between databases)."""
    rows = queryset.annotate(_roles=Cast("roles", TextField()))
    if role == "none":
        return rows.filter(_roles="[]")
    return rows.filter(_roles__contains=f'"{role}"')
