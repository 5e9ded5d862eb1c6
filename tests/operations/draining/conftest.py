"""A cluster whose controllers answer, and a drain of it in simulated time."""

from typing import Any

import pytest

from clusters.drivers.kubernetes import KubernetesClient
from operations.kinds.draining.drainer import Drainer
from tests.fakes.emptying import EmptyingCluster
from tests.operations.draining.running import leaves


@pytest.fixture
def api():
    with EmptyingCluster() as cluster:
        cluster.add_node("n1")
        cluster.add_node("n2")
        yield cluster


@pytest.fixture
def client(api):
    with KubernetesClient(api.connection(), cluster_name="prod-1", timeout=5) as made:
        yield made


@pytest.fixture
def drainer(api, client):
    def make(run: Any, *leaving):
        return Drainer(run, client, leaving, clock=api.clock, sleep=api.sleep, now=api.now)

    return make


@pytest.fixture
def drain(drainer):
    def do(run, *nodes, before=None):
        leaving = [leaves(name, before) for name in nodes or ("n1",)]
        drainer(run, *leaving).drain()
        return leaving[0]

    return do
