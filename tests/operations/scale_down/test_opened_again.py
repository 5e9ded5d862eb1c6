"""A node that was drained and takes pods again is not reset: it is drained again first."""

import pytest

from clusters.models import Node
from machines.models import Machine
from operations.kinds import patience, playbook
from operations.kinds.base import check
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down import take_out
from operations.models import Operation
from operations.services import control as controls
from operations.services import start
from tests import factories
from tests.fakes.kube_api import status_reply
from tests.operations.scale_down.looking import cell_of

pytestmark = pytest.mark.django_db
State = Machine.State
GOOD = check("leftover:programs", True, "nothing", "nothing")


@pytest.fixture(autouse=True)
def resets(monkeypatch):
    """Hosts that were reset, by address; each reset goes well unless ``failing`` says why not."""

    class Resets(list[str]):
        failing = ""

    done = Resets()

    def play(run, name, *, variables, per_machine=None, members=None):
        results = PlaybookResults()
        for member in run.targets if members is None else members:
            if name == "clean_up":
                done.append(member.address)
            if name == "clean_up" and done.failing:
                results.failed[member.pk] = done.failing
            else:
                results.tasks[member.pk] = {"task": {"checks": [GOOD], "done": []}}
        return results

    monkeypatch.setattr(playbook, "run_playbook", play)
    monkeypatch.setattr(take_out, "reset_variables", lambda *_: {})
    return done


@pytest.fixture
def open_node(kube):
    """Somebody uncordons n1, and pods come back to it."""

    def be():
        kube.nodes["n1"]["spec"]["unschedulable"] = False
        kube.deploy("back", on=["n1", "n2"])

    return be


def state_of(machine):
    machine.refresh_from_db()
    return machine.state


def status_of(operation):
    operation.refresh_from_db()
    return operation.status


# --- what is asked of the node --------------------------------------------------------------------


def test_what_stays_until_the_node_is_gone_keeps_nobody_from_being_reset(
    kube, scale_down, machine, work, resets
):
    kube.add_pod("proxy", "n1", owner={"kind": "DaemonSet", "name": "proxy", "controller": True})
    static = kube.add_pod("static", "n1")
    static["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    ended = kube.add_pod("ended", "n1")
    ended["status"]["phase"], ended["starts"] = "Succeeded", 10**9
    operation = scale_down(machine)
    work()
    assert status_of(operation) == Operation.Status.SUCCEEDED, cell_of(operation).message
    assert resets == [machine.address]
    assert "n1" not in kube.nodes


def test_a_node_that_was_opened_while_the_operation_was_paused_is_not_reset(
    kube, scale_down, machine, work, control, operator, resets, open_node
):
    operation = scale_down(machine)
    work(limit=3)
    assert cell_of(operation, "drain").status == "succeeded"
    control(controls.pause, operation, acting_user=operator)
    work()
    open_node()
    control(controls.resume, operation, acting_user=operator)
    work()
    message = cell_of(operation, "scaleDown").message
    assert message == (
        "Node n1 takes pods again: somebody opened it. Nothing was reset. → Retry: it is drained "
        "first."
    )
    assert resets == []
    assert kube.on_node("n1") != []
    assert state_of(machine) == State.CORDONED


def test_the_retry_drains_it_again_and_goes_on(
    kube, scale_down, machine, work, control, operator, resets, open_node
):
    operation = scale_down(machine)
    work(limit=3)
    open_node()
    work()
    assert state_of(machine) == State.CORDONED  # as long as nobody has looked at the node
    control(controls.retry, operation, acting_user=operator)
    work()
    assert status_of(operation) == Operation.Status.SUCCEEDED, cell_of(operation, "drain").message
    assert len(kube.evicted) == 1
    assert cell_of(operation).attempt == 1
    assert cell_of(operation, "drain").attempt == 2
    assert resets == [machine.address]


def test_pods_that_came_to_a_cordoned_node_are_named(kube, scale_down, machine, work, resets):
    operation = scale_down(machine)
    work(limit=3)
    kube.deploy("late", on=["n1", "n2"])
    work()
    assert "Pods run on node n1: shop/late-1. Nothing" in cell_of(operation, "scaleDown").message
    assert resets == []


def test_a_cluster_that_cannot_be_asked_has_nothing_reset(
    kube, scale_down, machine, work, resets, monkeypatch
):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", -1)
    operation = scale_down(machine)
    work(limit=3)
    kube.down = True
    work()
    assert status_of(operation) == Operation.Status.FAILED
    assert resets == []


def test_a_node_that_is_not_ready_goes_with_its_pods_where_lost_hosts_are_given_up(
    kube, scale_down, lost_machine, work
):
    operation = scale_down(lost_machine, force_unreachable=True)
    work(limit=3)
    kube.nodes["n1"]["spec"]["unschedulable"] = False
    kube.nodes["n1"]["status"]["conditions"][0]["status"] = "Unknown"
    kube.deploy("stranded", on=["n1", "n2"])
    work(limit=1)
    assert cell_of(operation, "scaleDown").status == "succeeded"
    assert "n1" not in kube.nodes


def test_without_a_drain_of_its_own_somebody_has_to_empty_the_node(
    kube, cluster, machine, operator, work, resets, django_capture_on_commit_callbacks
):
    kube.deploy("web", on=["n1", "n2"])
    with django_capture_on_commit_callbacks(execute=True):
        operation = start.start_operation(
            kind="ScaleDown", cluster=cluster, machines=[machine], params={},
            steps=["preCheck", "scaleDown", "postCheck"], acting_user=operator,
        )  # fmt: skip
    work()
    message = cell_of(operation, "scaleDown").message
    assert "Cordon it and move its pods away, then retry." in message
    assert resets == []


# --- ways around the drain ------------------------------------------------------------------------


def test_a_skip_of_the_drain_deletes_nothing_that_would_have_been_evicted(
    kube, scale_down, machine, work, control, operator, resets
):
    operation = scale_down(machine)
    work(limit=2)
    kube.deploy("web", on=["n1", "n2"])
    original = kube._route
    kube._route = lambda request: (
        status_reply(403, "no") if request.path.endswith("/eviction") else original(request)
    )
    work()
    assert status_of(operation) == Operation.Status.FAILED
    keys = [operation.machines.get().pk]
    control(
        controls.skip, operation, acting_user=operator, step="drain", machines=keys, reason="hurry"
    )
    work()
    assert "Pods run on node n1: shop/web-1" in cell_of(operation, "scaleDown").message
    assert resets == []
    control(controls.retry, operation, acting_user=operator)
    assert cell_of(operation, "drain").status == "waiting"


def test_a_reset_that_failed_looks_at_the_node_again_when_it_is_retried(
    kube, scale_down, machine, work, control, operator, resets, open_node
):
    resets.failing = "no room"
    operation = scale_down(machine)
    work()
    assert state_of(machine) == State.FAULTY
    open_node()
    resets.clear()
    control(controls.retry, operation, acting_user=operator)
    work()
    assert "takes pods again" in cell_of(operation, "scaleDown").message
    assert resets == []
    resets.failing = ""
    control(controls.retry, operation, acting_user=operator)
    work()
    assert status_of(operation) == Operation.Status.SUCCEEDED
    assert len(kube.evicted) == 1
    assert resets == [machine.address]


def test_a_machine_that_was_given_back_goes_through_all_steps_when_another_one_is_retried(
    kube, cluster, machine, work, control, operator, host, resets, open_node,
    django_capture_on_commit_callbacks,
):  # fmt: skip
    """Weeks later somebody retries the one that failed, and with it all that are not through."""
    kube.add_node("n3")
    other = factories.make_machine(
        "127.0.0.9", cluster=cluster, node=factories.make_node(cluster, "n3"),
        state=State.IN_SERVICE, credential=machine.credential, host_key=host.host_key,
    )  # fmt: skip
    with django_capture_on_commit_callbacks(execute=True):
        operation = start.start_operation(
            kind="ScaleDown", cluster=cluster, machines=[machine, other], max_failed_percent=0,
            params={"allow_pending": True, "force_unreachable": True}, acting_user=operator,
        )  # fmt: skip
    work(limit=2)
    Machine.objects.filter(pk=other.pk).update(state=State.RETIRED)
    work()
    Machine.objects.filter(pk=other.pk).update(state=State.CORDONED)
    assert status_of(operation) == Operation.Status.FAILED
    assert state_of(machine) == State.CORDONED
    open_node()
    Node.objects.filter(name="n1").update(unschedulable=False)
    Machine.objects.filter(pk=machine.pk).update(state=State.IN_SERVICE)
    control(controls.retry, operation, acting_user=operator)
    first = operation.machines.get(machine=machine).cells
    assert set(first.values_list("status", flat=True)) == {"waiting"}
    work()
    assert first.get(step__name="preCheck").evidence["moves"] == 1
    assert len(kube.evicted) == 1
    assert machine.address in resets
