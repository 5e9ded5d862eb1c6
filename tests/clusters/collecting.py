"""A collector that runs while a test does."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from clusters.collector.process import CollectorProcess

DEADLINE_SECONDS = 20


class Pump(Executor):
    """Database work of the collector, done by the thread that owns the test's database.

    The collector's loop runs in a thread of its own; the test waits in ``until`` and does the work.
    """

    def __init__(self):
        self.work: queue.Queue[tuple[Future[Any], Callable[[], Any]]] = queue.Queue()

    def submit(self, function, /, *args, **kwargs):
        future: Future[Any] = Future()
        self.work.put((future, lambda: function(*args, **kwargs)))
        return future

    def until(self, condition, seconds=DEADLINE_SECONDS):
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit, "It did not happen in time."
            try:
                future, function = self.work.get(timeout=0.02)
            except queue.Empty:
                continue
            if not future.set_running_or_notify_cancel():
                continue  # the collector is ending and no longer waits for it
            try:
                future.set_result(function())
            except Exception as error:  # noqa: BLE001 - as every executor does
                future.set_exception(error)


class Running:
    """A collector that runs while the test does."""

    def __init__(self, holder="me", rhythm=None):
        self.pump = Pump()
        self.process = CollectorProcess(holder=holder, rhythm=rhythm, writer=self.pump)
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main()))

    async def _main(self):
        self.loop = asyncio.get_running_loop()
        await self.process.run()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.loop.call_soon_threadsafe(self.process.stop.set)
        self.pump.until(lambda: not self.thread.is_alive())

    def until(self, condition, seconds=DEADLINE_SECONDS):
        """Do the collector's database work until the condition holds."""
        self.pump.until(condition, seconds)
