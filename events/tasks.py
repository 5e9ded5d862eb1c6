"""Entry points of workers, and of the callers: what asks the event store keeps no clock waiting."""

import threading
from collections.abc import Callable

from events.services import alerting, archiving, reasons, relabelling, restoring, retention

_looking, _learning = threading.Lock(), threading.Lock()


def forget_old() -> int:
    restoring.go_on()
    # What needs no event store comes first: it may be away.
    gone = alerting.forget_old()
    return gone + retention.forget_old()


def look_for_alerts() -> int:
    return _alone(_looking, alerting.look_at_all)


def learn_reasons() -> int:
    return _alone(_learning, reasons.learn)


def look_for_stale_labels() -> bool:
    return relabelling.go_on()


def relabel() -> int:
    return relabelling.run()


def archive_old() -> int:
    return archiving.archive_old()


def restore(key: int) -> None:
    restoring.run(key)


def forget_clusters() -> int:
    return retention.forget_clusters()


def _alone(lock: threading.Lock, function: Callable[[], int]) -> int:
    """The callers have room for many at once; of what hangs in the database, one is enough."""
    if not lock.acquire(blocking=False):
        return 0
    try:
        return function()
    finally:
        lock.release()
