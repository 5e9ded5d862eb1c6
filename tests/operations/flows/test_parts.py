# ruff: noqa: F811
"""Operations of tasks on their own pages: no way round an approval."""

import pytest

from beidou.base.errors import Conflict
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.models import ClusterSettings, Operation
from operations.services import control as operation_control
from tests.operations.flows.test_nesting import save  # noqa: F401
from tests.operations.flows.test_nesting_halts import queued, thaw, waiting  # noqa: F401

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status
LACKS = "lacks an approval of this"


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def newest():
    return WorkOrder.objects.order_by("number").last()


def retry(control, user, **values):
    return control(operation_control.retry, Operation.objects.get(), acting_user=user, **values)


def status_of_operation():
    return Operation.objects.get().status


@pytest.fixture
def approved(toy, begin_task, work, control, approver):
    """``approved()``: a task whose operation has begun to run, or ended, as it was approved."""

    def begin_it(*, limit=100):
        task = begin_task("WorkOrder", "Toy")
        work()
        control(controls.approve, newest(), acting_user=approver)
        work(limit=limit)
        return task

    return begin_it


# --- an approval that is not given any more -------------------------------------------------------


def test_what_was_taken_out_of_the_queue_is_retried_by_nobody_before_it_is_approved(
    waiting, toy, work, thaw, control, approver, admin
):
    task, order, frozen = waiting
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    retry(control, admin)  # which the task will do
    thaw(frozen)
    work()
    assert (toy.calls, status_of_operation()) == ([], "canceled")
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_nor_after_a_rejection(waiting, toy, work, thaw, control, approver, operator):
    task, order, frozen = waiting
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    work()
    control(controls.reject, newest(), acting_user=approver, reason="no")
    thaw(frozen)
    work()
    with pytest.raises(Conflict, match=LACKS):
        retry(control, operator)
    work()
    assert (toy.calls, fresh(task).status) == ([], Status.FAILED)


def withdraw_in_it(toy, control, approver):
    """While the operation runs."""

    def during(_run):
        toy.during = lambda run: None
        control(controls.withdraw, newest(), acting_user=approver, reason="alarm")

    toy.during = during


def test_a_step_that_failed_is_skipped_by_nobody_then(
    approved, toy, work, machines, control, approver, operator
):
    toy.failing = {("first", machine.address) for machine in machines}
    withdraw_in_it(toy, control, approver)
    approved()
    operation = Operation.objects.get()
    with pytest.raises(Conflict, match=LACKS):
        operation_control.skip(
            operation,
            acting_user=operator,
            step="first",
            machines=list(operation.machines.values_list("pk", flat=True)),
            reason="by hand",
        )
    assert status_of_operation() == "failed"


def test_one_that_was_paused_is_resumed_when_it_is_approved_again(
    approved, toy, work, control, approver, operator, steps_of
):
    task = approved(limit=2)
    control(operation_control.pause, Operation.objects.get(), acting_user=operator)
    control(controls.withdraw, newest(), acting_user=approver, reason="alarm")
    work()
    assert status_of_operation() == "paused"
    with pytest.raises(Conflict, match=LACKS):
        operation_control.resume(Operation.objects.get(), acting_user=operator)
    control(controls.approve, newest(), acting_user=approver)
    work()
    control(operation_control.resume, Operation.objects.get(), acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED


# --- one that holds, and one that does not cover what would be done now ---------------------------


def test_what_is_covered_is_retried_on_its_own_page(
    approved, toy, work, machines, control, operator
):
    toy.failing = {("second", machine.address) for machine in machines}
    approved()
    toy.failing.clear()
    retry(control, operator)
    work()
    assert status_of_operation() == "succeeded"


def test_what_is_not_as_it_was_approved_is_for_the_task_to_retry(
    approved, toy, work, machines, control, operator, approver, cluster_a
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = approved()
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    with pytest.raises(Conflict, match=LACKS):
        retry(control, operator)
    toy.failing.clear()
    control(controls.retry, task, acting_user=operator)
    work()
    assert (newest().number, newest().status) == (2, "open")
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED
