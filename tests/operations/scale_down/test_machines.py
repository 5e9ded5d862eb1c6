"""What the machines of a ScaleDown are meanwhile and afterwards, however many they are."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from machines.models import Machine
from operations.kinds import lifecycle
from operations.kinds.scale_down import SCALE_DOWN
from operations.models import MachineStep, Operation
from operations.services import holding
from tests import factories

pytestmark = pytest.mark.django_db
State = Machine.State


@pytest.fixture
def ended(cluster_a):
    """``ended(3)``: an operation about to end whose machines have left the cluster."""

    def make(count, *, state=State.LEAVING, result="succeeded", **values):
        name = f"scaledown-{Operation.objects.count()}"
        operation = Operation.objects.create(name=name, kind="ScaleDown", cluster=cluster_a)
        for _ in range(count):
            machine = factories.make_machine(cluster=cluster_a, state=state, **values)
            operation.machines.create(
                machine=machine, address=machine.address, state=result, holds_machine=True
            )
        return operation

    return make


def states(operation):
    return set(operation.machines.values_list("machine__state", flat=True))


def queries(operation) -> int:
    with CaptureQueriesContext(connection) as captured:
        holding.release(operation, SCALE_DOWN)
    return len(captured)


def test_letting_go_costs_the_same_for_2_and_for_20_machines(ended):
    queries(ended(1))  # the audit trail has begun
    few, many = ended(2), ended(20)
    assert queries(few) == queries(many)
    assert states(many) == {State.AVAILABLE}
    assert not Machine.objects.exclude(cluster=None).exists()


def test_taking_faulty_machines_on_costs_the_same_for_2_and_for_20(ended):
    def taking(operation):
        chosen = [member.machine for member in operation.machines.select_related("machine")]
        with CaptureQueriesContext(connection) as captured:
            holding.reserve(operation, SCALE_DOWN, chosen)
        return len(captured)

    taking(ended(1, state=State.FAULTY))
    few, many = ended(2, state=State.FAULTY), ended(20, state=State.FAULTY)
    assert taking(few) == taking(many)
    assert states(many) == {State.CORDONED}


@pytest.mark.parametrize(
    ("state", "result", "becomes"),
    [
        (State.IN_SERVICE, "failed", State.IN_SERVICE),
        (State.IN_SERVICE, "canceled", State.IN_SERVICE),
        (State.CORDONED, "failed", State.CORDONED),
        (State.DRAINING, "failed", State.CORDONED),
        (State.DRAINING, "canceled", State.CORDONED),
        (State.LEAVING, "failed", State.FAULTY),
        (State.LEAVING, "canceled", State.FAULTY),
        (State.LEAVING, "succeeded", State.AVAILABLE),
        (State.CORDONED, "succeeded", State.FAULTY),
    ],
)
def test_each_machine_becomes_what_it_is(ended, state, result, becomes):
    operation = ended(1, state=state, result=result)
    holding.release(operation, SCALE_DOWN)
    assert states(operation) == {becomes}


def test_a_machine_that_a_person_moved_meanwhile_keeps_no_other_from_being_let_go(ended):
    operation = ended(3)
    moved = operation.machines.first().machine
    Machine.objects.filter(pk=moved.pk).update(state=State.RETIRED)
    holding.release(operation, SCALE_DOWN)
    assert sorted(operation.machines.values_list("machine__state", flat=True)) == [
        State.AVAILABLE, State.AVAILABLE, State.RETIRED,
    ]  # fmt: skip


def test_the_residue_of_a_lost_host_is_remembered_even_if_the_post_check_fails(
    kube, scale_down, lost_machine, work, monkeypatch
):
    monkeypatch.setattr("operations.kinds.scale_down.post_check.WHOLE_SECONDS", 0)
    kube.deploy("web", on=["n1", "n2"])
    operation = scale_down(lost_machine, force_unreachable=True)
    work(limit=4)
    for pod in kube.pods.values():
        pod["starts"] = 10_000 + kube.seconds
        kube._set_ready(pod, False)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    lost_machine.refresh_from_db()
    assert lost_machine.state == State.FAULTY
    assert lost_machine.labels == {lifecycle.RESIDUE: f"operation-{operation.pk}"}


def test_an_old_label_of_residue_does_not_make_a_reset_machine_faulty(ended):
    operation = ended(1, labels={lifecycle.RESIDUE: "operation-3"})
    holding.release(operation, SCALE_DOWN)
    assert states(operation) == {State.AVAILABLE}


def test_a_machine_that_a_person_moved_away_fails_alone(
    kube, cluster, scale_down, machine, work, host
):
    factories.make_node(cluster, "n3")
    kube.add_node("n3")
    other = factories.make_machine(
        "127.0.0.9", cluster=cluster, node=cluster.nodes.get(name="n3"), state=State.IN_SERVICE,
        credential=machine.credential, host_key=host.host_key,
    )  # fmt: skip
    operation = scale_down(machine, other, force_unreachable=True, allow_pending=True)
    work(limit=2)
    Machine.objects.filter(pk=other.pk).update(state=State.RETIRED)
    work(limit=1)
    cells = MachineStep.objects.filter(machine__operation=operation, step__name="drain")
    found = dict(cells.values_list("machine__machine", "status"))
    assert found == {machine.pk: "succeeded", other.pk: "failed"}
