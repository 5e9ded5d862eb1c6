"""From the spool into the event store, whichever it is."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from clusters.models import Cluster
from events.drivers.kube_events import KubeEvent, Record, record
from events.services.stores import granted
from events.services.stores.base import NO_LABELS, Keeper, Labels, Store

logger = structlog.get_logger(__name__)


Portions = list[tuple[float, list[KubeEvent]]]
"""When they were received (seconds since 1970), and the events."""


def keeper_of(cluster_uid: str) -> Keeper | None:
    """None for a cluster that is not ours any more: of it nothing is kept."""
    found = Cluster.objects.filter(uid=cluster_uid).values_list("pk", "uid", "name").first()
    return None if found is None else Keeper(*found)


def labels_of(store: Store, keeper: Keeper) -> Labels:
    """As the grants are now, where the store keeps them with the events."""
    return NO_LABELS if store.label_delay is None else granted.of_cluster(keeper.pk)


def addressed(store: Store, cluster_uid: str) -> tuple[Keeper, Labels] | None:
    """All that must be known before anything of a cluster is kept."""
    keeper = keeper_of(cluster_uid)
    return None if keeper is None else (keeper, labels_of(store, keeper))


def put(store: Store, keeper: Keeper, records: Sequence[Record], labels: Labels) -> int:
    """Keep the records; gives how many the store refuses for good.

    Such a one goes into the log with its whole text: it must not hold up what follows.
    """
    refused = store.write(keeper, records, labels)
    for each, why in refused:
        logger.error(
            "event_refused",
            cluster_uid=keeper.uid,
            uid=each.uid,
            error=why,
            text=each.raw.decode(errors="replace"),
        )
    return len(refused)


class Kept(NamedTuple):
    """When the last event was, and how many were refused for good."""

    last: datetime | None = None
    refused: int = 0


def keep(store: Store, keeper: Keeper, labels: Labels, portions: Portions) -> Kept:
    """Keep what was received."""
    records = [
        record(event, datetime.fromtimestamp(received_at, UTC))
        for received_at, events in portions
        for event in events
    ]
    refused = put(store, keeper, records, labels)
    return Kept(max((each.last_seen for each in records), default=None), refused)


def keep_in_database(store: Store, cluster_uid: str, portions: Portions) -> Kept:
    """Both at once, where one thread has the database."""
    keeper = keeper_of(cluster_uid)
    return Kept() if keeper is None else keep(store, keeper, NO_LABELS, portions)


def unknown_of(cluster_uids: list[str]) -> list[str]:
    """Those of which there is no cluster any more."""
    known = Cluster.objects.filter(uid__in=cluster_uids).values_list("uid", flat=True)
    return sorted(set(cluster_uids) - set(known))
