"""Control planes are changed by one operation at a time: each counts on the members it has seen."""

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


def blockers(cluster: Cluster) -> list[Blocker]:
    """At the start and at a retry, when the operation itself is not active."""
    other = _active(cluster).order_by("pk").first()
    if other is None:
        return []
    reason = gettext("operation %(name)s changes its control planes; let it end first")
    return [Blocker(None, reason % {"name": other.name})]


def require(run: StepRun) -> None:
    """Of two that began at the same moment the older one goes on."""
    older = _active(run.cluster).filter(pk__lt=run.operation.pk).order_by("pk").first()
    if older is not None:
        raise PermanentError(
            Sentence(
                "Operation %(name)s changes the control planes of this cluster; retry when it has "
                "ended.",
                name=older.name,
            ),
            code="not_alone",
        )


def _active(cluster: Cluster) -> QuerySet[Operation]:
    return Operation.objects.filter(cluster=cluster, kind__in=KINDS, status__in=Operation.ACTIVE)
