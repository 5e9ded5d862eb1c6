"""CreateCluster on real machines: made, grown, shrunk, interrupted, refused, given up."""

import itertools
import signal

import pytest

from lab import cni
from lab.artifacts import PROBE_IMAGE
from lab.client import PortalError
from lab.images import shell_image
from lab.workloads import web_daemon_set
from tests.operations.host_state import state_of
from tests.operations.lab.creating import (
    SECONDS,
    assert_like_an_adopted_one,
    begin,
    inits,
    kubectl,
    ready_nodes,
    states,
    take_down,
    wish_for,
)
from tests.operations.lab.portal import Portal, wait_until

pytestmark = pytest.mark.lab
MIRROR_PORT = 5000
MIRRORED = "registry.example/only/in-the-mirror:1"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def portal(tmp_path_factory, shared_lab):
    """A portal that knows no cluster."""
    with Portal(tmp_path_factory.mktemp("creating")) as portal:
        portal.use_key(shared_lab.ssh_key)
        yield portal


@pytest.fixture
def deliver(shared_lab):
    """Fresh hosts; destroyed after the test."""
    hosts = []

    def start(count):
        fresh = shared_lab.hosts(count, prefix=f"create{next(_numbers)}")
        hosts.extend(fresh)
        return fresh

    yield start
    for host in hosts:
        host.destroy()


@pytest.fixture
def wish(portal, shared_lab):
    """The body of the request."""

    def make(hosts, **more):
        return wish_for(portal, shared_lab, hosts, **more)

    return make


@pytest.fixture
def mirror(shared_lab, tmp_path):
    """A registry that alone has an image: the one that the image names is nowhere."""
    (tmp_path / "proof").write_text("from the mirror\n")
    shared_lab.push(shell_image(MIRRORED, files={"proof": tmp_path / "proof"}))
    return f"http://{shared_lab.balance([f'{shared_lab.registry()}/v2/'], port=MIRROR_PORT)}"


def assert_every_node_pulls(control, count):
    """A pod on each node whose image only the mirror has."""
    manifest = web_daemon_set("mirrored").replace(PROBE_IMAGE, MIRRORED)
    control.write("/run/mirrored.yaml", manifest)
    use = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
    control.run(f"{use} apply -f /run/mirrored.yaml")
    control.run(f"{use} rollout status daemonset/mirrored --timeout=90s")
    assert kubectl(control, "get daemonset mirrored")["status"]["numberReady"] == count
    assert control.run(f"{use} exec daemonset/mirrored -- cat /proof") == "from the mirror\n"


def test_a_cluster_is_created_grows_shrinks_and_is_deleted_and_leaves_hosts_as_delivered(
    portal, deliver, wish, approver, mirror
):
    hosts = first, worker, later = deliver(3)
    machines = portal.register(*hosts)
    delivered = [state_of(host) for host in hosts]
    operation = begin(portal, wish([first, worker], registry_mirror=mirror))
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert_like_an_adopted_one(portal, row, [first, worker], machines[:2])
    assert inits(first) == 1

    portal.cluster = {"id": row["cluster"]}
    grown = portal.start_operation("ScaleUp", machines[2:])
    assert portal.api.wait_for(grown, seconds=SECONDS)["status"] == "succeeded"
    assert ready_nodes(first) == {first.name, worker.name, later.name}
    assert_every_node_pulls(first, 3)

    shrunk = portal.start_operation("ScaleDown", machines[2:])
    row = portal.api.wait_for(shrunk, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    assert ready_nodes(first) == {first.name, worker.name}
    assert states(portal, machines[2:]) == {"available"}
    leftovers = later.run("ls /etc/systemd/system /usr/local/bin /usr/local/lib; ip route")
    assert "beidou" not in leftovers
    assert "proto 186" not in leftovers
    wait_until(
        lambda: first.run("ip route show proto 186").count("via") == 1,
        "the route to the node that left to be gone",
        60,
    )

    take_down(portal, approver, machines[:2])
    assert states(portal, machines) == {"available"}
    for host, before in zip(hosts, delivered, strict=True):
        assert state_of(host) == before


def test_a_worker_that_is_killed_in_the_middle_of_init_costs_nothing_but_time(
    portal, deliver, wish
):
    hosts = deliver(2)
    machines = portal.register(*hosts)
    operation = begin(portal, wish(hosts))
    portal.wait_for_step(operation, "createControlPlane")
    wait_until(lambda: inits(hosts[0]) == 1, "kubeadm init to begin", 1200)
    killed = portal.program("work")
    killed.send_signal(signal.SIGKILL)
    portal.wait_for_program("work", other_than=killed.pid)
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert inits(hosts[0]) == 1
    assert_like_an_adopted_one(portal, row, hosts, machines)
    wait_until(lambda: portal.marked() == [], "the processes to be gone", 10)


def test_a_single_machine_with_a_network_of_the_site_s_own_is_a_cluster(portal, deliver, wish):
    (host,) = deliver(1)
    machines = portal.register(host)
    manifest = cni.manifest(api_address=host.address)
    operation = begin(
        portal, wish([host], params={"network": "manifest", "network_manifest": manifest})
    )
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert_like_an_adopted_one(portal, row, [host], machines)
    spec = kubectl(host, f"get node {host.name}")["spec"]
    assert spec.get("taints") is None  # without workers it takes pods itself
    assert kubectl(host, "get daemonset -n kube-system lab-cni")["status"]["numberReady"] == 1
    assert host.run("systemctl is-active beidou-routed-network || true").strip() == "inactive"


def test_networks_of_another_cluster_are_refused(portal, deliver, wish):
    (host,) = deliver(1)
    portal.register(host)
    taken = wish([host])
    begin(portal, taken)
    again = wish([host], params={"pod_network": taken["params"]["pod_network"]})
    with pytest.raises(PortalError) as refused:
        begin(portal, again)
    assert "of another cluster" in str(refused.value)


def test_a_creation_is_refused_canceled_cleaned_up_and_removed(portal, deliver, wish):
    """A host with leftovers stops all before anything is begun; a cancel in the middle leaves
    machines that are cleaned up, and then the cluster can go."""
    first, worker = deliver(2)
    machines = portal.register(first, worker)
    first.run("mkdir -p /etc/kubernetes/pki && touch /etc/kubernetes/pki/ca.crt")
    operation = begin(portal, wish([first, worker]))
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert row["status"] == "failed"
    (cell,) = [c for c in row["machines"][0]["steps"] if c["step"] == "preCheck"]
    assert "leftover:/etc/kubernetes" in {c["check"] for c in cell["checks"] if not c["ok"]}
    assert "nothing was begun" in row["machines"][1]["message"]
    assert states(portal, machines) == {"available"}
    assert portal.api.get(f"clusters/{row['cluster']}/")["phase"] == "provisioning"

    first.run("rm -r /etc/kubernetes/pki")
    portal.api.post(f"operations/{operation}/retry/", {"reason": "cleaned by hand"})
    portal.wait_for_step(operation, "createControlPlane")
    wait_until(lambda: inits(first) == 1, "kubeadm init to begin", 1200)
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "another rack"})
    row = portal.api.wait_for(operation, seconds=120)
    assert row["status"] == "canceled"
    assert first.run("systemctl list-units --no-legend 'beidou-*' | wc -l").strip() == "0"
    assert states(portal, machines) == {"faulty"}
    path = f"clusters/{row['cluster']}/?confirm={row['cluster_name']}"
    with pytest.raises(PortalError) as refused:
        portal.api.request("DELETE", path)
    assert "Clean up 2 machines first" in str(refused.value)

    portal.cluster = {"id": row["cluster"]}
    cleaned = portal.start_operation("CleanUp", machines)
    row = portal.api.wait_for(cleaned, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    assert states(portal, machines) == {"available"}
    portal.api.request("DELETE", path)
    clusters = portal.api.get("clusters/")["results"]
    assert row["cluster"] not in {cluster["id"] for cluster in clusters}
