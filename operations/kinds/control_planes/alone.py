"""What does not go together: two that change control planes, each of which counts on the members it
has seen; and new nodes while a cluster is upgraded or taken apart."""

from collections.abc import Sequence

from django.db.models import QuerySet
from django.utils.translation import gettext

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from operations.kinds.base import Blocker, StepRun
from operations.models import Operation

KINDS = (
    "AddControlPlane",
    "RemoveControlPlane",
    "DeleteCluster",
    "UpgradeCluster",
    "RenewCertificates",
)

# A node that joins half way through would be of a version that the plan does not know.
WITHOUT_NEW_NODES = ("UpgradeCluster", "DeleteCluster")
BRINGING_NODES = ("ScaleUp",)


def blockers(cluster: Cluster) -> list[Blocker]:
    """At the start and at a retry, when the operation itself is not active."""
    other = _active(cluster, KINDS).order_by("pk").first()
    if other is None:
        return []
    reason = gettext("operation %(name)s changes its control planes; let it end first")
    return [Blocker(None, reason % {"name": other.name})]


def joining_blockers(cluster: Cluster) -> list[Blocker]:
    """For who brings nodes in: no upgrade and no deletion is at work."""
    other = _active(cluster, WITHOUT_NEW_NODES).order_by("pk").first()
    if other is None:
        return []
    if other.status == Operation.Status.WAITING:
        # What it is about was said with its plan, and would not be the whole cluster any more.
        reason = gettext(
            "operation %(name)s waits in the queue and wants no new nodes until it has ended; let "
            "it end first, or cancel it"
        )
    else:
        reason = gettext("operation %(name)s wants no new nodes meanwhile; let it end first")
    return [Blocker(None, reason % {"name": other.name})]


def blockers_by_joining(cluster: Cluster) -> list[Blocker]:
    """For an upgrade; a deletion minds whatever is at work."""
    other = _active(cluster, BRINGING_NODES).order_by("pk").first()
    if other is None:
        return []
    reason = gettext("operation %(name)s brings nodes in; let it end first")
    return [Blocker(None, reason % {"name": other.name})]


def require(run: StepRun) -> None:
    """Of two that began at the same moment the older one goes on."""
    if older := _older(run, KINDS):
        raise PermanentError(
            Sentence(
                "Operation %(name)s changes the control planes of this cluster; retry when it has "
                "ended.",
                name=older.name,
            ),
            code="not_alone",
        )


def require_no_joining(run: StepRun) -> None:
    """The same for who brings nodes in and who wants none; each asks for the other."""
    others = WITHOUT_NEW_NODES if run.operation.kind in BRINGING_NODES else BRINGING_NODES
    if older := _older(run, others):
        raise PermanentError(
            Sentence(
                "Operation %(name)s began first, and the two do not go together; retry when it has "
                "ended.",
                name=older.name,
            ),
            code="not_alone",
        )


def _older(run: StepRun, names: Sequence[str]) -> Operation | None:
    return _active(run.cluster, names).filter(pk__lt=run.operation.pk).order_by("pk").first()


def _active(cluster: Cluster, names: Sequence[str]) -> QuerySet[Operation]:
    return Operation.objects.filter(cluster=cluster, kind__in=names, status__in=Operation.ACTIVE)
