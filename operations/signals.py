"""The one signal we listen to: django-q2 has started a worker process.

A worker that starts may do so because another one died; looking at once instead of at the next
minute shortens what people wait after a crash.
"""

from typing import Any

from django_q.tasks import async_task


def worker_spawned(**kwargs: Any) -> None:
    async_task("operations.tasks.maintain")
