"""State tables of tasks, their steps and work orders, over all pairs; and what a row cannot be."""

import pytest
from django.db import IntegrityError, transaction

from beidou.base.errors import Conflict
from beidou.base.state import change_status
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep, WorkOrder
from tests import factories

pytestmark = pytest.mark.django_db

PAIRS = [
    (model, old, new)
    for model in (AutoOperationTask, TaskStep, WorkOrder)
    for old in model.Status
    for new in model.Status
]


@pytest.fixture
def rows(cluster_a):
    task = AutoOperationTask.objects.create(name="x", cluster=cluster_a)
    step = TaskStep.objects.create(task=task, position=1, key="one", name="One", kind="wait")
    order = WorkOrder.objects.create(step=step, number=1)
    return {AutoOperationTask: task, TaskStep: step, WorkOrder: order}


@pytest.mark.parametrize(("model", "old", "new"), PAIRS)
def test_only_listed_transitions_are_made(model, old, new, rows):
    row = rows[model]
    model.objects.filter(pk=row.pk).update(status=old)
    row.refresh_from_db()
    if new in model.TRANSITIONS[old]:
        change_status(row, to=new)
        row.refresh_from_db()
        assert row.status == new
        assert row.status_changes.get().old == old
    else:
        with pytest.raises(Conflict, match="cannot become"):
            change_status(row, to=new)
        row.refresh_from_db()
        assert row.status == old


@pytest.mark.parametrize("model", [AutoOperationTask, TaskStep, WorkOrder])
def test_a_change_from_a_stale_row_is_refused(model, rows):
    row = rows[model]
    stale = model.objects.get(pk=row.pk)
    to = next(iter(model.TRANSITIONS[row.status]))
    change_status(row, to=to)
    with pytest.raises(Conflict, match="somebody else was faster"):
        change_status(stale, to=to)


def test_a_machine_is_held_by_one_task_at_a_time(rows, cluster_a):
    machine = factories.make_machine()
    other = AutoOperationTask.objects.create(name="y", cluster=cluster_a)
    first = TaskMachine.objects.create(task=rows[AutoOperationTask], machine=machine)
    with pytest.raises(IntegrityError), transaction.atomic():
        TaskMachine.objects.create(task=other, machine=machine)
    TaskMachine.objects.filter(pk=first.pk).update(holds_machine=False)
    TaskMachine.objects.create(task=other, machine=machine)


def test_a_step_asks_one_question_at_a_time(rows):
    with pytest.raises(IntegrityError), transaction.atomic():
        WorkOrder.objects.create(step=rows[TaskStep], number=2)
    change_status(rows[WorkOrder], to=WorkOrder.Status.REJECTED)
    WorkOrder.objects.create(step=rows[TaskStep], number=2)
