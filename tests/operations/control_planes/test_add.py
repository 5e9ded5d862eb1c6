"""AddControlPlane through the engine: a fake cluster, a fake etcd, playbooks that are made up.

What is done on hosts is proved in the lab (tests/operations/lab/test_create_cluster.py).
"""

import json

import pytest

from clusters.models import Node
from clusters.services.connections import client_for
from machines.models import Machine
from operations.drivers.artifacts import Artifact
from operations.kinds import playbook
from operations.kinds.add_control_plane import kind, post_check, pre_check
from operations.kinds.playbook import PlaybookResults
from operations.models import Operation
from operations.services import control as controls
from operations.services import manifests, start
from tests import factories
from tests.clusters.conftest import prepare
from tests.fakes.kube_api import Reply
from tests.operations.control_planes.conftest import CONTROL_PLANE, ENDPOINT
from tests.operations.scale_down.looking import cell_of, failed_checks

pytestmark = pytest.mark.django_db
State = Machine.State
SECRETS = "/api/v1/namespaces/kube-system/secrets"
GOOD = {"check": "cpus", "ok": True, "found": "2", "wanted": "2", "advice": ""}
LAST = ["preCheck", "install", "join"]


@pytest.fixture(autouse=True)
def served(kube, cluster, monkeypatch):
    prepare(kube, uid="uid")
    kube.on("POST", SECRETS, Reply({}, status=201))
    kube.on("DELETE", f"{SECRETS}/kubeadm-certs", Reply({}))
    listed = [Artifact("kubelet", "0" * 64, url="https://files.example/kubelet")]
    monkeypatch.setattr("operations.drivers.artifacts.for_control_plane", lambda *_a, **_k: listed)
    monkeypatch.setattr("operations.kinds.add_control_plane.join.MEMBER_SECONDS", -1)
    monkeypatch.setattr("operations.kinds.join_tokens._revoke", lambda *_: None)


@pytest.fixture
def spares(operators, planes):
    credential = factories.make_credential("ssh")
    return [
        factories.make_machine(
            f"127.0.1.{number}",
            hostname=f"new-{number}",
            owner_team=operators,
            credential=credential,
            host_key="ssh-ed25519 AAAA",
        )
        for number in (1, 2)
    ]


class Played:
    """What was played on whom; a join makes the node and its member of etcd, unless it is
    ``broken``: then only the node.  Where one is ``running`` it ends when it is waited for."""

    def __init__(self, kube, etcd):
        self.kube, self.etcd = kube, etcd
        self.runs, self.failing, self.broken, self.running = [], {}, set(), set()

    def __call__(self, run, name, *, variables, per_machine=None, members=None):
        results = PlaybookResults()
        for member in run.targets if members is None else members:
            own = (per_machine or {}).get(member.pk, {})
            self.runs.append((name, member.hostname, {**own, **variables}))
            if why := self.failing.get((name, member.hostname)):
                results.failed[member.pk] = why
                continue
            is_over = name == "wait_for_join" and member.hostname in self.running
            if name == "join_cluster" or is_over:
                self._join(member, own)
            answer = {"checks": [GOOD], "facts": {"addresses": [member.address]}}
            results.tasks[member.pk] = {"task": answer}
        return results

    def _join(self, member, own):
        if member.hostname not in self.kube.nodes:
            self.kube.add_node(member.hostname, **CONTROL_PLANE)
            addresses = [{"type": "InternalIP", "address": member.address}]
            self.kube.nodes[member.hostname]["status"]["addresses"] = addresses
        if member.hostname not in self.broken or own.get("join_anew"):
            self.etcd.health[member.hostname] = True
            self.etcd.learners.discard(member.hostname)

    def of(self, wanted):
        return [(host, own) for name, host, own in self.runs if name == wanted]


@pytest.fixture
def played(kube, etcd, monkeypatch):
    fake = Played(kube, etcd)
    monkeypatch.setattr(playbook, "run_playbook", fake)
    return fake


@pytest.fixture
def add(cluster, operator, django_capture_on_commit_callbacks):
    def begin(*machines, steps=LAST, **params):
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_operation(
                kind="AddControlPlane",
                cluster=cluster,
                machines=machines,
                params=params,
                steps=steps,
                acting_user=operator,
            )

    return begin


def cells(operation, step):
    return {
        member.hostname: member.cells.get(step__name=step) for member in operation.machines.all()
    }


# --- planning -------------------------------------------------------------------------------------


def test_free_machines_may_become_control_planes(spares, blocked):
    assert blocked("AddControlPlane", *spares) == []


def test_every_machine_is_a_control_plane_in_it_whatever_its_own_role(spares, add):
    assert spares[0].role == "Compute"
    assert add(spares[0]).machines.get().role == "ControlPlane"


def test_without_a_control_plane_to_ask_nothing_is_begun(spares, blocked):
    Node.objects.update(roles=["worker"])
    assert "etcd is asked there" in blocked("AddControlPlane", spares[0])[0]


def test_a_machine_that_is_a_node_already_is_refused(planes, blocked):
    assert any("must be Available" in reason for reason in blocked("AddControlPlane", planes[0]))


def test_a_viewer_may_not(spares, cluster):
    viewers = factories.make_team()
    factories.grant(viewers, cluster, "viewer")
    viewer = factories.make_user(teams=(viewers,))
    with pytest.raises(Exception, match="operate"):
        start.plan_operation(
            kind="AddControlPlane", cluster=cluster, machines=spares, params={}, acting_user=viewer
        )


def test_a_manifest_asks_for_it(cluster, spares, operator):
    document = {
        "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": "add-2024"},
        "spec": {
            "clusterName": cluster.name,
            "operationType": "AddControlPlane",
            "operationFlow": ["preCheck", "install", "join", "postCheck", "uncordon"],
            "operationMachines": [{"ip": spares[0].address, "role": "ControlPlane"}],
            "params": {"accept_single_endpoint": True},
        },
    }
    (applied,) = manifests.apply([document], acting_user=operator)
    assert applied.row.params["accept_single_endpoint"]


# --- preCheck -------------------------------------------------------------------------------------


def test_control_planes_are_checked_as_those_of_a_new_cluster(spares, add, work, played):
    operation = add(spares[0])
    work(limit=2)
    assert failed_checks(operation) == set()
    ((_host, own),) = played.of("pre_check")
    assert {6443, 2379} <= set(own["policy"]["ports"])
    assert own["api_server_endpoint"] == f"{ENDPOINT}:6443"
    assert {node["name"] for node in json.loads(own["cluster_nodes"])} == {"n1", "n2", "n3"}


def warnings(operation):
    return {row["check"] for row in cell_of(operation).checks if not row["ok"]}


def test_an_even_number_of_members_is_warned_about(spares, add, work, played):
    one = add(spares[0])
    work(limit=2)
    assert warnings(one) == {"etcd-number"}


def test_two_more_make_an_odd_number(spares, add, work, played):
    operation = add(*spares)
    work(limit=2)
    assert {
        row["check"] for cell in cells(operation, "preCheck").values() for row in cell.checks
        if not row["ok"]
    } == set()  # fmt: skip


def test_a_cluster_without_an_endpoint_is_refused(spares, add, work, played, kubeadm):
    kubeadm(controlPlaneEndpoint="")
    operation = add(spares[0])
    work()
    assert failed_checks(operation) == {"endpoint"}
    assert "without controlPlaneEndpoint" in cell_of(operation).message
    spares[0].refresh_from_db()
    assert spares[0].state == State.AVAILABLE


def test_an_endpoint_that_leads_to_one_node_has_to_be_accepted(
    spares, add, work, played, kubeadm, kube, control, operator
):
    address = next(
        each["address"]
        for each in kube.nodes["n1"]["status"]["addresses"]
        if each["type"] == "InternalIP"
    )
    kubeadm(controlPlaneEndpoint=f"{address}:6443")
    operation = add(spares[0])
    work()
    operation.refresh_from_db()
    assert failed_checks(operation) == {"endpoint"}
    answers = {"accept_single_endpoint": True}
    control(controls.retry, operation, acting_user=operator, answers=answers)
    work(limit=2)
    assert failed_checks(operation) == set()
    assert "endpoint" in warnings(operation)


def test_nothing_is_added_to_an_etcd_that_lacks_a_member(spares, add, work, played, etcd):
    etcd.health["n3"] = False
    operation = add(spares[0])
    work()
    assert failed_checks(operation) == {"etcd-members"}
    assert "RemoveControlPlane" in cell_of(operation).message


def test_a_cluster_between_two_versions_is_refused(spares, add, work, played, kubeadm):
    kubeadm(kubernetesVersion="v1.37.2")
    operation = add(spares[0])
    work()
    assert "cluster-version" in failed_checks(operation)


def test_an_etcd_outside_is_refused(spares, add, work, played, kubeadm):
    kubeadm(etcd={"external": {"endpoints": ["https://10.0.0.9:2379"]}})
    operation = add(spares[0])
    work()
    assert failed_checks(operation) == {"etcd"}


# --- join -----------------------------------------------------------------------------------------


def test_it_joins_with_the_uploaded_certificates_and_is_cordoned(
    spares, add, work, played, kube, etcd
):
    operation = add(spares[0])
    work()
    cell = cell_of(operation, "join")
    assert cell.status == "succeeded", cell.message
    assert cell.evidence["etcd_members"] == 4
    assert "upload_certificates" in etcd.asked
    ((_host, own),) = played.of("join_cluster")
    assert len(own["certificate_key"]) == 64
    assert own["advertise_address"] == "127.0.1.1"
    assert kube.nodes["new-1"]["spec"]["unschedulable"]
    assert kube.nodes["new-1"]["metadata"]["labels"]["beidou.io/role"] == "ControlPlane"
    deleted = [each.path for each in kube.requests if each.method == "DELETE"]
    assert f"{SECRETS}/kubeadm-certs" in deleted


def test_the_certificates_are_deleted_also_when_nobody_joined(spares, add, work, played, kube):
    played.failing["join_cluster", "new-1"] = "no room"
    operation = add(spares[0])
    work()
    assert cell_of(operation, "join").message == "no room"
    deleted = [each.path for each in kube.requests if each.method == "DELETE"]
    assert f"{SECRETS}/kubeadm-certs" in deleted
    spares[0].refresh_from_db()
    assert spares[0].state == State.FAULTY


@pytest.mark.parametrize("tainted", [True, False])
def test_it_is_tainted_as_the_others_are(spares, add, work, played, kube, tainted):
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    for name in ("n1", "n2", "n3"):
        kube.nodes[name]["spec"]["taints"] = [taint] if tainted else []
    add(spares[0])
    work()
    ((_host, own),) = played.of("join_cluster")
    assert own["node_taints"] == ([taint] if tainted else [])


def test_after_one_that_did_not_join_nobody_else_is_begun_with(spares, add, work, played):
    played.failing["join_cluster", "new-1"] = "no room"
    operation = add(*spares)
    work()
    assert [host for host, _own in played.of("join_cluster")] == ["new-1"]
    found = cells(operation, "join")
    assert found["new-1"].message == "no room"
    assert "was not begun with" in found["new-2"].message


def test_a_member_that_was_lost_after_the_pre_check_keeps_the_next_from_joining(
    spares, add, work, played, etcd
):
    operation = add(spares[0])
    work(limit=3)  # dispatch, preCheck, install
    etcd.health["n3"] = False
    work()
    message = cell_of(operation, "join").message
    assert message.startswith("Nothing was begun. etcd-members: not healthy: n3")
    assert "RemoveControlPlane" in message
    assert played.of("join_cluster") == []


def test_a_member_that_is_lost_while_one_joins_keeps_the_next_from_joining(
    spares, add, work, played, etcd
):
    operation = add(*spares)
    original = played._join

    def lose_one(member, own):
        original(member, own)
        etcd.health["n3"] = False

    played._join = lose_one
    work()
    assert [host for host, _own in played.of("join_cluster")] == ["new-1"]
    assert "not healthy: n3" in cells(operation, "join")["new-2"].message


def test_one_that_was_interrupted_half_way_is_joined_anew(spares, add, work, played, etcd):
    """A node with credentials, a learner that never voted."""
    played.broken.add("new-1")
    etcd.health["new-1"] = False
    etcd.learners.add("new-1")
    played.kube.add_node("new-1", **CONTROL_PLANE)
    addresses = [{"type": "InternalIP", "address": "127.0.1.1"}]
    played.kube.nodes["new-1"]["status"]["addresses"] = addresses
    operation = add(spares[0])
    work()
    cell = cell_of(operation, "join")
    assert cell.status == "succeeded", cell.message
    assert etcd.removed == ["new-1"]
    assert [own.get("join_anew", False) for _host, own in played.of("join_cluster")] == [
        False, True,
    ]  # fmt: skip


def test_one_that_has_joined_already_is_only_proved(spares, add, work, played, etcd):
    """Its worker was lost right after the join."""
    played._join(type("Member", (), {"hostname": "new-1", "address": "127.0.1.1"}), {})
    operation = add(spares[0])
    work()
    assert cell_of(operation, "join").status == "succeeded"
    assert etcd.removed == []
    assert len(played.of("join_cluster")) == 1


def test_a_member_that_a_lost_control_plane_of_this_name_left_is_removed_first(
    spares, add, work, played, etcd, monkeypatch
):
    operation = add(spares[0])
    work(limit=3)  # dispatch, preCheck, install
    etcd.health["new-1"] = False
    work()
    assert etcd.removed == ["new-1"]
    assert cell_of(operation, "join").status == "succeeded"


def test_a_member_whose_join_still_runs_is_waited_for(spares, add, work, played, etcd):
    """Its worker was lost; kubeadm makes the member of etcd before the node."""
    operation = add(spares[0])
    work(limit=3)
    etcd.health["new-1"] = True
    played.running.add("new-1")
    work()
    assert etcd.removed == []
    assert cell_of(operation, "join").status == "succeeded"
    ((_host, own),) = played.of("wait_for_join")
    assert own["node_name"] == "new-1"


def test_a_member_stays_when_nobody_can_tell_whether_its_join_runs(spares, add, work, played, etcd):
    operation = add(spares[0])
    work(limit=3)
    etcd.health["new-1"] = False
    played.failing["wait_for_join", "new-1"] = "belongs to another cluster"
    work()
    assert etcd.removed == []
    assert cell_of(operation, "join").message == "belongs to another cluster"
    assert played.of("join_cluster") == []


@pytest.mark.parametrize("elsewhere", ["10.0.0.7", "[fd00::7]"])
def test_a_healthy_member_of_another_machine_with_this_name_is_left_alone(
    spares, add, work, played, etcd, elsewhere
):
    """Somebody deleted its Node, and it goes on."""
    operation = add(spares[0])
    work(limit=3)
    etcd.health["new-1"] = True
    etcd.addresses["new-1"] = elsewhere
    work()
    assert etcd.removed == []
    message = cell_of(operation, "join").message
    assert f"has the address {elsewhere.strip('[]')}, which this machine has not" in message
    assert played.of("wait_for_join") == played.of("join_cluster") == []


def test_a_dead_member_of_this_name_is_removed_wherever_it_was(spares, add, work, played, etcd):
    operation = add(spares[0])
    work(limit=3)
    etcd.health["new-1"] = False
    etcd.addresses["new-1"] = "10.0.0.7"
    work()
    assert etcd.removed == ["new-1"]
    assert cell_of(operation, "join").status == "succeeded"


def test_a_node_of_another_machine_with_this_name_is_left_alone(
    spares, add, work, played, kube, etcd
):
    operation = add(spares[0])
    work(limit=3)
    kube.add_node("new-1", **CONTROL_PLANE)
    work()
    assert "is another machine" in cell_of(operation, "join").message
    assert played.of("join_cluster") == []


def test_one_that_joined_as_no_healthy_member_is_refused(spares, add, work, played, etcd):
    operation = add(spares[0])
    work(limit=3)
    original = played._join

    def sick(member, own):
        original(member, own)
        etcd.health[member.hostname] = False

    played._join = sick
    work()
    assert "no healthy member of etcd" in cell_of(operation, "join").message


def test_the_key_of_the_certificates_is_that_of_the_step_and_of_no_other(spares, add, work, played):
    first = add(spares[0])
    work()
    second = add(spares[1])
    work()
    keys = [own["certificate_key"] for _host, own in played.of("join_cluster")]
    assert len(set(keys)) == 2
    assert first.pk != second.pk


# --- postCheck, and what machines are -------------------------------------------------------------


def test_static_pods_that_are_not_ready_are_named(kube, cluster):
    for program in ("etcd", "kube-apiserver", "kube-scheduler"):
        pod = kube.add_pod(f"{program}-n1", "n1")
        pod["metadata"] |= {
            "namespace": "kube-system",
            "annotations": {"kubernetes.io/config.mirror": "x"},
        }
    scheduler = kube.pods["shop", "kube-scheduler-n1"]
    scheduler["starts"] = 10_000
    kube._set_ready(scheduler, False)
    with client_for(cluster, timeout=5) as client:
        missing = post_check.missing_programs(client, "n1")
    assert missing == ["kube-controller-manager", "kube-scheduler"]


@pytest.mark.parametrize(
    ("reached", "becomes"),
    [
        ("preCheck", State.AVAILABLE),
        ("install", State.FAULTY),
        ("join", State.CORDONED),
        ("postCheck", State.CORDONED),
        ("uncordon", State.IN_SERVICE),
    ],
)
def test_a_machine_is_what_it_was_asked_to_become(spares, add, reached, becomes):
    operation = add(spares[0])
    member = operation.machines.select_related("machine", "operation").get()
    member.state = "succeeded"
    move = kind.release(member, reached)
    assert move is not None
    assert move.to == becomes
    assert move.node == ("new-1" if becomes in (State.CORDONED, State.IN_SERVICE) else "")


def test_an_odd_number_is_in_order():
    assert pre_check.even_check(3)["ok"]
    assert pre_check.even_check(4)["severity"] == "warning"


def test_a_failed_operation_can_be_taken_up_by_remove_control_plane(
    spares, add, work, played, blocked
):
    played.failing["join_cluster", "new-1"] = "no room"
    operation = add(spares[0])
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    spares[0].refresh_from_db()
    assert blocked("RemoveControlPlane", spares[0]) == []
