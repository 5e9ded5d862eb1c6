"""Searching events in each store, as it grows.

Each store is filled and asked by a program of its own (``bench.event_searcher``) with the same
events: 20 clusters, 30 days.  ``BENCH_EVENTS`` is the greatest number on the search server; the
embedded stores have a million at most.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.report import Measure
from lab import Lab

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = 1_000_000
ON_SERVER = int(os.environ.get("BENCH_EVENTS", "1000000"))
SEARCH_MS, TOP_MS, TOP_ON_SERVER_MS = 300, 300, 1000


def run() -> Iterator[Measure]:
    with Lab.start("bench-event-search") as lab:
        places = [
            ("SQLite", EMBEDDED, TOP_MS, {}),
            ("PostgreSQL", EMBEDDED, TOP_MS, {"BEIDOU_DATABASE_URL": lab.postgres()}),
            (
                "Elasticsearch",
                ON_SERVER,
                TOP_ON_SERVER_MS,
                {"BEIDOU_EVENT_STORE_URL": f"elasticsearch+{lab.elasticsearch()}/bench"},
            ),
        ]
        for name, most, top, variables in places:
            for found in _searched(most, variables):
                yield _measure(name, found, top)


def _searched(most: int, variables: dict[str, str]) -> Iterator[dict[str, float]]:
    sizes = [str(size) for size in (100_000, 1_000_000, 5_000_000) if size <= most]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.event_searcher", *sizes],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{"):
            yield json.loads(line)
    if process.wait():
        raise RuntimeError(f"bench.event_searcher ended with {process.returncode}")


def _measure(name: str, found: dict[str, float], top: int) -> Measure:
    deep, first = found.get("page behind row 100,000"), found["first page"]
    others = ", ".join(
        f"{each} {found[each]:.0f} ms" for each in ("top of all", "histogram of all", "first page")
    )
    return Measure(
        f"{name}, {found['size']:,} events: search of a day, top reasons of 30 days (p95)",
        f"{found['search']:.0f} ms, {found['top of a cluster']:.0f} ms; {others}"
        + (f", behind row 100,000 {deep:.0f} ms" if deep is not None else ""),
        f"filled at {found['filled'] / found['took']:,.0f} events/s",
        f"<= {SEARCH_MS} ms, <= {top} ms, a deep page as fast as the first",
        found["search"] <= SEARCH_MS
        and found["top of a cluster"] <= top
        and (deep is None or deep <= max(2 * first, 50)),
    )
