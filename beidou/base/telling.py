"""Audit entries as lines that a person reads: what was done with what, by whom, why."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.utils.text import capfirst

from beidou.base import attempts, links, verbs
from beidou.base.models import AuditEntry
from beidou.base.state import Stateful


@dataclass(frozen=True)
class Line:
    """``change``: from which state to which, where the entry is about one."""

    at: datetime
    what: str
    actor: str
    kind: str = ""
    name: str = ""
    url: str = ""
    change: str = ""
    reason: str = ""
    outcome: str = ""


def lines_of(entries: Iterable[AuditEntry], *, user: Any) -> list[Line]:
    """In the order given; objects are linked where ``user`` may open them."""
    rows = list(entries)
    pages = links.pages_for(user, {(row.object_type, row.object_id) for row in rows})
    return [
        Line(
            at=row.at,
            what=capfirst(attempts.told(row)),
            actor=verbs.actor(row.actor),
            kind=kind_of(row),
            name=row.object_name,
            url=pages.get((row.object_type, row.object_id), ""),
            change=state_change_of(row),
            reason=row.reason,
            outcome="" if row.outcome == AuditEntry.Outcome.DONE else row.get_outcome_display(),
        )
        for row in rows
    ]


def kind_of(entry: AuditEntry) -> str:
    """What people call the kind of object; empty for none, and for kinds of earlier versions."""
    model = _model_of(entry)
    return str(model._meta.verbose_name) if model else ""


def state_change_of(entry: AuditEntry) -> str:
    """From one state to another, by their names; empty when the entry is about no state."""
    model = _model_of(entry)
    if model is None or not issubclass(model, Stateful):
        return ""
    old, new = (values.get(model.STATUS_FIELD) for values in (entry.before, entry.after))
    if not (isinstance(old, str) and isinstance(new, str)):
        return ""
    names = model()
    return f"{names.state_label(old)} → {names.state_label(new)}"


def _model_of(entry: AuditEntry) -> Any:
    try:
        return apps.get_model(entry.object_type) if entry.object_type else None
    except (LookupError, ValueError):
        return None
