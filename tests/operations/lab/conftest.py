"""A portal of its own in a folder: adopted lab cluster, delivered hosts, real worker processes.

The portal's rows live in a database file of their own, because real workers cannot see the
transaction in which a test runs; everything is driven through a small client of the public API.
"""

from collections.abc import Callable, Iterator

import pytest

from lab import Lab, site
from lab.cluster import LabCluster
from lab.hosts import Host
from tests.operations.lab.portal import Portal

pytestmark = pytest.mark.lab


@pytest.fixture(scope="session")
def portal(
    tmp_path_factory: pytest.TempPathFactory, lab_cluster: LabCluster, shared_lab: Lab,
    artifact_source: str,
) -> Iterator[Portal]:  # fmt: skip
    """A running portal (web and worker) that has adopted the lab's cluster."""
    with Portal(tmp_path_factory.mktemp("portal")) as portal:
        portal.adopt(
            name=lab_cluster.name, kubeconfig=lab_cluster.kubeconfig, ssh_key=shared_lab.ssh_key,
            artifact_source=artifact_source, policy=site.POLICY, overrides=site.OVERRIDES,
        )  # fmt: skip
        yield portal


@pytest.fixture
def deliver(
    deliver: Callable[[int], list[Host]], lab_cluster: LabCluster
) -> Iterator[Callable[[int], list[Host]]]:
    """As everywhere, and the nodes leave the cluster with their hosts.

    A host that is destroyed stays a Ready node for 40 seconds, and the next test would choose it as
    the other end of its test pods.
    """
    names: list[str] = []

    def start(count: int = 1) -> list[Host]:
        hosts = deliver(count)
        names.extend(host.name for host in hosts)
        return hosts

    yield start
    if names:
        lab_cluster.kubectl(["delete", "node", "--ignore-not-found", *names])
