"""Three control planes behind a balancer: made, upgraded, renewed, the first lost and replaced.

One cluster for all of it, in the order of its life: a test begins with what those before it left.
Its endpoint is the balancer's from the beginning, on another port than that of the API servers.
"""

import json
import signal
from dataclasses import dataclass
from typing import Any

import pytest

from lab.hosts import Host
from lab.versions import release
from lab.workloads import web_deployment
from tests.operations.lab.creating import (
    SECONDS,
    assert_like_an_adopted_one,
    begin,
    failed_checks,
    kubectl,
    ready_nodes,
    states,
    take_down,
    wish_for,
)
from tests.operations.lab.leaving import budget
from tests.operations.lab.portal import Portal, wait_until
from tests.operations.lab.upgrading import cells, programs, served_end, told
from tests.operations.lab.watching import SERVED, Watch

pytestmark = [pytest.mark.lab, pytest.mark.long]
OLD, NEW = release("1.35"), release("1.36")
PORT = 16443
TOLERATION = "{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}"
PKI = "/etc/kubernetes/pki/etcd"
ETCD = (
    "curl --silent --fail --max-time 8 --cacert {folder}/ca.crt "
    "--cert {folder}/healthcheck-client.crt --key {folder}/healthcheck-client.key "
)
# A read that a member answers only with the consent of more than half of all.  One that is under
# way when the leader hands over is refused at once, and asked again as etcd's own clients do.
READ = (
    ETCD
    + "--retry 2 --retry-delay 1 --retry-max-time 8 "
    + """--output /dev/null -d '{{"key": "YQ=="}}' https://$address:2379/v3/kv/range"""
)
QUORUM = (
    "test $({{ for address in {addresses}; do "
    "(" + READ + " && echo here) & done; wait; }} | grep -c here) -ge 2"
)


@dataclass
class Made:
    """The cluster: planes and their worker, hosts and machines in the same order."""

    hosts: list[Host]
    machines: list[int]
    row: dict[str, Any]

    @property
    def planes(self):
        return self.hosts[:3]

    @property
    def worker(self):
        return self.hosts[3]


@pytest.fixture(scope="module")
def portal(tmp_path_factory, shared_lab):
    with Portal(tmp_path_factory.mktemp("three")) as portal:
        portal.use_key(shared_lab.ssh_key)
        yield portal


@pytest.fixture(scope="module")
def hosts(shared_lab):
    """Three control planes, a worker, and a machine to replace one of them."""
    fresh = shared_lab.hosts(5, prefix="three")
    yield fresh
    for host in fresh:
        host.destroy()


@pytest.fixture(scope="module")
def made(portal, shared_lab, hosts):
    *members, spare = hosts
    planes = [*members[:3], spare]
    endpoint = shared_lab.balance(
        [f"https://{plane.address}:6443/readyz" for plane in planes], port=PORT
    )
    machines = portal.register(*members)
    params = {"kubernetes_version": OLD.version, "control_plane_endpoint": endpoint}
    source = shared_lab.artifacts(OLD.minor, NEW.minor).url
    body = wish_for(
        portal, shared_lab, members, control_planes=3, params=params, artifact_source=source
    )
    row = portal.api.wait_for(begin(portal, body), seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    portal.cluster = {"id": row["cluster"]}
    return Made(members, machines, row)


@pytest.fixture
def watched(made):
    """What must go on meanwhile, seen from the worker: a Service with two copies and a budget, and
    etcd on more than half of its members."""
    first, worker = made.planes[0], made.worker
    manifest = web_deployment("shop", replicas=2)
    # It may run on control planes, so that a single worker can be drained, but on no cordoned node.
    manifest = manifest.replace("tolerations: []", f"tolerations: [{TOLERATION}]")
    # Its program goes on until it is killed, as one that ends in an orderly way does.
    manifest = manifest.replace("PeriodSeconds: 1\n", "PeriodSeconds: 8\n", 1)
    first.write("/run/shop.yaml", f"{manifest}---\n{budget('shop', minAvailable=1)}")
    use = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
    first.run(f"{use} apply -f /run/shop.yaml")
    first.run(f"{use} rollout status deployment/shop --timeout=90s")
    address = kubectl(first, "get service shop")["spec"]["clusterIP"]
    for name in ("ca.crt", "healthcheck-client.crt", "healthcheck-client.key"):
        worker.write(f"/run/etcd/{name}", first.run(f"cat {PKI}/{name}"), mode="0600")
    addresses = " ".join(plane.address for plane in made.planes)
    watches = {
        "requests": Watch(worker, "requests", SERVED.format(address=address), pause=0.3),
        "quorum": Watch(
            worker, "quorum", QUORUM.format(addresses=addresses, folder="/run/etcd"), pause=0.5
        ),
    }
    yield watches
    for watch in watches.values():
        watch.stop()


def etcd_members(host):
    """Names of the members, as etcd itself tells them."""
    ask = ETCD.format(folder=PKI) + "-d '{}' https://127.0.0.1:2379/v3/cluster/member/list"
    return {member["name"] for member in json.loads(host.run(ask))["members"]}


def joins(host):
    """How often kubeadm join was begun on the host, by its own journal."""
    return int(host.run("journalctl --no-pager -q | grep -c 'Started beidou-.*-join' || true"))


def upgrades(host):
    """What kubeadm was told to do on the host, by its own journal."""
    started = host.run("journalctl --no-pager -q | grep 'Started beidou-.*-upgrade'")
    return started.partition("kubeadm upgrade ")[2].split()[0]


def assert_kept(watched):
    for name, watch in watched.items():
        well, lost = watch.count()
        assert lost == 0, name
        assert well > 20, name


def test_three_are_made_with_an_endpoint_that_is_none_of_them(portal, made, shared_lab):
    endpoint = f"{shared_lab.gateway}:{PORT}"
    assert_like_an_adopted_one(portal, made.row, made.hosts, made.machines, OLD.version)
    for machine in made.row["machines"][:3]:
        (join,) = [cell for cell in machine["steps"] if cell["step"] == "join"]
        assert join["evidence"]["etcd_members"] == 3
    told_kubeadm = kubectl(made.planes[0], "get configmap -n kube-system kubeadm-config")["data"]
    assert f"controlPlaneEndpoint: {endpoint}" in told_kubeadm["ClusterConfiguration"]
    assert f"https://{endpoint}" in made.worker.run("cat /etc/kubernetes/kubelet.conf")
    assert portal.api.get(f"clusters/{made.row['cluster']}/")["server"] == f"https://{endpoint}"


def test_they_are_upgraded_one_by_one_and_etcd_is_never_without_its_majority(portal, made, watched):
    params = {"kubernetes_version": NEW.version, "allow_single_copy": True}
    operation = portal.start_operation("UpgradeCluster", [], params=params)
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    assert_kept(watched)

    nodes = kubectl(made.planes[0], "get nodes")["items"]
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {NEW.version}
    assert [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")] == []
    ends = cells(row, "controlPlanes")
    planes = sorted((ends[plane.name] for plane in made.planes), key=lambda c: c["finished_at"])
    worker = cells(row, "workers")[made.worker.name]
    order = [*planes, worker]
    for before, after in zip(order, order[1:], strict=False):
        assert before["finished_at"] <= after["started_at"]
    verbs = [upgrades(plane) for plane in made.planes]
    assert verbs == ["apply", "node", "node"]
    proxy = kubectl(made.planes[0], "get daemonset -n kube-system kube-proxy")["spec"]
    assert proxy["template"]["spec"]["containers"][0]["image"].endswith(f":{NEW.version}")
    for plane in made.planes:
        pod = kubectl(plane, f"get pod -n kube-system etcd-{plane.name}")
        assert pod["spec"]["containers"][0]["image"].endswith(f":{NEW.etcd_tag}")
        assert ends[plane.name]["evidence"]["etcd_members"] == 3


def test_certificates_of_all_three_are_renewed_without_the_loss_of_the_majority(
    portal, made, watched
):
    def looked():
        return [(served_end(plane), programs(plane)) for plane in made.planes]

    before, known = looked(), credential_end(portal)
    row = portal.api.wait_for(portal.start_operation("RenewCertificates", []), seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    assert_kept(watched)
    for (old_end, old), (new_end, new) in zip(before, looked(), strict=True):
        assert new_end != old_end
        assert {name for name in old if set(old[name]) & set(new[name])} == set()
    for plane in made.planes:
        rows = cells(row, "renew")[plane.name]["evidence"]["certificates"]
        assert {"apiserver", "etcd-peer", "admin.conf"} <= {each["name"] for each in rows}
        assert all(each["after"] > each["before"] for each in rows)
    assert credential_end(portal) > known  # the portal's own


def credential_end(portal):
    return portal.api.get(f"clusters/{portal.cluster['id']}/")["credential_expires_at"]


def lose_the_first(portal, made):
    """No healthy one may leave then, and the dead one may; the endpoint leads to the others."""
    lost, second, third = made.planes
    lost.kill()
    refused = portal.start_operation("RemoveControlPlane", [made.machines[1]])
    row = portal.api.wait_for(refused, seconds=300)
    assert row["status"] == "failed"
    assert "etcd-quorum" in failed_checks(row)
    assert etcd_members(second) == {plane.name for plane in made.planes}

    answers = {"force_unreachable": True, "allow_single_copy": True, "allow_pending": True}
    removal = portal.start_operation("RemoveControlPlane", [made.machines[0]], params=answers)
    row = portal.api.wait_for(removal, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    assert etcd_members(second) == {second.name, third.name}
    assert ready_nodes(second) == {second.name, third.name, made.worker.name}
    assert states(portal, made.machines[:1]) == {"faulty"}


def replace_it(portal, made, spare, machine):
    """A worker is killed in the middle of the join, which goes on and is not begun twice."""
    _lost, second, third = made.planes
    added = portal.start_operation("AddControlPlane", [machine])
    portal.wait_until_begun(added, "join", SECONDS)
    wait_until(lambda: joins(spare) == 1, "kubeadm join to begin", 600)
    killed = portal.program("work")
    killed.send_signal(signal.SIGKILL)
    portal.wait_for_program("work", other_than=killed.pid)
    row = portal.api.wait_for(added, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    assert joins(spare) == 1
    assert etcd_members(second) == {second.name, third.name, spare.name}
    assert ready_nodes(second) == {second.name, third.name, spare.name, made.worker.name}
    spec, other = (kubectl(second, f"get node {each.name}")["spec"] for each in (spare, third))
    assert spec.get("unschedulable") is None
    assert spec["taints"] == other["taints"]
    secrets = kubectl(second, "get secrets -n kube-system")["items"]
    assert "kubeadm-certs" not in {item["metadata"]["name"] for item in secrets}


def welcome_back(portal, host, machine):
    """What was given up is cleaned when it is back, though its cluster is no more."""
    host.start()
    assert states(portal, [machine]) == {"faulty"}
    cleaned = portal.start_operation("CleanUp", [machine])
    row = portal.api.wait_for(cleaned, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    found = portal.api.get(f"machines/{machine}/")
    assert (found["state"], found["cluster"], found["labels"]) == ("available", None, {})


def assert_as_delivered(portal, body, machines):
    """The preCheck of a new cluster finds nothing on them."""
    assert states(portal, machines) == {"available"}
    operation = begin(portal, body)
    portal.wait_until_begun(operation, "createControlPlane", 300)
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "that was all"})
    row = portal.api.wait_for(operation, seconds=120)
    passed = [cell["status"] for cell in cells(row, "preCheck").values()]
    assert passed == ["succeeded"] * len(machines)


def test_the_first_is_lost_another_takes_its_place_and_all_are_taken_down(
    portal, made, hosts, approver, shared_lab
):
    spare = hosts[-1]
    (machine,) = portal.register(spare)
    lose_the_first(portal, made)
    replace_it(portal, made, spare, machine)
    machines = [*made.machines, machine]
    take_down(portal, approver, machines, give_up=hosts[0].name)
    welcome_back(portal, hosts[0], machines[0])
    assert_as_delivered(portal, wish_for(portal, shared_lab, hosts), machines)
