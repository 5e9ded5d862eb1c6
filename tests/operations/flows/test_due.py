"""Steps whose time has come do not wait for the sweep of the next minute."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base import tasks
from operations.flows import catalog, due
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep
from operations.flows.start import Batches
from operations.models import Operation

pytestmark = pytest.mark.django_db


@pytest.fixture
def pass_time(control):
    """Time passes until everything is due, and the clock looks."""

    def pass_it(looking):
        TaskStep.objects.exclude(due_at=None).update(due_at=timezone.now() - timedelta(seconds=1))
        return control(looking.look)

    return pass_it


def test_the_clock_looks_at_them_and_at_what_is_to_be_told_to_sites():
    assert {"operations: steps of tasks", "operations: questions to sites"} <= tasks.LOOKS.keys()


def test_a_wait_that_is_over_lets_the_task_on(begin_task, work, pass_time, steps_of):
    task = begin_task(catalog.spec("Wait", {"seconds": 1}))
    work()
    looking = due.DueSteps()
    assert steps_of(task) == {"Wait": "running"}
    assert looking.look() == 0
    assert pass_time(looking) == 1
    assert steps_of(task) == {"Wait": "succeeded"}


def test_the_next_batch_begins_when_the_pause_is_over(begin_task, work, control):
    begin_task("Toy", batches=Batches(size=2, pause=60))
    work()
    assert Operation.objects.count() == 1
    Operation.objects.update(finished_at=timezone.now() - timedelta(seconds=61))
    TaskStep.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    assert control(due.DueSteps().look) == 1
    assert Operation.objects.count() == 2


def test_what_does_not_go_on_all_the_same_is_looked_at_once(begin_task, work, monkeypatch, caplog):
    begin_task(catalog.spec("Wait", {"seconds": 1}))
    work()
    TaskStep.objects.update(due_at=timezone.now() - timedelta(seconds=1))

    def fail(_task):
        raise RuntimeError("it is broken")

    monkeypatch.setattr(due, "advance", fail)
    looking = due.DueSteps()
    assert [looking.look() for _time in range(3)] == [1, 0, 0]
    assert ["task_not_advanced" in each for each in caplog.messages].count(True) == 1


def test_a_paused_task_is_left_alone(begin_task, work, control, operator, pass_time):
    task = begin_task(catalog.spec("Wait", {"seconds": 1}))
    work()
    control(controls.pause, AutoOperationTask.objects.get(pk=task.pk), acting_user=operator)
    assert pass_time(due.DueSteps()) == 0


def test_nothing_due_costs_one_query(db, django_assert_num_queries):
    with django_assert_num_queries(1):
        due.DueSteps().look()
