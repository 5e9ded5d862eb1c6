"""What a person may do to a task: cancel, pause, resume, retry, skip."""

from dataclasses import replace

import pytest
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Node
from operations.flows import acting, advance, catalog
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import control as operation_control
from tests import factories

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status
ENDED = {Status.PARTIAL, Status.FAILED, Status.CANCELED}
ALLOWED = {
    controls.cancel: {Status.WAITING, Status.RUNNING, Status.PAUSED},
    controls.pause: {Status.RUNNING},
    controls.resume: {Status.PAUSED},
    controls.retry: ENDED,
}


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def step(key, *, name="Toy", needs=(), **values):
    return replace(catalog.spec(name), key=key, needs=tuple(needs), **values)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("action", ALLOWED)
def test_an_action_is_refused_in_the_wrong_state(action, status, begin_task, operator):
    task = begin_task("Wait")
    AutoOperationTask.objects.filter(pk=task.pk).update(status=status)
    if status in ALLOWED[action]:
        action(task, acting_user=operator)
        assert fresh(task).status != status
    else:
        with pytest.raises(Conflict):
            action(task, acting_user=operator)
        assert fresh(task).status == status


@pytest.mark.parametrize("action", ALLOWED)
def test_a_viewer_may_do_nothing_to_a_task(action, begin_task, viewer):
    with pytest.raises(Forbidden):
        action(begin_task("Wait"), acting_user=viewer)


def test_cancel_ends_the_running_operation_and_all_that_would_follow(
    begin_task, work, control, operator, steps_of
):
    task = begin_task("Toy", "Toy")
    work(limit=1)
    control(controls.cancel, task, acting_user=operator, reason="wrong rack")
    work()
    assert Operation.objects.get().status == "canceled"
    assert steps_of(task) == {"Toy": "canceled", "Toy-2": "canceled"}
    task = fresh(task)
    assert (task.status, task.message) == ("canceled", "Canceled by system: wrong rack")
    assert not task.machines.filter(holds_machine=True).exists()


def test_whoever_may_cancel_the_task_ends_operations_of_kinds_that_need_more(
    begin_task, work, control, operator, admin, monkeypatch, steps_of
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), permission="approve"))
    task = begin_task("Toy", "Toy", acting_user=admin)
    work(limit=1)
    operation = Operation.objects.get()
    with pytest.raises(Forbidden):
        operation_control.cancel(operation, acting_user=operator)
    control(controls.cancel, task, acting_user=operator, reason="wrong rack")
    work()
    assert steps_of(task) == {"Toy": "canceled", "Toy-2": "canceled"}
    assert fresh(task).status == Status.CANCELED
    entry = AuditEntry.objects.get(verb="cancel", object_type="operations.operation")
    assert (entry.object_id, entry.reason) == (str(operation.pk), "wrong rack")


def test_cancel_closes_the_open_question(begin_task, work, control, operator):
    task = begin_task("WorkOrder")
    work()
    control(controls.cancel, task, acting_user=operator)
    work()
    assert WorkOrder.objects.get().status == "closed"
    assert fresh(task).status == Status.CANCELED


def test_a_task_that_was_canceled_before_it_began_begins_nothing(
    begin_task, work, control, operator
):
    task = begin_task("Toy")
    control(controls.cancel, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.CANCELED
    assert not Operation.objects.exists()


def test_a_paused_task_finishes_what_runs_and_begins_nothing(
    begin_task, work, control, operator, steps_of
):
    task = begin_task("Toy", "Toy")
    work(limit=2)
    control(controls.pause, task, acting_user=operator)
    work()
    assert steps_of(task) == {"Toy": "succeeded", "Toy-2": "waiting"}
    control(controls.resume, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_a_paused_task_begins_no_further_batch(begin_task, work, control, operator):
    task = begin_task("Toy", batches=Batches(size=1))
    work(limit=2)
    control(controls.pause, task, acting_user=operator)
    work()
    assert Operation.objects.count() == 1
    control(controls.resume, task, acting_user=operator)
    work()
    assert Operation.objects.count() == 3


def test_a_task_with_nothing_left_to_pause_ends(begin_task, work, control, operator):
    task = begin_task("Toy")
    work(limit=2)
    control(controls.pause, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_a_retry_goes_on_from_the_failed_step_with_the_same_operation(
    begin_task, work, control, operator, steps_of, toy, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task("Wait", "Toy", "Toy")
    TaskStep.objects.filter(key="Wait").update(status="skipped")
    work()
    assert steps_of(task)["Toy"] == "failed"
    toy.failing.clear()
    toy.calls.clear()
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert [step for step, _ in toy.calls] == ["second", "first", "second"]
    assert Operation.objects.count() == 2


def test_a_machine_that_was_retried_goes_through_the_later_steps_too(
    begin_task, work, control, operator, steps_of, toy, machines
):
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", "Toy")
    work()
    assert fresh(task).status == Status.PARTIAL
    toy.failing.clear()
    toy.calls.clear()
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert steps_of(task) == {"Toy": "succeeded", "Toy-2": "succeeded"}
    assert {address for _step, addresses in toy.calls for address in addresses} == {
        machines[0].address
    }


def test_what_lets_on_or_accepts_behind_a_retried_step_is_asked_for_its_machines_too(
    begin_task, work, control, operator, approver, toy, machines, steps_of, cluster_a
):
    for machine in machines:
        machine.node = factories.make_node(cluster_a)
        machine.save()
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", "NodesReady", "Toy", "ScaleUpSubWorkprocess")
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    assert fresh(task).status == Status.PARTIAL
    toy.failing.clear()
    toy.calls.clear()
    Node.objects.filter(pk=machines[0].node_id).update(is_ready=False)
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task) == {
        "Toy": "succeeded",
        "NodesReady": "running",
        "Toy-2": "waiting",
        "ScaleUpSubWorkprocess": "waiting",
    }
    Node.objects.update(is_ready=True)
    TaskStep.objects.filter(key="NodesReady").update(due_at=timezone.now())
    control(advance.sweep)
    work()
    assert toy.calls[-1] == ("second", [machines[0].address])
    order = WorkOrder.objects.order_by("number").last()
    assert (order.number, order.status) == (2, "open")
    assert machines[0].address in order.changes[0]
    control(controls.approve, order, acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_an_approval_behind_a_retried_step_that_still_covers_all_is_not_asked_again(
    begin_task, work, control, operator, approver, toy, machines
):
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", "ScaleUpSubWorkprocess")
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.PARTIAL
    assert WorkOrder.objects.get().status == "approved"


def test_an_operation_that_was_mended_on_its_own_page_counts(
    begin_task, work, control, operator, toy, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    toy.failing.clear()
    control(operation_control.retry, Operation.objects.get(), acting_user=operator)
    work()
    assert fresh(task).status == Status.FAILED  # it ended; somebody says so
    toy.calls.clear()
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert toy.calls == []


def test_a_retry_that_cannot_be_done_says_why(
    begin_task, work, control, operator, toy, machines, cluster_b
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    for machine in machines:
        machine.delete()
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.FAILED
    assert "deleted meanwhile" in fresh(task).message


def test_a_retry_of_one_who_was_removed_meanwhile_names_them(
    begin_task, work, control, operator, operators, toy, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    leaving = factories.make_user("leaving", teams=(operators,))
    control(controls.retry, task, acting_user=leaving)
    leaving.delete()
    work()
    assert fresh(task).status == Status.FAILED
    assert "cannot be done again: leaving, who asked for it, has no" in fresh(task).message


def test_where_no_name_was_kept_none_is_said():
    assert acting.gone(AutoOperationTask()).startswith("Whoever asked for it has no account")


def test_whoever_retries_carries_it_on_with_their_own_rights(
    begin_task, work, control, operator, operators, toy, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task("Toy", "Toy")
    work()
    toy.failing.clear()
    operator.delete()
    other = factories.make_user("other", teams=(operators,))
    control(controls.retry, task, acting_user=other)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert Operation.objects.order_by("pk").last().requested_by == other


def test_a_retry_is_refused_while_another_task_has_one_of_the_machines(
    begin_task, work, control, operator, toy, machines
):
    toy.failing = {("first", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    begin_task("Wait", machines=machines[:1])
    with pytest.raises(Conflict, match="Another task has begun"):
        controls.retry(task, acting_user=operator)


def test_an_undone_machine_is_undone_again_after_a_retry(
    begin_task, work, control, operator, toy, machines, steps_of
):
    toy.failing = {("first", machines[0].address)}
    task = begin_task(
        step("change", on_failure="compensate", params={"kind": "Toy"}),
        step("undo", compensates=("change",), params={"kind": "Toy", "steps": ["second"]}),
        batches=Batches(max_failed_percent=0),
    )
    work()
    assert [step for step, _ in toy.calls] == ["first", "second"]
    control(controls.retry, task, acting_user=operator)
    work()
    assert [step for step, _ in toy.calls] == ["first", "second"] * 2
    assert steps_of(task) == {"change": "failed", "undo": "succeeded"}


def test_a_skipped_step_lets_its_machines_go_on(
    begin_task, work, control, operator, toy, machines, steps_of
):
    toy.failing = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "Toy")
    work()
    toy.failing.clear()
    control(controls.skip, task, acting_user=operator, step="Toy", reason="known")
    work()
    assert steps_of(task) == {"Toy": "skipped", "Toy-2": "succeeded"}
    assert fresh(task).status == Status.SUCCEEDED
    assert "known" in task.steps.get(key="Toy").message


def test_a_wait_can_be_skipped_while_it_goes_on(begin_task, work, control, operator, steps_of):
    task = begin_task("Wait", "Toy")
    work()
    control(controls.skip, task, acting_user=operator, step="Wait", reason="no need")
    work()
    assert steps_of(task) == {"Wait": "skipped", "Toy": "succeeded"}


def test_a_skip_without_a_reason_is_refused(begin_task, operator):
    with pytest.raises(InvalidInput, match="needs a reason"):
        controls.skip(begin_task("Wait"), acting_user=operator, step="Wait", reason=" ")


def test_an_approval_cannot_be_skipped(begin_task, work, operator):
    task = begin_task("WorkOrder")
    work()
    with pytest.raises(Conflict, match="cannot be skipped"):
        controls.skip(task, acting_user=operator, step="WorkOrder", reason="hurry")


@pytest.mark.parametrize("name", ["Toy-2", "unknown"])
def test_a_step_that_has_not_failed_cannot_be_skipped(name, begin_task, work, operator):
    task = begin_task("Toy", "Toy")
    work(limit=1)
    with pytest.raises((Conflict, InvalidInput)):
        controls.skip(task, acting_user=operator, step=name, reason="x")
