"""CreateCluster on real machines: made, grown, shrunk, interrupted, refused, given up."""

import itertools
import json
import signal

import pytest

from lab import cni, site
from lab.client import PortalError
from lab.versions import DEFAULT_MINOR, release
from tests.operations.host_state import state_of
from tests.operations.lab.portal import Portal, wait_until

pytestmark = pytest.mark.lab
SECONDS = 2400
VERSION = release(DEFAULT_MINOR).version
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def portal(tmp_path_factory, shared_lab):
    """A portal that knows no cluster."""
    with Portal(tmp_path_factory.mktemp("creating")) as portal:
        portal.credential = portal.api.post(
            "credentials/", {"name": "lab", "user": "root", "private_key": shared_lab.ssh_key}
        )
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
    """The body of the request; each cluster has networks of its own."""

    def make(hosts, *, control_planes=1, **params):
        number = next(_numbers)
        return {
            "name": f"created-{number}",
            "machines": [
                {"address": host.address, "role": "ControlPlane" if index < control_planes else ""}
                for index, host in enumerate(hosts)
            ],
            "params": {
                "kubernetes_version": VERSION,
                "pod_network": f"10.{150 + number}.0.0/16",
                "service_network": f"10.{200 + number}.0.0/16",
                "kubeadm_config": site.KUBEADM_CONFIG,
                **params,
            },
            "credential": portal.credential["id"],
            "artifact_source": shared_lab.artifacts().url,
            "policy": site.POLICY,
            "overrides": site.OVERRIDES,
        }

    return make


def begin(portal, body):
    return portal.api.post("operations/create-cluster/", body)["id"]


def kubectl(host, command):
    return json.loads(
        host.run(f"kubectl --kubeconfig /etc/kubernetes/admin.conf {command} -o json")
    )


def ready_nodes(host):
    return {
        item["metadata"]["name"]
        for item in kubectl(host, "get nodes")["items"]
        for condition in item["status"]["conditions"]
        if condition["type"] == "Ready" and condition["status"] == "True"
    }


def inits(host):
    """How often kubeadm init was begun on the host, by its own journal."""
    return int(host.run("journalctl --no-pager -q | grep -c 'Started beidou-.*-init' || true"))


def states(portal, machines):
    return {portal.api.get(f"machines/{key}/")["state"] for key in machines}


def assert_like_an_adopted_one(portal, row, hosts, machines):
    assert row["status"] == "succeeded", row
    cluster = portal.api.get(f"clusters/{row['cluster']}/")
    assert (cluster["phase"], cluster["type"]) == ("running", "native")
    assert cluster["version"] == VERSION
    assert cluster["health"] == "healthy", cluster["health_reason"]
    report = portal.api.get(f"clusters/{row['cluster']}/capabilities/")
    assert [item["key"] for item in report if not item["ok"]] == []
    assert ready_nodes(hosts[0]) == {host.name for host in hosts}
    assert states(portal, machines) == {"in_service"}
    nodes = portal.api.get(f"nodes/?cluster={row['cluster']}")["results"]
    assert {node["machine"] for node in nodes} == set(machines)
    secrets = kubectl(hosts[0], "get secrets -n kube-system")["items"]
    tokens = [item for item in secrets if item["type"] == "bootstrap.kubernetes.io/token"]
    descriptions = [item["data"].get("description", "") for item in tokens]
    assert len(tokens) <= 1, descriptions  # of the uploaded certificates alone; it expires


def test_a_cluster_is_created_grows_shrinks_and_is_deleted_and_leaves_hosts_as_delivered(
    portal, deliver, wish, approver
):
    hosts = first, worker, later = deliver(3)
    machines = portal.register(*hosts)
    delivered = [state_of(host) for host in hosts]
    operation = begin(portal, wish([first, worker]))
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert_like_an_adopted_one(portal, row, [first, worker], machines[:2])
    assert inits(first) == 1

    portal.cluster = {"id": row["cluster"]}
    grown = portal.start_operation("ScaleUp", machines[2:])
    assert portal.api.wait_for(grown, seconds=SECONDS)["status"] == "succeeded"
    assert ready_nodes(first) == {first.name, worker.name, later.name}

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


def failed_checks(row):
    return {
        check["check"]
        for machine in row["machines"]
        for cell in machine["steps"]
        for check in cell["checks"]
        if not check["ok"] and check["severity"] == "error"
    }


def etcd_members(host):
    """Names of the members, as etcd itself tells them."""
    pki = "/etc/kubernetes/pki/etcd"
    told = host.run(
        f"curl -s --cacert {pki}/ca.crt --cert {pki}/healthcheck-client.crt "
        f"--key {pki}/healthcheck-client.key -d '{{}}' https://127.0.0.1:2379/v3/cluster/member/list"
    )
    return {member["name"] for member in json.loads(told)["members"]}


def joins(host):
    """How often kubeadm join was begun on the host, by its own journal."""
    return int(host.run("journalctl --no-pager -q | grep -c 'Started beidou-.*-join' || true"))


def lose_one(portal, hosts, machines):
    """The third host dies: no healthy one may leave then, and the dead one may."""
    hosts[2].kill()
    refused = portal.start_operation("RemoveControlPlane", [machines[1]])
    row = portal.api.wait_for(refused, seconds=300)
    assert row["status"] == "failed"
    assert "etcd-quorum" in failed_checks(row)
    assert etcd_members(hosts[0]) == {host.name for host in hosts}

    answers = {"force_unreachable": True, "allow_single_copy": True, "allow_pending": True}
    removal = portal.start_operation("RemoveControlPlane", [machines[2]], params=answers)
    row = portal.api.wait_for(removal, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    assert etcd_members(hosts[0]) == {hosts[0].name, hosts[1].name}
    assert ready_nodes(hosts[0]) == {hosts[0].name, hosts[1].name}
    assert states(portal, machines[2:]) == {"faulty"}


def replace_it(portal, hosts, machine, spare):
    """A worker is killed in the middle of the join, which goes on and is not begun twice."""
    added = portal.start_operation(
        "AddControlPlane", [machine], params={"accept_single_endpoint": True}
    )
    portal.wait_until_begun(added, "join", SECONDS)
    wait_until(lambda: joins(spare) == 1, "kubeadm join to begin", 600)
    killed = portal.program("work")
    killed.send_signal(signal.SIGKILL)
    portal.wait_for_program("work", other_than=killed.pid)
    row = portal.api.wait_for(added, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    assert joins(spare) == 1
    assert etcd_members(hosts[0]) == {hosts[0].name, hosts[1].name, spare.name}
    assert ready_nodes(hosts[0]) == {hosts[0].name, hosts[1].name, spare.name}
    spec = kubectl(hosts[0], f"get node {spare.name}")["spec"]
    assert (spec.get("taints"), spec.get("unschedulable")) == (None, None)  # as the others
    secrets = kubectl(hosts[0], "get secrets -n kube-system")["items"]
    assert "kubeadm-certs" not in {item["metadata"]["name"] for item in secrets}


def take_down(portal, approver, machines, **params):
    """Approved by somebody else; a lost machine is given up by its name."""
    name = portal.api.get(f"clusters/{portal.cluster['id']}/")["name"]
    deletion = portal.start_operation("DeleteCluster", machines, params={"confirm": name, **params})
    row = portal.api.wait_for(deletion, seconds=300)
    assert (row["status"], failed_checks(row)) == ("failed", {"approval"})
    approval = {"answers": {"approved": True}}
    with pytest.raises(PortalError) as refused:
        portal.api.post(f"operations/{deletion}/retry/", approval)
    assert refused.value.status == 403
    approver.post(f"operations/{deletion}/retry/", {**approval, "seen": row["seen"]})
    row = portal.api.wait_for(deletion, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    cluster = portal.api.get(f"clusters/{portal.cluster['id']}/")
    assert (cluster["phase"], cluster["nodes_total"]) == ("deleted", 0)


def welcome_back(portal, host, machine):
    """What was given up is cleaned when it is back, though its cluster is no more."""
    host.start()
    assert states(portal, [machine]) == {"faulty"}
    cleaned = portal.start_operation("CleanUp", [machine])
    row = portal.api.wait_for(cleaned, seconds=SECONDS)
    assert row["status"] == "succeeded", row
    found = portal.api.get(f"machines/{machine}/")
    assert (found["state"], found["cluster"], found["labels"]) == ("available", None, {})


def assert_as_delivered(portal, body, machines):
    """The preCheck of a new cluster finds nothing on them."""
    assert states(portal, machines) == {"available"}
    operation = begin(portal, body)
    portal.wait_until_begun(operation, "createControlPlane", 300)
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "that was all"})
    row = portal.api.wait_for(operation, seconds=120)
    cells = [cell for each in row["machines"] for cell in each["steps"]]
    passed = [cell["status"] for cell in cells if cell["step"] == "preCheck"]
    assert passed == ["succeeded"] * len(machines)


def test_three_control_planes_lose_one_get_another_and_are_taken_down(
    portal, deliver, wish, approver
):
    *hosts, spare = deliver(4)
    *machines, spare_machine = portal.register(*hosts, spare)
    operation = begin(portal, wish(hosts, control_planes=3))
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert_like_an_adopted_one(portal, row, hosts, machines)
    for machine in row["machines"]:
        (join,) = [cell for cell in machine["steps"] if cell["step"] == "join"]
        assert join["evidence"]["etcd_members"] == 3
    taints = [item["spec"].get("taints") for item in kubectl(hosts[0], "get nodes")["items"]]
    assert taints == [None, None, None]  # without workers they take pods themselves

    portal.cluster = {"id": row["cluster"]}
    lose_one(portal, hosts, machines)
    replace_it(portal, hosts, spare_machine, spare)
    hosts, machines = [*hosts, spare], [*machines, spare_machine]
    take_down(portal, approver, machines, give_up=hosts[2].name)
    welcome_back(portal, hosts[2], machines[2])
    assert_as_delivered(portal, wish(hosts), machines)


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
    operation = begin(portal, wish([host], network="manifest", network_manifest=manifest))
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert_like_an_adopted_one(portal, row, [host], machines)
    assert kubectl(host, "get daemonset -n kube-system lab-cni")["status"]["numberReady"] == 1
    assert host.run("systemctl is-active beidou-routed-network || true").strip() == "inactive"


def test_networks_of_another_cluster_are_refused(portal, deliver, wish):
    (host,) = deliver(1)
    portal.register(host)
    taken = wish([host])
    begin(portal, taken)
    again = wish([host], pod_network=taken["params"]["pod_network"])
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
