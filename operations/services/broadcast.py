"""Live streams of operations: one reader per operation, language and process, fanned out to its
watchers.

Runs in the event loop of the web process.  The reader looks at the database in a thread, makes each
message once, and hands the same text to every watcher.  A watcher begins with a whole snapshot and
the output behind the line it saw last (``Last-Event-ID`` is that number), so nothing is lost or
doubled by a broken connection.  A watcher that does not keep up is sent away; it comes back by
itself and continues where it was.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog
from django.db import DatabaseError, connections
from django.utils import translation

from operations.models import Operation
from operations.services import lines, live
from operations.services.output import Line, last_line

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
LOOK_SECONDS_LARGE = 1.0  # for matrices of more than LARGE_CELLS cells
LARGE_CELLS = 250
HEARTBEAT_SECONDS = 10.0
RECHECK_SECONDS = 15.0
LINES_PER_LOOK = 5000
LINES_PER_MESSAGE = 500
BEHIND_SECONDS = 0.05  # when a look did not reach the end of the output
QUEUE_MESSAGES = 200

T = TypeVar("T")
_POOL = ThreadPoolExecutor(max_workers=4, thread_name_prefix="live")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Call a function that uses the database; its connection is given back at once."""

    def call() -> T:
        try:
            return function(*args)
        finally:
            release_connections()

    return await asyncio.get_running_loop().run_in_executor(_POOL, call)


async def in_pieces(pieces: Iterator[str]) -> AsyncIterator[str]:
    """A generator that reads the database, taken piece by piece in a thread."""
    while (piece := await in_thread(next, pieces, None)) is not None:
        yield piece


def release_connections() -> None:
    """Close this thread's connections, unless a transaction is open on them."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def message(event: str, data: Any, *, line: int | None = None) -> str:
    """One server-sent event; ``line`` becomes the id from which a reader continues."""
    head = "" if line is None else f"id: {line}\n"
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"{head}event: {event}\ndata: {text}\n\n"


def lines_message(piece: list[Line]) -> str:
    rows = [[each.number, each.at, each.machine, each.level, each.text] for each in piece]
    return message("output", rows, line=piece[-1].number)


@dataclass(eq=False)
class Watcher:
    """``None`` in the queue ends the stream."""

    queue: "asyncio.Queue[str | None]" = field(
        default_factory=lambda: asyncio.Queue(QUEUE_MESSAGES)
    )
    is_gone: bool = False

    def put(self, text: str | None) -> None:
        try:
            self.queue.put_nowait(text)
        except asyncio.QueueFull:
            self.is_gone = True
            while not self.queue.empty():
                self.queue.get_nowait()
            self.queue.put_nowait(None)


class Channel:
    """The reader of one operation in one language, and its watchers."""

    snapshot: Any

    def __init__(self, operation_id: int, language: str) -> None:
        self.operation_id = operation_id
        self.language = language
        self.watchers: set[Watcher] = set()
        self.snapshot = None
        self.line = 0
        self.is_over = False
        self._expected: dict[str, float] | None = None
        self._is_behind = False
        self._started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._follow())

    async def ready(self) -> None:
        """Wait until there is a first snapshot (or the operation turned out to be gone)."""
        await asyncio.shield(self._started)

    async def _follow(self) -> None:
        try:
            while True:
                await self._look_once()
                if not self._started.done():
                    self._started.set_result(None)
                if self.is_over:
                    break
                await asyncio.sleep(self._pace())
        finally:
            if not self._started.done():
                self._started.cancel()
            self.is_over = True
            for watcher in self.watchers:
                watcher.put(None)

    def _pace(self) -> float:
        if self.snapshot is None:
            return LOOK_SECONDS
        if self._is_behind:
            return BEHIND_SECONDS
        cells = len(self.snapshot.machines) * len(self.snapshot.steps)
        return LOOK_SECONDS_LARGE if cells > LARGE_CELLS else LOOK_SECONDS

    async def _look_once(self) -> None:
        """A database that is away for a moment costs a look, not the watchers."""
        try:
            new, piece, last = await in_thread(self._read)
        except DatabaseError:
            logger.warning("live_look_failed", operation=self.operation_id, exc_info=True)
            return
        if new is None:
            self.is_over = True
            return
        if self.snapshot is None:
            self.line = last
        else:
            if changed := self._difference(self.snapshot, new):
                self._tell(message("change", changed))
            for first in range(0, len(piece), LINES_PER_MESSAGE):
                self._tell(lines_message(piece[first : first + LINES_PER_MESSAGE]))
            self.line = piece[-1].number if piece else self.line
        self.snapshot = new
        self._is_behind = self.line < last
        if new.is_final and self.line >= last:
            self.is_over = True
            self._tell(message("end", {"status": new.status}))

    def _difference(self, old: Any, new: Any) -> dict[str, Any]:
        return live.difference(old, new)

    def _read(self) -> tuple[Any, list[Line], int]:
        """State first, output after it: an end is told only when its output is out."""
        if self._expected is None:
            operation = Operation.objects.filter(pk=self.operation_id).first()
            if operation is None:
                return None, [], 0
            self._expected = live.expected_seconds(operation, operation.machines.count())
        with translation.override(self.language):
            new = live.snapshot(self.operation_id, expected=self._expected)
        if self.snapshot is None or new is None:
            return new, [], last_line(self.operation_id)
        piece = lines.forwards(
            Operation(pk=self.operation_id), after=self.line, limit=LINES_PER_LOOK
        )
        return new, piece.lines, piece.last

    def _tell(self, text: str) -> None:
        for watcher in self.watchers:
            watcher.put(text)


class Hub:
    """The channels of one event loop; a channel lives as long as somebody watches."""

    def __init__(self, kind: type[Channel] = Channel) -> None:
        self.kind = kind
        self.channels: dict[tuple[int, str], Channel] = {}

    async def join(self, operation_id: int, language: str) -> tuple[Channel, Watcher]:
        key = operation_id, language
        channel = self.channels.get(key)
        if channel is None or channel.is_over:
            channel = self.channels[key] = self.kind(operation_id, language)
        watcher = Watcher()
        channel.watchers.add(watcher)
        try:
            await channel.ready()
        except BaseException:
            self.leave(channel, watcher)
            raise
        return channel, watcher

    def leave(self, channel: Channel, watcher: Watcher) -> None:
        channel.watchers.discard(watcher)
        if not channel.watchers:
            channel.task.cancel()
            key = channel.operation_id, channel.language
            if self.channels.get(key) is channel:
                del self.channels[key]


_hubs: dict[tuple[asyncio.AbstractEventLoop, type[Channel]], Hub] = {}


def hub(kind: type[Channel] = Channel) -> Hub:
    """The hub of the running event loop (a web process has one loop, tests have many)."""
    loop = asyncio.get_running_loop()
    for other in [each for each in _hubs if each[0].is_closed()]:
        del _hubs[other]
    return _hubs.setdefault((loop, kind), Hub(kind))


async def stream(
    operation_id: int,
    *,
    after: int | None,
    tail: int,
    may_still_see: Callable[[], bool],
    language: str,
) -> AsyncIterator[str]:
    """The event stream of one watcher, in its ``language``.

    ``after``: the last line it has (None: begin with the newest ``tail`` lines).  ``may_still_see``
    is asked again and again (in a thread); as soon as it says no the stream ends.
    """
    centre = hub()
    channel, watcher = await centre.join(operation_id, language)
    try:
        if channel.snapshot is None:
            return
        upto = channel.line
        # Whether it is over is asked now: what happens from here on comes through the queue.
        is_over = channel.is_over
        yield "retry: 2000\n\n"
        yield message("snapshot", channel.snapshot.as_dict())
        first = max(0, upto - tail) if after is None else after
        async for text in _backlog(operation_id, after=first, upto=upto):
            yield text
        if is_over:
            yield message("end", {"status": channel.snapshot.status})
            return
        async for text in watch(watcher, may_still_see=may_still_see):
            yield text
    finally:
        centre.leave(channel, watcher)


async def _backlog(operation_id: int, *, after: int, upto: int) -> AsyncIterator[str]:
    """What was written before this watcher came, up to where the channel is."""
    while after < upto:
        piece = await in_thread(
            lambda after=after: lines.forwards(
                Operation(pk=operation_id), after=after, limit=min(LINES_PER_MESSAGE, upto - after)
            )
        )
        if not piece.lines:
            return
        after = piece.after
        yield lines_message(piece.lines)


async def watch(watcher: Watcher, *, may_still_see: Callable[[], bool]) -> AsyncIterator[str]:
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
            if not await in_thread(may_still_see):
                yield message("forbidden", {})
                return
        yield text
