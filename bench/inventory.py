"""The inventory of a large cluster: 5,000 simulated nodes and 20,000 pods (kwok) into the database.

From the start of LIST to the last row, in a collector process of its own, against ``kubectl get -o
json > /dev/null`` of the same objects in the same run.  The process's own start (imports) counts
for both.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.report import Measure, middle
from clusters.models import Cluster, Node
from clusters.services import adoption
from clusters.services.checking import Source
from lab import Lab
from lab.cluster import LabCluster

ROOT = Path(__file__).resolve().parent.parent
NODES, PODS = 5_000, 20_000
ROUNDS = 3


def run() -> Iterator[Measure]:
    with Lab.start("bench-inventory") as lab:
        kwok = lab.kwok_cluster("inventory", nodes=NODES, pods=PODS)
        cluster = adoption.adopt(
            source=Source(kubeconfig=kwok.kubeconfig), details=adoption.Details(name="inventory")
        )
        times, plain, memory = [], [], 0
        for _ in range(ROUNDS):
            plain.append(_kubectl(kwok))
            seconds, rss = _collect(cluster)
            times.append(seconds)
            memory = max(memory, rss)
    ratio = middle(times) / middle(plain)
    yield Measure(
        f"LIST of {NODES:,} nodes and {PODS:,} pods (kwok) into the database / kubectl get -o json",
        f"{ratio:.2f} ({middle(times):.1f} s), collector {memory / 2**20:.0f} MiB at most",
        f"kubectl {middle(plain):.1f} s (median of {ROUNDS})",
        "<= 1.0 wall, <= 200 MiB",
        ratio <= 1.0 and memory <= 200 * 2**20,
    )


def _kubectl(kwok: LabCluster) -> float:
    """Seconds for both lists, thrown away."""
    command = [str(kwok.kubectl_path), "--kubeconfig", str(kwok.kubeconfig_path)]
    began = time.perf_counter()
    for kind in ("nodes", "pods"):
        with open(os.devnull, "wb") as nowhere:
            subprocess.run([*command, "get", kind, "-A", "-o", "json"], check=True, stdout=nowhere)
    return time.perf_counter() - began


def _collect(cluster: Cluster) -> tuple[float, int]:
    """Seconds until the collector has stored everything, and its greatest resident memory."""
    Node.objects.filter(cluster=cluster).delete()
    Cluster.objects.filter(pk=cluster.pk).update(nodes_total=0, pods_count=0, sums_at=None)
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "manage.py", "collect"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    watched, memory = psutil.Process(process.pid), 0
    try:
        while True:
            memory = max(memory, watched.memory_info().rss)
            row = Cluster.objects.values("nodes_total", "pods_count", "sums_at").get(pk=cluster.pk)
            if row["sums_at"] and row["nodes_total"] >= NODES and row["pods_count"] >= PODS:
                seconds = time.perf_counter() - began
                break
            if time.perf_counter() - began > 300:
                raise RuntimeError(f"the collector has not stored everything: {row}")
            time.sleep(0.05)
        memory = max(memory, watched.memory_info().rss)
    finally:
        process.terminate()
        process.wait(timeout=30)
    return seconds, memory
