"""Processes that ``manage.py work`` runs beside the workers; apps add theirs from
``AppConfig.ready``.

Each is a function that runs until SIGTERM.  It is forked, started again when it ends, and dies with
the main process.
"""

import signal
import threading
from collections.abc import Callable
from types import FrameType

from django.db import connections

COMPANIONS: dict[str, Callable[[], None]] = {}


def register(name: str, main: Callable[[], None]) -> None:
    COMPANIONS[name] = main


def serve(run: Callable[[threading.Event], None]) -> None:
    """What such a process does: ``run`` until SIGTERM, which lets it finish what is under way."""
    stop = threading.Event()

    def on_term(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_term)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends us
    run(stop)
    connections.close_all()
