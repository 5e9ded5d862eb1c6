"""What the live page is told: small, right, and only what changed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base import context
from machines.models import Machine
from operations.models import Attempt, MachineStep, Operation, Step
from operations.services import control as controls
from operations.services import live

pytestmark = pytest.mark.django_db


def taken(operation, **expected):
    return live.snapshot(operation.pk, expected=expected)


def test_it_tells_steps_machines_and_what_can_be_done(toy, begin):
    found = taken(begin())
    assert [step["name"] for step in found.steps.values()] == ["first", "second"]
    assert len(found.machines) == 3
    assert found.operation["actions"] == ["cancel"]
    assert not found.is_final


def test_an_operation_that_is_gone_has_none(db):
    assert live.snapshot(404, expected={}) is None


def test_only_rows_that_changed_are_told(toy, begin, work):
    operation = begin()
    before = taken(operation)
    work(limit=1)
    changed = live.difference(before, taken(operation))
    assert changed["operation"]["status"] == "running"
    assert "machines" not in changed


def test_nothing_is_told_when_nothing_changed(toy, begin):
    operation = begin()
    assert live.difference(taken(operation), taken(operation)) == {}


def test_failed_checks_are_told_without_those_in_order_and_warnings(toy, begin, work, machines):
    def fail(run, result):
        for target in list(run.targets):
            run.fail(
                target,
                "no space",
                checks=[
                    {"check": "disk", "ok": False, "found": 1, "wanted": 2, "advice": "free it"},
                    {"check": "swap", "ok": True},
                    {"check": "images", "ok": False, "severity": "warning"},
                ],
            )

    toy.during = lambda run: fail(run, None)
    operation = begin(machines=machines[:1])
    work()
    (row,) = taken(operation).machines.values()
    assert [check["check"] for check in row["failed_checks"]] == ["disk"]
    assert row["failed_step"] == "first"


def test_what_a_failed_machine_never_reached_counts_as_settled(toy, begin, work, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    found = taken(operation)
    assert found.operation["settled_percent"] == 100
    second = list(found.steps.values())[1]
    assert second["counts"] == {"succeeded": 2, "not_reached": 1}


def test_the_number_of_queries_does_not_grow_with_the_machines(
    toy, begin, django_assert_num_queries, machines
):
    one, two = begin(machines=machines[:1]), begin(machines=machines[1:])
    with django_assert_num_queries(6):
        taken(one)
    with django_assert_num_queries(6):
        taken(two)


def test_remaining_time_is_unknown_when_a_step_never_ran_before(toy, begin):
    operation = begin()
    assert live.remaining_seconds(operation, {"first": 10.0}) is None
    assert not taken(operation, first=10.0).operation["is_estimated"]


def test_remaining_time_is_the_sum_of_what_is_to_come(toy, begin):
    operation = begin()
    assert live.remaining_seconds(operation, {"first": 10.0, "second": 5.0}) == 15.0
    Step.objects.filter(operation=operation, name="first").update(status=Step.Status.SUCCEEDED)
    assert live.remaining_seconds(operation, {"first": 10.0, "second": 5.0}) == 5.0


def test_what_has_ended_has_no_time_left(toy, begin, work):
    operation = begin()
    work()
    operation.refresh_from_db()
    assert live.remaining_seconds(operation, {"first": 10.0, "second": 5.0}) is None


def test_attempts_are_told_with_their_outcome(toy, begin, work, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    outcomes = [row["outcome"] for row in taken(operation).attempts.values()]
    assert outcomes == [Attempt.Outcome.DONE, Attempt.Outcome.DONE]


@pytest.mark.parametrize("status", Operation.Status.values)
def test_every_status_says_what_can_be_done(status):
    assert isinstance(live.actions_of(status), tuple)
    assert status in live._ACTIONS


def test_a_steps_time_is_that_of_its_newest_attempt(toy, begin, work, control, operator, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin(machines=machines[:1])
    work()
    long_ago = timezone.now() - timedelta(hours=5)
    Step.objects.filter(operation=operation).update(started_at=long_ago)
    toy.failing = set()
    control(controls.retry, operation, acting_user=operator)
    work()
    first = next(iter(taken(operation).steps.values()))
    assert first["finished_at"] - first["started_at"] < 60_000


def test_while_a_step_runs_its_own_note_is_shown_not_what_an_earlier_one_said(
    toy, begin, work, machines
):
    operation = begin(machines=machines[:1])
    work(limit=2)
    MachineStep.objects.filter(step__name="first").update(message="51 checks")
    MachineStep.objects.filter(step__name="second").update(status="running", message="")
    (row,) = taken(operation).machines.values()
    assert row["message"] == ""
    MachineStep.objects.filter(step__name="second").update(message="joining")
    (row,) = taken(operation).machines.values()
    assert row["message"] == "joining"


@pytest.fixture
def canceled(toy, begin, work, control, operator):
    """Three machines through the first step, canceled before the second."""
    operation = begin()
    work(limit=2)
    with context.acting(actor_id=operator.pk, actor_name=str(operator)):
        control(controls.cancel, operation, acting_user=operator, reason="wrong rack")
    work()
    return operation


def test_a_canceled_operation_says_who_canceled_it_and_why(canceled, operator):
    said = taken(canceled).operation["message"]
    assert said == f"Canceled by {operator.username}: wrong rack"


def test_one_canceled_before_it_began_says_who_canceled_it_too(toy, begin, control, operator):
    operation = begin()
    control(controls.cancel, operation, acting_user=operator)
    assert taken(operation).operation["message"] == f"Canceled by {operator.username}."


def test_what_a_canceled_machine_never_reached_does_not_count_as_settled(canceled):
    assert taken(canceled).operation["settled_percent"] == 50


def test_a_canceled_operation_offers_to_clean_up_and_tells_what_its_machines_are(
    canceled, machines
):
    Machine.objects.filter(pk=machines[0].pk).update(state=Machine.State.FAULTY)
    found = taken(canceled)
    assert "clean_up" in found.operation["actions"]
    states = [row["machine_state"] for row in found.machines.values()]
    assert states == ["faulty", "available", "available"]
