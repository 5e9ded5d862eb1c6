"""Fill the event store that the environment names, and search it: ``python -m bench.event_searcher
SIZE…`` prints one JSON object for each size, when so many events are there.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from bench import environment
from bench.report import p95

CLUSTERS, NAMESPACES, NODES, DAYS = 20, 50, 500, 30
AT_ONCE, WRITERS = 5_000, 3
ROUNDS = 25
DEPTH = 100_000
REASONS = ("BackOff", "Pulled", "Created", "Started", "Unhealthy", "Scheduled", "Killing",
           "FailedScheduling", "FailedMount", "NodeNotReady", "OOMKilling", "Evicted")  # fmt: skip
WORDS = ("image", "container", "probe", "volume", "timeout", "refused", "memory", "readiness",
         "liveness", "registry", "sandbox", "quota", "disk", "network", "webhook")  # fmt: skip


def main() -> None:
    sizes = [int(each) for each in sys.argv[1:]]
    with environment.portal_settings():
        bench = Bench()
        filled = 0
        for size in sizes:
            took = bench.fill(filled, size)
            print(
                json.dumps({"size": size, "filled": size - filled, "took": took} | bench.measure()),
                flush=True,
            )
            filled = size


class Bench:
    def __init__(self) -> None:
        from beidou.base.models import User  # noqa: PLC0415  need Django set up
        from clusters.models import Cluster  # noqa: PLC0415
        from events.services.stores import chosen  # noqa: PLC0415
        from events.services.stores.base import Keeper  # noqa: PLC0415

        self.user = User.objects.create_superuser("bench-search")
        self.now = datetime.now(UTC)
        self.store = chosen.store()
        self.keepers = []
        for number in range(CLUSTERS):
            row = Cluster.objects.create(
                name=f"c{number}", uid=f"uid-{number}", server=f"https://c{number}", version="v1"
            )
            self.keepers.append(Keeper.of(row))

    # --- filling ----------------------------------------------------------------------------------

    def fill(self, begin: int, end: int) -> float:
        """Seconds."""
        began = time.perf_counter()
        portions = [(first, min(first + AT_ONCE, end)) for first in range(begin, end, AT_ONCE)]
        if self.store.is_in_database:
            for portion in portions:
                self._write(portion)
        else:
            with ThreadPoolExecutor(WRITERS) as pool:
                list(pool.map(self._write, portions))
        self._settle()
        return time.perf_counter() - began

    def _write(self, portion: tuple[int, int]) -> None:
        keeper = self.keepers[portion[0] // AT_ONCE % CLUSTERS]
        refused = self.store.write(keeper, list(self._records(*portion)))
        if refused:
            raise RuntimeError(refused[0][1])

    def _records(self, begin: int, end: int) -> Iterator[Any]:
        from events.drivers.kube_events import Record  # noqa: PLC0415

        rng = random.Random(begin)  # noqa: S311  the same in every store
        for number in range(begin, end):
            at = self.now - timedelta(seconds=rng.random() * DAYS * 86_400)
            namespace, node = f"team-{rng.randrange(NAMESPACES)}", f"node-{rng.randrange(NODES)}"
            name = f"web-{rng.randrange(20_000):x}-{rng.randrange(16**5):05x}"
            reason = REASONS[min(int(rng.expovariate(0.5)), len(REASONS) - 1)]
            message = f"{reason} {' '.join(rng.choices(WORDS, k=8))} of {name} after {number} s"
            raw = {"metadata": {"uid": f"{number:032x}", "namespace": namespace, "name": name},
                   "reason": reason, "note": message, "regarding": {"kind": "Pod", "name": name},
                   "reportingInstance": node, "managedFields": "x" * 200}  # fmt: skip
            yield Record(
                uid=f"{number:032x}", version=number + 1, day=at.date(), first_seen=at,
                last_seen=at, count=1, type="Warning" if number % 5 == 0 else "Normal",
                reason=reason, namespace=namespace, kind="Pod", name=name,
                object_uid=f"{number:031x}a", node=node, component="kubelet", message=message,
                raw=json.dumps(raw).encode(),
            )  # fmt: skip

    def _settle(self) -> None:
        """Until what was written can be found, with statistics as a database has them overnight."""
        from django.db import connection  # noqa: PLC0415

        self.store.refresh()
        if self.store.is_in_database:
            with connection.cursor() as cursor:
                cursor.execute("ANALYZE")

    # --- searching --------------------------------------------------------------------------------

    def measure(self) -> dict[str, float]:
        """Milliseconds."""
        from events.services import search  # noqa: PLC0415
        from events.services.search import Cursor, Query  # noqa: PLC0415

        until = self.now + timedelta(minutes=1)
        day = Query.of(since=until - timedelta(days=1), until=until)
        month = Query.of(since=until - timedelta(days=DAYS), until=until)
        rng = random.Random(1)  # noqa: S311

        def cluster() -> tuple[int, ...]:
            return (rng.choice(self.keepers).pk,)

        def searched() -> None:
            given = Query.of(
                since=day.since, until=until, clusters=cluster(), text=rng.choice(WORDS),
                type=("Warning",),
            )  # fmt: skip
            search.page(self.user, given)

        def commonest() -> None:
            given = Query.of(since=month.since, until=until, clusters=cluster())
            search.counts(self.user, given, "reason")

        def first() -> None:
            search.page(self.user, month)

        deep = self._deep(month)

        def at_depth() -> None:
            search.page(self.user, month, after=Cursor.parse(str(deep)))

        found = {
            "search": _p95(searched),
            "top of a cluster": _p95(commonest),
            "top of all": _p95(lambda: search.counts(self.user, month, "reason"), rounds=5),
            "histogram of all": _p95(lambda: search.histogram(self.user, month), rounds=5),
            "first page": _p95(first),
        }
        return found | ({"page behind row 100,000": _p95(at_depth)} if deep else {})

    def _deep(self, query: Any) -> Any:
        from events.services import search  # noqa: PLC0415

        after = None
        for _page in range(DEPTH // search.MOST_AT_ONCE):
            after = search.page(self.user, query, after=after, limit=search.MOST_AT_ONCE).next
            if after is None:
                return None
        return after


def _p95(asked: Callable[[], object], *, rounds: int = ROUNDS) -> float:
    asked()
    times = []
    for _round in range(rounds):
        began = time.perf_counter()
        asked()
        times.append((time.perf_counter() - began) * 1000)
    return round(p95(times), 1)


if __name__ == "__main__":
    main()
