"""The callers: several tasks at once, and that nothing ends them."""

import threading

import pytest
from django.db import connections
from django_q.brokers import get_broker
from django_q.models import OrmQ

from beidou.base import callers, tasks

pytestmark = pytest.mark.django_db(transaction=True)

done: list[int] = []
hanging, may_end = threading.Event(), threading.Event()


def note(number: int) -> None:
    done.append(number)


def hang() -> None:
    hanging.set()
    assert may_end.wait(30)


def fail() -> None:
    raise RuntimeError("it is broken")


@pytest.fixture
def running():
    """The callers in a thread, with a database connection of their own."""
    for each in (hanging, may_end):
        each.clear()
    done.clear()
    stop = threading.Event()

    def run() -> None:
        callers.run(stop)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    may_end.set()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def ask(name: str, *args: int) -> None:
    tasks.enqueue(f"tests.base.test_callers.{name}", *args, queue=tasks.OUTSIDE)


def wait_for(condition) -> None:
    for _look in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within 30 s")


def test_one_that_hangs_keeps_no_other_waiting(running):
    ask("hang")
    wait_for(hanging.is_set)
    ask("note", 1)
    wait_for(lambda: done == [1])
    assert not OrmQ.objects.exists()


def test_one_that_fails_is_logged_and_keeps_no_other_from_being_done(running, caplog):
    ask("fail")
    ask("note", 2)
    wait_for(lambda: done == [2])
    wait_for(lambda: "it is broken" in caplog.text)


def test_they_leave_the_work_to_workers(running):
    tasks.enqueue("tests.base.test_callers.note", 3)
    ask("note", 4)
    wait_for(lambda: done == [4])
    assert OrmQ.objects.get().key == tasks.WORK


def test_what_there_is_no_room_for_waits_in_the_queue():
    ask("note", 5)
    full = threading.Semaphore(0)
    assert callers.tick(get_broker(tasks.OUTSIDE), full) == 0
    assert not tasks.is_empty(tasks.OUTSIDE)


def test_a_broker_that_is_away_does_not_end_them(monkeypatch, caplog):
    stop = threading.Event()

    class Away:
        calls = 0

        def dequeue(self) -> None:
            self.calls += 1
            if self.calls == 1:
                raise ConnectionError("the queue is away")
            stop.set()

    away = Away()
    monkeypatch.setattr(callers, "get_broker", lambda name: away)
    monkeypatch.setattr(callers, "PAUSE_SECONDS", 0)
    callers.run(stop)
    assert away.calls == 2
    assert "the queue is away" in caplog.text


def test_what_is_to_be_done_when_they_are_stopped_is_done_whatever_fails(monkeypatch, caplog):
    stop = threading.Event()
    stop.set()
    monkeypatch.setattr(callers, "ENDS", {"broken": fail, "note": lambda: note(6)})
    done.clear()
    callers.run(stop)
    assert done == [6, 6]  # before and after what is under way
    assert "it is broken" in caplog.text
