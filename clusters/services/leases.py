"""Which collector watches which cluster: presence, fair shares, leases, fencing.

Every collector process beats in its ``Collector`` row and holds clusters by ``CollectorLease``,
taken and renewed by compare-and-set.  A killed collector's clusters are free when their leases end;
a stopped one gives them back at once.  Nobody holds more than a fair share, so that a collector
started later gets its part.  Whoever lost a lease can no longer write: ``holds`` is asked inside
the transaction of every write.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil

from django.db.models import Q
from django.utils import timezone

from clusters.models import Cluster, Collector, CollectorLease

LEASE_SECONDS = 10
"""Another takes over within this and one beat, and reads and stores a moment later: all within 15
seconds of the death."""
FORGET_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Held:
    """A cluster that the asking collector holds; ``credential_at`` changes with the credential."""

    cluster_id: int
    uid: str
    name: str
    credential_at: datetime | None


def beat(holder: str, *, now: datetime | None = None) -> list[Held]:
    """Renew what ``holder`` holds, take or give up clusters up to the fair share.

    Called every few seconds; gives all clusters that ``holder`` is to watch until the next call.
    """
    now = now or timezone.now()
    until = now + timedelta(seconds=LEASE_SECONDS)
    _be_seen(holder, now)
    _make_leases()
    CollectorLease.objects.filter(holder=holder, until__gte=now).update(until=until)
    held = list(
        CollectorLease.objects.filter(holder=holder, until__gte=now)
        .order_by("cluster_id")
        .values_list("cluster_id", flat=True)
    )
    share = _fair_share(now)
    if len(held) > share:
        _give_back(holder, held[share:])
    elif len(held) < share:
        _take(holder, share - len(held), now=now, until=until)
    return _held(holder, now)


def release(holder: str) -> None:
    """Give everything back and be gone; for a collector that stops."""
    CollectorLease.objects.filter(holder=holder).update(holder="", until=None)
    Collector.objects.filter(name=holder).delete()


def holds(holder: str, cluster_id: int) -> bool:
    """Whether ``holder`` may write about the cluster now.

    Inside a transaction the answer stays true until its end: the lease is locked, and whoever
    would take it over waits.
    """
    lease = CollectorLease.objects.select_for_update().filter(
        cluster_id=cluster_id, holder=holder, until__gte=timezone.now()
    )
    return lease.first() is not None


def _be_seen(holder: str, now: datetime) -> None:
    changed = Collector.objects.filter(name=holder).update(seen_at=now)
    if not changed:
        Collector.objects.get_or_create(name=holder, defaults={"started_at": now, "seen_at": now})
        Collector.objects.filter(seen_at__lt=now - FORGET_AFTER).delete()


def _make_leases() -> None:
    """A row for every cluster that has none yet, but for those that are being made or deleted."""
    watched = Cluster.objects.exclude(phase__in=Cluster.UNWATCHED)
    missing = watched.filter(lease__isnull=True).values_list("pk", flat=True)
    CollectorLease.objects.bulk_create(
        [CollectorLease(cluster_id=pk) for pk in missing], ignore_conflicts=True
    )


def _fair_share(now: datetime) -> int:
    alive = Collector.objects.filter(seen_at__gte=now - timedelta(seconds=LEASE_SECONDS)).count()
    return ceil(CollectorLease.objects.count() / max(1, alive))


def _give_back(holder: str, cluster_ids: list[int]) -> None:
    CollectorLease.objects.filter(holder=holder, cluster_id__in=cluster_ids).update(
        holder="", until=None
    )


def _take(holder: str, wanted: int, *, now: datetime, until: datetime) -> None:
    free = Q(until__isnull=True) | Q(until__lt=now)
    candidates = CollectorLease.objects.filter(free).order_by("until", "pk")
    for lease in list(candidates[:wanted]):
        # Somebody else may have been faster; then the row no longer matches.
        CollectorLease.objects.filter(free, pk=lease.pk).update(holder=holder, until=until)


def _held(holder: str, now: datetime) -> list[Held]:
    rows = (
        CollectorLease.objects.filter(holder=holder, until__gte=now)
        .order_by("cluster__name")
        .values_list(
            "cluster_id", "cluster__uid", "cluster__name", "cluster__credential__updated_at"
        )
    )
    return [Held(*row) for row in rows]


def living_collectors() -> list[Collector]:
    """The collectors that beat within the last lease time, for the health page."""
    limit = timezone.now() - timedelta(seconds=LEASE_SECONDS)
    return list(Collector.objects.filter(seen_at__gte=limit).order_by("name"))
