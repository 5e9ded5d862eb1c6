"""A task whose operation asks something waits for the answer, and has not failed."""

from dataclasses import replace

import pytest

from beidou.base.models import Notice
from beidou.overview.attention import needs
from operations.flows import advance, catalog, graph, live
from operations.flows import control as controls
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import control as operation_control
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status
SIZE = frozenset({"size"})


@pytest.fixture
def toy():
    with toy_kind(answers=SIZE) as script:
        yield script


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def row_of(task, key):
    return next(row for row in live.snapshot(task.pk).steps.values() if row["key"] == key)


def answer(control, user, **answers):
    operation = Operation.objects.get()
    control(operation_control.retry, operation, acting_user=user, answers=answers)


@pytest.fixture
def asked(toy, begin_task, work, machines):
    """A task whose only operation asks about all machines; a second step comes behind."""
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "UncordonNodes")
    work()
    return task


def test_the_task_and_its_step_wait_and_say_for_what(asked, steps_of):
    assert steps_of(asked) == {"Toy": "running", "UncordonNodes": "waiting"}
    task = fresh(asked)
    assert task.status == Status.RUNNING
    assert task.waiting_for == "an answer: Toy"
    name = Operation.objects.get().name
    assert asked.steps.get(key="Toy").message == f"{name} asks: it is too small"


def test_no_machine_has_failed(asked):
    assert set(asked.machines.values_list("state", flat=True)) == {"waiting"}
    snapshot = live.snapshot(asked.pk)
    assert {row["state"] for row in snapshot.machines.values()} == {"waiting"}
    (part,) = row_of(asked, "Toy")["parts"]
    assert (part["status"], part["failed"], part["asks"]) == ("waiting", 0, True)


def test_it_goes_on_when_it_was_answered(toy, begin_task, work, machines, control, operator):
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "Toy")
    work()
    toy.asking.clear()
    answer(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert fresh(task).waiting_for == ""


def test_what_it_waits_for_is_gone_as_soon_as_it_was_answered(asked, work, control, operator):
    answer(control, operator, size=2)
    work(limit=2)  # the dispatch and the task's look, not yet the step
    assert fresh(asked).waiting_for == ""
    assert asked.steps.get(key="Toy").message == ""


def test_an_answer_that_does_not_help_is_asked_again(asked, work, control, operator, steps_of):
    answer(control, operator, size=1)
    work()
    assert steps_of(asked)["Toy"] == "running"
    assert fresh(asked).waiting_for == "an answer: Toy"


def test_an_operation_that_fails_after_the_answer_fails_the_step(
    toy, asked, work, control, operator, steps_of, machines
):
    toy.failing = {("second", machine.address) for machine in machines}
    answer(control, operator, size=2)
    work()
    assert steps_of(asked)["Toy"] == "failed"
    assert fresh(asked).status == Status.FAILED


def test_where_one_machine_has_failed_otherwise_the_step_fails(
    toy, begin_task, work, machines, steps_of
):
    toy.asking = {("first", machine.address) for machine in machines[1:]}
    toy.failing = {("first", machines[0].address)}
    task = begin_task("Toy")
    work()
    assert steps_of(task) == {"Toy": "failed"}
    assert fresh(task).status == Status.FAILED


def test_a_machine_within_the_tolerated_share_drops_out_with_its_question(
    toy, begin_task, work, machines, steps_of
):
    toy.asking = {("first", machines[0].address)}
    task = begin_task("Toy")
    work()
    assert steps_of(task) == {"Toy": "partial"}
    assert task.machines.get(state="failed").message == "it is too small"


def test_beyond_the_tolerated_share_it_is_waited_for(
    toy, begin_task, work, machines, steps_of, control, operator
):
    toy.asking = {("first", machines[0].address)}
    task = begin_task("Toy", batches=Batches(max_failed_percent=0))
    work()
    assert steps_of(task) == {"Toy": "running"}
    answer(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_a_step_behind_which_the_task_goes_on_anyway_does_not_wait(
    toy, begin_task, work, machines, steps_of
):
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task(replace(catalog.spec("Toy"), on_failure="continue"))
    work()
    assert steps_of(task) == {"Toy": "failed"}


def test_looking_again_changes_nothing_and_tells_nobody_twice(asked, control, steps_of):
    for _look in range(3):
        control(advance.sweep)
    assert steps_of(asked)["Toy"] == "running"
    (told,) = Notice.objects.filter(kind="task.asks")
    assert told.title == f"Task {asked.name} waits for an answer."
    assert told.details.endswith("asks: it is too small")


def test_what_somebody_else_has_to_approve_is_called_so(
    toy, begin_task, work, machines, monkeypatch
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), approvals=SIZE))
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    assert fresh(task).waiting_for == "an approval: Toy"
    assert "waits for an approval of its operation" in Notice.objects.get(kind="task.asks").title


def test_a_task_that_is_asked_can_be_canceled(asked, work, control, operator, steps_of):
    control(controls.cancel, asked, acting_user=operator)
    work()
    assert fresh(asked).status == Status.CANCELED
    assert steps_of(asked) == {"Toy": "canceled", "UncordonNodes": "canceled"}


def test_a_retry_after_the_cancel_does_the_operation_again(asked, work, control, operator):
    control(controls.cancel, asked, acting_user=operator)
    work()
    control(controls.retry, asked, acting_user=operator)
    work()
    assert fresh(asked).waiting_for == "an answer: Toy"
    assert Operation.objects.count() == 1


def test_the_task_above_says_for_what_the_one_below_waits(
    toy, begin_task, work, machines, admin, control, operator
):
    content = contents.read({"title": "inner", "steps": [{"key": "Toy", "step": "Toy"}]})
    saving.create(name="inner", content=content, acting_user=admin)
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task(graph.Spec("below", "Task", "task", {"template": "inner"}))
    work()
    child = AutoOperationTask.objects.get(parent__task=task)
    assert fresh(task).waiting_for == f"{child.name}: an answer: Toy"
    answer(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_the_home_page_tells_it(asked, viewer):
    (need,) = [each for each in needs(viewer) if each.kind == "asking_task"]
    assert (need.text, need.detail) == (f"{asked.name} waits", "an answer: Toy")


def test_a_withdrawn_approval_is_asked_for_before_the_answer(
    toy, begin_task, work, machines, control, approver, steps_of
):
    toy.asking = {("first", machine.address) for machine in machines}
    task = begin_task("WorkOrder", "Toy")
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    assert fresh(task).waiting_for == "an answer: Toy"
    order = WorkOrder.objects.get(status="approved")
    control(controls.withdraw, order, acting_user=approver, reason="wait")
    work()
    assert fresh(task).waiting_for.startswith("an approval: ")
