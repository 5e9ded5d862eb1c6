"""Which waiting operation starts: the oldest whose cluster has a free slot.

A slot is a number below the cluster's limit, unique among its running operations by a database
constraint; two dispatchers that want the same one cannot both have it.  What has to wait says for
what.
"""

import structlog
from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone

from beidou.base import audit
from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from beidou.base.state import change_status
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation
from operations.services import finish

logger = structlog.get_logger(__name__)


def dispatch() -> int:
    """Start every waiting operation that may start; returns how many.

    Costs three cheap queries while nothing can start, however many wait.  One that cannot be
    started keeps no other from starting, and takes no slot from it.
    """
    limits = {
        cluster: limit
        for cluster, limit in ClusterSettings.objects.values_list("cluster_id", "limit")
        if limit is not None
    }
    used = _slots_in_use()
    started = 0
    left: set[int] = set()
    waiting = Operation.objects.filter(status=Operation.Status.WAITING).order_by("id")
    for key, cluster, kind, waits in list(
        waiting.values_list("pk", "cluster_id", "kind", "waiting_for")
    ):
        if kind not in kinds.KINDS:
            _say_its_kind_is_missing(key, waits)
            continue
        slot = None
        taken = used.setdefault(cluster, set())
        if kinds.get(kind).mutating:
            limit = limits.get(cluster, settings.OPERATIONS_PER_CLUSTER)
            free = (number for number in range(limit) if number not in taken)
            slot = next(free, None) if len(taken) < limit else None
            if slot is None:
                if not waits:
                    left.add(cluster)
                continue
        try:
            started += _start(key, slot=slot)
        except Exception:
            logger.exception("operation_not_started", operation=key)
            continue
        if slot is not None:
            taken.add(slot)
    for cluster in left:
        _say_what_they_wait_for(cluster, limits.get(cluster, settings.OPERATIONS_PER_CLUSTER))
    return started


def _slots_in_use() -> dict[int, set[int]]:
    used: dict[int, set[int]] = {}
    for cluster, slot in Operation.objects.filter(slot__isnull=False).values_list(
        "cluster_id", "slot"
    ):
        if slot is not None:
            used.setdefault(cluster, set()).add(slot)
    return used


def _start(key: int, *, slot: int | None) -> bool:
    operation = Operation.objects.select_related("cluster").get(pk=key)
    try:
        with audit.entries_last():
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


def _say_what_they_wait_for(cluster: int, limit: int) -> None:
    """Which operations hold the slots changes all the time, so only the rule is written down."""
    Operation.objects.filter(
        cluster=cluster, status=Operation.Status.WAITING, waiting_for=""
    ).update(
        waiting_for=Sentence("one of the %(limit)s slots for changes on its cluster", limit=limit)
    )


def _say_its_kind_is_missing(key: int, waits: str) -> None:
    """As after a downgrade: the version that knows the kind starts it."""
    sentence = Sentence("a version of the portal that knows its kind")
    if waits != sentence:
        Operation.objects.filter(pk=key, status=Operation.Status.WAITING).update(
            waiting_for=sentence
        )
