"""Live streams of operations: one reader per operation, language and process, fanned out to its
watchers.

A watcher begins with a whole snapshot and the output behind the line it saw last
(``Last-Event-ID`` is that number), so nothing is lost or doubled by a broken connection.
"""

from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from django.db import DatabaseError
from django.utils import translation

from beidou.base import streaming
from beidou.base.streaming import in_thread, message
from operations.models import Operation
from operations.services import lines, live
from operations.services.output import Line, last_line

logger = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
LOOK_SECONDS_LARGE = 1.0  # for matrices of more than LARGE_CELLS cells
LARGE_CELLS = 250
LINES_PER_LOOK = 5000
LINES_PER_MESSAGE = 500
BEHIND_SECONDS = 0.05  # when a look did not reach the end of the output


def lines_message(piece: list[Line]) -> str:
    rows = [[each.number, each.at, each.machine, each.level, each.text] for each in piece]
    return message("output", rows, number=piece[-1].number)


class Channel(streaming.Channel):
    """The reader of one operation in one language."""

    snapshot: Any

    def __init__(self, operation_id: int, language: str) -> None:
        self.operation_id = operation_id
        self.language = language
        self.snapshot = None
        self.line = 0
        self._expected: dict[str, float] | None = None
        self._is_behind = False
        super().__init__()

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
    centre = streaming.hub(Channel)
    channel, watcher = await centre.join(operation_id, language)
    try:
        if channel.snapshot is None:
            return
        upto = channel.line
        # Whether it is over is asked now: what happens from here on comes through the queue.
        is_over = channel.is_over
        yield streaming.RETRY
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


def watch(watcher: streaming.Watcher, *, may_still_see: Callable[[], bool]) -> AsyncIterator[str]:
    return streaming.watch(watcher, why_not=lambda: "" if may_still_see() else "forbidden")
