"""One lab for the whole run: a cluster that tests share, and fresh hosts that each test asks for.

A missing lab is a failure in CI and a reasoned skip elsewhere.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from lab import Lab
from lab.cluster import LabCluster
from lab.hosts import Host

_numbers = itertools.count(1)


def why_no_lab() -> str:
    if os.geteuid() != 0:
        return "the lab starts hosts and needs root"
    missing = [name for name in ("podman", "runc") if shutil.which(name) is None]
    return f"the lab needs {', '.join(missing)}; run `make test`" if missing else ""


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[Lab]:
    """The lab of this run, removed at its end."""
    if reason := why_no_lab():
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with Lab.start(f"tests-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="session")
def lab_cluster(shared_lab: Lab) -> LabCluster:
    """A real kubeadm cluster, one control plane and one worker; leave it as you found it."""
    return shared_lab.cluster("shared", control_planes=1, workers=1)


@pytest.fixture(scope="session")
def artifact_source(shared_lab: Lab) -> str:
    return shared_lab.artifacts().url


@pytest.fixture
def deliver(shared_lab: Lab) -> Iterator[Callable[[int], list[Host]]]:
    """Fresh hosts as a company delivers them: ``deliver(2)``; destroyed after the test."""
    hosts: list[Host] = []

    def start(count: int = 1) -> list[Host]:
        fresh = shared_lab.hosts(count, prefix=f"host{next(_numbers)}")
        hosts.extend(fresh)
        return fresh

    yield start
    for host in hosts:
        host.destroy()
