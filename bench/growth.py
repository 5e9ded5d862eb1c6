"""Adding one machine to a cluster of 10, 1,000 and 5,000 nodes.

A real kubeadm cluster of two hosts, and beside them nodes that kwok simulates.  The hosts that are
added are real, and so is all that happens on them; what may grow with the cluster is what the
portal and its playbooks ask of the API server and make of the answer.  A collector runs beside
them, as in every portal; its own work is not counted.
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.report import Measure, middle
from bench.scale_up import Site
from clusters.models import Node
from lab import Lab

ROOT = Path(__file__).resolve().parent.parent
SIZES = (10, 1_000, 5_000)
ROUNDS = 3


def run() -> Iterator[Measure]:
    with Lab.start("bench-growth") as lab:
        site = Site(lab, "bench-growth")
        real = len(site.lab_cluster.nodes)
        # What is only done once (starting programs, building modules) is no matter of size.
        site.through_portal(lab.hosts(1, prefix="first"))
        walls: dict[int, float] = {}
        cpus: dict[int, float] = {}
        for size in SIZES:
            lab.simulate_nodes(site.lab_cluster, size - real)
            with _collector(at_least=size):
                runs = [
                    site.through_portal(lab.hosts(1, prefix=f"of{size}-{number}"))
                    for number in range(ROUNDS)
                ]
            walls[size] = middle([one.wall for one in runs])
            cpus[size] = middle([one.cpu for one in runs])
    ratios = [walls[size] / walls[SIZES[0]] for size in SIZES]
    yield Measure(
        f"ScaleUp of one machine in a cluster of {' / '.join(f'{size:,}' for size in SIZES)} nodes",
        f"{' / '.join(f'{ratio:.2f}' for ratio in ratios)} of the first",
        f"{' / '.join(f'{walls[size]:.1f} s' for size in SIZES)}, CPU of the portal "
        f"{' / '.join(f'{cpus[size]:.1f} s' for size in SIZES)} (medians of {ROUNDS})",
        "flat, +- 10 %",
        all(0.9 <= ratio <= 1.1 for ratio in ratios),
    )


@contextmanager
def _collector(*, at_least: int) -> Iterator[None]:
    """Runs once it has told of all nodes."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "collect"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 300
        while Node.objects.count() < at_least:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the collector knows {Node.objects.count()} nodes")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)
