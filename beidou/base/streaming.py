"""Server-sent events: one reader for all who watch the same, in the event loop of the web process.

The reader (``Channel``) looks at the database or a store in a thread, makes each message once, and
hands the same text to every watcher.  A watcher that does not keep up is sent away; it comes back
by itself and continues behind the last id it has seen.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

HEARTBEAT_SECONDS = 10.0
RECHECK_SECONDS = 15.0
QUEUE_MESSAGES = 200
CONTENT_TYPE = "text/event-stream; charset=utf-8"
RETRY = "retry: 2000\n\n"
"""How soon a browser connects again, in milliseconds; every stream begins with it."""

T = TypeVar("T")
POOLS: list[ThreadPoolExecutor] = []


def pool(name: str, threads: int) -> ThreadPoolExecutor:
    """Threads for looks: as many at once as there are threads, the others wait."""
    made = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)
    POOLS.append(made)
    return made


_DATABASE = pool("live", 4)


async def in_thread(
    function: Callable[..., T], *args: Any, threads: ThreadPoolExecutor = _DATABASE
) -> T:
    """Call a function that uses the database; its connection is given back at once."""

    def call() -> T:
        try:
            return function(*args)
        finally:
            release_connections()

    return await asyncio.get_running_loop().run_in_executor(threads, call)


async def in_pieces(pieces: Iterator[str]) -> AsyncIterator[str]:
    """A generator that reads the database, taken piece by piece in a thread."""
    while (piece := await in_thread(next, pieces, None)) is not None:
        yield piece


def release_connections() -> None:
    """Close this thread's connections, unless a transaction is open on them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def answer(request: HttpRequest, parts: AsyncIterator[str]) -> StreamingHttpResponse:
    """A stream of events; nothing between us and the reader may hold it back."""
    response = StreamingHttpResponse(parts, content_type=CONTENT_TYPE)
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    # A stream is open for hours: what the request holds is given back now.  When a watcher goes
    # away in the middle, Django closes the request's body no more.
    release_connections()
    request.close()
    return response


def message(event: str, data: Any, *, number: object = None) -> str:
    """One event of a stream; ``number`` becomes the id behind which a reader continues."""
    head = "" if number is None else f"id: {number}\n"
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"{head}event: {event}\ndata: {text}\n\n"


@dataclass(eq=False)
class Watcher:
    """``None`` in the queue ends the stream."""

    most: int = QUEUE_MESSAGES
    is_gone: bool = False

    def __post_init__(self) -> None:
        self.queue: asyncio.Queue[str | None] = asyncio.Queue(self.most)

    def put(self, text: str | None) -> None:
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.is_gone = True
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(None)


class Channel:
    """The reader of one thing, and its watchers."""

    linger_seconds = 0.0
    """How long it goes on without watchers, for those that connect again."""

    def __init__(self) -> None:
        self.watchers: set[Any] = set()
        self.is_over = False
        self.ending: asyncio.TimerHandle | None = None
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._follow())

    async def ready(self) -> None:
        """Wait until there was a first look."""
        await asyncio.shield(self._started)

    async def _follow(self) -> None:
        try:
            while True:
                await self._look_once()
                if not self._started.done():
                    self._started.set_result(None)
                if self.is_over:
                    break
                await self._rest()
        finally:
            if not self._started.done():
                self._started.cancel()
            self.is_over = True
            for watcher in self.watchers:
                watcher.put(None)

    async def _look_once(self) -> None:
        raise NotImplementedError

    async def _rest(self) -> None:
        await asyncio.sleep(self._pace())

    def _pace(self) -> float:
        raise NotImplementedError

    def _tell(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.put(text)


C = TypeVar("C", bound=Channel)


class Hub(Generic[C]):
    """The channels of one kind in one event loop, each by what it is made of; a channel lives as
    long as somebody watches."""

    def __init__(self, kind: Callable[..., C]) -> None:
        self.kind = kind
        self.channels: dict[tuple[Hashable, ...], C] = {}

    async def join(self, *key: Hashable, watcher: Watcher | None = None) -> tuple[C, Watcher]:
        channel = self.channels.get(key)
        if channel is None or channel.is_over:
            channel = self.channels[key] = self.kind(*key)
        if channel.ending is not None:
            channel.ending.cancel()
        watcher = watcher or Watcher()
        channel.watchers.add(watcher)
        try:
            await channel.ready()
        except BaseException:
            self.leave(channel, watcher)
            raise
        return channel, watcher

    def leave(self, channel: C, watcher: Watcher) -> None:
        channel.watchers.discard(watcher)
        if channel.watchers:
            return
        if channel.linger_seconds and not channel.is_over:
            loop = asyncio.get_running_loop()
            channel.ending = loop.call_later(channel.linger_seconds, self._end, channel)
        else:
            self._end(channel)

    def _end(self, channel: C) -> None:
        channel.task.cancel()
        for key in [key for key, each in self.channels.items() if each is channel]:
            del self.channels[key]


_hubs: dict[tuple[asyncio.AbstractEventLoop, Any], Hub[Any]] = {}


def hub(kind: Callable[..., C]) -> Hub[C]:
    """The hub of the running event loop (a web process has one loop, tests have many)."""
    loop = asyncio.get_running_loop()
    for other in [each for each in _hubs if each[0].is_closed()]:
        del _hubs[other]
    return _hubs.setdefault((loop, kind), Hub(kind))


async def watch(watcher: Watcher, *, why_not: Callable[[], str]) -> AsyncIterator[str]:
    """What is told to a watcher.  ``why_not`` is asked again and again (in a thread); as soon as
    it gives a word, that is the last event."""
    loop = asyncio.get_running_loop()
    checked = loop.time()
    while True:
        text: str | None = ": still here\n\n"
        with contextlib.suppress(TimeoutError):
            text = await asyncio.wait_for(watcher.queue.get(), HEARTBEAT_SECONDS)
        if text is None:
            return
        if loop.time() - checked > RECHECK_SECONDS:
            checked = loop.time()
            if why := await in_thread(why_not):
                yield message(why, {})
                return
        yield text
