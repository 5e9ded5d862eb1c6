"""An event store as the tests fill it and look into it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from clusters.models import Cluster
from events.drivers.elastic.server import WRITE_SECONDS, Server
from events.drivers.kube_events import Record
from events.services import storing
from events.services.stores.base import FoundEvent, Keeper, Query, Scope, Store

ALL_TIMES = {
    "since": datetime(1971, 1, 1, tzinfo=UTC),
    "until": datetime(2150, 1, 1, tzinfo=UTC),
}


class Stored:
    def __init__(self, store: Store) -> None:
        self.store = store

    def keep(self, cluster: Cluster, *records: Record) -> list[tuple[Record, str]]:
        keeper = Keeper.of(cluster)
        refused = self.store.write(keeper, records, storing.labels_of(self.store, keeper))
        self.settle()
        return refused

    def settle(self) -> None:
        """What was written can be found from here on."""

    def all(self) -> Sequence[FoundEvent]:
        scope = Scope({cluster.pk: cluster for cluster in Cluster.objects.all()})
        page = self.store.page(Query.of(**ALL_TIMES), scope, after=None, limit=1000, with_raw=True)
        return page.rows

    def uids(self) -> list[str]:
        return sorted(event.uid.removeprefix("uid-") for event in self.all())


class OnServer(Stored):
    """On an Elasticsearch or OpenSearch, where what was written is found a second later."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.server = Server(store.address, WRITE_SECONDS)

    def settle(self) -> None:
        self.server.ask("POST", f"/{self.store.indices.all}/_refresh")

    def names(self) -> list[str]:
        return self.store.indices.names()

    def remove(self) -> None:
        for name in self.names():
            self.store.indices.drop(name)
