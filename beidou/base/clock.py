"""The clock: one process beside the workers that does the tasks of the queue CLOCK, one by one.

Workers may all be in steps that take hours.  What finds lost steps, starts waiting operations and
keeps the inventory must not wait for them.  A second cluster of django-q2 would do that too, with
four more processes; its broker and its packages alone need one.

``manage.py work`` forks it, starts it again when it dies, and ends it.
"""

import threading
import time
from typing import Any

import structlog
from django.db import close_old_connections
from django_q.brokers import get_broker
from django_q.timeout import TimeoutException, TimeoutHandler

from beidou.base import companions, taken
from beidou.base.tasks import CLOCK, LOOKS

logger = structlog.get_logger(__name__)

TASK_SECONDS = 600  # what takes longer hangs, and would keep everything else waiting
PAUSE_SECONDS = 5.0  # after an error of the broker
LOOK_SECONDS = 1.0


def main() -> None:
    companions.serve(run)


def run(stop: threading.Event) -> None:
    """A process boundary: neither a task nor a broker that is away may end it."""
    broker, looked_at = get_broker(CLOCK), 0.0
    while not stop.is_set():
        try:
            close_old_connections()
            tick(broker)
            if time.monotonic() - looked_at >= LOOK_SECONDS:
                look()
                looked_at = time.monotonic()
        except Exception:
            logger.exception("clock_broker_failed")
            stop.wait(PAUSE_SECONDS)


def tick(broker: Any) -> int:
    """Take what the broker gives (it waits a moment when there is nothing) and do it."""
    packages = broker.dequeue() or []
    for receipt, package in packages:
        try:
            taken.do(package, by="clock", within=TimeoutHandler(TASK_SECONDS))
        finally:
            # What failed is not done again: the schedule brings it back soon enough.
            broker.acknowledge(receipt)
    return len(packages)


def look() -> None:
    """At what is due to the second; one look that fails keeps no other from being taken."""
    for name, each in LOOKS.items():
        try:
            with TimeoutHandler(TASK_SECONDS):
                each()
        except (Exception, TimeoutException):
            logger.exception("clock_look_failed", look=name)
