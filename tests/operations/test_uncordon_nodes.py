"""UncordonNodes and operations that are narrowed to some of a kind's steps, on a fake cluster."""

import pytest

from machines.models import Machine
from operations.kinds import scale_up
from operations.models import ClusterSettings, OperationMachine
from operations.services import start
from tests import factories
from tests.clusters.conftest import connect
from tests.fakes.emptying import EmptyingCluster

pytestmark = pytest.mark.django_db
State = Machine.State


@pytest.fixture
def kube():
    with EmptyingCluster(is_hasty=True) as api:
        api.add_node("n1")
        yield api


@pytest.fixture
def cluster(cluster_a, kube):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="/srv/artifacts")
    return connect(cluster_a, kube)


@pytest.fixture
def machine(cluster):
    node = factories.make_node(cluster, "n1")
    return factories.make_machine(
        cluster=cluster, node=node, state=State.CORDONED, host_key="ssh-ed25519 AAAA"
    )


def state_of(machine):
    return Machine.objects.get(pk=machine.pk).state


def test_a_cordoned_node_is_opened_and_its_machine_is_in_service(cluster, machine, begin, work):
    operation = begin(kind="UncordonNodes", cluster=cluster, machines=[machine])
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.machines.get().message
    assert state_of(machine) == State.IN_SERVICE
    assert operation.steps.get().cells.get().evidence["schedulable"] is True


def test_a_machine_whose_node_is_gone_stays_cordoned(cluster, machine, begin, work, kube):
    machine.node.name = "elsewhere"
    machine.node.save()
    operation = begin(kind="UncordonNodes", cluster=cluster, machines=[machine])
    work()
    operation.refresh_from_db()
    assert operation.status == "failed"
    assert state_of(machine) == State.CORDONED


def test_a_machine_of_another_cluster_is_blocked(cluster, cluster_b, operators, admin):
    factories.grant(operators, cluster_b, "operator")
    machine = factories.make_machine(cluster=cluster_b, state=State.CORDONED)
    plan = start.plan_operation(
        kind="UncordonNodes", cluster=cluster, machines=[machine], params={}, acting_user=admin
    )
    assert [blocker.reason for blocker in plan.blockers] == ["it is not in this cluster"]


def test_an_operation_that_only_looks_reserves_nothing(cluster, operators, begin):
    machine = factories.make_machine(
        owner_team=operators,
        host_key="ssh-ed25519 AAAA",
        credential=factories.make_credential(),
    )
    operation = begin(kind="ScaleUp", cluster=cluster, machines=[machine], steps=["preCheck"])
    assert [step.name for step in operation.steps.all()] == ["preCheck"]
    assert state_of(machine) == State.AVAILABLE
    assert operation.machines.get().holds_machine


@pytest.mark.parametrize(
    ("reached", "state"), [("uncordon", State.IN_SERVICE), ("postCheck", State.CORDONED)]
)
def test_without_its_last_step_a_scale_up_leaves_the_node_cordoned(
    reached, state, cluster, operators, begin
):
    machine = factories.make_machine(
        owner_team=operators,
        host_key="ssh-ed25519 AAAA",
        credential=factories.make_credential(),
    )
    operation = begin(kind="ScaleUp", cluster=cluster, machines=[machine])
    member = operation.machines.get()
    member.state = OperationMachine.State.SUCCEEDED
    assert scale_up.release(member, reached).to == state
