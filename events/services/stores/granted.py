"""Labels of documents: which teams were granted the namespace of an event.

A store that is not the database cannot look at the grants for each event.  So each document says
itself which teams see it, and is written again when that changes; until then what was taken is
withheld.
"""

from collections.abc import Collection, Iterable
from typing import Any

from django.db.models import Exists, OuterRef

from events.models import NamespaceGrant, StaleLabel
from events.services.stores.base import Labels, Scope


def of_cluster(key: int) -> Labels:
    return _by_namespace(NamespaceGrant.objects.filter(cluster=key))


def of_namespaces(cluster_uid: str, names: Collection[str]) -> Labels:
    return _by_namespace(
        NamespaceGrant.objects.filter(cluster__uid=cluster_uid, namespace__in=names)
    )


def withheld(scope: Scope) -> dict[str, list[str]]:
    """Namespaces, by the cluster's UID, of which documents may say that one of the teams sees them
    although none does any more."""
    if not scope.limited:
        return {}
    granted = NamespaceGrant.objects.filter(
        team__in=scope.teams,
        cluster__uid=OuterRef("cluster_uid"),
        namespace=OuterRef("namespace"),
    )
    stale = StaleLabel.objects.filter(
        ~Exists(granted),
        team_key__in=scope.teams,
        cluster_uid__in=[cluster.uid for cluster in scope.limited.values()],
    )
    pairs = stale.values_list("cluster_uid", "namespace").order_by("cluster_uid", "namespace")
    return _listed(pairs.distinct())


def _by_namespace(rows: Any) -> Labels:
    return _listed(rows.order_by("pk").values_list("namespace", "team_id"))


def _listed(pairs: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
