# ruff: noqa: F811
"""What is below is paused, ended and begun again at awkward moments."""

from dataclasses import replace

import pytest

from beidou.base.errors import InvalidInput
from operations.flows import advance, catalog, graph, start
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.models import ClusterSettings, Freeze, Operation
from operations.services import control as operation_control
from operations.services import dispatch
from tests.operations.flows.test_nesting import child_of, inner, save, status  # noqa: F401

pytestmark = pytest.mark.django_db


@pytest.fixture
def nothing_queued(django_capture_on_commit_callbacks):
    """Call something whose words to the queue are lost, as when a worker dies."""

    def call(function, *args, **kwargs):
        with django_capture_on_commit_callbacks(execute=False):
            return function(*args, **kwargs)

    return call


@pytest.fixture
def barely_begun(save, nothing_queued, cluster_a, machines, operator):
    """A task whose child is there, and was never looked at."""
    save("inner", "Toy")
    task = nothing_queued(
        start.start_task,
        specs=[inner("inner")],
        cluster=cluster_a,
        machines=machines,
        acting_user=operator,
    )
    nothing_queued(advance.advance, task.pk)
    return task


# --- paused -----------------------------------------------------------------------------------


def test_a_task_below_that_is_paused_before_its_first_look_waits(
    barely_begun, control, work, operator, steps_of
):
    child = child_of(barely_begun)
    control(controls.pause, barely_begun, acting_user=operator)
    control(advance.advance, child.pk)
    assert steps_of(child) == {"Toy": "waiting"}
    control(controls.resume, barely_begun, acting_user=operator)
    work()
    assert (status(child), status(barely_begun)) == ("succeeded", "succeeded")
    assert Operation.objects.filter(task_part__step__task=child).count() == 1


def test_one_that_is_canceled_before_its_first_look_is_canceled(
    barely_begun, control, work, operator, steps_of
):
    child = child_of(barely_begun)
    control(controls.pause, barely_begun, acting_user=operator)
    control(advance.advance, child.pk)
    control(controls.cancel, barely_begun, acting_user=operator)
    work()
    assert (status(child), status(barely_begun)) == ("canceled", "canceled")
    assert not Operation.objects.exists()


# --- what waits in the queue when its approval is taken back ----------------------------------


@pytest.fixture
def thaw(control):
    def end(frozen):
        frozen.delete()
        control(dispatch.dispatch)

    return end


@pytest.fixture
def queued(save, begin_task, work, control, approver, cluster_a):
    """``queued(task)``: an approved task whose operation waits for the end of a freeze; the order
    and the freeze."""

    def begin_it(*steps):
        frozen = Freeze.objects.create(cluster=cluster_a, reason="year's end")
        task = begin_task(catalog.spec("WorkOrder"), *steps)
        work()
        order = WorkOrder.objects.get()
        control(controls.approve, order, acting_user=approver)
        work()
        assert Operation.objects.get().status == "waiting"
        return task, order, frozen

    return begin_it


BELOW = graph.Spec("below", "Task", "task", {"template": "inner"}, ("WorkOrder",))


@pytest.fixture(params=["here", "below"])
def waiting(request, save, queued):
    """The same for an operation of the task, and of one that is a step of it."""
    if request.param == "here":
        return queued(replace(catalog.spec("Toy"), needs=("WorkOrder",)))
    save("inner", "Toy")
    return queued(BELOW)


def test_an_operation_in_the_queue_waits_for_the_next_approval(
    waiting, toy, work, thaw, control, approver, operator
):
    task, order, frozen = waiting
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    assert Operation.objects.get().status == "canceled"
    thaw(frozen)
    work()
    assert (toy.calls, status(task)) == ([], "running")
    again = WorkOrder.objects.get(status="open")
    control(controls.approve, again, acting_user=approver)
    work()
    assert (status(task), Operation.objects.get().status) == ("succeeded", "succeeded")


def test_an_operation_in_the_queue_never_begins_after_a_rejection(
    waiting, toy, work, thaw, control, approver, operator
):
    task, order, frozen = waiting
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    work()
    again = WorkOrder.objects.get(status="open")
    control(controls.reject, again, acting_user=approver, reason="no")
    thaw(frozen)
    work()
    assert (toy.calls, status(task)) == ([], "failed")
    assert Operation.objects.get().status == "canceled"
    control(controls.retry, task, acting_user=operator)
    work()
    control(controls.approve, WorkOrder.objects.get(status="open"), acting_user=approver)
    work()
    assert (status(task), Operation.objects.count()) == ("succeeded", 1)


def test_what_is_approved_no_more_begins_no_more_below(
    save, queued, toy, work, thaw, control, approver, cluster_a
):
    save("inner", "Toy")
    task, _order, frozen = queued(BELOW)
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    control(advance.advance, task.pk)
    thaw(frozen)
    work()
    assert (toy.calls, status(task)) == ([], "running")
    control(controls.approve, WorkOrder.objects.get(status="open"), acting_user=approver)
    work()
    assert status(task) == "succeeded"


def test_what_changed_while_it_waited_in_the_queue_is_asked_for_before_it_begins(
    waiting, toy, work, thaw, control, approver, cluster_a
):
    task, _order, frozen = waiting
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    thaw(frozen)
    work()
    assert (toy.calls, status(task)) == ([], "running")
    assert Operation.objects.get().status == "canceled"
    again = WorkOrder.objects.get(status="open")
    assert again.changes == ["The preCheck policy of the cluster was changed."]
    control(controls.approve, again, acting_user=approver)
    work()
    assert (status(task), Operation.objects.get().status) == ("succeeded", "succeeded")


def test_so_it_is_while_the_task_is_paused(
    waiting, toy, work, thaw, control, approver, operator, cluster_a
):
    task, _order, frozen = waiting
    control(controls.pause, task, acting_user=operator)
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    thaw(frozen)
    work()
    assert (toy.calls, Operation.objects.get().status) == ([], "waiting")  # nothing begins at all
    control(controls.resume, task, acting_user=operator)
    work()
    assert (toy.calls, Operation.objects.get().status) == ([], "canceled")
    control(controls.approve, WorkOrder.objects.get(status="open"), acting_user=approver)
    work()
    assert status(task) == "succeeded"


def test_what_a_retry_on_its_own_page_put_into_the_queue_is_taken_out_of_it_likewise(
    queued, toy, work, thaw, control, operator, machines, cluster_a
):
    task, _order, frozen = queued(replace(catalog.spec("Toy"), needs=("WorkOrder",)))
    toy.failing = {("first", machine.address) for machine in machines}
    thaw(frozen)
    work()
    assert status(task) == "failed"
    toy.calls.clear()
    frozen = Freeze.objects.create(cluster=cluster_a, reason="again")
    control(operation_control.retry, Operation.objects.get(), acting_user=operator)
    work()
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    thaw(frozen)
    work()
    operation = Operation.objects.get()
    assert (toy.calls, operation.status) == ([], "canceled")
    assert operation.message == "Waits for an approval of what has changed."


def test_the_end_of_the_whole_takes_what_is_below_out_of_the_queue(
    save, queued, toy, work, thaw, control
):
    save("inner", "Toy")
    task, _order, frozen = queued(BELOW)
    task.steps.filter(key="below").update(status="failed")
    control(advance.advance, task.pk)
    assert Operation.objects.get().status == "canceled"
    thaw(frozen)
    work()
    assert (toy.calls, status(child_of(task))) == ([], "canceled")


def test_withdrawing_lets_what_has_begun_be_finished(
    save, begin_task, work, toy, control, approver, steps_of
):
    task = begin_task("WorkOrder", "Toy")
    work()
    order = WorkOrder.objects.get()

    def withdraw(_run):
        if order.status == "open":
            return
        toy.during = lambda run: None
        control(controls.withdraw, order, acting_user=approver, reason="wait")

    control(controls.approve, order, acting_user=approver)
    order.refresh_from_db()
    toy.during = withdraw
    work()
    assert Operation.objects.get().status == "succeeded"
    assert steps_of(task)["WorkOrder"] == "running"


# --- compensation -----------------------------------------------------------------------------


def test_a_task_compensates_nothing(save, begin_task):
    save("inner", "Toy")
    join = replace(catalog.spec("Toy"), on_failure="compensate")
    undo = graph.Spec("undo", "Task", "task", {"template": "inner"}, compensates=("Toy",))
    with pytest.raises(InvalidInput) as caught:
        begin_task(join, undo)
    assert list(caught.value.fields) == ["steps[1]"]
    assert not AutoOperationTask.objects.exists()


def test_nor_in_a_template(save):
    save("inner", "Toy")
    steps = [
        {"key": "join", "step": "Toy", "on_failure": "compensate"},
        {"key": "undo", "compensates": ["join"], "step": "Task", "params": {"template": "inner"}},
    ]
    with pytest.raises(InvalidInput) as caught:
        save("outer", *steps)
    assert list(caught.value.fields) == ["steps[1].compensates"]


# --- done again while something below is still ending -----------------------------------------


def test_a_retry_waits_for_the_end_of_what_is_below_and_does_it_again(
    save, begin_task, work, toy, control, approver, operator
):
    save("inner", "Toy", "Wait")
    task = begin_task(catalog.spec("WorkOrder"), BELOW)
    work()
    order = WorkOrder.objects.get()
    control(controls.approve, order, acting_user=approver)
    while not Operation.objects.filter(status="running").exists():
        assert work(1)
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    control(advance.advance, task.pk)
    again = WorkOrder.objects.get(status="open")
    control(controls.reject, again, acting_user=approver, reason="no")
    control(advance.advance, task.pk)
    child = child_of(task)
    assert (status(task), status(child)) == ("failed", "canceling")
    control(controls.retry, task, acting_user=operator)
    control(advance.advance, task.pk)
    control(controls.approve, WorkOrder.objects.get(status="open"), acting_user=approver)
    control(advance.advance, task.pk)
    work()
    assert (status(task), status(child)) == ("running", "running")
    assert Operation.objects.get().status == "succeeded"
    assert AutoOperationTask.objects.count() == 2
