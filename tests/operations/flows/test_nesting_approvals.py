# ruff: noqa: F811
"""Approvals of tasks that are steps of others: by whom, and what comes behind."""

from dataclasses import replace

import pytest
from django.urls import reverse

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.overview.attention import needs
from operations.flows import catalog, graph, live
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, WorkOrder
from operations.models import Operation
from tests.operations.flows.test_nesting import below, child_of, save, status  # noqa: F401
from tests.operations.flows.test_tickets import decide, tickets  # noqa: F401
from tests.operations.outside.conftest import call_back, site  # noqa: F401

pytestmark = pytest.mark.django_db


def behind(key, template, *needs, **values):
    return graph.Spec(key, "Task", "task", {"template": template}, needs, **values)


# --- never whoever asked ----------------------------------------------------------------------


@pytest.fixture
def carried_on(save, begin_task, work, toy, machines, control, operator, approver, operators):
    """``carried_on("inner")``: asked for by ``approver``, and carried on by the operator before the
    task below is made."""

    def begin_it(template):
        approver.groups.add(operators)
        toy.failing = {("second", machine.address) for machine in machines}
        steps = (catalog.spec("Toy"), behind("below", template, "Toy"))
        task = begin_task(*steps, acting_user=approver)
        work()
        toy.failing = set()
        control(controls.retry, task, acting_user=operator)
        work()
        return task

    return begin_it


def test_whoever_asked_for_the_whole_does_not_approve_below(save, carried_on, control, approver):
    save("inner", "WorkOrder", "Toy")
    task = carried_on("inner")
    order = WorkOrder.objects.get()
    assert order.step.task == child_of(task)
    with pytest.raises(Forbidden):
        control(controls.approve, order, acting_user=approver)
    (step, *_rest) = live.snapshot(child_of(task).pk).steps.values()
    assert "approver" not in step["approvers"]
    assert not [each for each in needs(approver) if each.kind == "work_order"]


def test_nor_deeper_below(save, carried_on, control, approver):
    save("inner", "WorkOrder", "Toy")
    save("middle", below("inner"))
    save("outer", below("middle"))
    carried_on("outer")
    with pytest.raises(Forbidden):
        control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    assert not [each for each in needs(approver) if each.kind == "work_order"]


def test_somebody_else_is_asked_on_the_home_page(save, carried_on, admin):
    save("inner", "WorkOrder", "Toy")
    carried_on("inner")
    assert [each for each in needs(admin) if each.kind == "work_order"]


def test_whoever_asked_for_the_whole_does_not_approve_in_the_ticket_system(
    save, carried_on, tickets, decide
):
    save("inner", "ExternalTicket", "Toy")
    child = child_of(carried_on("inner"))
    answer = decide(child, by="Approver")
    assert (answer.status_code, answer.json()["code"]) == (403, "own_task")
    assert WorkOrder.objects.get().status == "open"


def test_an_operation_is_asked_for_by_all_who_want_its_task(save, carried_on, approver, operator):
    save("inner", "Toy")
    task = carried_on("inner")
    operation = Operation.objects.get(task_part__step__task=child_of(task))
    assert operation.requested_by == operator
    assert operation.is_asked_by(approver)
    assert operation.is_asked_by(operator)


def test_an_operation_by_itself_is_asked_for_by_whoever_asked(toy, begin, operator, approver):
    operation = begin()
    assert operation.is_asked_by(operator)
    assert not operation.is_asked_by(approver)


# --- no way round one -------------------------------------------------------------------------


@pytest.fixture
def rejected(save, begin_task, work, control, approver):
    """A task below that asks, and was told no; behind it machines are to be changed."""
    save("inner", "WorkOrder")
    save("outer", below("inner"))
    task = begin_task(behind("below", "outer"), replace(catalog.spec("Toy"), needs=("below",)))
    work()
    control(controls.reject, WorkOrder.objects.get(), acting_user=approver, reason="never")
    work()
    return task


def test_what_was_rejected_below_is_skipped_by_nobody(rejected, control, operator, work, steps_of):
    outer = child_of(rejected)
    for task in (rejected, outer):
        with pytest.raises(Conflict, match="cannot be skipped"):
            control(controls.skip, task, acting_user=operator, step="below", reason="I want it")
    work()
    assert (status(rejected), steps_of(rejected)["Toy"]) == ("failed", "waiting")
    assert not Operation.objects.exists()


def test_an_approval_below_that_was_never_asked_for_is_not_skipped(
    save, begin_task, work, toy, machines, control, operator, approver, steps_of
):
    save("inner", "Toy", "WorkOrder")
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task(behind("below", "inner"), replace(catalog.spec("Toy"), needs=("below",)))
    work()
    with pytest.raises(Conflict, match="cannot be skipped"):
        control(controls.skip, task, acting_user=operator, step="below", reason="I want it")
    control(controls.skip, child_of(task), acting_user=operator, step="Toy", reason="by hand")
    work()
    assert steps_of(child_of(task))["WorkOrder"] == "running"


def test_what_failed_below_after_its_approval_can_be_skipped(
    save, begin_task, work, toy, machines, control, operator, approver
):
    save("inner", "WorkOrder", "Toy")
    toy.failing = {("second", machine.address) for machine in machines}
    task = begin_task(behind("below", "inner"), replace(catalog.spec("Wait"), needs=("below",)))
    work()
    control(controls.approve, WorkOrder.objects.get(), acting_user=approver)
    work()
    control(controls.skip, task, acting_user=operator, step="below", reason="by hand")
    assert task.steps.get(key="below").status == "skipped"


def test_a_task_that_asks_below_has_to_succeed_before_the_whole_goes_on(save, begin_task):
    save("inner", "WorkOrder")
    save("outer", below("inner"))
    with pytest.raises(InvalidInput) as caught:
        begin_task(behind("below", "outer", on_failure="continue"), catalog.spec("Wait"))
    assert list(caught.value.fields) == ["steps[0]"]
    assert not AutoOperationTask.objects.exists()


def test_one_that_asks_for_nothing_may_fail(save, begin_task):
    save("inner", "Toy")
    assert begin_task(behind("below", "inner", on_failure="continue"), catalog.spec("Wait"))


# --- what comes behind it above ---------------------------------------------------------------


def asking(task):
    (row,) = (each for each in live.snapshot(task.pk).steps.values() if each["orders"])
    return row


@pytest.fixture
def asked(save, begin_task, work):
    """A task that does nothing but ask; behind it above, machines are to be changed."""
    save("inner", "WorkOrder")
    save("outer", below("inner"))
    task = begin_task(behind("below", "outer"), replace(catalog.spec("Toy"), needs=("below",)))
    work()
    return task


def test_whoever_approves_below_is_told_of_what_comes_above(asked):
    row = asking(child_of(child_of(asked)))
    assert row["is_decisive"]
    assert row["goes_on_in"] == asked.name


def test_nothing_is_told_of_above_where_nothing_comes(save, begin_task, work):
    save("inner", "WorkOrder", "Toy")
    task = begin_task(behind("below", "inner"))
    work()
    row = asking(child_of(task))
    assert (row["is_decisive"], row["goes_on_in"]) == (True, "")


def test_below_and_above_an_approval_of_what_is_done_is_no_decision(save, begin_task, work):
    save("inner", "Toy", "WorkOrder")
    task = begin_task(behind("below", "inner"))
    work()
    row = asking(child_of(task))
    assert (row["is_decisive"], row["goes_on_in"]) == (False, "")


def test_the_page_has_words_for_it(asked, browser, approver):
    child = child_of(child_of(asked))
    address = reverse("admin:operations_autooperationtask_change", args=[child.pk])
    assert "goes on with what comes behind" in browser(approver).get(address).content.decode()
