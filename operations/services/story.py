"""What happened to an operation, in one order: its own and its steps' changes of state, and audit
entries."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _

from beidou.base import attempts, display, permissions
from beidou.base.models import AuditEntry
from operations.models import Operation, OperationStatusChange, StepStatusChange

LIMIT = 500


@dataclass(frozen=True)
class Entry:
    """``details`` is what an audit entry says of the object, name by name."""

    at: datetime
    what: str
    actor: str
    reason: str = ""
    is_audit: bool = False
    outcome: str = ""
    details: tuple[tuple[str, str], ...] = ()


def of(operation: Operation, *, user: Any) -> list[Entry]:
    """Newest first; audit entries only where ``user`` may see them."""
    found = [
        Entry(
            at=row.at,
            what=f"{_('Operation')}: {_label(operation, row.old)} → {_label(operation, row.new)}",
            actor=row.actor,
            reason=row.reason,
        )
        for row in OperationStatusChange.objects.filter(subject=operation).order_by("-id")[:LIMIT]
    ]
    steps = StepStatusChange.objects.filter(subject__operation=operation).select_related("subject")
    found += [
        Entry(
            at=row.at,
            what=f"{row.subject.name}: {_label(row.subject, row.old)} → "
            f"{_label(row.subject, row.new)}",
            actor=row.actor,
            reason=row.reason,
        )
        for row in steps.order_by("-id")[:LIMIT]
    ]
    entries = AuditEntry.objects.filter(
        object_type=Operation._meta.label_lower, object_id=str(operation.pk)
    )
    found += [
        Entry(
            at=row.at,
            what=attempts.told(row),
            actor=row.actor,
            reason=row.reason,
            is_audit=True,
            outcome="" if row.verb == attempts.REFUSED else row.get_outcome_display(),
            details=_details(row),
        )
        for row in permissions.visible_to(user, entries).order_by("-id")[:LIMIT]
    ]
    return sorted(found, key=lambda entry: entry.at, reverse=True)[:LIMIT]


def _details(row: AuditEntry) -> tuple[tuple[str, str], ...]:
    if row.verb == attempts.REFUSED:
        return ()  # told already
    return tuple(
        (name, display.value_text(value))
        for name, value in row.after.items()
        if value not in (None, "", [], {})
    )


def _label(subject: Any, state: str) -> str:
    return subject.state_label(state) if state else _("new")
