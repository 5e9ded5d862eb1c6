"""The callers: one process beside the workers that does the tasks of the queue OUTSIDE, several at
once.

They ask systems outside something short, which may hang for its time limit all the same, and wait
for what such a system does, in a step that does nothing else.  Workers may all be in steps that
take hours, and the clock does one thing after the other: neither may keep a question waiting, nor
wait for its answer.

``manage.py work`` forks it, starts it again when it dies, and ends it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import close_old_connections, connections
from django_q.brokers import get_broker

from beidou.base import companions, taken
from beidou.base.tasks import OUTSIDE

logger = structlog.get_logger(__name__)

QUESTIONS: Final = 16
PAUSE_SECONDS = 5.0  # after an error of the broker
LOOK_SECONDS: Final = 0.5
LAST_SECONDS: Final = 8.0

# By name: what is called when this process is stopped; apps add theirs from ``AppConfig.ready``.
ENDS: dict[str, Callable[[], object]] = {}


def at_once() -> int:
    """Every operation that may run could wait here: short questions have room beside them."""
    return QUESTIONS + int(settings.OPERATIONS_AT_ONCE)


def main() -> None:
    companions.serve(run)


def run(stop: threading.Event) -> None:
    """A process boundary: neither a task nor a broker that is away may end it."""
    broker, room = get_broker(OUTSIDE), at_once()
    free = threading.Semaphore(room)
    while not stop.is_set():
        try:
            close_old_connections()
            tick(broker, free)
        except Exception:
            logger.exception("callers_broker_failed")
            stop.wait(PAUSE_SECONDS)
    _end()
    # What hangs is not waited for: whoever asked asks again, and a step that is cut off goes on.
    end = time.monotonic() + LAST_SECONDS
    for _thread in range(room):
        free.acquire(timeout=max(0.0, end - time.monotonic()))
    _end()  # once more, for what was taken from the queue in the last moment


def _end() -> None:
    for name, each in ENDS.items():
        try:
            each()
        except Exception:
            logger.exception("callers_end_failed", name=name)


def tick(broker: Any, free: threading.Semaphore) -> int:
    """Take what the broker gives (it waits a moment when there is nothing) and begin it, as soon as
    there is room: what waits in the queue can be seen there."""
    if not free.acquire(timeout=LOOK_SECONDS):
        return 0
    begun = 0
    try:
        for receipt, package in broker.dequeue() or []:
            # Before it is done: a broker brings back what was lost only after hours.
            broker.acknowledge(receipt)
            threading.Thread(target=_do, args=(package, free), daemon=True).start()
            begun += 1
    finally:
        if not begun:
            free.release()
    return begun


def _do(package: str | bytes, free: threading.Semaphore) -> None:
    try:
        taken.do(package, by="callers")
    finally:
        connections.close_all()
        free.release()
