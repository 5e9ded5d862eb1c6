"""What clusters are told of: away and back again, and what of theirs expires soon.

Looked for on a schedule instead of told with the change: a cluster that comes and goes is told once
when it has been away for a while, and once when it has stayed back for a while.  What was told is
read from the notices themselves.
"""

from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone

from beidou.base import notices
from beidou.base.models import Notice
from beidou.base.notices import News, Severity
from beidou.base.sentences import Sentence
from clusters.models import Cluster, HealthChange
from clusters.services.expiry import expiring

UNREACHABLE: Final = "cluster.unreachable"
RECOVERED: Final = "cluster.recovered"
CREDENTIAL: Final = "credential.expires"
CERTIFICATE: Final = "certificate.expires"

AWAY_FOR = timedelta(minutes=2)
BACK_FOR = timedelta(minutes=5)
# Days before the end, the last first, and how much that matters.
STAGES: Final = ((1, Severity.CRITICAL), (7, Severity.WARNING), (30, Severity.INFO))


def tell_health(now: datetime | None = None) -> int:
    """Publish which clusters are away, and which are back; returns how many."""
    now = now or timezone.now()
    told = _last_told()
    found = [*_gone(now, told), *_back(now, told)]
    notices.publish_all(found)
    return len(found)


def _last_told() -> dict[int, str]:
    """Cluster -> the newest of both kinds that was published."""
    rows = Notice.objects.filter(kind__in=[UNREACHABLE, RECOVERED], cluster_id__isnull=False)
    newest = rows.order_by("id").values_list("cluster_id", "kind")
    return {cluster: kind for cluster, kind in newest if cluster is not None}


def _gone(now: datetime, told: dict[int, str]) -> list[News]:
    away = Cluster.objects.filter(
        health=Cluster.Health.UNREACHABLE, health_since__lte=now - AWAY_FOR
    ).only("name", "health_since", "health_reason")
    return [
        News(
            kind=UNREACHABLE,
            severity=Severity.CRITICAL,
            title=Sentence("%(cluster)s is unreachable.", cluster=cluster.name),
            details=cluster.health_reason,
            cluster_id=cluster.pk,
            about=cluster,
            key=f"{UNREACHABLE}:{cluster.pk}:{cluster.health_since:%Y-%m-%dT%H:%M:%S}",
        )
        for cluster in away
        if told.get(cluster.pk) != UNREACHABLE
    ]


def _back(now: datetime, told: dict[int, str]) -> list[News]:
    missed = [key for key, kind in told.items() if kind == UNREACHABLE]
    if not missed:
        return []
    settled = HealthChange.objects.filter(old=Cluster.Health.UNREACHABLE, at__gt=now - BACK_FOR)
    back = (
        Cluster.objects.filter(pk__in=missed)
        .exclude(health__in=[Cluster.Health.UNREACHABLE, Cluster.Health.UNKNOWN])
        .exclude(pk__in=settled.values("subject"))
        .only("name", "health_reason")
    )
    return [
        News(
            kind=RECOVERED,
            severity=Severity.INFO,
            title=Sentence("%(cluster)s can be reached again.", cluster=cluster.name),
            details=cluster.health_reason,
            cluster_id=cluster.pk,
            about=cluster,
            # Kept as long as the notice that it answers.
            key=f"{RECOVERED}:{cluster.pk}:{now:%Y-%m-%dT%H:%M:%S}",
        )
        for cluster in back
    ]


def tell_expiry(now: datetime | None = None) -> int:
    """Publish what expires within 30, 7 and 1 days, each once; returns how many."""
    now = now or timezone.now()
    found = {
        news.key: news
        for cluster in expiring(now=now).defer("components", "workloads", "capabilities")
        for news in _ending(cluster, now)
    }
    fresh = found.keys() - notices.known(str(key) for key in found)
    notices.publish_all(found[key] for key in found if key in fresh)
    return len(fresh)


def _ending(cluster: Cluster, now: datetime) -> list[News]:
    ends = (
        (CREDENTIAL, cluster.credential_expires_at),  # type: ignore[attr-defined]  # annotated
        (CERTIFICATE, cluster.server_certificate_expires_at),
    )
    found = []
    for kind, end in ends:
        stage = next(
            (each for each in STAGES if end is not None and end <= now + timedelta(days=each[0])),
            None,
        )
        if end is not None and stage is not None:
            days, severity = stage
            found.append(
                News(
                    kind=kind,
                    severity=severity,
                    title=_title(kind, cluster, end, now),
                    details=_advice(kind),
                    cluster_id=cluster.pk,
                    about=cluster,
                    # Of the end itself: a renewed one is told anew when its time comes.
                    key=f"{kind}:{cluster.pk}:{end:%Y-%m-%dT%H:%M}:{days}",
                )
            )
    return found


def _title(kind: str, cluster: Cluster, end: datetime, now: datetime) -> Sentence:
    values = {"cluster": cluster.name, "date": f"{timezone.localtime(end):%Y-%m-%d %H:%M}"}
    if kind == CREDENTIAL and end <= now:
        return Sentence("The credential of %(cluster)s has expired on %(date)s.", **values)
    if kind == CREDENTIAL:
        return Sentence("The credential of %(cluster)s expires on %(date)s.", **values)
    if end <= now:
        return Sentence(
            "The API server certificate of %(cluster)s has expired on %(date)s.", **values
        )
    return Sentence("The API server certificate of %(cluster)s expires on %(date)s.", **values)


def _advice(kind: str) -> Sentence:
    if kind == CREDENTIAL:
        return Sentence("Replace it on the page of the cluster before the portal is locked out.")
    return Sentence("Renew it on the control planes; kubectl and kubelets stop working with it.")
