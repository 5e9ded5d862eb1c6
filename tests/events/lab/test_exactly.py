"""A known number of events is made on a real API server while the collector, the API server, the
database and the event store are killed and started again: exactly that number is stored, with the
right counts.
"""

import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest

from beidou.base.errors import ExternalError
from clusters.drivers import errors, kubeconfig
from clusters.drivers.transport import JSON, MERGE_PATCH, Transport
from lab import Lab
from lab.client import PortalClient, PortalError
from tests.operations.lab.portal import Portal, wait_until

pytestmark = pytest.mark.lab
EVENTS_PATH = "/api/v1/namespaces/default/events"
EVENTS, REPEATED, REPEATS = 1200, 60, 8
SECONDS = 50
"""Of making events, and so of killing: several times each."""


@pytest.fixture(params=["database", "elasticsearch"])
def portal(request, tmp_path):
    """On a PostgreSQL of its own, which the test stops and starts, and so the event store."""
    with Lab.start(f"events-{os.getpid()}") as lab:
        portal = Portal(tmp_path)
        portal.environment["BEIDOU_DATABASE_URL"] = lab.postgres()
        # The kubelet starts an API server later each time: it is killed twice, not for ever.
        portal.killings = {"database": ((5, 12), lab.restart_postgres)}
        if request.param == "elasticsearch":
            address = f"elasticsearch+{lab.elasticsearch()}/exact"
            portal.environment["BEIDOU_EVENT_STORE_URL"] = address
            portal.killings["event store"] = ((2, 6), lab.restart_elasticsearch)
        with portal:
            yield portal


def test_exactly_the_events_that_were_made_are_stored_whatever_is_killed(portal, lab_cluster):
    run = f"run{os.getpid()}"
    portal.api.post("clusters/", {"name": "exact", "kubeconfig": lab_cluster.kubeconfig})
    over = threading.Event()
    control_plane = lab_cluster.nodes[0]
    killings = {
        "collector": ((3, 8), lambda: kill_collector(portal)),
        "API server": ((20, 25), lambda: control_plane.run("pkill -KILL kube-apiserver || true")),
        **portal.killings,
    }
    with ThreadPoolExecutor(len(killings)) as pool:
        done = [
            pool.submit(again_and_again, pauses, kill, over) for pauses, kill in killings.values()
        ]
        try:
            Maker(lab_cluster, run).make_all()
        finally:
            over.set()
        times = dict(zip(killings, (each.result() for each in done), strict=True))
    # A search server needs half a minute to come back.
    assert all(each >= (1 if name == "event store" else 2) for name, each in times.items()), times

    def stored() -> dict[str, int]:
        try:
            rows = all_rows(portal.api, f"events/?component={run}&page_size=500")
        except (OSError, PortalError):
            return {}  # it comes back with its database
        assert len({row["uid"] for row in rows}) == len(rows)
        return {row["name"]: row["count"] for row in rows}

    wanted = {f"object-{number}": REPEATS if number < REPEATED else 1 for number in range(EVENTS)}
    wait_until(lambda: len(stored()) >= EVENTS, "all events to be stored", 180)
    wait_until(lambda: stored() == wanted, "their last counts", 60)


def all_rows(api: PortalClient, path: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    while path:
        found = api.get(path)
        rows += found["results"]
        path = (found["next"] or "").partition("/api/v1/")[2]
    return rows


def kill_collector(portal: Portal) -> None:
    with suppress(AssertionError, psutil.Error):  # it is being started again
        portal.program("collect").kill()


def again_and_again(
    pauses: tuple[float, float], killing: Callable[[], object], over: threading.Event
) -> int:
    times = 0
    while not over.wait(random.uniform(*pauses)):
        killing()
        times += 1
    return times


class Maker:
    """Makes events through the API, each until the API server has taken it."""

    def __init__(self, cluster, run: str) -> None:
        self.run = run
        self.transport = Transport(
            kubeconfig.parse(cluster.kubeconfig), cluster_name=cluster.name, timeout=10
        )

    def make_all(self) -> None:
        begun = time.monotonic()
        for number in range(EVENTS):
            self.ask("POST", EVENTS_PATH, self.event(number))
            if number < REPEATED:
                for count in range(2, REPEATS + 1):
                    path = f"{EVENTS_PATH}/{self.run}.{number}"
                    self.ask("PATCH", path, {"count": count, "lastTimestamp": now()})
            threading.Event().wait(
                max(0.0, begun + SECONDS * (number + 1) / EVENTS - time.monotonic())
            )

    def ask(self, method: str, path: str, body: dict[str, Any]) -> None:
        kind = MERGE_PATCH if method == "PATCH" else JSON

        def taken() -> bool:
            try:
                self.transport.call(method, path, action="make", body=body, content_type=kind)
            except ExternalError as error:
                # It was taken, and only the answer was lost.
                return isinstance(error, errors.Conflict409) and error.code == "already_exists"
            return True

        wait_until(taken, f"{method} {path}", 120)

    def event(self, number: int) -> dict[str, Any]:
        return {
            "metadata": {"name": f"{self.run}.{number}"},
            "involvedObject": {
                "kind": "Pod",
                "namespace": "default",
                "name": f"object-{number}",
                "apiVersion": "v1",
            },
            "reason": "Made",
            "message": f"event {number} of {self.run}",
            "type": "Normal",
            "source": {"component": self.run},
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
