"""What the portal does wrong at the end of a step is told as its mistake; it never looks like a
lost worker that would be replaced for ever."""

from dataclasses import replace

import pytest
from django.db import OperationalError

from machines.models import Machine
from operations.kinds import base as kinds
from operations.kinds.lifecycle import Move
from operations.models import Attempt, MachineStep, Operation, Step
from operations.services import control as controls
from operations.services import engine, finish, recovery

pytestmark = pytest.mark.django_db


def wrong(*_of_whom):
    raise KeyError("nobody thought of this")


@pytest.fixture
def joining(toy, monkeypatch):
    """The toy kind takes machines as ScaleUp does, and forgets how to let them go."""
    kind = replace(
        kinds.KINDS["Toy"],
        reserve=lambda operation, machine: Move(machine, Machine.State.RESERVED, "taken"),
        release=wrong,
    )
    monkeypatch.setitem(kinds.KINDS, "Toy", kind)
    return toy


@pytest.fixture
def ended(joining, begin, work):
    operation = begin()
    work()
    operation.refresh_from_db()
    return operation


def test_a_mistake_in_letting_machines_go_ends_the_operation_and_says_so(ended, control):
    assert ended.status == Operation.Status.FAILED
    assert "The portal made a mistake" in ended.message
    assert "KeyError" in ended.message
    assert not Step.objects.filter(status=Step.Status.RUNNING).exists()
    assert control(recovery.reap) == 0


def test_the_attempt_is_an_error_of_the_portal_and_what_was_proved_stays(ended):
    attempt = Attempt.objects.get(step__operation=ended, step__name="second")
    assert attempt.outcome == Attempt.Outcome.ERRORED
    assert "KeyError" in attempt.message
    assert set(MachineStep.objects.values_list("status", flat=True)) == {"succeeded"}


def test_machines_on_their_way_are_faulty_then_and_held_no_more(ended, machines):
    for machine in machines:
        machine.refresh_from_db()
        assert machine.state == Machine.State.FAULTY
        assert "KeyError" in machine.status_changes.order_by("-id").first().reason
    assert not ended.machines.filter(holds_machine=True).exists()


def test_a_mistake_between_two_steps_can_be_retried(
    toy, begin, work, control, operator, monkeypatch
):
    operation = begin()
    work(limit=1)
    with monkeypatch.context() as patch:
        patch.setattr(finish, "next_step", wrong)
        work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    control(controls.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert [name for name, _ in toy.calls] == ["first", "second"]


def test_a_cancel_that_meets_a_mistake_is_a_cancel(joining, begin, work, control, operator):
    operation = begin()
    work(limit=1)
    joining.during = lambda run: control(controls.cancel, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELED
    assert "KeyError" in operation.message


def test_a_database_that_is_away_is_no_mistake(toy, begin, work, monkeypatch):
    def away(*_of_whom):
        raise OperationalError("server closed the connection")

    operation = begin()
    work(limit=1)
    with monkeypatch.context() as patch:
        patch.setattr(finish, "next_step", away)
        patch.setattr(engine.connection, "close", lambda: None)  # this test's own transaction
        work(limit=1)
    assert operation.steps.get(name="first").status == Step.Status.RUNNING
