"""``manage.py work``: django-q2's cluster and the clock, none of whose processes outlives the main
one.

A SIGKILL of ``qcluster`` leaves its sentinel, pusher and workers behind, and they go on taking
tasks.  Here every process that is forked asks the kernel to be killed with its parent.
"""

import multiprocessing
import os
import signal
from multiprocessing import connection
from types import FrameType
from typing import Any

import structlog
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django_q.cluster import Cluster

from beidou.base import clock
from beidou.base.supervisor import die_with_parent

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
CLOCK_STOP_SECONDS = 10.0

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
        # Its own handlers would wait for the workers within the signal, and leave the clock alone.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        cluster.start()
        ticking = _start_clock()
        while not self._is_asked_to_stop and cluster.sentinel.is_alive():
            connection.wait([cluster.sentinel.sentinel, ticking.sentinel], LOOK_SECONDS)
            if not ticking.is_alive() and not self._is_asked_to_stop:
                logger.warning("clock_ended", status=ticking.exitcode)
                ticking = _start_clock()
        # The clock first: while workers finish their steps here, nothing new is to be started.
        _stop_clock(ticking)
        if not cluster.stop() and not self._is_asked_to_stop:
            raise CommandError("The workers ended by themselves; start this program again.")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._is_asked_to_stop = True


def _start_clock() -> Any:
    connections.close_all()  # no connection may be shared with a fork
    process = multiprocessing.get_context("fork").Process(target=clock.main, name="clock")
    process.start()
    return process


def _stop_clock(process: Any) -> None:
    """It ends after the task under way; one that takes too long is found and done again later."""
    process.terminate()
    process.join(CLOCK_STOP_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
