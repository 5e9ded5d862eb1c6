# ruff: noqa: F811
"""Approvals of tasks that are steps of others: by whom, and what comes behind."""

import pytest

from beidou.base.errors import Forbidden
from beidou.overview.attention import needs
from operations.flows import catalog, graph, live
from operations.flows import control as controls
from operations.flows.models import WorkOrder
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
