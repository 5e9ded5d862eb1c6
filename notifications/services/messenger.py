"""The messenger: one process beside the workers that hands notices on and sends messages.

Workers may all be in steps that take hours, and the clock does one thing after the other: neither
may wait for a mail server that hangs.  Each message is sent in a thread of its own, which knows the
driver's values alone; the database is this process's.  Several messengers may run: messages are
claimed.
"""

import queue
import threading
import time
from dataclasses import dataclass
from typing import Final

import structlog
from django.db import close_old_connections

from beidou.base.errors import BeidouError
from notifications.services import routing, sending
from notifications.services.sending import Job

logger = structlog.get_logger(__name__)

AT_ONCE: Final = 32
LOOK_SECONDS: Final = 1.0
PAUSE_SECONDS: Final = 5.0
SWEEP_SECONDS: Final = 30.0
ROUNDS: Final = 20
LAST_SECONDS: Final = 8.0


@dataclass(frozen=True)
class _Ended:
    job: Job
    error: Exception | None


class Messenger:
    """What is on its way, and the next look at what is due."""

    def __init__(self) -> None:
        self._ended: queue.SimpleQueue[_Ended] = queue.SimpleQueue()
        self._sending: dict[int, Job] = {}  # by receiver: one message at a time each
        self._swept_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """A process boundary: nothing but ``stop`` ends it."""
        while not stop.is_set():
            try:
                close_old_connections()
                is_busy = self.tick()
            except Exception:
                logger.exception("messenger_failed")
                stop.wait(PAUSE_SECONDS)
            else:
                self._wait(stop, 0.05 if is_busy else LOOK_SECONDS)
        self.finish(LAST_SECONDS)

    def tick(self) -> bool:
        """Settle what has ended, hand on, send what is due; gives whether something was begun."""
        self._settle_ended()
        if time.monotonic() - self._swept_at > SWEEP_SECONDS:
            sending.sweep()
            self._swept_at = time.monotonic()
        for _round in range(ROUNDS):  # the whole storm before its first message
            if routing.route() < routing.AT_ONCE:
                break
        room = AT_ONCE - len(self._sending)
        jobs = sending.claim_due(busy=self._sending, most=room) if room > 0 else []
        for job in jobs:
            self._sending[job.receiver_id] = job
            threading.Thread(
                target=self._send, args=(job,), name=f"message-{job.delivery_id}", daemon=True
            ).start()
        return bool(jobs)

    def finish(self, seconds: float) -> None:
        """Wait for what is on its way, but not for what hangs: its lease runs out."""
        deadline = time.monotonic() + seconds
        while self._sending and time.monotonic() < deadline:
            self._settle_ended(wait=0.1)

    @property
    def is_sending(self) -> bool:
        return bool(self._sending)

    def _send(self, job: Job) -> None:
        """In a thread; a boundary: how it ends is told in every case."""
        error: Exception | None = None
        try:
            job.send()
        except BeidouError as caught:
            error = caught
        except Exception as caught:
            logger.exception("message_failed", delivery=job.delivery_id)
            error = caught
        self._ended.put(_Ended(job, error))

    def _settle_ended(self, wait: float = 0.0) -> None:
        while True:
            try:
                ended = self._ended.get(timeout=wait) if wait else self._ended.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            self._sending.pop(ended.job.receiver_id, None)
            sending.settle(
                delivery_id=ended.job.delivery_id, number=ended.job.number, error=ended.error
            )

    def _wait(self, stop: threading.Event, seconds: float) -> None:
        """Until something ends, or for ``seconds``."""
        if not self._sending:
            stop.wait(seconds)
            return
        until = time.monotonic() + seconds
        while self._ended.empty() and time.monotonic() < until and not stop.is_set():
            stop.wait(0.05)
