"""What the clock does with schedules, once a minute.

Each is looked at once for all that it has missed.  A schedule whose owner may not do it any more is
switched off, with a sentence and a notice; what may be right the next time is said and tried then.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import structlog
from django.db import OperationalError
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, context, notices, permissions
from beidou.base.errors import BeidouError, Forbidden, InvalidInput
from beidou.base.notices import News, Severity
from beidou.base.sentences import Sentence
from machines.models import Machine
from machines.services import selection
from operations.flows import acting, base, graph, nesting, start
from operations.flows.models import AutoOperationTask, TaskMachine
from operations.flows.schedules import storing
from operations.flows.schedules.models import TaskSchedule
from operations.kinds import base as operation_kinds
from operations.services import calendars
from operations.services import start as operations

logger = structlog.get_logger(__name__)
STOPPED = "schedule.stopped"
MISSED = "schedule.missed"


class _Stop(Exception):  # noqa: N818  no error: the end of a schedule
    def __init__(self, why: Sentence) -> None:
        super().__init__(why)
        self.why = why


def run_due() -> int:
    """One query where nothing is due; how many tasks were begun."""
    due = TaskSchedule.objects.filter(enabled=True, next_at__lte=timezone.now())
    count = 0
    for key in list(due.order_by("next_at").values_list("pk", flat=True)):
        try:
            count += run(key)
        except OperationalError:
            logger.exception("schedule_not_run", schedule=key)  # again in a minute
        except Exception:
            logger.exception("schedule_not_run", schedule=key)
            _tell_mistake(key)
    return count


def run(key: int) -> bool:
    """Whether a task was begun."""
    with _due(key) as row:
        return row is not None and _run(row, timezone.now())


def _tell_mistake(key: int) -> None:
    """It would be made again each minute."""
    try:
        with _due(key) as row:
            if row is not None:
                why = Sentence("The portal made a mistake; it is in its log.")
                _miss(row, why, storing.next_of(row, timezone.now()))
    except Exception:
        logger.exception("schedule_not_run", schedule=key)


@contextmanager
def _due(key: int) -> Iterator[TaskSchedule | None]:
    """A transaction with its row; None when somebody was faster."""
    with (
        context.acting(
            actor_id=None, actor_name="system", address="", request_id=f"schedule-{key}"
        ),
        audit.entries_last(),
    ):
        yield (
            TaskSchedule.objects.select_for_update(of=("self",))
            .select_related("cluster", "owner", "last_task")
            .filter(pk=key, enabled=True, next_at__lte=timezone.now())
            .first()
        )


def _run(row: TaskSchedule, now: datetime) -> bool:
    planned = storing.next_of(row, now)
    try:
        task = _begin(row, now, planned)
    except _Stop as stop:
        _switch_off(row, stop.why)
        return False
    except BeidouError as error:
        _miss(row, Sentence("It could not begin: %(why)s", why=error.message), planned)
        return False
    if task is not None:
        row.last_at, row.last_task, row.message, row.next_at = now, task, "", planned
    row.save()
    return task is not None


def _miss(row: TaskSchedule, why: Sentence, planned: datetime | None) -> None:
    is_new = row.message != why
    row.message, row.next_at = why, planned
    if is_new:  # not each time anew
        title = Sentence("Schedule %(name)s could not begin its task.", name=row.name)
        _tell(row, MISSED, Severity.WARNING, title)
    row.save()


def _begin(row: TaskSchedule, now: datetime, planned: datetime | None) -> AutoOperationTask | None:
    """None when this time is passed over or put off; ``message`` and ``next_at`` say so."""
    owner: Any = row.owner
    if owner is None or not owner.is_active:
        raise _Stop(
            Sentence(
                "%(who)s, whose schedule it is, has no account any more; whoever saves it takes it "
                "over.",
                who=row.owner_name,
            )
        )
    if not permissions.may(owner, row.cluster, permissions.OPERATE):
        raise _Stop(_no_right(row))
    if row.last_task is not None and row.last_task.is_active:
        row.message = Sentence(
            "Passed over: the task of last time, %(task)s, is not over.", task=row.last_task.name
        )
        row.next_at = planned
        return None
    chosen, specs = storing.specs_of(row)
    hold = calendars.hold_of(row.cluster) if _changes(specs) else None
    if hold is not None:
        # It is put off until it may begin, unless its next time comes before.
        opens = hold.opens_at
        is_soon = opens is not None and (planned is None or opens < planned)
        row.message = (
            Sentence("Put off: it waits for %(what)s.", what=hold.sentence)
            if is_soon
            else Sentence("Passed over: it would wait for %(what)s.", what=hold.sentence)
        )
        row.next_at = opens if is_soon else planned
        return None
    machines = _machines(row, specs)
    try:
        with context.acting(actor_id=owner.pk, actor_name=owner.get_username()):
            return start.start_task(
                cluster=row.cluster,
                machines=machines,
                specs=specs,
                template=chosen.name,
                version=chosen.version,
                params=row.params,
                batches=start.Batches(row.batch_size, row.batch_pause, row.max_failed_percent),
                name=_name(row, now),
                reason=row.reason,
                priority=acting.priority(row.priority, row.cluster, owner),
                acting_user=owner,
                leave_out_blocked=True,
                versions=row.versions_below,
            )
    except Forbidden as error:
        raise _Stop(_no_right(row)) from error


def _no_right(row: TaskSchedule) -> Sentence:
    return Sentence(
        "%(who)s, whose schedule it is, may not do this on %(cluster)s any more; whoever saves it "
        "takes it over.",
        who=row.owner_name,
        cluster=row.cluster.name,
    )


def _changes(specs: list[graph.Spec]) -> bool:
    """Whether something in it is held by windows and freezes."""
    for _place, spec in nesting.walk(specs):
        if base.get(spec.kind).name != "operation":
            continue
        kind = operation_kinds.get(str(spec.params.get("kind", "")))
        steps = spec.params.get("steps") or kind.step_names
        if kind.changes_in(steps, spec.params.get("params", {})):
            return True
    return False


def _machines(row: TaskSchedule, specs: list[graph.Spec]) -> list[Machine]:
    """What one may not see, what is no more, and what other tasks work with, is left out; none at
    all is refused."""
    owner: Any = row.owner
    if row.machines.strip():
        found = selection.parse_machines(row.machines, user=owner).machines
    elif sentence := storing.why_named(specs):
        raise InvalidInput(sentence, code="no_machines", fields={"machines": sentence})
    else:
        first = storing.kinds_of(specs)[0]
        found = operations.machines_of(first.name, row.cluster, user=owner)
    rows = TaskMachine.objects.filter(machine__in=found, holds_machine=True)
    held = set(rows.values_list("machine_id", flat=True))
    left = [machine for machine in found if machine.pk not in held]
    if found and not left:
        raise InvalidInput(_("Other tasks work with all of its machines."), code="no_machines")
    return left


def _name(row: TaskSchedule, now: datetime) -> str:
    stem = f"{row.name}-{now.astimezone(storing.zone_of(row)):%Y%m%d-%H%M}"
    name, number = stem, 1
    while AutoOperationTask.objects.filter(name=name).exists():
        number += 1
        name = f"{stem}-{number}"
    return name


def _switch_off(row: TaskSchedule, why: Sentence) -> None:
    row.enabled, row.next_at, row.message = False, None, why
    title = Sentence("Schedule %(name)s was switched off.", name=row.name)
    _tell(row, STOPPED, Severity.WARNING, title)
    row.save()
    audit.record(
        "stop schedule", row, before={"enabled": True}, after={"enabled": False}, reason=why
    )


def _tell(row: TaskSchedule, kind: str, severity: str, title: Sentence) -> None:
    notices.publish(
        News(
            kind=kind,
            severity=severity,
            title=title,
            details=row.message,
            cluster_id=row.cluster_id,
            about=row,
        )
    )
