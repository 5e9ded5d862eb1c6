"""Steps are claimed once, confirmed, and lead to the next; failures stay with their machine."""

import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django_q.models import OrmQ

from beidou.base import context
from beidou.base.models import AuditEntry
from operations.models import (
    Attempt,
    MachineStep,
    Operation,
    OperationMachine,
    OutputChunk,
    Step,
)
from operations.services import control as controls
from operations.services import engine, finish
from operations.services import run as run_module
from operations.services.output import OutputWriter
from operations.services.run import EngineRun

pytestmark = pytest.mark.django_db


def cells(operation, step):
    return dict(
        MachineStep.objects.filter(step__operation=operation, step__name=step).values_list(
            "machine__address", "status"
        )
    )


def test_an_operation_runs_its_steps_in_order_and_succeeds(toy, begin, work, machines):
    operation = begin()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert [name for name, _ in toy.calls] == ["first", "second"]


def test_evidence_of_every_machine_is_kept(toy, begin, work, machines):
    operation = begin()
    work()
    stored = MachineStep.objects.filter(step__operation=operation).values_list(
        "evidence", flat=True
    )
    assert {"seen": "second"} in stored
    assert len(stored) == 6


def test_a_machine_that_failed_does_not_stop_the_others(toy, begin, work, machines):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PARTIAL
    assert toy.calls[1] == ("second", [machines[1].address, machines[2].address])
    assert operation.message == "1 of 3 machines failed."


def test_an_operation_fails_when_all_machines_failed(toy, begin, work, machines):
    toy.failing = {("second", machine.address) for machine in machines}
    operation = begin()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED


def test_too_many_failures_stop_the_operation_before_the_next_step(toy, begin, work, machines):
    toy.failing = {("first", machines[0].address), ("first", machines[1].address)}
    operation = begin(max_failed_percent=50)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "more than 50 %" in operation.message
    assert [name for name, _ in toy.calls] == ["first"]


def test_a_step_without_a_result_for_a_machine_fails_that_machine(toy, begin, work, machines):
    toy.confirm_nothing = True
    toy.failing = set()
    operation = begin(machines=machines[:1])
    step = operation.steps.get(name="first")
    attempt = engine.claim(step.pk) if work(limit=1) else None
    from operations.services import finish  # noqa: PLC0415

    finish.end_attempt(attempt, outcome=Attempt.Outcome.DONE, message="")
    assert cells(operation, "first") == {machines[0].address: "failed"}


def test_a_second_delivery_of_a_step_is_harmless(toy, begin, work):
    operation = begin()
    first = operation.steps.get(name="first")
    work()
    engine.run_step(first.pk)
    assert [name for name, _ in toy.calls] == ["first", "second"]


def test_a_step_is_claimed_by_one_worker_only(toy, begin, work):
    operation = begin()
    work(limit=1)  # dispatched; the step is queued
    step = operation.steps.get(name="first")
    assert engine.claim(step.pk) is not None
    assert engine.claim(step.pk) is None


def test_the_engine_survives_an_exception_of_a_step_and_says_so(toy, begin, work, caplog):
    def explode(run):
        raise ZeroDivisionError

    toy.during = explode
    operation = begin()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    attempt = Attempt.objects.get(step__operation=operation)
    assert attempt.outcome == Attempt.Outcome.ERRORED
    assert "ZeroDivisionError" in attempt.message
    assert "Traceback" in caplog.text


def test_what_a_host_said_in_no_known_encoding_fails_that_machine_alone(toy, begin, work, machines):
    def fail_one(run):
        for target in list(run.targets):
            if target.machine == machines[0]:
                run.fail(target, "said \udcb0\udca1", evidence={"said": "\udcb0"})

    toy.during = fail_one
    operation = begin()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PARTIAL
    assert operation.machines.get(machine=machines[0]).message == "said \ufffd\ufffd"


def test_an_output_that_cannot_be_stored_is_the_portals_mistake_and_no_lost_worker(
    toy, begin, work, monkeypatch
):
    def refuse(*of_whom):
        raise ValueError

    toy.during = refuse
    operation = begin()
    work(limit=1)
    monkeypatch.setattr(OutputWriter, "flush", refuse)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    attempt = Attempt.objects.get(step__operation=operation)
    assert attempt.outcome == Attempt.Outcome.ERRORED
    assert "ValueError" in attempt.message


def test_the_lease_is_watched_on_after_any_exception(toy, begin, work, monkeypatch):
    monkeypatch.setattr(run_module, "WATCH_SECONDS", 0.01)
    monkeypatch.setattr(EngineRun, "_look", lambda run: None)
    seen = []
    enough = threading.Event()

    def explode(run, now):
        seen.append(run)
        if len(seen) == 2:
            enough.set()
        raise ZeroDivisionError

    monkeypatch.setattr(EngineRun, "_renew", explode)
    monkeypatch.setattr(run_module, "RENEW_SECONDS", 0.0)
    toy.during = lambda run: enough.wait(10)
    begin()
    work(limit=2)
    assert len(seen) >= 2


def test_retry_does_again_only_what_failed_from_the_failed_step(
    toy, begin, work, control, machines, operator
):
    toy.failing = {("second", machines[2].address)}
    operation = begin()
    work()
    toy.failing, toy.calls = set(), []
    control(controls.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert toy.calls == [("second", [machines[2].address])]


def test_what_failed_before_a_retry_does_not_stop_it_again(
    toy, begin, work, control, operator, machines
):
    toy.failing = {("first", machine.address) for machine in machines[:2]}
    operation = begin(max_failed_percent=40)
    work()
    toy.failing = {("first", machines[1].address)}
    chosen = operation.machines.get(machine=machines[0])
    control(controls.retry, operation, acting_user=operator, machines=[chosen.pk])
    work()
    chosen.refresh_from_db()
    operation.refresh_from_db()
    assert chosen.state == OperationMachine.State.SUCCEEDED
    assert operation.status == Operation.Status.PARTIAL
    assert operation.message == "2 of 3 machines failed."


def test_what_fails_in_a_retry_stops_it(toy, begin, work, control, operator, machines):
    toy.failing = {("first", machine.address) for machine in machines[:2]}
    operation = begin(max_failed_percent=40)
    work()
    control(controls.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "2 of 3 machines failed, more than 40 %" in operation.message


def test_a_retry_works_on_the_chosen_machines_alone(toy, begin, work, control, operator, machines):
    """The third one was never begun: it must not be worked on without being held."""
    toy.failing = {("first", machines[0].address)}
    operation = begin(max_failed_percent=0)
    work()
    toy.failing.clear()
    toy.calls.clear()
    chosen = operation.machines.get(machine=machines[0])
    control(controls.retry, operation, acting_user=operator, machines=[chosen.pk])
    work()
    assert toy.calls == [
        ("first", [machines[0].address]),
        ("second", [machines[0].address]),
    ]
    control(controls.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_a_deleted_machine_is_left_out_of_a_retry_and_says_so(
    toy, begin, work, control, operator, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    operation = begin()
    work()
    machines[0].delete()
    toy.failing.clear()
    control(controls.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    gone = operation.machines.get(machine=None)
    assert operation.status == Operation.Status.PARTIAL
    assert operation.message == "1 of 3 machines failed."
    assert "deleted meanwhile" in gone.message
    entry = AuditEntry.objects.get(verb="retry")
    assert entry.after["left_out"] == [gone.address]


def test_a_machine_that_failed_first_catches_up_after_a_retry(
    toy, begin, work, control, machines, operator
):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    toy.failing, toy.calls = set(), []
    control(controls.retry, operation, acting_user=operator)
    work()
    assert toy.calls == [("first", [machines[0].address]), ("second", [machines[0].address])]
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_skip_takes_a_failed_step_as_passed_and_goes_on(
    toy, begin, work, control, machines, operator
):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    member = operation.machines.get(machine=machines[0])
    toy.calls = []
    control(
        controls.skip,
        operation,
        acting_user=operator,
        step="first",
        machines=[member.pk],
        reason="known and harmless",
    )
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert cells(operation, "first")[machines[0].address] == "skipped"
    assert toy.calls == [("second", [machines[0].address])]


def test_cancel_before_the_start_ends_it_at_once(toy, begin, control, operator):
    operation = begin()
    control(controls.cancel, operation, acting_user=operator)
    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELED
    assert not OperationMachine.objects.filter(operation=operation, holds_machine=True).exists()


def test_cancel_during_a_step_keeps_what_was_reached(toy, begin, work, control, operator, machines):
    operation = begin()

    def cancel(run: EngineRun):
        controls.cancel(operation, acting_user=operator)
        run._look()

    toy.during = cancel
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELED
    assert set(cells(operation, "first").values()) == {"canceled"}
    assert len(toy.calls) == 1


def test_a_canceled_step_cleans_up_what_it_left_running(toy, begin, work, operator):
    operation = begin()

    def cancel(run: EngineRun):
        if run.step_name == "second":
            controls.cancel(operation, acting_user=operator)
            run._look()

    toy.during = cancel
    work()
    assert toy.cleaned == ["second"]


def test_what_a_failed_machine_was_told_is_ended_although_the_step_was_done(
    toy, begin, work, machines
):
    toy.failing = {("second", machines[1].address)}
    begin()
    work()
    assert toy.cleaned == ["second"]
    assert toy.cleaned_machines == [machines[1].address]


def test_a_step_that_was_done_for_all_is_not_cleaned_up(toy, begin, work):
    begin()
    work()
    assert toy.cleaned == []


def test_a_paused_operation_begins_no_further_step(toy, begin, work, control, operator):
    operation = begin()
    toy.during = lambda run: controls.pause(operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PAUSED
    assert len(toy.calls) == 1
    toy.during = lambda run: None
    control(controls.resume, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_whoever_lost_the_lease_cannot_write(toy, begin, work, machines):
    operation = begin()

    def be_taken_over(run: EngineRun):
        Step.objects.filter(pk=run.step.pk).update(attempt=99)

    toy.during = be_taken_over
    work()
    assert set(cells(operation, "first").values()) == {"running"}
    assert not OutputChunk.objects.exists()


def test_machines_are_reserved_at_the_start_and_released_at_the_end(toy, begin, work, machines):
    begin()
    assert len(toy.reserved) == 3
    work()
    assert {reached for _, reached in toy.released} == {"second"}


def test_every_operation_leaves_audit_entries_for_start_and_end(toy, begin, work):
    begin()
    work()
    verbs = list(AuditEntry.objects.order_by("id").values_list("verb", flat=True))
    assert verbs == ["start Toy", "operation succeeded"]
    assert not OrmQ.objects.exists()


def test_a_cancellation_that_worked_is_no_failure_in_the_audit_trail(
    toy, begin, work, control, operator
):
    operation = begin()
    control(controls.cancel, operation, acting_user=operator, reason="not needed")
    work()
    end = AuditEntry.objects.get(verb="operation canceled")
    assert end.outcome == "done"
    assert "not needed" in end.reason


def test_a_failure_is_one_with_its_reason(toy, begin, work, machines):
    toy.failing = {("first", machine.address) for machine in machines}
    operation = begin()
    work()
    operation.refresh_from_db()
    end = AuditEntry.objects.get(verb="operation failed")
    assert (end.outcome, end.reason) == ("failed", operation.message)


def test_after_a_retry_the_workers_deeds_are_those_of_who_retried(
    toy, begin, work, control, machines, operator, admin
):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    toy.failing = set()
    with context.acting(actor_id=admin.pk, actor_name=admin.get_username()):
        control(controls.retry, operation, acting_user=admin)
    work()
    ends = AuditEntry.objects.filter(verb__in=["operation partial", "operation succeeded"])
    assert list(ends.order_by("id").values_list("actor_id", "actor")) == [
        (operator.pk, operator.get_username()),
        (admin.pk, admin.get_username()),
    ]


def test_a_step_is_ended_with_the_operation_locked_first(toy, begin, work, control):
    """In the order of ``claim``: otherwise PostgreSQL ends one of the two as a deadlock."""
    operation = begin()
    work(limit=1)
    attempt = engine.claim(operation.steps.get(name="first").pk)
    with CaptureQueriesContext(connection) as queries:
        control(finish.end_attempt, attempt, outcome=Attempt.Outcome.DONE, message="")
    read = [row["sql"] for row in queries if row["sql"].startswith("SELECT")]
    first = [
        next(index for index, sql in enumerate(read) if f'FROM "{table}"' in sql)
        for table in ("operations_operation", "operations_step")
    ]
    assert first == sorted(first)
