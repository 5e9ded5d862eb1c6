"""A portal of its own in a folder: adopted lab cluster, delivered hosts, real worker processes.

The portal's rows live in a database file of their own, because real workers cannot see the
transaction in which a test runs; everything is driven through a small client of the public API.
"""

import json
from collections.abc import Callable, Iterator

import pytest
import yaml

from lab import Lab, site
from lab.client import PortalClient
from lab.cluster import LabCluster
from lab.hosts import Host
from lab.workloads import web_deployment
from tests.operations.lab.leaving import names_of
from tests.operations.lab.portal import Portal, wait_until

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


@pytest.fixture
def workload(lab_cluster):
    """``workload(name, host, replicas)``: a Deployment whose pods all begin on ``host``, or on
    several of them; ``change`` has the last word on its manifest."""
    made = []

    def start(name, *hosts, replicas=2, grace=1, change=str):
        chosen = {host.name for host in hosts}
        others = [each for each in names_of(lab_cluster, "nodes") if each not in chosen]
        open_ones = [
            each
            for each in others
            if not json.loads(lab_cluster.kubectl(["get", "node", each, "-o", "json"]))["spec"].get(
                "unschedulable"
            )
        ]
        made.append(name)
        lab_cluster.kubectl(["cordon", *open_ones])
        manifest = web_deployment(name, replicas=replicas).replace(
            "terminationGracePeriodSeconds: 1", f"terminationGracePeriodSeconds: {grace}"
        )
        lab_cluster.apply(change(manifest))
        lab_cluster.kubectl(["rollout", "status", f"deployment/{name}", "--timeout=60s"])
        lab_cluster.kubectl(["uncordon", *open_ones])

    yield start
    for name in made:
        for kind in ("deployment", "service", "pdb"):
            lab_cluster.kubectl(["delete", kind, "--ignore-not-found", "--wait=false", name])


@pytest.fixture
def join(portal, deliver):
    """``join(2)``: machines that were scaled up: their hosts and their keys."""

    def start(count):
        hosts = deliver(count)
        machines = portal.register(*hosts)
        row = portal.api.wait_for(portal.start_operation("ScaleUp", machines), seconds=400)
        assert row["status"] == "succeeded", row
        return hosts, machines

    return start


@pytest.fixture
def node(join):
    """One of them."""
    (host,), (machine,) = join(1)
    return host, machine


@pytest.fixture
def borrowed(portal, lab_cluster):
    """The portal works with a service account of its own until ``end()``; then with what it had."""
    name = "beidou-bad-days"
    lab_cluster.kubectl(["create", "serviceaccount", "-n", "kube-system", name])
    lab_cluster.kubectl(
        ["create", "clusterrolebinding", name, "--clusterrole=cluster-admin",
         f"--serviceaccount=kube-system:{name}"]
    )  # fmt: skip
    token = lab_cluster.kubectl(["create", "token", "-n", "kube-system", name]).strip()
    place = f"clusters/{portal.cluster['id']}/credential/"

    class Credential:
        def end(self):
            lab_cluster.kubectl(["delete", "serviceaccount", "-n", "kube-system", name])

        def put_back(self):
            portal.api.post(place, {"kubeconfig": lab_cluster.kubeconfig})
            wait_until(lambda: health() != "unreachable", "the collector to reach the cluster")

    def health():
        return portal.api.get(f"clusters/{portal.cluster['id']}/")["health"]

    config = yaml.safe_load(lab_cluster.kubeconfig)
    config["users"][0]["user"] = {"token": token}
    portal.api.post(place, {"kubeconfig": yaml.safe_dump(config)})
    yield Credential()
    Credential().put_back()
    lab_cluster.kubectl(["delete", "clusterrolebinding", name])
    lab_cluster.kubectl(
        ["delete", "serviceaccount", "--ignore-not-found", "-n", "kube-system", name]
    )


@pytest.fixture
def signed_in(portal) -> Callable[[str], PortalClient]:
    """``signed_in("boss")``: an administrator of that name, with a token."""

    def sign_in(name: str) -> PortalClient:
        code = (
            "from beidou.base.models import User; "
            f"User.objects.filter(username='{name}').exists() or "
            f"User.objects.create_superuser('{name}', password='not-used-here-1')"
        )
        portal.manage("shell", "-c", code)
        token = portal.manage("create_token", name, "--name", "tests").split()[-1]
        return PortalClient(f"http://127.0.0.1:{portal.port}", token)

    return sign_in


@pytest.fixture
def approver(signed_in) -> PortalClient:
    """Another administrator, because nobody approves what they asked for themselves."""
    return signed_in("boss")
