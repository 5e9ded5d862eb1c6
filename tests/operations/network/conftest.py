"""Nodes n1 … with ranges for their pods on a made-up API server, and their machines."""

import pytest

from machines.models import Machine
from operations.models import ClusterSettings
from tests import factories
from tests.clusters.conftest import connect
from tests.fakes.kube_api import FakeKubeApi, Reply, list_reply, node
from tests.operations.outside.conftest import (
    call_back,  # noqa: F401
    network_system,  # noqa: F401
    site,  # noqa: F401
)

RBAC = "/apis/rbac.authorization.k8s.io/v1"


def node_with_range(name, number):
    item = node(name, podCIDR=f"10.244.{number}.0/24", podCIDRs=[f"10.244.{number}.0/24"])
    item["status"]["addresses"] = [{"type": "InternalIP", "address": f"10.0.0.{number}"}]
    return item


@pytest.fixture
def kube():
    with FakeKubeApi() as api:
        api.on("GET", "/api/v1/nodes", list_reply([node_with_range(f"n{n}", n) for n in (1, 2, 3)]))
        resources = [
            {"name": "clusterroles", "kind": "ClusterRole", "namespaced": False},
            {"name": "clusterrolebindings", "kind": "ClusterRoleBinding", "namespaced": False},
        ]
        api.on("GET", RBAC, Reply(body={"resources": resources}))
        for name in ("clusterroles", "clusterrolebindings"):
            api.on("PATCH", f"{RBAC}/{name}/beidou-pod-routes", Reply())
        yield api


@pytest.fixture
def cluster(cluster_a, kube):
    ClusterSettings.objects.create(
        cluster=cluster_a, artifact_source="/srv/artifacts", credential=factories.make_credential()
    )
    return connect(cluster_a, kube)


@pytest.fixture
def members(cluster):
    """The machines of n1 and n2; n3 is a node without a machine."""
    return [
        factories.make_machine(
            f"10.0.0.{n}",
            cluster=cluster,
            hostname=f"n{n}",
            node=factories.make_node(cluster, f"n{n}"),
            state=Machine.State.CORDONED,
            host_key="ssh-ed25519 AAAA",
        )
        for n in (1, 2)
    ]
