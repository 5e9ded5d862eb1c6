# ruff: noqa: F811
"""Operations of tasks on their own pages: no way round an approval."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.overview.attention import needs
from operations.flows import advance, catalog, graph, live, saying
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation
from operations.services import control as operation_control
from tests.operations.flows.test_nesting import save  # noqa: F401
from tests.operations.flows.test_nesting_halts import queued, thaw, waiting  # noqa: F401
from tests.operations.flows.test_tickets import decide, tickets  # noqa: F401
from tests.operations.outside.conftest import call_back, site  # noqa: F401
from tests.operations.toy import ToyParams, toy_kind

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


# --- a skip in a task that has stopped ------------------------------------------------------------


@pytest.fixture
def stopped(begin_task, work, toy, machines):
    """A task that a failed operation has stopped, while a wait beside it goes on."""
    toy.failing = {("second", machine.address) for machine in machines}
    wait = replace(catalog.spec("Wait", {"seconds": 60}), key="wait")
    change = replace(catalog.spec("Toy"), key="change")
    after = replace(catalog.spec("Toy"), key="after", needs=("change",))
    task = begin_task(wait, change, after)
    work()
    assert task.steps.get(key="change").status == "failed"
    toy.failing.clear()
    toy.calls.clear()
    return task


def skip_second(control, user):
    operation = Operation.objects.get()
    keys = list(operation.machines.values_list("pk", flat=True))
    control(
        operation_control.skip,
        operation,
        acting_user=user,
        step="second",
        machines=keys,
        reason="by hand",
    )


def let_end(task, control, work):
    task.steps.filter(key="wait").update(due_at=timezone.now())
    control(advance.sweep)
    work()
    assert fresh(task).status == Status.FAILED


def test_before_the_task_has_ended_nothing_of_it_is_skipped(stopped, control, work, operator):
    with pytest.raises(Conflict, match="nothing further begins there"):
        skip_second(control, operator)
    with pytest.raises(Conflict, match="only one that failed or was canceled"):
        controls.skip(stopped, acting_user=operator, step="change", reason="by hand")
    assert status_of_operation() == "failed"
    let_end(stopped, control, work)


def test_afterwards_it_is_skipped_on_its_own_page_and_a_retry_of_the_task_goes_on_behind_it(
    stopped, control, work, operator, toy, machines, steps_of
):
    let_end(stopped, control, work)
    skip_second(control, operator)
    work()
    assert status_of_operation() == "succeeded"
    assert fresh(stopped).status == Status.FAILED  # it has ended; somebody says so
    assert toy.calls == []
    control(controls.retry, stopped, acting_user=operator)
    work()
    assert steps_of(stopped) == {"wait": "succeeded", "change": "succeeded", "after": "succeeded"}
    assert sorted(toy.calls[0][1]) == sorted(machine.address for machine in machines)
    assert fresh(stopped).status == Status.SUCCEEDED


def test_and_on_the_page_of_the_task_which_goes_on_at_once(
    stopped, control, work, operator, toy, steps_of
):
    let_end(stopped, control, work)
    control(controls.skip, stopped, acting_user=operator, step="change", reason="by hand")
    work()
    assert steps_of(stopped) == {"wait": "succeeded", "change": "skipped", "after": "succeeded"}
    assert (status_of("change"), status_of("after")) == ("failed", "succeeded")
    assert fresh(stopped).status == Status.SUCCEEDED


def status_of(key):
    return Operation.objects.get(task_part__step__key=key).status


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


def test_a_machine_that_was_mended_there_goes_on_with_the_others_of_its_step(
    begin_task, toy, work, machines, control, operator, steps_of
):
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", "Toy", batches=Batches(size=2, pause=600))
    work()
    assert task.machines.get(machine=machines[0]).state == "failed"
    toy.failing.clear()
    retry(control, operator)
    work()
    Operation.objects.update(finished_at=timezone.now() - timedelta(seconds=700))
    task.steps.update(due_at=timezone.now())
    control(advance.sweep)
    work()
    assert steps_of(task)["Toy"] == "succeeded"
    assert task.machines.get(machine=machines[0]).state == "waiting"


def test_and_fails_anew_when_it_was_not(begin_task, toy, work, machines, control, operator):
    toy.failing = {("second", machines[0].address)}
    task = begin_task("Toy", batches=Batches(size=2, pause=600))
    work()
    retry(control, operator)
    assert task.machines.get(machine=machines[0]).state == "waiting"
    work()
    assert task.machines.get(machine=machines[0]).state == "failed"


# --- a machine that is no part of what was approved any more --------------------------------------


@pytest.fixture
def without_one(toy, begin_task, work, machines, control, approver):
    """A task whose first batch has failed, and which was approved anew without it; the others wait
    for the pause between batches."""
    toy.failing = {("first", machines[0].address)}
    task = begin_task("WorkOrder", "Toy", batches=Batches(size=1, pause=3600))
    work()
    control(controls.approve, newest(), acting_user=approver)
    work()
    control(controls.withdraw, newest(), acting_user=approver, reason="without that one")
    work()
    assert sorted(newest().plan["machines"]) == [each.address for each in machines[1:]]
    control(controls.approve, newest(), acting_user=approver)
    work()
    toy.failing.clear()
    toy.calls.clear()
    return task


def test_it_is_asked_for_before_it_is_done_again(
    without_one, toy, work, machines, control, approver, operator
):
    retry(control, operator)
    work()
    assert toy.calls == []
    order = newest()
    assert (order.number, order.status) == (3, "open")
    assert order.changes == [f"Machines were added: {machines[0].address}."]
    control(controls.approve, order, acting_user=approver)
    work()
    assert status_of_operation() == "succeeded"
    assert set(without_one.machines.values_list("state", flat=True)) == {"waiting"}


def test_it_is_not_done_again_when_it_is_rejected(
    without_one, toy, work, control, approver, operator
):
    retry(control, operator)
    work()
    control(controls.reject, newest(), acting_user=approver, reason="not that one")
    work()
    assert (toy.calls, fresh(without_one).status) == ([], Status.FAILED)


def test_one_that_has_failed_in_another_step_is_not_done_again_with_it(
    without_one, toy, work, machines, control, operator, steps_of
):
    without_one.machines.filter(machine=machines[0]).update(failed_in="other")
    retry(control, operator)
    work()
    assert (toy.calls, newest().number) == ([], 2)
    assert steps_of(without_one) == {"WorkOrder": "succeeded", "Toy": "running"}


# --- answers --------------------------------------------------------------------------------------


@pytest.fixture
def asking(begin_task, work, control, approver, machines):
    """``asking(script)``: an approved task whose operation asks for a size, with all machines."""

    def begin_it(script, *steps, **values):
        script.asking = {("first", machine.address) for machine in machines}
        task = begin_task(*(steps or ("WorkOrder", "Toy")), **values)
        work()
        control(controls.approve, newest(), acting_user=approver)
        work()
        assert status_of_operation() == "failed"
        return task

    return begin_it


@pytest.fixture
def answerable():
    with toy_kind(answers=frozenset({"size"})) as script:
        yield script


@pytest.fixture
def toy(request):
    """Of the tests below it takes answers."""
    if "answerable" in request.fixturenames:
        yield request.getfixturevalue("answerable")
        return
    with toy_kind() as script:
        yield script


def on_its_page(control, user, **answers):
    retry(control, user, answers=answers)


def on_the_task(control, user, **answers):
    task = AutoOperationTask.objects.get(parent=None)
    control(controls.retry, task, acting_user=user, answers=answers)


@pytest.mark.parametrize("way", [on_its_page, on_the_task])
def test_an_answer_that_changes_what_was_approved_asks_again_before_anything_is_done(
    way, answerable, asking, work, control, operator, approver, steps_of
):
    task = asking(answerable)
    answerable.calls.clear()
    way(control, operator, size=2)
    work()
    assert (answerable.calls, status_of_operation()) == ([], "failed")
    assert steps_of(task) == {"WorkOrder": "running", "Toy": "waiting"}
    order, name = newest(), Operation.objects.get().name
    assert (order.number, order.status) == (2, "open")
    assert order.changes == [f"Answers were given to operations: {name} (size = 2)."]
    assert order.plan["answers"] == {name: {"size": 2}}
    assert {"label": f"Answers to {name}", "text": "size: 2"} in saying.in_words(order.plan, task)
    assert "once that is approved there" in Operation.objects.get().message
    control(controls.approve, order, acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert Operation.objects.get().answers == {"size": 2}
    assert newest().number == 2


def test_an_answer_that_was_rejected_is_forgotten_by_the_next_retry(
    answerable, asking, work, control, operator, approver
):
    task = asking(answerable)
    on_its_page(control, operator, size=2)
    work()
    control(controls.reject, newest(), acting_user=approver, reason="never with 2")
    work()
    assert (fresh(task).status, Operation.objects.get().answers) == (Status.FAILED, {})
    control(controls.retry, task, acting_user=operator)
    work()
    assert "answers" not in newest().plan
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert fresh(task).waiting_for == "an answer: Toy"


def then_the_task(control, user, **answers):
    """As the page of the task says."""
    on_its_page(control, user, **answers)
    assert "Kept for a retry of the task" in Operation.objects.get().message
    on_the_task(control, user)


@pytest.mark.parametrize("way", [then_the_task, on_the_task])
def test_after_a_rejection_another_answer_may_come_with_the_retry(
    way, answerable, asking, work, control, operator, approver
):
    task = asking(answerable)
    on_its_page(control, operator, size=2)
    work()
    control(controls.reject, newest(), acting_user=approver, reason="never with 2")
    work()
    way(control, operator, size=3)
    work()
    (given,) = newest().plan["answers"].values()
    assert given == {"size": 3}
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED


@pytest.mark.parametrize("way", [then_the_task, on_the_task])
def test_an_answer_with_the_retry_of_a_task_that_has_ended_asks_again_too(
    way, answerable, asking, work, control, operator, approver
):
    task = asking(answerable)
    control(controls.cancel, task, acting_user=operator)
    work()
    answerable.calls.clear()
    way(control, operator, size=2)
    work()
    assert answerable.calls == []
    assert (newest().number, newest().status) == (2, "open")
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert Operation.objects.get().answers == {"size": 2}


def test_what_was_answered_before_is_part_of_every_later_question(
    answerable, asking, work, control, operator, approver, cluster_a, machines
):
    answerable.failing = {("second", machine.address) for machine in machines}
    task = asking(answerable)
    on_its_page(control, operator, size=2)
    work()
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert (fresh(task).status, newest().number) == (Status.FAILED, 2)
    answerable.failing.clear()
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    control(controls.retry, task, acting_user=operator)
    work()
    (given,) = newest().plan["answers"].values()
    assert (newest().number, given) == (3, {"size": 2})


@pytest.mark.parametrize("answers", [{}, {"size": 1}])
def test_a_retry_that_chooses_nothing_else_asks_nobody(
    answers, answerable, asking, work, control, operator
):
    task = asking(answerable)
    answerable.asking.clear()
    on_its_page(control, operator, **answers)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert newest().number == 1


def test_where_nothing_was_approved_an_answer_asks_nobody(
    answerable, begin_task, work, control, operator, machines
):
    answerable.asking = {("first", machine.address) for machine in machines}
    task = begin_task("Toy")
    work()
    on_its_page(control, operator, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_an_answer_below_asks_again_above(
    answerable, save, asking, work, control, operator, approver
):
    save("inner", "Toy")
    below = graph.Spec("below", "Task", "task", {"template": "inner"}, ("WorkOrder",))
    task = asking(answerable, catalog.spec("WorkOrder"), below)
    answerable.calls.clear()
    on_its_page(control, operator, size=2)
    work()
    assert (answerable.calls, newest().step.task, newest().status) == ([], task, "open")
    (given,) = newest().plan["answers"].values()
    assert given == {"size": 2}
    control(controls.approve, newest(), acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED


# --- nobody approves their own answer -------------------------------------------------------------


@pytest.fixture
def owner(approver, operators):
    """May operate, too."""
    approver.groups.add(operators)
    return approver


def orders_for(user):
    return [need for need in needs(user) if need.kind == "work_order"]


def approvers_of(task):
    return live.snapshot(task.pk).steps[task.steps.get(kind="workOrder").pk]["approvers"]


@pytest.mark.parametrize("way", [on_its_page, on_the_task])
def test_whoever_answered_does_not_approve_that_answer(
    way, answerable, asking, work, control, owner, admin
):
    task = asking(answerable)
    way(control, owner, size=2)
    work()
    assert newest().status == "open"
    with pytest.raises(Forbidden, match="You gave an answer that this is about; somebody else"):
        control(controls.approve, newest(), acting_user=owner)
    assert not orders_for(owner)
    assert orders_for(admin)
    assert approvers_of(task) == [admin.get_username()]
    control(controls.approve, newest(), acting_user=admin)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_nor_with_the_retry_of_a_task_that_has_ended(
    answerable, asking, work, control, operator, owner
):
    task = asking(answerable)
    control(controls.cancel, task, acting_user=operator)
    work()
    on_its_page(control, owner, size=2)
    control(controls.retry, task, acting_user=operator)
    work()
    with pytest.raises(Forbidden, match="You gave an answer"):
        control(controls.approve, newest(), acting_user=owner)


def test_nor_above_an_answer_that_was_given_below(
    answerable, save, asking, work, control, owner, admin
):
    save("inner", "Toy")
    below = graph.Spec("below", "Task", "task", {"template": "inner"}, ("WorkOrder",))
    task = asking(answerable, catalog.spec("WorkOrder"), below)
    on_its_page(control, owner, size=2)
    work()
    assert newest().step.task == task
    with pytest.raises(Forbidden, match="You gave an answer"):
        control(controls.approve, newest(), acting_user=owner)
    assert not orders_for(owner)
    control(controls.approve, newest(), acting_user=admin)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_once_somebody_else_has_approved_it_they_decide_again(
    answerable, asking, work, control, owner, admin, operator, cluster_a, machines
):
    answerable.failing = {("second", machine.address) for machine in machines}
    task = asking(answerable)
    on_its_page(control, owner, size=2)
    work()
    control(controls.approve, newest(), acting_user=admin)
    work()
    answerable.failing.clear()
    ClusterSettings.objects.create(cluster=cluster_a, policy={"min_cpus": 64})
    control(controls.retry, task, acting_user=operator)
    work()
    control(controls.approve, newest(), acting_user=owner)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_an_answer_that_was_rejected_keeps_nobody_from_deciding_later(
    answerable, asking, work, control, owner, admin, operator
):
    task = asking(answerable)
    on_its_page(control, owner, size=2)
    work()
    control(controls.reject, newest(), acting_user=admin, reason="never with 2")
    work()
    control(controls.retry, task, acting_user=operator)
    work()
    control(controls.approve, newest(), acting_user=owner)
    assert newest().status == "approved"


def test_nor_in_the_ticket_system(
    answerable, begin_task, machines, work, control, owner, tickets, decide
):
    answerable.asking = {("first", machine.address) for machine in machines}
    task = begin_task("ExternalTicket", "Toy")
    work()
    decide(task)
    work()
    on_its_page(control, owner, size=2)
    work()
    answer = decide(task, by="Approver")
    assert (answer.status_code, answer.json()["code"]) == (403, "own_task")


# --- what somebody else approves with the retry itself --------------------------------------------


@pytest.fixture
def approvable(answerable, monkeypatch):
    """Its size is for somebody else to approve, its weight is not."""

    class Params(ToyParams):
        weight: int = 1

    kind = replace(
        kinds.get("Toy"),
        params=Params,
        answers=frozenset({"size", "weight"}),
        approvals=frozenset({"size"}),
    )
    monkeypatch.setitem(kinds.KINDS, "Toy", kind)
    return answerable


def test_it_asks_nobody_once_more(approvable, asking, work, control, owner):
    task = asking(approvable)
    on_its_page(control, owner, size=2)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert newest().number == 1


def test_beside_an_answer_that_has_to_be_approved_first_it_is_refused(
    approvable, asking, work, control, owner
):
    task = asking(approvable)
    with pytest.raises(InvalidInput, match="until then size cannot be said") as caught:
        on_its_page(control, owner, size=2, weight=3)
    assert list(caught.value.fields) == ["answers.size"]
    work()
    assert (newest().number, fresh(task).waiting_for) == (1, "an approval: Toy")
