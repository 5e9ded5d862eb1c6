"""A changed host key blocks everything on its machine until a person decides: what begins, what
waits, and what is done again."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from beidou.base.errors import Conflict, InvalidInput
from clusters.models import Cluster
from machines.models import Machine
from operations.drivers import ansible
from operations.kinds import base as kinds
from operations.kinds import clean_up, hosts, joining, playbook, scale_up
from operations.kinds.scale_down import ScaleDownParams, planning
from operations.kinds.scale_up import ScaleUpParams
from operations.models import ClusterSettings, MachineStep, Operation
from operations.services import control as controls
from tests import factories
from tests.fakes.ssh_server import new_key, public_line

pytestmark = pytest.mark.django_db


@pytest.fixture
def machines(operators):
    """Three that the portal could sign in to."""
    credential = factories.make_credential()
    return [
        factories.make_machine(
            owner_team=operators, credential=credential, host_key=public_line(new_key())
        )
        for _ in range(3)
    ]


def change_key(machine):
    Machine.objects.filter(pk=machine.pk).update(offered_host_key=public_line(new_key()))


@pytest.fixture
def asking(toy, monkeypatch):
    """The toy kind asks what CleanUp asks: the right cluster, and a way to sign in."""
    kind = replace(kinds.KINDS["Toy"], blockers=clean_up.blockers)
    monkeypatch.setitem(kinds.KINDS, "Toy", kind)
    return toy


@pytest.fixture
def failed(asking, begin, work, machines):
    """An operation in which the first machine failed in the second step."""
    asking.failing = {("second", machines[0].address)}
    operation = begin()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PARTIAL
    asking.failing, asking.calls = set(), []
    return operation


def test_a_retry_is_refused_while_a_changed_key_waits_for_a_person(failed, machines, operator):
    change_key(machines[0])
    with pytest.raises(InvalidInput, match="its host key changed") as caught:
        controls.retry(failed, acting_user=operator)
    assert machines[0].address in caught.value.fields
    failed.refresh_from_db()
    assert failed.status == Operation.Status.PARTIAL


def test_a_retry_goes_on_once_the_key_was_judged(failed, machines, operator, control, work):
    change_key(machines[0])
    Machine.objects.filter(pk=machines[0].pk).update(offered_host_key="")
    control(controls.retry, failed, acting_user=operator)
    work()
    failed.refresh_from_db()
    assert failed.status == Operation.Status.SUCCEEDED


def test_a_retry_without_a_credential_says_so(failed, machines, operator):
    Machine.objects.filter(pk=machines[0].pk).update(credential=None)
    with pytest.raises(InvalidInput, match="no SSH credential is set for it"):
        controls.retry(failed, acting_user=operator)


def test_a_retry_asks_about_its_own_machines_alone(failed, machines, operator, control, work):
    change_key(machines[1])
    control(controls.retry, failed, acting_user=operator)
    work()
    failed.refresh_from_db()
    assert failed.status == Operation.Status.SUCCEEDED


def skip(operation, step, operator):
    failed = operation.machines.exclude(state="succeeded").get()
    controls.skip(operation, acting_user=operator, step=step, machines=[failed.pk], reason="known")


def test_a_skip_is_refused_where_the_steps_behind_would_meet_a_changed_key(
    asking, begin, work, machines, operator
):
    asking.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    change_key(machines[0])
    operation.refresh_from_db()
    with pytest.raises(InvalidInput, match="its host key changed"):
        skip(operation, "first", operator)
    cell = MachineStep.objects.get(step__name="first", machine__machine=machines[0])
    assert cell.status == MachineStep.Status.FAILED


def test_a_skip_of_the_last_step_asks_nothing_more(failed, machines, operator, control, work):
    change_key(machines[0])
    control(skip, failed, "second", operator)
    work()
    failed.refresh_from_db()
    assert failed.status == Operation.Status.SUCCEEDED


def test_a_machine_with_a_changed_key_is_not_signed_in_to(machines):
    change_key(machines[0])
    machines[0].refresh_from_db()
    with pytest.raises(Conflict, match="until a person accepts or rejects"):
        hosts.ssh_target(machines[0], None)


def test_a_waiting_operation_fails_the_machine_with_the_changed_key_alone(
    toy, begin, work, machines, monkeypatch
):
    reached: list[str] = []

    def look(**given):
        reached.extend(host.address for host in given["hosts"])
        return ansible.Outcome(status="successful", failed={})

    monkeypatch.setattr(ansible, "run_playbook", look)
    toy.during = lambda run: playbook.run_playbook(run, "leftovers", variables={})
    operation = begin()
    change_key(machines[0])
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PARTIAL
    assert machines[0].address not in reached
    cell = MachineStep.objects.get(step__name="first", machine__machine=machines[0])
    assert "until a person accepts or rejects" in cell.message


def test_the_node_of_a_machine_with_a_changed_key_is_not_opened(
    toy, begin, work, machines, monkeypatch
):
    opened = []
    client = SimpleNamespace(
        get_node=lambda name: SimpleNamespace(
            name=name,
            addresses=[("InternalIP", Machine.objects.get(hostname=name).address)],
        ),
        set_unschedulable=lambda name, _value: opened.append(name),
    )
    monkeypatch.setattr(scale_up, "client_for", lambda *_args, **_limits: nullcontext(client))
    monkeypatch.setattr(joining, "to_joining", lambda run: None)
    toy.during = scale_up.uncordon
    begin()
    change_key(machines[0])
    work()
    assert set(opened) == {machine.hostname for machine in machines[1:]}


def test_a_retry_of_a_scale_up_is_told_that_the_cluster_is_unreachable(cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="https://files.example")
    cluster_a.health = Cluster.Health.UNREACHABLE
    (blocker,) = scale_up.blockers(cluster_a, [], ScaleUpParams())
    assert blocker.reason.startswith("the cluster is unreachable")


def test_a_machine_that_half_joined_is_not_blocked_by_its_own_node(cluster_a, machines):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="https://files.example")
    machine = machines[0]
    factories.make_node(cluster_a, machine.hostname)
    assert scale_up.blockers(cluster_a, [machine], ScaleUpParams())
    machine.cluster = cluster_a
    assert scale_up.blockers(cluster_a, [machine], ScaleUpParams()) == []


def test_a_retry_of_a_scale_down_does_not_miss_the_node_that_is_gone(cluster_a, machines):
    machine = machines[0]
    machine.cluster = cluster_a
    params = ScaleDownParams(delete_blocked=True)
    assert planning.retry_blockers(cluster_a, [machine], params) == []


def test_a_retry_of_a_scale_down_is_told_of_a_changed_key(cluster_a, machines):
    machine = machines[0]
    machine.offered_host_key = public_line(new_key())
    (blocker,) = planning.retry_blockers(cluster_a, [machine], ScaleDownParams())
    assert "its host key changed" in blocker.reason
