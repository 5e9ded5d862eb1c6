"""From the spool into the event store, whichever it is."""

from datetime import UTC, datetime

import structlog

from clusters.models import Cluster
from events.drivers.kube_events import KubeEvent, record
from events.services.stores.base import Keeper, Store

logger = structlog.get_logger(__name__)


Portions = list[tuple[float, list[KubeEvent]]]
"""When they were received (seconds since 1970), and the events."""


def keeper_of(cluster_uid: str) -> Keeper | None:
    """None for a cluster that is not ours any more: of it nothing is kept."""
    found = Cluster.objects.filter(uid=cluster_uid).values_list("pk", "uid", "name").first()
    return None if found is None else Keeper(*found)


def keep(store: Store, keeper: Keeper, portions: Portions) -> datetime | None:
    """Keep what was received; gives when the last event was.

    What the store refuses, one event by itself, goes into the log with its whole text: it must not
    hold up what follows.
    """
    records = [
        record(event, datetime.fromtimestamp(received_at, UTC))
        for received_at, events in portions
        for event in events
    ]
    for refused, why in store.write(keeper, records):
        logger.error(
            "event_refused",
            cluster_uid=keeper.uid,
            error=why,
            text=refused.raw.decode(errors="replace"),
        )
    return max((each.last_seen for each in records), default=None)


def keep_in_database(store: Store, cluster_uid: str, portions: Portions) -> datetime | None:
    """Both at once, where one thread has the database."""
    keeper = keeper_of(cluster_uid)
    return None if keeper is None else keep(store, keeper, portions)


def unknown_of(cluster_uids: list[str]) -> list[str]:
    """Those of which there is no cluster any more."""
    known = Cluster.objects.filter(uid__in=cluster_uids).values_list("uid", flat=True)
    return sorted(set(cluster_uids) - set(known))
