"""Processes that ``manage.py work`` runs beside the workers; apps add theirs from
``AppConfig.ready``.

Each is a function that runs until SIGTERM.  It is forked, started again when it ends, and dies with
the main process.
"""

from collections.abc import Callable

COMPANIONS: dict[str, Callable[[], None]] = {}


def register(name: str, main: Callable[[], None]) -> None:
    COMPANIONS[name] = main
