"""Programs of a portal beside the bench, on its database.

As a program (``python -m bench.worker``) a worker that knows one more kind: ``Nothing``, whose step
does nothing.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 20


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[None]:
    """``python`` with these arguments, ended afterwards."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def knowing_nothing() -> contextlib.AbstractContextManager[None]:
    """A worker that also knows the kind ``Nothing``."""
    return running("-m", "bench.worker")


@contextlib.contextmanager
def portal() -> Iterator[None]:
    """Workers and collector as a portal has them."""
    with running("manage.py", "work"), running("manage.py", "collect"):
        yield


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "beidou.settings")
    django.setup()
    from django.core.management import call_command  # noqa: PLC0415  needs the line above

    from bench import nothing  # noqa: PLC0415

    nothing.register()
    call_command("work")


if __name__ == "__main__":
    main()
