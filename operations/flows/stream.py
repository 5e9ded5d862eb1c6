"""Live streams of tasks: the readers and watchers of operations' streams, following a task."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from django.utils import translation

from beidou.base import streaming
from operations.flows import live
from operations.services import broadcast
from operations.services.output import Line


class TaskChannel(broadcast.Channel):
    """The reader of one task in one language; a task has no output of its own."""

    def _read(self) -> tuple[live.Snapshot | None, list[Line], int]:
        with translation.override(self.language):
            return live.snapshot(self.operation_id), [], 0

    def _difference(self, old: Any, new: Any) -> dict[str, Any]:
        return live.difference(old, new)

    def _pace(self) -> float:
        return broadcast.LOOK_SECONDS_LARGE


async def stream(
    task_id: int, *, may_still_see: Callable[[], bool], language: str
) -> AsyncIterator[str]:
    """The event stream of one watcher: a snapshot, what changes, and the end."""
    centre = streaming.hub(TaskChannel)
    channel, watcher = await centre.join(task_id, language)
    try:
        if channel.snapshot is None:
            return
        is_over = channel.is_over
        yield streaming.RETRY
        yield streaming.message("snapshot", channel.snapshot.as_dict())
        if is_over:
            yield streaming.message("end", {"status": channel.snapshot.status})
            return
        async for text in broadcast.watch(watcher, may_still_see=may_still_see):
            yield text
    finally:
        centre.leave(channel, watcher)
