"""How a task goes from step to step, and how it ends."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base.models import AuditEntry
from operations.flows import advance, catalog, graph
from operations.flows.models import AutoOperationTask, TaskStep
from operations.flows.start import Batches
from operations.models import Operation
from operations.services import control as operation_control
from tests import factories

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


@pytest.fixture
def sweep(control):
    return lambda: control(advance.sweep)


def step(key, *, name="Toy", needs=(), **values):
    return replace(catalog.spec(name), key=key, needs=tuple(needs), **values)


def test_steps_run_one_after_the_other_to_the_end(begin_task, work, steps_of, toy):
    task = begin_task("Toy", "Toy")
    work()
    assert steps_of(task) == {"Toy": "succeeded", "Toy-2": "succeeded"}
    task = fresh(task)
    assert task.status == Status.SUCCEEDED
    assert [step for step, _ in toy.calls] == ["first", "second", "first", "second"]
    assert not task.machines.filter(holds_machine=True).exists()
    assert set(task.machines.values_list("state", flat=True)) == {"succeeded"}


def test_an_operation_can_be_narrowed_to_some_of_its_steps(begin_task, work, toy):
    spec = catalog.spec("Toy")
    begin_task(replace(spec, params={**spec.params, "steps": ["first"]}))
    work()
    assert [step for step, _ in toy.calls] == ["first"]
    assert Operation.objects.get().status == "succeeded"


def test_an_operation_says_in_its_name_where_it_belongs(begin_task, work):
    begin_task("Toy", name="monday")
    work()
    assert Operation.objects.get().name == "monday-toy"


def test_steps_that_need_the_same_run_side_by_side(begin_task, work, steps_of):
    task = begin_task(
        step("a", name="Wait", params={"seconds": 60}),
        step("b", name="Wait", params={"seconds": 60}),
        step("c", needs=("a", "b")),
    )
    work()
    assert steps_of(task) == {"a": "running", "b": "running", "c": "waiting"}


def test_a_wait_ends_when_its_time_has_come(sweep, begin_task, work, steps_of):
    task = begin_task(
        step("pause", name="Wait", params={"seconds": 60}), step("go", needs=("pause",))
    )
    work()
    assert sweep() == 0
    TaskStep.objects.filter(key="pause").update(due_at=timezone.now() - timedelta(seconds=1))
    assert sweep() == 1
    assert steps_of(task) == {"pause": "succeeded", "go": "running"}


def test_one_bad_machine_does_not_stop_the_others(begin_task, work, steps_of, toy, machines):
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", "Toy")
    work()
    assert steps_of(task) == {"Toy": "partial", "Toy-2": "succeeded"}
    assert fresh(task).status == Status.PARTIAL
    assert task.machines.get(machine=machines[0]).failed_in == "Toy"
    assert toy.calls[-1][1] == [machine.address for machine in machines[1:]]


def test_a_failed_step_stops_what_comes_behind_it(begin_task, work, steps_of, toy, machines):
    toy.failing = {("first", machine.address) for machine in machines}
    task = begin_task("Toy", "Toy")
    work()
    assert steps_of(task) == {"Toy": "failed", "Toy-2": "waiting"}
    task = fresh(task)
    assert task.status == Status.FAILED
    assert "Toy failed" in task.message
    assert not task.machines.filter(holds_machine=True).exists()


def test_too_many_failed_machines_stop_the_task(begin_task, work, steps_of, toy, machines):
    toy.failing = {("first", machines[0].address)}
    task = begin_task("Toy", "Toy", batches=Batches(max_failed_percent=10))
    work()
    assert steps_of(task) == {"Toy": "failed", "Toy-2": "waiting"}
    assert "more than 10 % allowed" in fresh(task).message


def test_a_failure_that_is_to_be_passed_over_lets_the_next_step_begin(
    begin_task, work, steps_of, toy, machines
):
    toy.failing = {("second", machines[0].address)}
    task = begin_task(
        step("check", on_failure="continue"),
        step("go", needs=("check",)),
        batches=Batches(max_failed_percent=0),
    )
    work()
    assert steps_of(task)["check"] == "failed"
    assert steps_of(task)["go"] == "succeeded"
    assert fresh(task).status == Status.PARTIAL


def test_a_compensation_is_done_with_the_failed_machines_alone(
    begin_task, work, steps_of, toy, machines
):
    toy.failing = {("second", machines[0].address)}
    task = begin_task(
        step("change", on_failure="compensate"),
        step("undo", compensates=("change",)),
        step("after", needs=("change",)),
        batches=Batches(max_failed_percent=0),
    )
    toy.during = lambda run: toy.failing.clear() if run.operation.name.endswith("undo") else None
    work()
    assert steps_of(task) == {"change": "failed", "undo": "succeeded", "after": "waiting"}
    assert toy.calls[-1][1] == [machines[0].address]
    assert fresh(task).status == Status.FAILED


def test_a_compensation_that_is_not_needed_is_passed_over(begin_task, work, steps_of):
    task = begin_task(
        step("change", on_failure="compensate"), step("undo", compensates=("change",))
    )
    work()
    assert steps_of(task) == {"change": "succeeded", "undo": "skipped"}
    assert fresh(task).status == Status.SUCCEEDED


def test_batches_come_one_after_the_other(begin_task, work, toy, machines):
    begin_task("Toy", batches=Batches(size=2))
    work()
    assert [len(addresses) for step, addresses in toy.calls if step == "first"] == [2, 1]
    assert list(Operation.objects.order_by("pk").values_list("status", flat=True)) == [
        "succeeded",
        "succeeded",
    ]


def test_between_batches_a_pause_is_kept(sweep, begin_task, work, steps_of, toy):
    task = begin_task("Toy", batches=Batches(size=2, pause=600))
    work()
    assert Operation.objects.count() == 1
    assert task.steps.get().due_at > timezone.now()
    sweep()
    assert Operation.objects.count() == 1
    Operation.objects.update(finished_at=timezone.now() - timedelta(seconds=700))
    TaskStep.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    sweep()
    assert Operation.objects.count() == 2


def test_no_further_batch_begins_when_too_many_failed(begin_task, work, toy, machines, steps_of):
    toy.failing = {("first", machines[0].address)}
    task = begin_task("Toy", batches=Batches(size=1, max_failed_percent=20))
    work()
    assert Operation.objects.count() == 1
    assert steps_of(task) == {"Toy": "failed"}


def test_a_machine_that_cannot_begin_fails_alone_and_says_why(
    sweep, begin_task, work, toy, machines, steps_of, begin
):
    task = begin_task(
        step("pause", name="Wait", params={"seconds": 60}), step("go", needs=("pause",))
    )
    work()
    begin(machines=machines[:1])  # takes the first one away meanwhile
    TaskStep.objects.filter(key="pause").update(due_at=timezone.now())
    sweep()
    member = task.machines.get(machine=machines[0])
    assert member.failed_in == "go"
    assert "is working on it" in member.message
    work()
    assert steps_of(task)["go"] == "partial"


def test_a_machine_that_was_deleted_meanwhile_fails_alone(
    sweep, begin_task, work, machines, steps_of
):
    task = begin_task(
        step("pause", name="Wait", params={"seconds": 60}), step("go", needs=("pause",))
    )
    work()
    machines[0].delete()
    TaskStep.objects.filter(key="pause").update(due_at=timezone.now())
    sweep()
    work()
    assert steps_of(task)["go"] == "partial"
    assert task.machines.get(machine=None).message == "It was deleted meanwhile."


def test_whoever_lost_the_right_to_operate_begins_nothing_more(
    sweep, begin_task, work, operator, operators, steps_of
):
    task = begin_task(
        step("pause", name="Wait", params={"seconds": 60}), step("go", needs=("pause",))
    )
    work()
    operator.groups.clear()
    TaskStep.objects.filter(key="pause").update(due_at=timezone.now())
    sweep()
    assert steps_of(task)["go"] == "failed"
    assert "do not include the right" in fresh(task).message
    assert not Operation.objects.exists()


@pytest.mark.parametrize("how", ["deleted", "inactive"])
def test_a_requester_who_was_removed_begins_nothing_more(
    how, sweep, begin_task, work, operator, steps_of
):
    task = begin_task(
        step("pause", name="Wait", params={"seconds": 60}), step("go", needs=("pause",))
    )
    work()
    if how == "deleted":
        operator.delete()
    else:
        operator.is_active = False
        operator.save()
    TaskStep.objects.filter(key="pause").update(due_at=timezone.now())
    sweep()
    assert steps_of(task)["go"] == "failed"
    assert "operator, who asked for it, has no account" in fresh(task).message


def test_an_operation_that_was_canceled_on_its_own_page_fails_its_step(
    begin_task, work, control, operator, steps_of
):
    task = begin_task("Toy", "Toy")
    work(limit=1)
    operation = Operation.objects.get()
    control(operation_control.cancel, operation, acting_user=operator)
    work()
    assert steps_of(task) == {"Toy": "failed", "Toy-2": "waiting"}


def test_looking_again_and_again_changes_nothing(begin_task, work, steps_of):
    task = begin_task("Toy", "Wait")
    work(limit=1)
    for _time in range(3):
        advance.advance(task.pk)
    assert Operation.objects.count() == 1
    work()
    before = steps_of(task)
    for _time in range(3):
        advance.advance(task.pk)
    assert steps_of(task) == before
    assert task.status_changes.count() == 2


def test_the_sweeper_finds_a_task_whose_wake_up_call_was_lost(sweep, begin_task, work, steps_of):
    task = begin_task("Toy", "Toy")
    OrmQ.objects.all().delete()
    assert sweep() == 1  # never begun
    work(limit=3)  # dispatch and both steps; the news of the end is lost
    OrmQ.objects.all().delete()
    assert Operation.objects.get().status == "succeeded"
    assert sweep() == 1
    assert steps_of(task) == {"Toy": "succeeded", "Toy-2": "running"}


def test_the_sweeper_asks_one_question_while_nothing_is_due(
    sweep, begin_task, work, operators, django_assert_num_queries
):
    for _number in range(2):
        begin_task("Wait", machines=[factories.make_machine(owner_team=operators)])
    work()
    with django_assert_num_queries(1):
        assert sweep() == 0


def test_the_whole_way_is_in_the_audit_trail(begin_task, work, operator):
    task = begin_task("Toy")
    work()
    verbs = AuditEntry.objects.filter(
        object_type="operations.autooperationtask", object_id=str(task.pk)
    ).values_list("verb", "actor")
    assert list(verbs.order_by("id")) == [
        ("start flow", "system"),
        ("task succeeded", "operator"),
    ]


def test_a_graph_of_one_line_gives_each_step_a_key_of_its_own():
    specs = graph.in_order(catalog.spec(name) for name in ("Wait", "WorkOrder", "Wait"))
    assert [(spec.key, spec.needs) for spec in specs] == [
        ("Wait", ()),
        ("WorkOrder", ("Wait",)),
        ("Wait-2", ("WorkOrder",)),
    ]
