"""Steps that go in waves: each is an attempt of its own, and between two of them there is time."""

import pytest

from operations.models import Attempt, MachineStep, Operation, Step
from operations.services import control as steering
from operations.services import engine, estimates, live, recovery
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db


def one_by_one(_params, waiting):
    return waiting[:1]


@pytest.fixture
def toy():
    with toy_kind(wave=one_by_one) as script:
        yield script


@pytest.fixture
def strict():
    """The same for a kind that stops at the first machine that fails."""
    with toy_kind(wave=one_by_one, stops_at_first=True) as script:
        yield script


def second(operation) -> Step:
    return operation.steps.get(name="second")


def reread(operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def seconds_of(script):
    return [addresses for step, addresses in script.calls if step == "second"]


def test_each_wave_is_an_attempt_of_its_own_machines(toy, begin, work, machines):
    operation = begin()
    work()
    assert reread(operation).status == "succeeded"
    assert toy.calls[0] == ("first", [str(machine.address) for machine in machines])
    assert seconds_of(toy) == [[str(machine.address)] for machine in machines]
    taken = second(operation).attempts.values_list("number", "machines", "outcome")
    assert list(taken) == [(1, 1, "done"), (2, 1, "done"), (3, 1, "done")]
    assert second(operation).status == "succeeded"


def test_a_wave_that_picks_nobody_is_all_of_them(begin, work, machines):
    with toy_kind(wave=lambda _params, _waiting: []) as script:
        operation = begin()
        work()
        assert reread(operation).status == "succeeded"
        assert seconds_of(script) == [[str(machine.address) for machine in machines]]


def test_a_pause_in_the_middle_of_a_step_waits_between_two_waves(
    toy, begin, work, control, operator
):
    operation = begin()

    def pause(run):
        if run.step_name == "second" and run.number == 1:
            control(steering.pause, reread(operation), acting_user=operator, reason="lunch")

    toy.during = pause
    work()
    assert reread(operation).status == "paused"
    assert len(seconds_of(toy)) == 1
    assert second(operation).status == "waiting"

    control(steering.resume, reread(operation), acting_user=operator)
    work()
    assert reread(operation).status == "succeeded"
    assert len(seconds_of(toy)) == 3


def test_a_cancel_between_two_waves_leaves_the_rest_untouched(
    toy, begin, work, control, operator, machines
):
    operation = begin()
    work(limit=3)  # dispatch, first, one wave
    control(control_cancel, operation, operator)
    work()
    assert reread(operation).status == "canceled"
    assert seconds_of(toy) == [[str(machines[0].address)]]
    cells = second(operation).cells.order_by("machine_id").values_list("status", flat=True)
    assert list(cells) == ["succeeded", "waiting", "waiting"]


def control_cancel(operation, user):
    steering.cancel(reread(operation), acting_user=user)


def test_the_first_machine_that_fails_stops_what_was_not_begun(strict, begin, work, machines):
    strict.failing = {("second", str(machines[1].address))}
    operation = begin()
    work()
    row = reread(operation)
    assert row.status == "failed"
    assert str(machines[1]) in row.message or str(machines[1].hostname) in row.message
    assert "retry: it goes on from there" in row.message
    assert seconds_of(strict) == [[str(machine.address)] for machine in machines[:2]]
    assert second(operation).status == "partial"
    untouched = second(operation).cells.get(machine__address=machines[2].address)
    assert untouched.status == "waiting"
    assert untouched.started_at is None


def test_a_retry_goes_on_with_the_machine_that_failed_and_does_no_other_twice(
    strict, begin, work, machines, control, operator
):
    strict.failing = {("second", str(machines[1].address))}
    operation = begin()
    work()
    strict.failing = set()
    control(control_retry, operation, operator)
    work()
    assert reread(operation).status == "succeeded"
    assert seconds_of(strict) == [
        [str(machines[0].address)],
        [str(machines[1].address)],
        [str(machines[1].address)],
        [str(machines[2].address)],
    ]


def control_retry(operation, user):
    steering.retry(reread(operation), acting_user=user)


def test_waves_go_on_past_failures_that_are_tolerated(toy, begin, work, machines):
    toy.failing = {("second", str(machines[0].address))}
    operation = begin()
    work()
    assert reread(operation).status == "partial"
    assert len(seconds_of(toy)) == 3
    assert second(operation).status == "partial"


def test_a_lost_worker_repeats_its_wave_alone(toy, begin, work, machines):
    operation = begin()
    work(limit=3)
    step = second(operation)
    assert step.attempt == 1

    attempt = engine.claim(step.pk)
    Step.objects.filter(pk=step.pk).update(holder="gone/1/1", lease_until="2020-01-01T00:00Z")
    assert recovery.reap() == 1
    work()
    assert Attempt.objects.get(pk=attempt.pk).outcome == "lost"
    assert reread(operation).status == "succeeded"
    assert seconds_of(toy) == [[str(machine.address)] for machine in machines]


def test_a_step_whose_mistake_fails_a_wave_does_not_begin_the_next(toy, begin, work):
    def break_down(run):
        if run.step_name == "second":
            raise ZeroDivisionError

    toy.during = break_down
    operation = begin()
    work()
    assert len(seconds_of(toy)) == 1
    assert reread(operation).status == "partial"
    assert second(operation).status == "failed"


def test_how_long_waves_take_is_told_from_their_sum(toy, begin, work):
    operation = begin()
    work()
    step = second(operation)
    for attempt in step.attempts.all():
        finished = attempt.started_at.replace(microsecond=0)
        begun = finished.replace(year=finished.year - 1)
        Attempt.objects.filter(pk=attempt.pk).update(started_at=begun, finished_at=finished)
    one = estimates.of_earlier_waves(step) / 3
    assert one > 0
    assert estimates.steps_of("Toy", ["second"], 6)["second"] == pytest.approx(6 * one)
    assert live.expected_seconds(operation, 3)["second"] == pytest.approx(3 * one)


def test_cells_that_wait_for_their_wave_are_not_of_the_attempt(toy, begin, work):
    operation = begin()
    seen = []

    def look(run):
        if run.step_name == "second":
            cells = MachineStep.objects.filter(step__operation=operation, step__name="second")
            seen.append(sorted(cells.values_list("status", flat=True)))

    toy.during = look
    work()
    assert seen == [
        ["running", "waiting", "waiting"],
        ["running", "succeeded", "waiting"],
        ["running", "succeeded", "succeeded"],
    ]
