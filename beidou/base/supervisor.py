"""Keeps a few programs running side by side, and leaves none of them behind.

Every program runs in a session of its own, so that Ctrl-C in the terminal reaches the supervisor
alone, which then asks each program to stop: django-q2 hangs when the signal hits its main process
and its workers at the same time.  The kernel ends a program whose supervisor was killed
(PR_SET_PDEATHSIG).  A program that ends by itself is started again after a pause that doubles while
it keeps failing.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

import structlog

logger = structlog.get_logger(__name__)

PAUSE_FIRST, PAUSE_MAX = 1.0, 30.0
SAID_AFTER = 2.0  # seconds of waiting for a program to end, before that is told
STEADY_AFTER = 60.0  # seconds of running after which earlier failures are forgotten
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends; nothing where there is no such."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Program:
    """``stop_seconds``: how long it may take to end after SIGTERM before it is killed."""

    name: str
    arguments: tuple[str, ...]
    stop_seconds: float = 10.0


class _Running:
    """One program, its process, and when it may start next (seconds of the monotonic clock)."""

    def __init__(self, program: Program, environment: Mapping[str, str]) -> None:
        self.program = program
        self._environment = dict(environment)
        self._pause = PAUSE_FIRST
        self._started_at = 0.0
        self._start_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def start_when_due(self) -> None:
        if self.process is not None or time.monotonic() < self._start_at:
            return
        self.process = subprocess.Popen(
            self.program.arguments,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  one call, no lock; the supervisor has no threads
        )
        self._started_at = time.monotonic()

    def notice_end(self) -> None:
        if self.process is None or self.process.poll() is None:
            return
        if time.monotonic() - self._started_at > STEADY_AFTER:
            self._pause = PAUSE_FIRST
        logger.warning(
            "program_ended",
            program=self.program.name,
            status=self.process.returncode,
            starts_again_in=self._pause,
        )
        self.kill_rest()
        self._start_at = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, PAUSE_MAX)
        self.process = None

    def ask_to_stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def kill_rest(self) -> None:
        """End what is left of the program's session: its children, or all of it."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # nothing is left
        self.process.wait()


class Supervisor:
    """Runs programs until SIGINT, SIGTERM or SIGHUP; a second signal ends them at once."""

    def __init__(
        self, programs: Sequence[Program], *, environment: Mapping[str, str] | None = None
    ) -> None:
        values = os.environ if environment is None else environment
        self._running = [_Running(program, values) for program in programs]
        self._signals = 0

    def pids(self) -> dict[str, int]:
        return {one.program.name: one.process.pid for one in self._running if one.process}

    def run(self, *, tick: Callable[[], None] = lambda: None) -> None:
        """Start all and watch them; ``tick`` is called several times a second. Signals end it."""
        kept = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            while not self._signals:
                for one in self._running:
                    one.notice_end()
                    one.start_when_due()
                tick()
                time.sleep(0.1)
        finally:
            self._stop()
            for number, handler in kept.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _stop(self) -> None:
        started = time.monotonic()
        for one in self._running:
            one.ask_to_stop()
        for one in self._running:
            deadline = started + one.program.stop_seconds
            is_said = False
            while (
                one.process is not None
                and one.process.poll() is None
                and time.monotonic() < deadline
                and self._signals < 2
            ):
                if not is_said and time.monotonic() - started > SAID_AFTER:
                    is_said = True
                    logger.info(
                        "program_finishes_what_it_does",
                        program=one.program.name,
                        killed_in=round(deadline - time.monotonic()),
                        hint="a second signal ends it at once; what is cut off is done again",
                    )
                time.sleep(0.05)
            if one.process is not None and one.process.poll() is None:
                logger.warning("program_killed", program=one.program.name)
            one.kill_rest()
