"""From one event store into another, so that it can be stopped anywhere and goes on from there."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.utils import timezone

from clusters.models import Cluster
from events.models import EventMove
from events.services import storing
from events.services.stores.base import Cursor, Keeper, Query, Scope, Store

AT_ONCE = 200
_ALL_TIMES = {
    "since": datetime(1970, 1, 1, tzinfo=UTC),
    "until": datetime(2200, 1, 1, tzinfo=UTC),
}


@dataclass(frozen=True)
class Side:
    """A store, and how it is called where nothing secret may stand."""

    store: Store
    label: str


@dataclass(frozen=True)
class Progress:
    """How many events of a cluster were moved until now; those that were refused are in the log."""

    cluster: Cluster
    moved: int
    refused: int
    is_done: bool


def move(source: Side, target: Side, clusters: list[Cluster]) -> Iterator[Progress]:
    """Newest first, cluster by cluster; StoreAway where one of the two is away.

    What is there already changes nothing, so that it may be done again: what came into the source
    meanwhile is moved then.
    """
    for cluster in clusters:
        row, _is_new = EventMove.objects.get_or_create(
            cluster=cluster, source=source.label, target=target.label
        )
        if row.finished_at is not None:
            EventMove.objects.filter(pk=row.pk).delete()
            row = EventMove.objects.create(
                cluster=cluster, source=source.label, target=target.label
            )
        yield from _move(source.store, target.store, row)


def _move(source: Store, target: Store, row: EventMove) -> Iterator[Progress]:
    cluster = row.cluster
    scope = Scope({cluster.pk: cluster})
    query = Query.of(**_ALL_TIMES)
    while row.finished_at is None:
        after = Cursor.parse(row.cursor) if row.cursor else None
        page = source.page(query, scope, after=after, limit=AT_ONCE, with_raw=True)
        records = [event.record() for event in page.rows]
        keeper = Keeper.of(cluster)
        refused = storing.put(target, keeper, records, storing.labels_of(target, keeper))
        row.moved += len(records) - refused
        row.refused += refused
        row.cursor = str(page.next or "")
        row.finished_at = None if page.next else timezone.now()
        row.save()
        yield Progress(cluster, row.moved, row.refused, is_done=row.finished_at is not None)
