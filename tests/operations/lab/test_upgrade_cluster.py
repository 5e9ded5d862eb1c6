"""UpgradeCluster on a real cluster: a workload behind a Service that loses no request meanwhile."""

import json
import signal

import pytest

from lab import site
from lab.versions import release
from lab.workloads import web_deployment
from tests.operations.lab.leaving import budget
from tests.operations.lab.portal import Portal, wait_until
from tests.operations.lab.upgrading import cells, programs, served_end, told
from tests.operations.lab.watching import SERVED, Watch

pytestmark = pytest.mark.lab
OLD, NEW = release("1.35").version, release("1.36").version
SECONDS = 1800


@pytest.fixture(scope="module")
def cluster(shared_lab):
    made = shared_lab.cluster("upgraded", control_planes=1, workers=2, version="1.35")
    yield made
    for host in made.nodes:
        host.destroy()


@pytest.fixture(scope="module")
def portal(tmp_path_factory, shared_lab, cluster):
    with Portal(tmp_path_factory.mktemp("upgrading")) as portal:
        portal.adopt(
            name=cluster.name, kubeconfig=cluster.kubeconfig, ssh_key=shared_lab.ssh_key,
            artifact_source=shared_lab.artifacts("1.36").url, policy=site.POLICY,
            overrides=site.OVERRIDES,
        )  # fmt: skip
        yield portal


@pytest.fixture(scope="module")
def machines(portal, cluster):
    """The nodes as machines of the portal, in service."""
    names = [host.name for host in cluster.nodes]

    def seen():
        rows = portal.api.get(f"nodes/?cluster={portal.cluster['id']}")["results"]
        return len(rows) == len(names)

    wait_until(seen, "the collector to see the nodes", 60)
    wish = {
        "cluster": portal.cluster["id"], "nodes": names, "credential": portal.credential["id"],
    }  # fmt: skip
    found = portal.api.post("machines/register/", wish)
    keys = [*found["created"], *found["linked"]]
    portal.api.post("machines/gather-facts/", {"machines": keys})

    def pinned():
        return all(portal.api.get(f"machines/{key}/")["host_key"] for key in keys)

    wait_until(pinned, "the host keys to be pinned", 60)
    return keys


@pytest.fixture
def requests(cluster):
    """A workload with two copies and a budget behind a Service, asked all the time from a node;
    ``requests()`` is how often it answered and how often not."""
    manifest = web_deployment("shop", replicas=2)
    # Its program goes on until it is killed, as one that ends in an orderly way does.
    cluster.apply(manifest.replace("PeriodSeconds: 1\n", "PeriodSeconds: 8\n", 1))
    cluster.apply(budget("shop", minAvailable=1))
    cluster.kubectl(["rollout", "status", "deployment/shop", "--timeout=90s"])
    service = json.loads(cluster.kubectl(["get", "service", "shop", "-o", "json"]))
    address = service["spec"]["clusterIP"]
    watch = Watch(cluster.nodes[0], "requests", SERVED.format(address=address))
    yield watch.count
    watch.stop()


def begun(host, unit):
    """How often a unit of the portal was begun on the host, by its own journal."""
    return int(host.run(f"journalctl --no-pager -q | grep -c 'Started beidou-.*-{unit}' || true"))


def nodes_of(cluster):
    return json.loads(cluster.kubectl(["get", "nodes", "-o", "json"]))["items"]


def test_a_cluster_is_upgraded_without_a_lost_request_and_with_a_killed_worker(
    portal, cluster, machines, requests
):
    control, *workers = cluster.nodes
    params = {"kubernetes_version": NEW, "allow_single_copy": True}
    operation = portal.start_operation("UpgradeCluster", [], params=params)
    portal.wait_until_begun(operation, "controlPlanes", SECONDS)
    wait_until(lambda: begun(control, "upgrade") == 1, "kubeadm upgrade to begin", 300)
    killed = portal.program("work")
    killed.send_signal(signal.SIGKILL)
    portal.wait_for_program("work", other_than=killed.pid)
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)

    # What was under way went on without its worker, and was not begun again.
    assert begun(control, "upgrade") == 1
    wait_until(lambda: portal.marked() == [], "the processes to be gone", 10)

    nodes = nodes_of(cluster)
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {NEW}
    assert [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")] == []
    assert all("beidou.io/upgrading" not in node["metadata"]["labels"] for node in nodes)
    answered, lost = requests()
    assert lost == 0
    assert answered > 200

    # One wave after the other, the control plane first.
    ends = cells(row, "workers")
    first, second = sorted(
        (ends[worker.name] for worker in workers), key=lambda c: c["finished_at"]
    )
    assert first["finished_at"] <= second["started_at"]
    assert cells(row, "controlPlanes")[control.name]["finished_at"] <= first["started_at"]

    taken = cells(row, "snapshot")[control.name]["evidence"]
    sums = control.run(f"sha256sum {taken['path']}").split()[0]
    assert sums == taken["sha256"]
    assert taken["total_keys"] > 100
    assert control.run(f"stat -c %a {taken['path']}").strip() == "600"
    assert control.run("ls -A /var/lib/beidou/upgrade 2>/dev/null || true") == ""


def test_certificates_are_renewed_and_what_works_with_them_is_restarted(
    portal, cluster, machines, requests
):
    control, *workers = cluster.nodes
    before, began = served_end(control), programs(control)
    operation = portal.start_operation("RenewCertificates", [])
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    assert served_end(control) != before
    ended = programs(control)
    assert {name for name in began if set(began[name]) & set(ended[name])} == set()
    rows = cells(row, "renew")[control.name]["evidence"]["certificates"]
    assert {"apiserver", "etcd-peer", "admin.conf"} <= {each["name"] for each in rows}
    assert all(each["after"] > each["before"] for each in rows)
    checks = {each["check"]: each for each in cells(row, "postCheck")[workers[0].name]["checks"]}
    assert checks["kubelet-client"]["found"].startswith("renews itself")
    assert begun(control, "renew") == 1
    assert requests()[1] == 0
