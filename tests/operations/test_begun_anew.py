"""A retry after a machine was cleaned begins with its first step; nobody else is touched."""

from dataclasses import replace

import pytest

from beidou.base.models import AuditEntry
from machines.models import Machine
from machines.services import lifecycle
from operations.kinds import base as kinds
from operations.kinds import scale_up
from operations.kinds.joining import to_joining
from operations.models import MachineStep, Operation
from operations.services import control as controls

pytestmark = pytest.mark.django_db


@pytest.fixture
def joining(toy, monkeypatch):
    """The toy kind takes its machines through the states of ScaleUp; its second step joins."""
    kind = replace(
        kinds.KINDS["Toy"],
        looks=frozenset({"first"}),
        fresh_states=kinds.KINDS["ScaleUp"].fresh_states,
        reserve=scale_up.reserve,
        release=scale_up.release,
    )
    monkeypatch.setitem(kinds.KINDS, "Toy", kind)
    toy.during = lambda run: run.step_name == "second" and to_joining(run)
    return toy


@pytest.fixture
def half_joined(joining, begin, work, machines):
    """An operation that failed half way with the first of its machines."""
    joining.failing = {("second", machines[0].address)}
    operation = begin()
    work()
    operation.refresh_from_db()
    machines[0].refresh_from_db()
    assert machines[0].state == Machine.State.FAULTY
    joining.failing, joining.calls = set(), []
    return operation


def clean(machine):
    """What CleanUp makes of it."""
    lifecycle.transition(machine=machine, to=Machine.State.AVAILABLE, reason="cleaned")


def test_a_cleaned_machine_goes_through_all_steps_again_and_the_others_through_none(
    joining, half_joined, machines, control, work, operator
):
    clean(machines[0])
    control(controls.retry, half_joined, acting_user=operator)
    work()
    half_joined.refresh_from_db()
    assert half_joined.status == Operation.Status.SUCCEEDED
    address = machines[0].address
    assert joining.calls == [("first", [address]), ("second", [address])]
    others = MachineStep.objects.filter(step__operation=half_joined).exclude(
        machine__machine=machines[0]
    )
    assert {cell.attempt for cell in others} == {1}


def test_a_cleaned_machine_ends_in_service(joining, half_joined, machines, control, work, operator):
    clean(machines[0])
    control(controls.retry, half_joined, acting_user=operator)
    work()
    machines[0].refresh_from_db()
    assert machines[0].state == Machine.State.IN_SERVICE


def test_a_machine_that_was_not_cleaned_goes_on_where_it_stands(
    joining, half_joined, machines, control, work, operator
):
    control(controls.retry, half_joined, acting_user=operator)
    work()
    assert joining.calls == [("second", [machines[0].address])]


def test_a_cleaned_machine_is_free_again_when_its_retry_is_canceled_before_it_begins(
    joining, half_joined, machines, control, operator
):
    clean(machines[0])
    control(controls.retry, half_joined, acting_user=operator)
    control(controls.cancel, half_joined, acting_user=operator)
    machines[0].refresh_from_db()
    assert machines[0].state == Machine.State.AVAILABLE


def test_a_step_that_was_skipped_stays_so_for_a_machine_that_was_never_touched(
    joining, begin, machines, control, work, operator
):
    joining.failing = {("first", machines[0].address)}
    operation = begin(machines=machines[:1])
    work()
    keys = [operation.machines.get().pk]
    control(
        controls.skip, operation, acting_user=operator, step="first", machines=keys, reason="known"
    )
    control(controls.cancel, operation, acting_user=operator)
    joining.calls = []
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=operator)
    work()
    assert joining.calls == [("second", [machines[0].address])]


def test_a_step_whose_ground_is_gone_has_the_one_before_done_again(
    toy, begin, machines, control, work, operator
):
    toy.missing = {("second", machines[0].address): "first"}
    operation = begin(machines=machines[:1])
    work()
    toy.missing, toy.calls = {}, []
    operation.refresh_from_db()
    control(controls.retry, operation, acting_user=operator)
    work()
    assert [step for step, _machines in toy.calls] == ["first", "second"]
    entry = AuditEntry.objects.get(verb="retry")
    assert entry.after["from_an_earlier_step"] == {machines[0].address: "first"}
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_the_audit_trail_says_who_began_anew(half_joined, machines, control, operator):
    clean(machines[0])
    control(controls.retry, half_joined, acting_user=operator)
    entry = AuditEntry.objects.get(verb="retry")
    assert entry.after["from_the_first_step"] == [machines[0].address]
