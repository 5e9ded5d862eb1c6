"""A task that takes machines out in batches: those that leave later are no room for the others."""

import pytest

from machines.models import Machine
from operations.flows import catalog, graph
from operations.flows import start as flows
from operations.flows.models import TaskMachine
from operations.flows.start import Batches
from operations.models import Operation
from operations.services import lines
from tests import factories
from tests.operations.scale_down.looking import cell_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def later(cluster, machine):
    """The machine of n2."""
    return factories.make_machine(
        cluster=cluster,
        node=factories.make_node(cluster, "n2"),
        state=Machine.State.IN_SERVICE,
        credential=machine.credential,
        host_key=machine.host_key,
    )


@pytest.fixture
def begin(cluster, machine, later, operator, control):
    def start_it(name="ScaleDown", **values):
        return control(
            flows.start_task,
            specs=graph.in_order([catalog.spec(name)]),
            cluster=cluster,
            machines=[machine, later],
            acting_user=operator,
            batches=Batches(size=1, max_failed_percent=0),
            **values,
        )

    return start_it


def check_of(operation, name):
    (row,) = [each for each in cell_of(operation).checks if each["check"] == name]
    return row


def test_a_node_of_a_later_batch_is_no_room(kube, begin, work):
    kube.deploy("web", on=["n1", "n1"])
    begin()
    work()
    operation = Operation.objects.get()
    assert not check_of(operation, "room")["ok"]
    assert "fits nowhere" in check_of(operation, "room")["found"]
    assert not kube.nodes["n1"]["spec"].get("unschedulable")


def test_a_node_that_stays_is(kube, begin, work):
    kube.add_node("n3")
    kube.deploy("web", on=["n1", "n1"])
    begin()
    work(limit=3)
    assert check_of(Operation.objects.get(), "room")["ok"]


def test_a_node_whose_machine_has_dropped_out_is_room_again(kube, begin, work):
    kube.deploy("web", on=["n1", "n1"])
    task = begin()
    task.machines.filter(machine__node__name="n2").update(state=TaskMachine.State.FAILED)
    work(limit=3)
    assert check_of(Operation.objects.get(), "room")["ok"]


def test_the_share_of_a_zone_is_that_of_all_batches(kube, begin, work):
    for name in ("n1", "n2", "n3", "n4"):
        kube.add_node(name, **{"topology.kubernetes.io/zone": "a"})
    begin()
    work(limit=3)
    found = check_of(Operation.objects.get(), "share:zone:a")
    assert (found["found"], found["ok"]) == ("2 of 4 nodes would be gone", False)


def test_the_output_names_those_that_go_in_other_batches(begin, work):
    begin()
    work(limit=3)
    told = lines.forwards(Operation.objects.get(), after=0, limit=100).lines
    assert "Other batches of the task take out, too: n2." in [line.text for line in told]


def test_what_would_happen_is_asked_of_all_machines_together(begin, work):
    begin("ScaleDownPreCheck")
    work(limit=3)
    assert Operation.objects.get().machines.count() == 2
