"""The clock: what is queued for it, and that nothing ends it."""

import threading

import pytest
from django_q.brokers import get_broker
from django_q.models import OrmQ, Schedule
from django_q.scheduler import scheduler

from beidou.base import clock, tasks

pytestmark = pytest.mark.django_db

done: list[int] = []


def note(number: int) -> None:
    done.append(number)


def fail() -> None:
    raise RuntimeError("it is broken")


@pytest.fixture(autouse=True)
def _nothing_done():
    done.clear()


def tick() -> int:
    return clock.tick(get_broker(tasks.CLOCK))


def test_a_task_of_the_clock_is_done_once():
    tasks.enqueue("tests.base.test_clock.note", 1, queue=tasks.CLOCK)
    assert tick() == 1
    assert tick() == 0
    assert done == [1]


def test_the_clock_leaves_the_work_to_workers():
    tasks.enqueue("tests.base.test_clock.note", 1)
    assert tick() == 0
    assert OrmQ.objects.get().key == tasks.WORK


@pytest.mark.django_db(transaction=True)
def test_every_schedule_goes_to_its_queue_which_is_the_clocks_if_nothing_else_is_said():
    tasks.apply_schedules()
    scheduler(broker=get_broker(tasks.WORK))
    queued = {(row.func(), row.key) for row in OrmQ.objects.all()}
    assert queued == {(entry.function, entry.queue) for entry in tasks.SCHEDULES}
    assert ("operations.tasks.maintain", tasks.CLOCK) in queued
    assert OrmQ.objects.count() == Schedule.objects.count() == len(tasks.SCHEDULES)


def test_a_task_that_fails_is_logged_and_not_done_again(caplog):
    tasks.enqueue("tests.base.test_clock.fail", queue=tasks.CLOCK)
    tasks.enqueue("tests.base.test_clock.note", 2, queue=tasks.CLOCK)
    assert tick() == tick() == 1
    assert done == [2]
    assert "task_failed" in caplog.text
    assert not OrmQ.objects.exists()


def test_a_function_that_is_gone_keeps_no_other_waiting(caplog):
    tasks.enqueue("tests.base.test_clock.removed_by_an_upgrade", queue=tasks.CLOCK)
    tick()
    assert "removed_by_an_upgrade" in caplog.text


def test_a_task_of_another_secret_key_is_thrown_away(caplog):
    tasks.enqueue("tests.base.test_clock.note", 3, queue=tasks.CLOCK)
    OrmQ.objects.update(payload="x")
    tick()
    assert done == []
    assert "task_unreadable" in caplog.text
    assert not OrmQ.objects.exists()


def test_a_task_that_hangs_is_ended(monkeypatch, caplog):
    monkeypatch.setattr(clock, "TASK_SECONDS", 1)
    tasks.enqueue("signal.pause", queue=tasks.CLOCK)
    assert tick() == 1
    assert "exceeded maximum timeout" in caplog.text


def test_what_is_due_to_the_second_is_looked_at_between_tasks(monkeypatch):
    stop = threading.Event()
    monkeypatch.setattr(clock, "LOOK_SECONDS", 0)
    monkeypatch.setattr(clock, "close_old_connections", lambda: None)
    monkeypatch.setattr(clock, "LOOKS", {"fails": fail, "ends": stop.set})
    tasks.enqueue("tests.base.test_clock.note", 4, queue=tasks.CLOCK)
    clock.run(stop)
    assert done == [4]


def test_a_look_that_fails_is_logged(monkeypatch, caplog):
    monkeypatch.setattr(clock, "LOOKS", {"fails": fail})
    clock.look()
    assert "clock_look_failed" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_away_does_not_end_the_clock(monkeypatch, caplog):
    stop = threading.Event()

    class Away:
        calls = 0

        def dequeue(self) -> None:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError("the queue is away")
            stop.set()

    away = Away()
    monkeypatch.setattr(clock, "get_broker", lambda name: away)
    monkeypatch.setattr(clock, "LOOKS", {})
    monkeypatch.setattr(clock, "PAUSE_SECONDS", 0)
    clock.run(stop)
    assert away.calls == 2
    assert "the queue is away" in caplog.text
