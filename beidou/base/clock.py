"""The clock: one process beside the workers that does the tasks of the queue CLOCK, one by one.

Workers may all be in steps that take hours.  What finds lost steps, starts waiting operations and
keeps the inventory must not wait for them.  A second cluster of django-q2 would do that too, with
four more processes; its broker and its packages alone need one.

``manage.py work`` forks it, starts it again when it dies, and ends it.
"""

import pydoc
import signal
import threading
from types import FrameType
from typing import Any

import structlog
from django.db import close_old_connections, connections
from django_q.brokers import get_broker
from django_q.signing import BadSignature, SignedPackage
from django_q.timeout import TimeoutException, TimeoutHandler

from beidou.base.tasks import CLOCK

logger = structlog.get_logger(__name__)

TASK_SECONDS = 600  # what takes longer hangs, and would keep everything else waiting
PAUSE_SECONDS = 5.0  # after an error of the broker


def main() -> None:
    """The forked process: until SIGTERM, which waits for the task under way."""
    stop = threading.Event()

    def on_term(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    run(stop)
    connections.close_all()


def run(stop: threading.Event) -> None:
    """A process boundary: neither a task nor a broker that is away may end it."""
    broker = get_broker(CLOCK)
    while not stop.is_set():
        try:
            close_old_connections()
            tick(broker)
        except Exception:
            logger.exception("clock_broker_failed")
            stop.wait(PAUSE_SECONDS)


def tick(broker: Any) -> int:
    """Take what the broker gives (it waits a moment when there is nothing) and do it."""
    taken = broker.dequeue() or []
    for receipt, package in taken:
        try:
            do(package)
        finally:
            # What failed is not done again: the schedule brings it back soon enough.
            broker.acknowledge(receipt)
    return len(taken)


def do(package: str | bytes) -> None:
    """One task; how it ends is logged and is nobody else's concern."""
    try:
        task = SignedPackage.loads(package)
    except (TypeError, BadSignature):
        logger.exception("clock_task_unreadable")
        return
    try:
        function = pydoc.locate(task["func"])
        if not callable(function):
            raise LookupError(f"There is no function {task['func']}.")
        with TimeoutHandler(TASK_SECONDS):
            function(*task["args"], **task["kwargs"])
    except (Exception, TimeoutException):
        logger.exception("clock_task_failed", function=task["func"])
