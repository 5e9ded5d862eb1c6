"""Steps of a task side by side, over the same machines."""

from dataclasses import replace

import pytest
from django.utils import timezone

from operations.flows import advance, catalog, graph
from operations.flows import control as controls
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.models import AutoOperationTask, TaskStep
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Freeze, Operation
from operations.services import dispatch

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def step(key, *, name="Toy", **values):
    return replace(catalog.spec(name), key=key, **values)


def fail_in(toy, key, addresses):
    """In the operations of the step alone."""

    def during(run):
        is_here = run.operation.name.endswith(f"-{key}")
        toy.failing = {("first", address) for address in addresses} if is_here else set()

    toy.during = during


def failed_in(task):
    return dict(task.machines.filter(state="failed").values_list("address", "failed_in"))


def test_a_step_waits_for_the_machines_that_another_holds(begin_task, work, steps_of):
    task = begin_task(step("one"), step("two"))
    work(limit=1)
    holder = Operation.objects.get()
    assert holder.name.endswith("-one")
    assert steps_of(task) == {"one": "running", "two": "running"}
    message = TaskStep.objects.get(key="two").message
    assert message == f"Waits for {holder.name}, which works on its machines."
    assert failed_in(task) == {}


def test_both_are_done_with_all_machines_one_after_the_other(begin_task, work, steps_of, toy):
    task = begin_task(step("one"), step("two"))
    work()
    assert steps_of(task) == {"one": "succeeded", "two": "succeeded"}
    assert fresh(task).status == Status.SUCCEEDED
    assert [len(addresses) for _step, addresses in toy.calls] == [3, 3, 3, 3]
    assert TaskStep.objects.get(key="two").message == ""


def test_with_batches_no_machine_is_failed_for_the_other_step(begin_task, work, steps_of):
    task = begin_task(step("one"), step("two"), batches=Batches(size=2))
    work()
    assert steps_of(task) == {"one": "succeeded", "two": "succeeded"}
    assert failed_in(task) == {}


def test_the_step_that_waited_is_not_begun_once_the_other_has_stopped_the_task(
    begin_task, work, steps_of, toy, machines
):
    fail_in(toy, "one", [machine.address for machine in machines])
    task = begin_task(step("one"), step("two"))
    work()
    assert steps_of(task) == {"one": "failed", "two": "waiting"}
    assert fresh(task).status == Status.FAILED
    assert Operation.objects.count() == 1
    assert TaskStep.objects.get(key="two").message == ""


def test_after_a_retry_it_is_done_as_well(
    begin_task, work, steps_of, toy, machines, control, operator
):
    fail_in(toy, "one", [machine.address for machine in machines])
    task = begin_task(step("one"), step("two"))
    work()
    fail_in(toy, "none", [])
    control(controls.retry, fresh(task), acting_user=operator)
    work()
    assert steps_of(task) == {"one": "succeeded", "two": "succeeded"}
    assert fresh(task).status == Status.SUCCEEDED


def test_it_is_done_without_the_machines_that_failed_in_the_other(
    begin_task, work, steps_of, toy, machines
):
    fail_in(toy, "one", [machines[0].address])
    task = begin_task(step("one"), step("two"))
    work()
    assert steps_of(task) == {"one": "partial", "two": "succeeded"}
    assert toy.calls[-1][1] == [machine.address for machine in machines[1:]]
    assert failed_in(task) == {machines[0].address: "one"}


def test_a_step_for_which_no_machine_is_left_has_not_succeeded(
    begin_task, work, steps_of, toy, machines
):
    fail_in(toy, "one", [machine.address for machine in machines])
    task = begin_task(step("one", on_failure="continue"), step("two"))
    work()
    assert steps_of(task) == {"one": "failed", "two": "failed"}
    assert TaskStep.objects.get(key="two").message == "No machine is left that could take part."


def test_operations_that_fail_at_the_same_time_fail_both_steps(
    begin_task, work, steps_of, toy, machines, monkeypatch
):
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), holds=False))
    toy.failing = {("first", machine.address) for machine in machines}
    task = begin_task(step("one", on_failure="continue"), step("two", on_failure="continue"))
    work()
    assert set(Operation.objects.values_list("status", flat=True)) == {"failed"}
    assert steps_of(task) == {"one": "failed", "two": "failed"}


def test_a_retry_that_is_stopped_by_one_step_does_not_retry_the_other(
    begin_task, work, steps_of, toy, machines, control, operator, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), holds=False))
        toy.failing = {("first", machine.address) for machine in machines}
        task = begin_task(step("one"), step("two"))
        work()
    assert steps_of(task) == {"one": "failed", "two": "failed"}
    toy.calls.clear()
    control(controls.retry, fresh(task), acting_user=operator)
    work()
    assert steps_of(task) == {"one": "failed", "two": "waiting"}
    assert len(toy.calls) == 1


# --- stop: nothing further begins ---------------------------------------------------------------


@pytest.fixture
def together(toy, monkeypatch):
    """Operations of both steps run at the same time on the same machines."""
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), holds=False))


def operations_of(key):
    return Operation.objects.filter(task_part__step__key=key)


def strict(key):
    """One machine that fails fails the step."""
    made = step(key)
    return replace(made, params={**made.params, "all_or_nothing": True})


def fail_by_step(toy, places):
    """Step -> address of the machine that fails in it."""

    def during(run):
        here = [key for key in places if run.operation.name.endswith(f"-{key}")]
        toy.failing = {("first", places[key]) for key in here}

    toy.during = during


@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_no_further_batch_begins_once_a_step_beside_it_has_stopped_the_task(
    order, together, begin_task, work, steps_of, toy, machines, control, operator
):
    fail_by_step(toy, {"one": machines[0].address})
    task = begin_task(
        *(strict(key) if key == "one" else step(key) for key in order), batches=Batches(size=1)
    )
    work()
    assert steps_of(task) == {"one": "failed", "two": "waiting"}
    assert fresh(task).status == Status.FAILED
    assert operations_of("two").count() == {"one": 1, "two": 2}[order[0]]
    fail_by_step(toy, {})
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task) == {"one": "succeeded", "two": "succeeded"}
    assert operations_of("two").count() == 3
    assert fresh(task).status == Status.SUCCEEDED


def test_what_waits_in_the_queue_then_is_taken_out_until_a_retry(
    together, begin_task, work, steps_of, toy, machines, control, operator, cluster_a
):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    fail_by_step(toy, {"one": machines[0].address})
    task = begin_task(strict("one"), step("two"))
    work(limit=2)
    assert operations_of("one").get().status == "running"
    frozen = Freeze.objects.create(cluster=cluster_a, reason="year's end")
    work()
    assert operations_of("two").get().status == "canceled"
    assert steps_of(task) == {"one": "failed", "two": "waiting"}
    frozen.delete()
    fail_by_step(toy, {})
    control(dispatch.dispatch)
    work()
    assert operations_of("two").get().status == "canceled"
    control(controls.retry, task, acting_user=operator)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_what_failed_in_a_step_that_was_stopped_half_way_is_undone_and_retried(
    together, begin_task, work, steps_of, toy, machines, control, operator
):
    fail_by_step(toy, {"one": machines[0].address, "two": machines[1].address})
    task = begin_task(
        strict("one"),
        step("two", on_failure="compensate"),
        step("undo", compensates=("two",)),
        batches=Batches(size=2),
    )
    work()
    assert steps_of(task) == {"one": "failed", "two": "waiting", "undo": "succeeded"}
    assert operations_of("undo").get().machines.get().address == machines[1].address
    fail_by_step(toy, {})
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task) == {"one": "succeeded", "two": "succeeded", "undo": "skipped"}
    assert failed_in(task) == {}
    assert fresh(task).status == Status.SUCCEEDED


@pytest.mark.parametrize("on_failure", ["stop", "continue"])
def test_what_failed_half_way_in_a_step_that_says_otherwise_is_not_undone(
    on_failure, together, begin_task, work, steps_of, toy, machines
):
    fail_by_step(toy, {"one": machines[0].address, "two": machines[1].address})
    task = begin_task(
        strict("one"),
        step("two", on_failure=on_failure),
        step("undo", compensates=("two",)),
        batches=Batches(size=2),
    )
    work()
    assert steps_of(task) == {"one": "failed", "two": "waiting", "undo": "waiting"}
    assert not operations_of("undo").exists()


def test_one_that_undoes_several_leaves_what_failed_in_those_that_say_otherwise(
    together, begin_task, work, steps_of, toy, machines
):
    fail_by_step(toy, {"one": machines[0].address, "two": machines[1].address})
    one = replace(strict("one"), on_failure="compensate")
    task = begin_task(one, step("two"), step("undo", compensates=("one", "two")))
    work()
    assert steps_of(task) == {"one": "failed", "two": "partial", "undo": "succeeded"}
    assert operations_of("undo").get().machines.get().address == machines[0].address


@pytest.fixture
def inner(toy, admin):
    """``inner("Toy", "Wait")``: a step that is a task of these steps."""

    def make(*names):
        specs = graph.in_order(catalog.spec(name) for name in names)
        steps = [{"key": each.key, "step": each.name, "needs": list(each.needs)} for each in specs]
        content = contents.read({"title": "inner", "steps": steps})
        saving.create(name="inner", content=content, acting_user=admin)
        return graph.Spec("below", "Task", "task", {"template": "inner"})

    return make


@pytest.mark.parametrize("behind", ["Toy", "Wait"])
def test_a_task_below_does_not_go_on_either_and_is_ended_until_a_retry(
    behind, together, inner, begin_task, work, steps_of, toy, machines, control, operator
):
    toy.during = lambda run: toy.failing.update(
        {("first", each.address) for each in machines}
        if run.operation.name.endswith("-one")
        else ()
    )
    task = begin_task(inner("Toy", behind), step("one"))
    work()
    child = AutoOperationTask.objects.get(parent__task=task)
    assert steps_of(task) == {"below": "waiting", "one": "failed"}
    assert (fresh(task).status, fresh(child).status) == (Status.FAILED, Status.CANCELED)
    assert operations_of("Toy-2").count() == 0
    toy.during = lambda run: toy.failing.clear()
    control(controls.retry, task, acting_user=operator)
    work()
    TaskStep.objects.filter(kind="wait").update(due_at=timezone.now())
    control(advance.sweep)
    work()
    assert steps_of(task) == {"below": "succeeded", "one": "succeeded"}
    assert fresh(task).status == Status.SUCCEEDED


def test_a_step_that_waits_can_be_canceled(begin_task, work, steps_of, control, operator):
    task = begin_task(step("one"), step("two"))
    work(limit=1)
    control(controls.cancel, fresh(task), acting_user=operator)
    work()
    assert steps_of(task) == {"one": "canceled", "two": "canceled"}
    assert fresh(task).status == Status.CANCELED


def test_a_step_of_a_task_below_waits_for_one_above(
    begin_task, work, steps_of, control, admin, toy
):
    content = contents.read({"title": "inner", "steps": [{"key": "Toy", "step": "Toy"}]})
    saving.create(name="inner", content=content, acting_user=admin)
    waited: list[str] = []
    toy.during = lambda run: waited.extend(
        TaskStep.objects.filter(progress__has_key="held").values_list("key", flat=True)
    )
    task = begin_task(step("one"), graph.Spec("below", "Task", "task", {"template": "inner"}))
    work()
    assert set(waited) == {"Toy"}
    child = AutoOperationTask.objects.get(parent__task=task)
    assert steps_of(child) == {"Toy": "succeeded"}
    assert fresh(task).status == Status.SUCCEEDED
