"""CleanUp of machines whose node works: it is left to what looks after its pods and after etcd."""

import pytest

from clusters.models import Node
from machines.models import Machine
from operations.kinds import clean_up, lifecycle, patience, playbook
from operations.kinds.base import check
from operations.kinds.playbook import PlaybookResults
from operations.models import Operation
from operations.services import start
from tests.fakes.kube_api import status_reply
from tests.operations.scale_down.looking import cell_of

pytestmark = pytest.mark.django_db
State = Machine.State
CONTROL_PLANE = {"node-role.kubernetes.io/control-plane": ""}
GOOD = check("leftover:programs", True, "nothing", "nothing")


class Hosts:
    """Nodes that were there when a host was reset; ``refusal`` is why hosts are not."""

    def __init__(self, kube):
        self.kube, self.seen, self.refusal = kube, [], ""
        self.told = {}

    def __call__(self, run, name, *, variables, per_machine=None, members=None):
        results = PlaybookResults()
        for member in run.targets if members is None else members:
            self.told = dict(per_machine[member.pk])
            node = self.kube.nodes.get("n1", {"spec": {"unschedulable": None}})
            self.seen.append(node["spec"].get("unschedulable"))
            if self.refusal:
                results.failed[member.pk] = self.refusal
            else:
                results.tasks[member.pk] = {"task": {"checks": [GOOD], "done": []}}
        return results


@pytest.fixture
def hosts(kube, monkeypatch):
    fake = Hosts(kube)
    monkeypatch.setattr(playbook, "run_playbook", fake)
    monkeypatch.setattr(clean_up, "reset_variables", lambda *_: {})
    return fake


@pytest.fixture
def faulty(machine):
    """Somebody has marked it as faulty; nothing was asked of its node."""
    Machine.objects.filter(pk=machine.pk).update(state=State.FAULTY)
    machine.refresh_from_db()
    return machine


@pytest.fixture
def clean(cluster, faulty, operator, work, hosts, django_capture_on_commit_callbacks):
    def begin():
        with django_capture_on_commit_callbacks(execute=True):
            operation = start.start_operation(
                kind="CleanUp", cluster=cluster, machines=[faulty], params={}, acting_user=operator
            )
        work()
        operation.refresh_from_db()
        faulty.refresh_from_db()
        return operation

    return begin


def test_a_node_that_is_ready_and_has_pods_is_left_alone(kube, clean, faulty, hosts):
    kube.deploy("web", on=["n1", "n2"])
    operation = clean()
    message = cell_of(operation, "cleanUp").message
    assert message.startswith("Nothing was removed. Node n1 is Ready, and pods run there: shop/web")
    assert "ScaleDown" in message
    assert hosts.seen == []
    assert "n1" in kube.nodes
    assert not kube.nodes["n1"]["spec"].get("unschedulable")
    assert faulty.state == State.FAULTY


def test_what_stays_until_the_node_is_gone_keeps_nobody_from_being_cleaned(
    kube, clean, faulty, hosts
):
    kube.add_pod("proxy", "n1", owner={"kind": "DaemonSet", "name": "proxy", "controller": True})
    operation = clean()
    assert operation.status == Operation.Status.SUCCEEDED, cell_of(operation, "cleanUp").message
    assert hosts.seen == [True]  # cordoned, so that no pod comes while it is reset
    assert "n1" not in kube.nodes
    assert faulty.state == State.AVAILABLE


def test_a_node_that_is_not_ready_is_what_it_is_for(kube, clean, hosts):
    kube.deploy("stranded", on=["n1", "n2"])
    kube.nodes["n1"]["status"]["conditions"][0]["status"] = "Unknown"
    operation = clean()
    assert operation.status == Operation.Status.SUCCEEDED, cell_of(operation, "cleanUp").message


def test_a_host_that_refuses_keeps_its_node(kube, clean, hosts):
    hosts.refusal = "Nothing was removed. The host runs containers that are not Kubernetes'."
    operation = clean()
    assert cell_of(operation, "cleanUp").message == hosts.refusal
    assert "n1" in kube.nodes


def test_a_node_that_cannot_be_asked_is_left_alone(kube, clean, hosts, monkeypatch):
    monkeypatch.setattr(patience, "BELIEVE_SECONDS", -1)
    original = kube._route
    kube._route = lambda request: (
        status_reply(403, "no") if request.path == "/api/v1/pods" else original(request)
    )
    operation = clean()
    assert operation.status == Operation.Status.FAILED
    assert hosts.seen == []
    assert "n1" in kube.nodes


def test_a_control_plane_is_left_to_who_looks_after_etcd(kube, clean, hosts):
    """The inventory is behind, or its role was taken away: what runs there tells."""
    kube.add_pod("etcd-n1", "n1")["metadata"] |= {
        "namespace": "kube-system", "annotations": {"kubernetes.io/config.mirror": "x"},
    }  # fmt: skip
    operation = clean()
    message = cell_of(operation, "cleanUp").message
    assert "Node n1 is a control plane: etcd runs on it. → RemoveControlPlane" in message
    assert hosts.seen == []
    assert "n1" in kube.nodes


def test_a_plan_refuses_a_control_plane(cluster, faulty, operator):
    Node.objects.filter(name="n1").update(roles=["control-plane"])
    plan = start.plan_operation(
        kind="CleanUp", cluster=cluster, machines=[faulty], params={}, acting_user=operator
    )
    assert [blocker.reason for blocker in plan.blockers] == [
        "it is a control plane; RemoveControlPlane takes such out"
    ]


def test_a_control_plane_that_was_given_up_and_is_back_is_cleaned(kube, clean, faulty, hosts):
    Node.objects.filter(name="n1").update(roles=["control-plane"])
    kube.nodes["n1"]["metadata"]["labels"] |= CONTROL_PLANE
    Machine.objects.filter(pk=faulty.pk).update(labels={lifecycle.RESIDUE: "operation-1"})
    faulty.refresh_from_db()
    operation = clean()
    assert operation.status == Operation.Status.SUCCEEDED, cell_of(operation, "cleanUp").message
    assert hosts.told["is_control_plane"] is True


def test_the_node_of_another_machine_with_its_name_is_left_alone(kube, clean, faulty, hosts):
    Machine.objects.filter(pk=faulty.pk).update(node=None, hostname="n1")
    faulty.refresh_from_db()
    kube.deploy("web", on=["n1", "n2"])
    operation = clean()
    assert operation.status == Operation.Status.SUCCEEDED, cell_of(operation, "cleanUp").message
    assert "n1" in kube.nodes
