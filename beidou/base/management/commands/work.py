"""``manage.py work``: django-q2's cluster, the clock and other companions, none of whose processes
outlives the main one.

A SIGKILL of ``qcluster`` leaves its sentinel, pusher and workers behind, and they go on taking
tasks.  Here every process that is forked asks the kernel to be killed with its parent.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable
from multiprocessing import connection
from types import FrameType
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django_q.cluster import Cluster

from beidou.base import callers, clock, companions
from beidou.base.supervisor import die_with_parent

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
STOP_SECONDS = 10.0

_parent = 0


def _remember_parent() -> None:
    global _parent  # noqa: PLW0603  the fork hooks have no other way to pass it
    _parent = os.getpid()


def _follow_parent() -> None:
    die_with_parent()
    if os.getppid() != _parent:  # it died before the kernel was asked
        os._exit(1)


class Command(BaseCommand):
    help = "Run the steps of operations and the periodic work."

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._is_asked_to_stop = False

    def handle(self, *args: Any, **options: Any) -> None:
        os.register_at_fork(before=_remember_parent, after_in_child=_follow_parent)
        cluster = Cluster()
        # Its own handlers would wait for the workers within the signal, and leave the others alone.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        cluster.start()
        mains = {"clock": clock.main, "callers": callers.main, **companions.COMPANIONS}
        beside = {name: _start(name, main) for name, main in mains.items()}
        while not self._is_asked_to_stop and cluster.sentinel.is_alive():
            ends = [process.sentinel for process in beside.values()]
            connection.wait([cluster.sentinel.sentinel, *ends], LOOK_SECONDS)
            for name, process in beside.items():
                if not process.is_alive() and not self._is_asked_to_stop:
                    logger.warning("companion_ended", name=name, status=process.exitcode)
                    beside[name] = _start(name, mains[name])
        # They first: while workers finish their steps here, nothing new is to be started.
        _stop(beside.values())
        if not cluster.stop() and not self._is_asked_to_stop:
            raise CommandError("The workers ended by themselves; start this program again.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_asked_to_stop = True


def _start(name: str, main: Callable[[], None]) -> Any:
    connections.close_all()  # no connection may be shared with a fork
    process = multiprocessing.get_context("fork").Process(target=main, name=name)
    process.start()
    return process


def _stop(processes: Iterable[Any]) -> None:
    """Each ends after what is under way; what takes too long is found and done again later."""
    asked = list(processes)
    for process in asked:
        process.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for process in asked:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
