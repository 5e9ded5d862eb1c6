"""What one-click tasks tell: that somebody has to decide, and how they ended."""

import pytest

from beidou.base.models import Notice
from operations.flows import control as controls
from operations.flows.models import WorkOrder

pytestmark = pytest.mark.django_db


def told_of(task) -> list[tuple[str, str, int]]:
    rows = Notice.objects.filter(object_type="operations.autooperationtask", object_id=task.pk)
    return list(rows.order_by("pk").values_list("kind", "severity", "cluster_id"))


def test_that_an_approval_is_waited_for_is_told_with_who_asked(begin_task, work, cluster_a):
    task = begin_task("WorkOrder", "Toy")
    work()
    assert told_of(task) == [("task.asks", "warning", cluster_a.pk)]
    title = Notice.objects.get(kind="task.asks").title
    assert title == f"Task {task.name}, asked for by operator, waits for an approval."


def test_how_it_ended_is_told(begin_task, work, control, approver, cluster_a):
    task = begin_task("WorkOrder", "Toy")
    work()
    order = WorkOrder.objects.get(step__task=task)
    control(controls.approve, order, acting_user=approver, reason="ticket 7")
    work()
    assert told_of(task)[1:] == [("task.succeeded", "info", cluster_a.pk)]


def test_a_rejection_is_told_as_a_failure_with_its_reason(begin_task, work, control, approver):
    task = begin_task("WorkOrder", "Toy")
    work()
    order = WorkOrder.objects.get(step__task=task)
    control(controls.reject, order, acting_user=approver, reason="not today")
    work()
    assert "not today" in Notice.objects.get(kind="task.failed").details


def test_what_somebody_canceled_is_not_told(begin_task, work, control, operator):
    task = begin_task("Toy")
    control(controls.cancel, task, acting_user=operator)
    work()
    assert told_of(task) == []
