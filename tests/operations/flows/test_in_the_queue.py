"""What waits in the queue for a task begins only as long as the task wants it."""

import pytest

from operations.flows import control as controls
from operations.flows.models import AutoOperationTask
from operations.models import Freeze, Operation
from operations.services import dispatch, limits
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def frozen(cluster_a):
    return Freeze.objects.create(cluster=cluster_a, reason="year's end")


@pytest.fixture
def thaw(control, work):
    def end():
        Freeze.objects.all().delete()
        control(dispatch.dispatch)
        work()

    return end


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def test_it_does_not_begin_while_its_task_is_paused(
    frozen, begin_task, work, control, operator, thaw, toy
):
    task = begin_task("Toy")
    work()
    control(controls.pause, task, acting_user=operator, reason="think about it")
    thaw()
    waiting = Operation.objects.get()
    assert (waiting.status, toy.calls) == ("waiting", [])
    assert waiting.waiting_for == f"the task {task.name}, which is paused"
    control(controls.resume, task, acting_user=operator)
    work()
    assert fresh(task).status == "succeeded"


def test_while_a_freeze_holds_too_that_is_what_it_waits_for(
    frozen, begin_task, work, control, operator
):
    task = begin_task("Toy")
    work()
    control(controls.pause, task, acting_user=operator)
    work()
    assert Operation.objects.get().waiting_for == "the end of the freeze “year's end”"


def test_one_whose_task_is_paused_keeps_no_other_from_beginning(
    frozen, begin_task, begin, work, control, operator, thaw, settings, operators
):
    settings.OPERATIONS_PER_CLUSTER = 1
    task = begin_task("Toy")
    work()
    control(controls.pause, task, acting_user=operator)
    other = begin(machines=[factories.make_machine(owner_team=operators)])
    thaw()
    other.refresh_from_db()
    assert other.status == "succeeded"


def test_it_does_not_begin_where_the_task_was_paused_after_the_queue_was_read(
    frozen, begin_task, work, control, operator, thaw, toy, monkeypatch
):
    task = begin_task("Toy")
    work()
    read = limits.read

    def pause_meanwhile():
        found = read()
        if fresh(task).status == "running":
            controls.pause(task, acting_user=operator)
        return found

    monkeypatch.setattr(limits, "read", pause_meanwhile)
    thaw()
    assert (Operation.objects.get().status, toy.calls) == ("waiting", [])


def test_whoever_lost_the_right_begins_nothing_that_waits_there(
    frozen, begin_task, work, operator, operators, thaw, toy, steps_of
):
    task = begin_task("Toy")
    work()
    operator.groups.remove(operators)
    thaw()
    assert (steps_of(task), toy.calls) == ({"Toy": "failed"}, [])
    assert "operator, who asked for it, may not do this any more" in fresh(task).message
