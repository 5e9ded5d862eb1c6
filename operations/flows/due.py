"""Steps whose time has come, to the second: the sweep of each minute would be as coarse as that."""

from datetime import datetime

import structlog
from django.utils import timezone

from operations.flows.advance import advance
from operations.flows.models import AutoOperationTask, TaskStep

logger = structlog.get_logger(__name__)


class DueSteps:
    """Advances their tasks, for each time of each step once: what that does not move (it waits for
    something else by then, or the portal made a mistake) is left to the sweep."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, datetime | None]] = set()

    def look(self) -> int:
        """One query on a partial index where nothing is due; how many tasks were advanced."""
        rows = TaskStep.objects.filter(
            status=TaskStep.Status.RUNNING, due_at__lte=timezone.now()
        ).exclude(task__status=AutoOperationTask.Status.PAUSED)
        due = {(pk, at): task for pk, at, task in rows.values_list("pk", "due_at", "task_id")}
        new = due.keys() - self._seen
        self._seen = set(due)
        tasks = {due[each] for each in new}
        for task in sorted(tasks):
            try:
                advance(task)
            except Exception:
                logger.exception("task_not_advanced", task=task)
        return len(tasks)
