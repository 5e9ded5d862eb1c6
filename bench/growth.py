"""Adding one machine to a cluster of 10, 1,000 and 5,000 nodes.

A real kubeadm cluster of two hosts, and beside them nodes that kwok simulates.  The hosts that are
added are real, and so is all that happens on them.  The simulated nodes, the API server that hears
of them and the host that joins share the processors of one machine, so that a join of such a
cluster takes longer whoever does it: the same playbooks are run plainly in turns with the portal
(``bench.scale_up``), so that one sees how much of what grows is the portal's.  A collector runs all
the while, as in every portal; its own work is not counted.
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
        plain: dict[int, float] = {}
        for size in SIZES:
            lab.simulate_nodes(site.lab_cluster, size - real)
            pairs = []
            with _collector(at_least=size):
                for number in range(ROUNDS):
                    mine = site.through_portal(lab.hosts(1, prefix=f"of{size}-{number}"))
                    theirs = site.plainly(lab.hosts(1, prefix=f"plain{size}-{number}"))
                    pairs.append((mine.wall, theirs.wall))
            walls[size] = middle([pair[0] for pair in pairs])
            plain[size] = middle([pair[1] for pair in pairs])
    nodes = " / ".join(f"{size:,}" for size in SIZES)
    seconds = f"{_seconds(walls)}, plain {_seconds(plain)} (medians of {ROUNDS})"
    for what, times in (
        ("", [walls[size] for size in SIZES]),
        (", portal / plain ansible-playbook", [walls[size] / plain[size] for size in SIZES]),
    ):
        growth = [each / times[0] for each in times]
        yield Measure(
            f"ScaleUp of one machine in a cluster of {nodes} nodes{what}",
            f"{' / '.join(f'{each:.2f}' for each in growth)} of the first",
            seconds,
            "flat, +- 10 %",
            all(0.9 <= each <= 1.1 for each in growth),
        )


def _seconds(times: dict[int, float]) -> str:
    return " / ".join(f"{times[size]:.1f}" for size in SIZES) + " s"


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
