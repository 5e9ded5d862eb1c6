"""Starting, ending and retrying cost the same number of queries for 5 and for 50 machines, and
every machine still has its row in its log of states."""

from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from beidou.base.errors import Conflict
from beidou.base.models import AuditEntry
from beidou.base.state import Change, change_statuses
from machines.models import Machine, MachineStatusChange
from operations.kinds import base as kinds
from operations.kinds import lifecycle, scale_up
from operations.models import Attempt, MachineStep, Operation
from operations.services import control as controls
from operations.services import engine, finish, references
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def moving(toy, monkeypatch):
    """The toy kind takes its machines through the states of ScaleUp."""
    kind = replace(
        kinds.KINDS["Toy"],
        startable_states=frozenset({Machine.State.AVAILABLE}),
        reserve=scale_up.reserve,
        release=scale_up.release,
    )
    monkeypatch.setitem(kinds.KINDS, "Toy", kind)
    return toy


@pytest.fixture
def rack(cluster_a, operators):
    def make(count):
        return [factories.make_machine(owner_team=operators) for _ in range(count)]

    return make


def queries(function, *args, **kwargs) -> int:
    with CaptureQueriesContext(connection) as captured:
        function(*args, **kwargs)
    return len(captured)


def test_a_start_costs_the_same(moving, begin, rack):
    begin(machines=rack(1))  # rights are remembered, and the audit trail has begun
    few, many = rack(5), rack(50)
    assert queries(begin, machines=few) == queries(begin, machines=many)
    assert MachineStatusChange.objects.filter(new=Machine.State.RESERVED).count() == 56


@pytest.fixture
def claimed(moving, begin, work, rack):
    """An operation in its first step, about to end."""

    def make(count, **values):
        operation = begin(machines=rack(count), **values)
        work(limit=1)
        attempt = engine.claim(operation.steps.get(name="first").pk)
        return operation, attempt

    return make


def test_a_bad_end_costs_the_same(claimed, work, control):
    costs = []
    for count in (5, 50):
        operation, attempt = claimed(count)
        costs.append(
            queries(
                control, finish.end_attempt, attempt, outcome=Attempt.Outcome.FAILED, message="no"
            )
        )
        operation.refresh_from_db()
        assert operation.status == Operation.Status.FAILED
        work()
    assert costs[0] == costs[1]
    assert MachineStatusChange.objects.filter(old="reserved").count() == 55


def test_a_good_end_costs_the_same_and_links_every_node(claimed, cluster_a, work, control):
    """In the table a machine is Joining before it is in service."""
    costs = []
    for count in (5, 50):
        operation, attempt = claimed(count)
        machines = list(Machine.objects.filter(operations__operation=operation))
        for machine in machines:
            factories.make_node(cluster_a, name=machine.hostname)
        change_statuses(Change(machine, Machine.State.JOINING) for machine in machines)
        MachineStep.objects.filter(step__operation=operation).update(
            status=MachineStep.Status.SUCCEEDED
        )
        costs.append(
            queries(control, finish.end_attempt, attempt, outcome=Attempt.Outcome.DONE, message="")
        )
        work()
    assert costs[0] == costs[1]
    done = Machine.objects.filter(state=Machine.State.IN_SERVICE).select_related("node")
    assert done.count() == 55
    assert all(machine.node.name == machine.hostname for machine in done)


def test_a_retry_costs_the_same(claimed, work, control, operator):
    costs = []
    for count in (5, 50):
        operation, attempt = claimed(count)
        control(finish.end_attempt, attempt, outcome=Attempt.Outcome.FAILED, message="no")
        costs.append(queries(control, controls.retry, operation, acting_user=operator))
        work()
    assert costs[0] == costs[1]


def test_the_moves_of_many_machines_are_one_entry_that_names_them(moving, begin, rack, operator):
    machines = rack(3)
    operation = begin(machines=machines)
    entry = AuditEntry.objects.get(verb="change state")
    assert (entry.object_type, entry.object_id) == ("operations.operation", str(operation.pk))
    assert entry.before == {machine.address: "available" for machine in machines}
    assert entry.after == {machine.address: "reserved" for machine in machines}
    assert entry.reason == f"for {operation.name}"


def test_a_move_that_was_refused_is_in_no_entry(claimed, control):
    operation, attempt = claimed(2)
    refused, moved = operation.machines.all()
    Machine.objects.filter(pk=refused.machine_id).update(state=Machine.State.RETIRED)
    control(finish.end_attempt, attempt, outcome=Attempt.Outcome.FAILED, message="no")
    entry = AuditEntry.objects.filter(verb="change state").latest("id")
    assert entry.after == {moved.address: "faulty"}


def test_the_move_of_one_machine_is_an_entry_of_its_own(begin, toy, rack):
    [machine] = rack(1)
    operation = begin(machines=[machine])
    lifecycle.move(machine, Machine.State.FAULTY, operation=operation, reason="why")
    entry = AuditEntry.objects.get(verb="change state")
    assert entry.object_id == str(machine.pk)
    assert entry.after == {"state": "faulty", "operation": operation.pk}


@pytest.mark.parametrize("named", ["pk", "address", "hostname"])
def test_finding_machines_costs_the_same(named, rack, operator):
    few, many = rack(5), rack(50)
    references.find_machines([few[0].pk], user=operator)  # rights are remembered
    costs = [
        queries(references.find_machines, [getattr(m, named) for m in machines], user=operator)
        for machines in (few, many)
    ]
    assert costs[0] == costs[1]


def test_found_machines_keep_their_order_and_roles(rack, operator):
    first, second = rack(2)
    wanted = [{"address": second.hostname, "role": "Gateway"}, first.address]
    chosen = references.find_machines(wanted, user=operator)
    assert chosen.machines == [second, first]
    assert chosen.roles == {second.pk: "Gateway"}


def test_a_machine_that_a_person_moved_keeps_no_other_from_being_released(claimed, control, caplog):
    operation, attempt = claimed(3)
    moved = operation.machines.first()
    Machine.objects.filter(pk=moved.machine_id).update(state=Machine.State.RETIRED)
    control(finish.end_attempt, attempt, outcome=Attempt.Outcome.FAILED, message="no")
    operation.refresh_from_db()
    moved.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "cannot become" in moved.message
    assert not operation.machines.filter(holds_machine=True).exists()
    states = operation.machines.exclude(pk=moved.pk).values_list("machine__state", flat=True)
    assert set(states) == {Machine.State.FAULTY}


def test_a_kind_that_writes_itself_is_refused_for_one_machine_alone(claimed, control, monkeypatch):
    operation, attempt = claimed(3)
    refused = operation.machines.first()
    seen = []

    def release(member, reached):
        if member.pk == refused.pk:
            raise Conflict("not this one", code="wrong_state")
        seen.append((member.pk, reached))

    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.KINDS["Toy"], release=release))
    control(finish.end_attempt, attempt, outcome=Attempt.Outcome.FAILED, message="no")
    refused.refresh_from_db()
    assert refused.message == "not this one"
    others = operation.machines.exclude(pk=refused.pk).values_list("pk", flat=True)
    assert set(seen) == {(key, "first") for key in others}


def test_many_changes_refuse_only_what_the_table_or_somebody_faster_forbids(rack):
    good, retired, stale = rack(3)
    Machine.objects.filter(pk=retired.pk).update(state=Machine.State.RETIRED)
    retired.refresh_from_db()
    Machine.objects.filter(pk=stale.pk).update(state=Machine.State.FAULTY)
    changes = [
        Change(machine, Machine.State.RESERVED, reason="why", extra={"operation": 7})
        for machine in (good, retired, stale)
    ]
    refused = change_statuses(changes)
    assert refused[retired.pk].code == "wrong_state"
    assert refused[stale.pk].code == "changed_meanwhile"
    row = MachineStatusChange.objects.get()
    assert (row.subject, row.old, row.new, row.reason, row.operation) == (
        good, "available", "reserved", "why", 7,
    )  # fmt: skip
    assert good.state == Machine.State.RESERVED


def test_many_changes_set_fields_that_differ_from_row_to_row(rack, cluster_a):
    machines = rack(3)
    nodes = [factories.make_node(cluster_a), None, factories.make_node(cluster_a)]
    pairs = list(zip(machines, nodes, strict=True))
    assert not change_statuses(
        Change(machine, Machine.State.FAULTY, fields={"node": node}) for machine, node in pairs
    )
    for machine, node in pairs:
        assert Machine.objects.get(pk=machine.pk).node == machine.node == node


def test_no_change_at_all_writes_nothing():
    assert change_statuses([]) == {}
    assert not MachineStatusChange.objects.exists()
