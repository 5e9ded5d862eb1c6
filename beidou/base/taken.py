"""A task as a queue hands it out, done here: by the clock and by the callers.

How it ends is logged and is nobody else's concern: what asked for it looks at rows, and asks again.
"""

import pydoc
from contextlib import AbstractContextManager, nullcontext

import structlog
from django_q.signing import BadSignature, SignedPackage
from django_q.timeout import TimeoutException

logger = structlog.get_logger(__name__)


def do(
    package: str | bytes, *, by: str, within: AbstractContextManager[object] | None = None
) -> None:
    """Call its function, ``within`` what limits its time, if anything does."""
    try:
        task = SignedPackage.loads(package)
    except (TypeError, BadSignature):
        logger.exception("task_unreadable", by=by)
        return
    try:
        function = pydoc.locate(task["func"])
        if not callable(function):
            raise LookupError(f"There is no function {task['func']}.")
        with within or nullcontext():
            function(*task["args"], **task["kwargs"])
    except (Exception, TimeoutException):
        logger.exception("task_failed", by=by, function=task["func"])
