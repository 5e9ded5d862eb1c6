"""One more copy of a workload for a while, so that its budget has one to spare.

What was raised, by which operation and from how many, is written at the workload itself in the very
change that raises it: whatever dies afterwards, the next attempt or the cleanup finds it there.
``operation`` is what ``names.name_of`` calls it: another portal's may have the same key.
"""

from collections.abc import Callable

from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.workloads import WORKLOAD_KINDS, Workload, Workloads

RAISED_BY = "beidou.io/raised-by"
REPLICAS_BEFORE = "beidou.io/replicas-before"
ATTEMPTS = 5


def raise_owner(workloads: Workloads, workload: Workload, *, operation: str) -> Workload | None:
    """Ask for one more copy; None when this or another operation has raised it already."""
    for _ in range(ATTEMPTS):
        if RAISED_BY in workload.annotations:
            return None
        annotations = {RAISED_BY: operation, REPLICAS_BEFORE: str(workload.wanted)}
        try:
            return workloads.set_replicas(workload, workload.wanted + 1, annotations=annotations)
        except errors.Conflict409:
            workload = workloads.get(workload.kind, workload.namespace, workload.name)
    raise errors.Conflict409(
        Sentence("%(key)s changes all the time; it could not be raised.", key=workload.key)
    )


def put_back(workloads: Workloads, *, operation: str, say: Callable[[str], None]) -> None:
    """Take the additional copies away again; says what it did, and what somebody else changed."""
    for kind in WORKLOAD_KINDS:
        for workload in workloads.all(kind):
            # A Deployment hands its annotations down to its ReplicaSets.
            if workload.owner is None and workload.annotations.get(RAISED_BY) == operation:
                say(_put_one_back(workloads, workload))


def _put_one_back(workloads: Workloads, workload: Workload) -> str:
    for _ in range(ATTEMPTS):
        before = workload.annotations.get(REPLICAS_BEFORE, "")
        is_ours = before.isdecimal() and workload.wanted == int(before) + 1
        try:
            workloads.set_replicas(
                workload,
                int(before) if is_ours else workload.wanted,
                annotations={RAISED_BY: None, REPLICAS_BEFORE: None},
            )
        except errors.Conflict409:
            workload = workloads.get(workload.kind, workload.namespace, workload.name)
            continue
        if is_ours:
            return f"{workload.key} is back at {before} replicas."
        return (
            f"{workload.key} has {workload.wanted} replicas by now, not one more than {before}: "
            "somebody changed it, so it stays as it is."
        )
    return f"{workload.key} changes all the time; take its additional copy away by hand."
