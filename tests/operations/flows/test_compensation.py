# ruff: noqa: F811
"""What undoes something after a failure: when it is done, and with which machines."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from beidou.base.errors import InvalidInput
from operations.flows import advance, catalog, graph
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep
from operations.models import Operation
from tests.operations.flows.test_nesting import child_of, save  # noqa: F401

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def step(key, *, name="Toy", needs=(), **values):
    return replace(catalog.spec(name), key=key, needs=tuple(needs), **values)


def done_by(key):
    """The addresses with which operations of the step have succeeded."""
    rows = Operation.objects.filter(task_part__step__key=key, status="succeeded")
    return sorted(rows.values_list("machines__address", flat=True))


def addresses(machines):
    return sorted(machine.address for machine in machines)


def fail_once(toy, key, *machines):
    """In the operation of this step alone."""

    def during(run):
        is_here = run.operation.name.endswith(f"-{key}")
        toy.failing = {("second", m.address) for m in machines} if is_here else set()

    toy.during = during


GATE = {"name": "NodesReady", "on_failure": "compensate"}


def give_up(control, task, key):
    """The gate's time is over."""
    past = timezone.now() - timedelta(seconds=1)
    row = task.steps.get(key=key)
    row.progress = {**row.progress, "until": past.isoformat()}
    row.due_at = past
    row.save()
    control(advance.sweep)


def test_behind_a_gate_that_failed_all_that_had_come_to_it_is_undone(
    begin_task, work, control, toy, machines, steps_of
):
    fail_once(toy, "join", machines[0])
    task = begin_task(
        step("join"),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("gate",)),
    )
    work()
    give_up(control, task, "gate")
    work()
    assert steps_of(task) == {"join": "partial", "gate": "failed", "undo": "succeeded"}
    assert done_by("undo") == addresses(machines[1:])
    assert fresh(task).status == Status.FAILED


def test_behind_a_rejection_likewise(begin_task, work, control, approver, toy, machines, steps_of):
    task = begin_task(
        step("join"),
        step("accept", name="WorkOrder", needs=("join",), on_failure="compensate"),
        step("undo", compensates=("accept",)),
    )
    work()
    order = task.steps.get(key="accept").orders.get()
    control(controls.reject, order, acting_user=approver, reason="out again")
    work()
    assert steps_of(task) == {"join": "succeeded", "accept": "failed", "undo": "succeeded"}
    assert done_by("undo") == addresses(machines)


def test_behind_a_task_that_failed_without_a_machine_of_its_own_likewise(
    save,
    begin_task,
    work,
    control,
    toy,
    machines,
    steps_of,
):
    save("inner", "Toy", "NodesReady")
    task = begin_task(
        graph.Spec("below", "Task", "task", {"template": "inner"}, on_failure="compensate"),
        step("undo", compensates=("below",)),
    )
    work()
    give_up(control, child_of(task), "NodesReady")
    work()
    assert steps_of(task) == {"below": "failed", "undo": "succeeded"}
    assert done_by("undo") == addresses(machines)


GOES_ON_BEHIND_IT = (
    {"key": "go", "step": "Toy"},
    {"key": "gate", "step": "NodesReady", "needs": ["go"], "on_failure": "continue"},
)


def test_behind_a_task_that_failed_in_part_without_a_failed_machine_nothing_is_undone(
    save, begin_task, work, control, toy, machines, steps_of
):
    save("inner", *GOES_ON_BEHIND_IT)
    task = begin_task(
        graph.Spec("below", "Task", "task", {"template": "inner"}, on_failure="compensate"),
        step("undo", compensates=("below",)),
        step("after", needs=("below",)),
    )
    work()
    give_up(control, child_of(task), "gate")
    work()
    assert steps_of(task) == {"below": "partial", "undo": "succeeded", "after": "succeeded"}
    assert done_by("undo") == []
    assert done_by("after") == addresses(machines)


def test_where_machines_are_replaced_a_gate_that_failed_is_undone_with_those_it_looked_at(
    begin_task, work, control, machines
):
    new = {"params": {"condition": "nodes", "group": "new"}}
    task = begin_task(step("gate", **GATE, **new), step("undo", compensates=("gate",)))
    task.machines.filter(machine=machines[0]).update(group="old")
    task.machines.exclude(machine=machines[0]).update(group="new")
    work()
    give_up(control, task, "gate")
    work()
    assert done_by("undo") == addresses(machines[1:])


def test_of_a_step_that_failed_in_part_the_failed_machines_are_undone_and_the_others_go_on(
    begin_task, work, toy, machines, steps_of
):
    fail_once(toy, "change", machines[0])
    task = begin_task(
        step("change", on_failure="compensate"),
        step("undo", compensates=("change",)),
        step("after", needs=("change",)),
    )
    work()
    assert steps_of(task) == {"change": "partial", "undo": "succeeded", "after": "succeeded"}
    assert done_by("undo") == [machines[0].address]
    assert done_by("after") == addresses(machines[1:])
    task = fresh(task)
    assert (task.status, task.message) == (Status.PARTIAL, "1 of 3 machines failed.")


def test_a_step_that_failed_in_part_and_compensates_nothing_leaves_its_machines(
    begin_task, work, toy, machines, steps_of
):
    fail_once(toy, "change", machines[0])
    task = begin_task(
        step("change"),
        step("other", on_failure="compensate", needs=("change",)),
        step("undo", compensates=("other",)),
    )
    work()
    assert steps_of(task) == {"change": "partial", "other": "succeeded", "undo": "skipped"}


def test_what_was_mended_by_a_retry_is_not_undone_again(
    begin_task, work, control, operator, toy, machines, steps_of
):
    fail_once(toy, "change", machines[0])
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    work()
    fail_once(toy, "none")
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task) == {"change": "succeeded", "undo": "skipped"}
    assert Operation.objects.filter(task_part__step__key="undo").count() == 1
    assert fresh(task).status == Status.SUCCEEDED


def test_one_that_could_not_undo_everything_fails_the_task(
    begin_task, work, toy, machines, steps_of
):
    toy.failing = {("second", machines[0].address)}
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    work()
    assert steps_of(task) == {"change": "partial", "undo": "failed"}
    assert "Not everything could be undone" in TaskStep.objects.get(key="undo").message
    assert fresh(task).status == Status.FAILED


CHANGE = {"key": "change", "on_failure": "compensate"}
MISTAKES: dict[str, tuple[dict[str, Any], ...]] = {
    "it needs a step": (
        {"key": "wait", "name": "Wait"},
        CHANGE,
        {"key": "undo", "needs": ["wait"], "compensates": ("change",)},
    ),
    "a step needs it": (
        CHANGE,
        {"key": "undo", "compensates": ("change",)},
        {"key": "after", "needs": ["undo"]},
    ),
}


@pytest.mark.parametrize("which", MISTAKES)
def test_what_undoes_stands_beside_the_order_of_the_others(which, begin_task):
    with pytest.raises(InvalidInput) as caught:
        begin_task(*(step(**each) for each in MISTAKES[which]))
    assert list(caught.value.fields) == ["steps[2]"]
    assert "only after a failure" in caught.value.message
    assert not AutoOperationTask.objects.exists()
