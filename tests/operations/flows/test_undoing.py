# ruff: noqa: F811
"""What was undone: nothing goes on with it, and a retry begins anew with it."""

from dataclasses import replace

import pytest
from django.utils import timezone

from beidou.base.errors import Conflict
from machines.models import Machine
from operations.flows import advance, graph, live
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import control as operation_control
from tests import factories
from tests.operations.flows.test_compensation import (
    GATE,
    addresses,
    done_by,
    fresh,
    give_up,
    step,
)
from tests.operations.flows.test_nesting import child_of, save  # noqa: F401

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


def fail_in(toy, **machines):
    """``join=m``: it fails with this machine in the operations of the step “join”."""

    def during(run):
        keys = [key for key in machines if f"-{key}" in run.operation.name]
        toy.failing = {("second", machines[key].address) for key in keys}

    toy.during = during


def calls_of(toy):
    """What was done since the last look, step by step, each with its machines."""
    calls = [(name, sorted(names)) for name, names in toy.calls]
    toy.calls.clear()
    return calls


def both(machines):
    """An operation of the toy kind with these."""
    return [("first", addresses(machines)), ("second", addresses(machines))]


def let_all_be_ready(machines, cluster, control):
    for machine in machines:
        machine.node = factories.make_node(cluster)
        machine.save()
    TaskStep.objects.filter(kind="gate", status="running").update(due_at=timezone.now())
    control(advance.sweep)


# --- machines that fail later ---------------------------------------------------------------------


def test_machines_that_fail_in_a_later_step_are_undone_too(
    begin_task, work, toy, machines, steps_of
):
    fail_in(toy, one=machines[0], two=machines[1])
    task = begin_task(
        step("one", on_failure="compensate"),
        step("two", on_failure="compensate", needs=("one",)),
        step("undo", compensates=("one", "two")),
    )
    work()
    assert steps_of(task) == {"one": "partial", "two": "partial", "undo": "succeeded"}
    assert done_by("undo") == addresses(machines[:2])
    assert "Undone with 2 machines" in task.steps.get(key="undo").message
    assert fresh(task).message == "2 of 3 machines failed."


def test_and_those_that_come_as_far_as_a_gate_that_fails_later(
    begin_task, work, control, toy, machines, steps_of
):
    fail_in(toy, join=machines[0])
    task = begin_task(
        step("join", on_failure="compensate"),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("join", "gate")),
    )
    work()
    assert done_by("undo") == [machines[0].address]
    give_up(control, task, "gate")
    work()
    assert steps_of(task) == {"join": "partial", "gate": "failed", "undo": "succeeded"}
    assert done_by("undo") == addresses(machines)
    said = task.machines.get(machine=machines[1])
    assert (said.state, said.failed_in) == ("failed", "gate")
    assert said.message == "Came as far as Nodes are ready, which failed."


def test_one_that_failed_is_done_with_those_that_fail_later_and_has_failed_still(
    begin_task, work, toy, machines, steps_of
):
    def during(run):
        name, step_name = run.operation.name, run.step_name
        toy.failing = set()
        if "-one" in name and step_name == "second":
            toy.failing = {("second", machines[0].address)}
        elif "-undo" in name:
            toy.failing = {("first", machines[0].address)}
        elif "-two" in name:
            toy.failing = {("second", machines[1].address)}

    toy.during = during
    task = begin_task(
        step("one", on_failure="compensate"),
        step("two", on_failure="compensate"),
        step("undo", compensates=("one", "two")),
        step("after", needs=("one", "two")),
    )
    work()
    assert steps_of(task) == {
        "one": "partial",
        "two": "partial",
        "undo": "failed",
        "after": "waiting",
    }
    assert done_by("undo") == [machines[1].address]
    assert fresh(task).status == Status.FAILED


def test_what_a_paused_task_comes_to_meanwhile_is_undone_when_it_goes_on(
    begin_task, work, control, operator, toy, machines, steps_of
):
    fail_in(toy, join=machines[0])
    task = begin_task(
        step("join", on_failure="compensate"),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("join", "gate")),
    )
    work()
    control(controls.pause, task, acting_user=operator)
    row = task.steps.get(key="gate")
    row.progress = {**row.progress, "until": timezone.now().isoformat()}
    row.save()
    control(advance.advance, task.pk)
    work()
    assert done_by("undo") == [machines[0].address]
    assert fresh(task).status == Status.PAUSED
    control(controls.resume, task, acting_user=operator)
    work()
    assert done_by("undo") == addresses(machines)
    assert fresh(task).status == Status.FAILED


def test_what_could_not_be_undone_with_every_machine_says_so(
    begin_task, work, control, toy, machines, steps_of, begin
):
    fail_in(toy, change=machines[0])
    task = begin_task(
        step("change"),
        step("gate", needs=("change",), **GATE),
        step("undo", compensates=("gate",)),
    )
    work()
    begin(machines=machines[1:2])  # holds it
    give_up(control, task, "gate")
    work()
    assert steps_of(task)["undo"] == "failed"
    assert "Not everything could be undone" in task.steps.get(key="undo").message


# --- a retry --------------------------------------------------------------------------------------


@pytest.fixture
def undone(begin_task, work, control, toy):
    """``undone(…steps before the gate)``: a task whose gate has failed, with everything undone."""

    def begin_it(*steps, **values):
        task = begin_task(
            *steps,
            step("gate", needs=(steps[-1].key,), **GATE),
            step("after", needs=("gate",)),
            step("undo", compensates=("gate",)),
            **values,
        )
        work()
        give_up(control, task, "gate")
        work()
        toy.calls.clear()
        return task

    return begin_it


def test_a_gate_that_is_retried_lets_no_machine_on_that_was_undone(
    undone, work, control, operator, toy, machines, cluster_a, steps_of
):
    task = undone(step("join"))
    assert "a retry begins anew with them" in task.steps.get(key="undo").message
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines)
    assert steps_of(task) == {
        "join": "succeeded",
        "gate": "running",
        "after": "waiting",
        "undo": "waiting",
    }
    let_all_be_ready(machines, cluster_a, control)
    work()
    assert calls_of(toy) == both(machines)
    assert fresh(task).status == Status.SUCCEEDED
    assert steps_of(task)["undo"] == "skipped"


def test_when_it_fails_again_it_is_undone_again(
    undone, work, control, operator, toy, machines, steps_of
):
    task = undone(step("join"))
    for _time in range(2):
        control(controls.retry, task, acting_user=operator)
        work()
        give_up(control, task, "gate")
        work()
        assert calls_of(toy) == both(machines) * 2  # join, undo
        assert steps_of(task)["undo"] == "succeeded"


def test_a_retry_that_fails_with_another_machine_undoes_that_one(
    begin_task, work, control, operator, toy, machines, steps_of
):
    fail_in(toy, change=machines[0])
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    work()
    calls_of(toy)
    fail_in(toy, change=machines[0], undo=machines[0])
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines[:1]) * 2
    assert steps_of(task) == {"change": "partial", "undo": "failed"}
    fail_in(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines[:1])
    assert steps_of(task) == {"change": "succeeded", "undo": "skipped"}
    assert fresh(task).status == Status.SUCCEEDED


def test_all_that_was_done_before_is_done_again_with_the_machines_that_were_undone_alone(
    begin_task, work, control, operator, toy, machines, steps_of
):
    fail_in(toy, two=machines[0])
    task = begin_task(
        step("one"),
        step("two", on_failure="compensate", needs=("one",)),
        step("after", needs=("two",)),
        step("undo", compensates=("two",)),
    )
    work()
    calls_of(toy)
    fail_in(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines[:1]) * 3
    assert fresh(task).status == Status.SUCCEEDED
    rows = {row["key"]: row for row in live.snapshot(task.pk).steps.values()}
    assert {key: (rows[key]["succeeded"], rows[key]["total"]) for key in ("one", "two")} == {
        "one": (3, 3),
        "two": (3, 3),
    }


def test_in_batches_two_failures_are_undone_and_done_again_each(
    begin_task, work, control, operator, toy, machines, steps_of
):
    def during(run):
        toy.failing = (
            {("second", machines[number].address) for number in (0, 2)}
            if "-change" in run.operation.name
            else set()
        )

    toy.during = during
    task = begin_task(
        step("change", on_failure="compensate"),
        step("undo", compensates=("change",)),
        batches=Batches(size=1),
    )
    work()
    assert done_by("undo") == [machines[0].address, machines[2].address]
    calls_of(toy)
    fail_in(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == [*both(machines[:1]), *both(machines[2:])]
    assert fresh(task).status == Status.SUCCEEDED


def test_an_approval_that_still_covers_what_is_done_again_is_kept(
    work, control, operator, approver, begin_task, toy, machines, steps_of
):
    task = begin_task(
        step("ask", name="WorkOrder"),
        step("join", needs=("ask",)),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("gate",)),
    )
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    give_up(control, task, "gate")
    work()
    calls_of(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert WorkOrder.objects.get().status == "approved"
    assert calls_of(toy) == both(machines)


def test_with_other_rights_it_asks_before_anything_is_done_again(
    work, control, operators, approver, begin_task, toy, machines
):
    task = begin_task(
        step("ask", name="WorkOrder"),
        step("join", needs=("ask",)),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("gate",)),
    )
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    give_up(control, task, "gate")
    work()
    calls_of(toy)
    other = factories.make_user("other", teams=(operators,))
    control(controls.retry, task, acting_user=other)
    work()
    assert calls_of(toy) == []
    assert WorkOrder.objects.order_by("number").last().status == "open"


def test_what_was_canceled_while_it_was_undone_begins_anew_too(
    begin_task, work, control, operator, toy, machines, steps_of
):
    task = begin_task(
        step("join"),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("gate",)),
    )
    work()
    give_up(control, task, "gate")

    def during(run):
        if "-undo" in run.operation.name and run.step_name == "second":
            toy.during = lambda run: None
            control(controls.cancel, task, acting_user=operator)

    toy.during = during
    work()
    assert steps_of(task)["undo"] == "canceled"
    calls_of(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines)


def test_what_was_taken_out_of_the_queue_has_undone_nothing(
    undone, begin_task, work, control, operator, toy, machines, steps_of
):
    task = begin_task(
        step("join"),
        step("gate", needs=("join",), **GATE),
        step("undo", compensates=("gate",)),
    )
    work()
    give_up(control, task, "gate")
    control(controls.cancel, task, acting_user=operator)
    work()
    assert begun_by("undo").get().status == "canceled"
    calls_of(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == []
    assert steps_of(task)["gate"] == "running"


def test_after_a_retry_that_is_undone_which_fails_then_and_nothing_else(
    begin_task, work, control, operator, toy, machines, steps_of
):
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    while not begun_by("undo").exists():
        assert work(limit=1)
    assert begun_by("undo").get().status == "waiting"
    control(controls.cancel, task, acting_user=operator)
    work()
    fail_in(toy, change=machines[0])
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task) == {"change": "partial", "undo": "succeeded"}
    assert done_by("undo") == [machines[0].address]


def test_nothing_is_done_again_that_could_not_begin_with_the_machine_as_it_is(
    undone, work, control, operator, toy, machines, steps_of
):
    task = undone(step("join"))
    Machine.objects.update(state=Machine.State.IN_SERVICE)  # only a setting was taken back
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == []
    assert steps_of(task)["gate"] == "running"
    give_up(control, task, "gate")
    assert begun_by("undo").count() == 1
    assert steps_of(task)["undo"] == "failed"  # and nor could the toy


def test_what_may_be_done_at_any_time_has_nothing_else_done_again(
    undone, work, control, operator, toy, machines, steps_of, monkeypatch
):
    states = frozenset({Machine.State.AVAILABLE, Machine.State.IN_SERVICE})
    made = kinds.get("Toy")
    plain = tuple(replace(each, touches=False) for each in made.steps)
    monkeypatch.setitem(
        kinds.KINDS, "Plain", replace(made, name="Plain", steps=plain, startable_states=states)
    )
    task = undone(step("prepare", name="Plain"), step("join", needs=("prepare",)))
    Machine.objects.update(state=Machine.State.IN_SERVICE)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines)
    assert (begun_by("prepare").count(), begun_by("join").count()) == (2, 1)
    assert steps_of(task)["gate"] == "running"


# --- below ----------------------------------------------------------------------------------------


def test_a_task_below_is_begun_anew_for_the_machines_that_were_undone(
    save, undone, work, control, operator, toy, machines, cluster_a, steps_of
):
    save("inner", "Toy")
    task = undone(graph.Spec("below", "Task", "task", {"template": "inner"}))
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines)
    first, second = AutoOperationTask.objects.filter(parent__task=task).order_by("pk")
    assert second.machines.count() == len(machines)
    let_all_be_ready(machines, cluster_a, control)
    work()
    assert (fresh(task).status, fresh(first).status) == (Status.SUCCEEDED, Status.SUCCEEDED)
    row = next(row for row in live.snapshot(task.pk).steps.values() if row["key"] == "below")
    assert (row["succeeded"], row["total"]) == (3, 3)


def test_one_that_failed_in_part_is_left_with_the_machines_that_were_not_undone(
    save, begin_task, work, control, operator, toy, machines, steps_of
):
    save("inner", "Toy")
    fail_in(toy, below=machines[0])
    task = begin_task(
        graph.Spec("below", "Task", "task", {"template": "inner"}, on_failure="compensate"),
        step("undo", compensates=("below",)),
    )
    work()
    assert steps_of(task) == {"below": "partial", "undo": "succeeded"}
    calls_of(toy)
    fail_in(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert calls_of(toy) == both(machines[:1])
    assert steps_of(task) == {"below": "succeeded", "undo": "skipped"}
    assert fresh(task).status == Status.SUCCEEDED
    first = AutoOperationTask.objects.filter(parent__task=task).order_by("pk").first()
    assert "Begins anew in another task" in first.machines.get(machine=machines[0]).message


def test_what_was_undone_below_goes_on_nowhere_above(
    save, begin_task, work, control, toy, machines, steps_of
):
    gate = {"key": "gate", "step": "NodesReady", "needs": ["go"], "on_failure": "compensate"}
    back = {"key": "back", "step": "Toy", "compensates": ["gate"]}
    save("inner", {"key": "go", "step": "Toy"}, gate, back)
    task = begin_task(
        graph.Spec("below", "Task", "task", {"template": "inner"}, on_failure="continue"),
        step("after", needs=("below",)),
    )
    work()
    give_up(control, child_of(task), "gate")
    work()
    assert done_by("back") == addresses(machines)
    assert done_by("after") == []
    assert steps_of(task) == {"below": "failed", "after": "failed"}


# --- a skip, and the pages of operations ----------------------------------------------------------


def test_a_skip_leaves_out_what_was_undone_and_names_it(
    begin_task, work, control, operator, toy, machines, steps_of
):
    fail_in(toy, change=machines[0])
    task = begin_task(
        step("change", on_failure="compensate"),
        step("after", needs=("change",)),
        step("undo", compensates=("change",)),
    )
    work()
    calls_of(toy)
    control(controls.skip, task, acting_user=operator, step="change", reason="by hand")
    work()
    assert calls_of(toy) == []
    said = task.steps.get(key="change").message
    assert said == (
        f"Skipped by operator: by hand Left out, because they were undone: {machines[0].address}."
    )
    assert task.machines.get(machine=machines[0]).state == "failed"
    assert fresh(task).status == Status.PARTIAL


def test_a_skip_behind_which_no_machine_would_be_left_is_refused(undone, operator, steps_of):
    task = undone(step("join"))
    with pytest.raises(Conflict, match="All machines that came to this step were undone"):
        controls.skip(task, acting_user=operator, step="gate", reason="never mind")
    assert steps_of(task)["gate"] == "failed"


def begun_by(key):
    return Operation.objects.filter(task_part__step__key=key).order_by("pk")


@pytest.mark.parametrize("is_retried", [False, True])
def test_on_its_own_page_nothing_is_done_again_of_what_was_undone(
    is_retried, begin_task, work, control, operator, toy, machines
):
    fail_in(toy, change=machines[0])
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    work()
    if is_retried:
        control(controls.retry, task, acting_user=operator)
        work()
    operation = begun_by("change").first()
    member = operation.machines.get(machine=machines[0])
    with pytest.raises(Conflict, match=f"was undone: {machines[0].address}"):
        operation_control.retry(operation, acting_user=operator)
    with pytest.raises(Conflict, match="was undone"):
        operation_control.skip(
            operation, acting_user=operator, step="second", machines=[member.pk], reason="by hand"
        )


def test_nor_is_undone_once_more_what_has_begun_anew(
    begin_task, work, control, operator, toy, machines
):
    fail_in(toy, change=machines[0], undo=machines[0])
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    work()
    fail_in(toy)
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    with pytest.raises(Conflict, match="was undone"):
        operation_control.retry(begun_by("undo").get(), acting_user=operator)
