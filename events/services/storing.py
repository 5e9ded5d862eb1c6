"""From the spool into the event store."""

from datetime import UTC, datetime

import structlog

from clusters.models import Cluster
from events.drivers import database
from events.drivers.kube_events import KubeEvent, record

logger = structlog.get_logger(__name__)


def store(cluster_uid: str, portions: list[tuple[float, list[KubeEvent]]]) -> datetime | None:
    """Keep what was received at those times (seconds since 1970); gives when the last event was.

    Of a cluster that is not ours any more nothing is kept.  What the store refuses, one event by
    itself, goes into the log with its whole text: it must not hold up what follows.
    """
    key = Cluster.objects.filter(uid=cluster_uid).values_list("pk", flat=True).first()
    if key is None:
        return None
    records = [
        record(event, datetime.fromtimestamp(received_at, UTC))
        for received_at, events in portions
        for event in events
    ]
    for refused, why in database.write(key, records):
        logger.error(
            "event_refused",
            cluster_uid=cluster_uid,
            error=why,
            text=refused.raw.decode(errors="replace"),
        )
    return max((each.last_seen for each in records), default=None)


def unknown_of(cluster_uids: list[str]) -> list[str]:
    """Those of which there is no cluster any more."""
    known = Cluster.objects.filter(uid__in=cluster_uids).values_list("uid", flat=True)
    return sorted(set(cluster_uids) - set(known))
