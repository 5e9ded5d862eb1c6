"""The one signal we listen to: django-q2 has started a worker process.

A worker that starts may do so because another one died; looking at once instead of at the next
minute shortens what people wait after a crash.
"""

from typing import Any

from beidou.base import tasks


def worker_spawned(**kwargs: Any) -> None:
    tasks.enqueue("operations.tasks.maintain", queue=tasks.CLOCK)
