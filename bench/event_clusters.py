"""100 clusters of 10 events a second each on one collector, and one cluster with as many.

Lag is from the moment that an event was sent, which it carries in itself, until a look into the
store finds it; looks come every tenth of a second.  What was sent before the first was found waited
for the collector's start and for the first index: it must be there in the end, and has no lag.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from beidou.base.config import EventServer, parse_event_store_url
from bench import streams
from bench.event_server import VERSION
from bench.report import Measure, middle, p95
from clusters.models import Cluster
from events.drivers.elastic import documents
from events.drivers.elastic.server import Server
from events.models import Event, EventStream
from events.services.stores.base import Query, Scope, Store
from events.services.stores.elastic import ElasticStore
from events.services.stores.embedded import EmbeddedStore
from lab import Lab

CLUSTERS, RATE, SECONDS = 100, 10, 60
LOOK_SECONDS = 0.1
LEAST_LAG, DEADLINE_SECONDS = 2.0, 600
PAGE = 5000


def run() -> Iterator[Measure]:
    with Lab.start("bench-event-clusters") as lab:
        url = lab.elasticsearch()
        for place, addresses in (
            ("Elasticsearch", [f"elasticsearch+{url}/{name}" for name in ("one", "many")]),
            ("the database", ["database"] * 2),
        ):
            one = _flow(addresses[0], 1, CLUSTERS * RATE)
            many = _flow(addresses[1], CLUSTERS, RATE)
            yield Measure(
                f"{CLUSTERS} clusters at {RATE} events/s each into {place}, {SECONDS} s: lag p95",
                str(many),
                f"1 cluster at {CLUSTERS * RATE:,} events/s: {one}",
                f"<= {LEAST_LAG:.0f} s",
                p95(many.lags) <= LEAST_LAG and not many.lost,
            )


@dataclass(frozen=True)
class _Flow:
    lags: Sequence[float]
    lost: int
    cpu: float
    memory: int

    def __str__(self) -> str:
        return (
            f"{p95(self.lags):.2f} s (median {middle(self.lags):.2f}, most {max(self.lags):.2f}; "
            f"{len(self.lags):,} events, {self.lost} lost), collector {self.cpu:.0%} of a core, "
            f"{self.memory / 2**20:.0f} MiB"
        )


def _flow(address: str, clusters: int, rate: int) -> _Flow:
    with streams.served(clusters, rate=rate) as served:
        served.adopt()
        look = _look_at(address)
        with streams.collecting(address) as process:
            memory = []

            def until(is_over: Callable[[], bool]) -> None:
                deadline = time.monotonic() + DEADLINE_SECONDS
                while not is_over():
                    if time.monotonic() > deadline:
                        raise RuntimeError(f"{len(look.found)} found: {_streams()}")
                    look.again()
                    memory.append(process.memory_info().rss)
                    time.sleep(LOOK_SECONDS)

            until(lambda: bool(look.found))
            ready = datetime.now(UTC)
            began, cpu = time.monotonic(), sum(process.cpu_times()[:2])
            until(lambda: time.monotonic() >= began + SECONDS)
            cpu = (sum(process.cpu_times()[:2]) - cpu) / (time.monotonic() - began)
            sent = served.stop()
            until(lambda: len(look.found) >= sent)
        lags, stored = look.lags(ready)
    return _Flow(lags, sent - stored, cpu, max(memory))


def _streams() -> list[Any]:
    return list(EventStream.objects.values("cluster__name", "heard", "stored", "problem"))


class _Look(ABC):
    """What can be found in a store.  Of a cluster all up to the newest version can: its events are
    stored in their order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.found: dict[tuple[int, int], datetime] = {}
        """When each was found first, by cluster and version."""
        self._newest: dict[int, int] = {}

    @abstractmethod
    def newest(self) -> dict[int, int]:
        """By cluster, the newest version."""

    def again(self) -> None:
        newest, now = self.newest(), datetime.now(UTC)
        for cluster, version in newest.items():
            for number in range(self._newest.get(cluster, VERSION) + 1, version + 1):
                self.found[cluster, number] = now
            self._newest[cluster] = max(version, self._newest.get(cluster, VERSION))

    def lags(self, since: datetime) -> tuple[list[float], int]:
        """Of those that were sent since then, in seconds; and how many are stored in all."""
        scope = Scope({cluster.pk: cluster for cluster in Cluster.objects.all()})
        query = Query.of(since=since - timedelta(hours=1))
        after, lags, stored = None, [], 0
        while True:
            page = self.store.page(query, scope, after=after, limit=PAGE, with_raw=False)
            stored += len(page.rows)
            for event in page.rows:
                if event.last_seen >= since:
                    at = self.found[event.cluster.pk, event.version]
                    lags.append((at - event.last_seen).total_seconds())
            after = page.next
            if after is None:
                return lags, stored


class _InDatabase(_Look):
    def __init__(self) -> None:
        super().__init__(EmbeddedStore())
        last = Event.objects.order_by("-pk").values_list("pk", flat=True).first()
        self._seen = last or 0

    def newest(self) -> dict[int, int]:
        """Of those that came since the last look."""
        rows = Event.objects.filter(pk__gt=self._seen).order_by("pk")
        found = {}
        for self._seen, cluster, version in rows.values_list("pk", "cluster_id", "version"):
            found[cluster] = version
        return found


class _OnServer(_Look):
    def __init__(self, address: EventServer) -> None:
        super().__init__(ElasticStore(address, owner="bench"))
        self._server = Server(address, 30)
        self._indices = f"/{address.prefix}-events-1-*"
        self._keys = dict(Cluster.objects.values_list("uid", "pk"))

    def newest(self) -> dict[int, int]:
        newest = {"newest": {"max": {"field": documents.VERSION}}}
        terms = {"field": documents.CLUSTER, "size": len(self._keys)}
        found = self._server.ask(
            "POST",
            f"{self._indices}/_search",
            body={"size": 0, "aggs": {"found": {"terms": terms, "aggs": newest}}},
            ignore_unavailable="true",
            allowed=(503,),  # an index that was made in this moment
        )
        buckets = found.get("aggregations", {"found": {"buckets": []}})["found"]["buckets"]
        return {self._keys[each["key"]]: int(each["newest"]["value"]) for each in buckets}


def _look_at(address: str) -> _Look:
    server = parse_event_store_url(address)
    return _InDatabase() if server is None else _OnServer(server)
