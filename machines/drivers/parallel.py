"""Ask many at once from synchronous code, and hand out each answer as soon as it is there.

The event loop has a thread of its own: while the caller stores one answer in the database, the
other conversations go on, and their time limits are not eaten up by the caller.
"""

import asyncio
import contextlib
import queue
from collections.abc import Awaitable, Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def as_completed(
    asked: Iterable[Asked], ask: Callable[[Asked], Awaitable[Answer]], *, concurrency: int
) -> Generator[tuple[Asked, Answer], None, None]:
    """Yield ``(item, answer)`` in the order of completion, ``concurrency`` items at a time.

    ``ask`` turns expected failures into answers; what it raises ends everything and is raised
    here.  Nothing starts before the first item is wanted; closing the iterator early cancels
    what is under way.
    """
    conversation = _Conversation(asked, ask, concurrency)
    with ThreadPoolExecutor(1, thread_name_prefix="ask-many") as thread:
        finished = thread.submit(asyncio.run, conversation.main())
        try:
            while (answered := conversation.answers.get()) is not None:
                yield answered
            finished.result()
        finally:
            conversation.stop()


class _Conversation(Generic[Asked, Answer]):
    """The part that lives in the loop's thread; ``answers`` ends with one ``None``."""

    def __init__(
        self,
        asked: Iterable[Asked],
        ask: Callable[[Asked], Awaitable[Answer]],
        concurrency: int,
    ) -> None:
        self.answers: queue.SimpleQueue[tuple[Asked, Answer] | None] = queue.SimpleQueue()
        self._waiting = iter(list(asked))  # lazy items (a queryset) must not run inside the loop
        self._ask = ask
        self._concurrency = concurrency
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    async def main(self) -> None:
        """Work through all items; ends early, without an error, once ``stop`` was called."""
        self._loop = asyncio.get_running_loop()
        try:
            work = asyncio.gather(*(self._work() for _ in range(self._concurrency)))
            stopped = asyncio.create_task(self._stopped.wait())
            watched: set[asyncio.Future[Any]] = {work, stopped}
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                work.cancel()
            stopped.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            self.answers.put(None)

    async def _work(self) -> None:
        for item in self._waiting:
            self.answers.put((item, await self._ask(item)))

    def stop(self) -> None:
        """End from another thread; harmless when all is done already."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to end
                self._loop.call_soon_threadsafe(self._stopped.set)
