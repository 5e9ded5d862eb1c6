"""A cluster that is taken down: nobody watches it from the first reset on, and nothing signs in any
more at its end.  Its row stays with its operations, until somebody un-adopts it (docs/adr/0013).
"""

from beidou.base import audit
from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from clusters.models import (
    Cluster,
    ClusterCredential,
    CollectorLease,
    NamespaceUsage,
    Node,
)


def begin(*, cluster: Cluster, reason: str) -> None:
    """From here on it falls apart on purpose; nothing happens when that has begun already."""
    if cluster.phase == Cluster.Phase.DELETING:
        return
    if cluster.phase != Cluster.Phase.RUNNING:
        raise Conflict(
            Sentence("The cluster is “%(phase)s”.", phase=cluster.get_phase_display()),
            code="wrong_state",
        )
    with audit.entries_last():
        change_status(cluster, to=Cluster.Phase.DELETING, reason=reason)
        CollectorLease.objects.filter(cluster=cluster).delete()
        audit.record("delete cluster", cluster, after={"phase": cluster.phase}, reason=reason)


def finish(*, cluster: Cluster, reason: str) -> None:
    """It is gone: its credential, its nodes and its figures are no more."""
    if cluster.phase == Cluster.Phase.DELETED:
        return
    with audit.entries_last():
        ClusterCredential.objects.filter(cluster=cluster).delete()
        CollectorLease.objects.filter(cluster=cluster).delete()
        Node.objects.filter(cluster=cluster).delete()
        NamespaceUsage.objects.filter(cluster=cluster).delete()
        unsaved = Cluster()  # with the default of each
        nothing = {name: getattr(unsaved, name) for name in Cluster.OBSERVED}
        change_status(cluster, to=Cluster.Phase.DELETED, reason=reason, fields=nothing)
        audit.record("cluster deleted", cluster, after={"phase": cluster.phase}, reason=reason)
