"""Which waiting operation starts: the oldest whose cluster has a free slot.

A slot is a number below the cluster's limit, unique among its running operations by a database
constraint; two dispatchers that want the same one cannot both have it.  What has to wait says for
what.
"""

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from beidou.base.errors import Conflict
from beidou.base.state import change_status
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation
from operations.services import finish

_BATCH = 500


def dispatch() -> int:
    """Start every waiting operation that may start; returns how many."""
    started = 0
    limits = dict(
        ClusterSettings.objects.filter(limit__isnull=False).values_list("cluster_id", "limit")
    )
    used = _slots_in_use()
    waiting = Operation.objects.filter(status=Operation.Status.WAITING).order_by("id")
    for operation in waiting[:_BATCH]:
        limit = limits.get(operation.cluster_id, settings.OPERATIONS_PER_CLUSTER)
        taken = used.setdefault(operation.cluster_id, {})
        if not kinds.get(operation.kind).mutating:
            started += _start(operation, slot=None)
            continue
        free = next((slot for slot in range(limit) if slot not in taken), None)
        if free is None:
            _say_what_it_waits_for(operation, sorted(taken.values()))
        elif _start(operation, slot=free):
            taken[free] = operation.name
            started += 1
    return started


def _slots_in_use() -> dict[int, dict[int, str]]:
    """cluster -> slot -> name of the operation that holds it."""
    used: dict[int, dict[int, str]] = {}
    for cluster, slot, name in Operation.objects.filter(slot__isnull=False).values_list(
        "cluster_id", "slot", "name"
    ):
        used.setdefault(cluster, {})[slot] = name
    return used


def _start(operation: Operation, *, slot: int | None) -> bool:
    try:
        with transaction.atomic():
            change_status(
                operation,
                to=Operation.Status.RUNNING,
                fields={
                    "slot": slot,
                    "waiting_for": "",
                    "message": "",
                    "started_at": operation.started_at or timezone.now(),
                    "finished_at": None,
                },
            )
            finish.go_on(operation)
    except (Conflict, IntegrityError):
        return False  # another dispatcher was faster, with the operation or with the slot
    return True


def _say_what_it_waits_for(operation: Operation, holders: list[str]) -> None:
    text = f"a free slot on {operation.cluster}; running: {', '.join(holders)}"[:300]
    if operation.waiting_for != text:
        Operation.objects.filter(pk=operation.pk, status=Operation.Status.WAITING).update(
            waiting_for=text
        )
