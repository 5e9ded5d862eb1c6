"""A machine's one timeline: a registry, because apps above contribute to it.

A provider turns a machine into entries; operations, events and inspections register theirs in
``AppConfig.ready`` without this app knowing them::

    timeline.register("operation", _("Operations"), "bolt", operation_entries)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.models import Group
from django.utils.functional import Promise
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base import attempts, display, permissions
from beidou.base.models import AuditEntry
from machines.models import Machine, SshCredential

LIMIT: Final = 100  # entries on one page


@dataclass(frozen=True)
class Change:
    """One field before and after, as people read it."""

    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Entry:
    """One thing that happened to a machine."""

    at: datetime
    kind: str
    title: str
    actor: str = ""
    reason: str = ""
    url: str = ""
    changes: tuple[Change, ...] = ()


Provider = Callable[[Machine, Any, int], Iterable[Entry]]  # machine, user, at most so many


@dataclass(frozen=True)
class Kind:
    key: str
    label: str | Promise
    icon: str
    provider: Provider


_kinds: dict[str, Kind] = {}


def register(key: str, label: str | Promise, icon: str, provider: Provider) -> None:
    """Add a kind of entries; a second registration of ``key`` replaces the first."""
    _kinds[key] = Kind(key, label, icon, provider)


def kinds() -> list[Kind]:
    return list(_kinds.values())


def entries(
    machine: Machine, user: Any, *, only: Sequence[str] = (), limit: int = LIMIT
) -> list[Entry]:
    """The newest entries of the chosen kinds (all by default), newest first."""
    found: list[Entry] = []
    for kind in _kinds.values():
        if not only or kind.key in only:
            found += kind.provider(machine, user, limit)
    return sorted(found, key=lambda entry: entry.at, reverse=True)[:limit]


def _transitions(machine: Machine, user: Any, limit: int) -> Iterable[Entry]:
    for row in machine.status_changes.order_by("-at", "-id")[:limit]:
        yield Entry(
            at=row.at,
            kind="transition",
            title=f"{machine.state_label(row.old)} → {machine.state_label(row.new)}",
            actor=row.actor,
            reason=row.reason,
        )


_UNTOLD: Final = frozenset({"id", "created_at", "host_key", "offered_host_key", "host_key_at"})


def _edits(machine: Machine, user: Any, limit: int) -> Iterable[Entry]:
    """Field changes; what the host key went through is told by the audit trail."""
    rows = list(machine.history.select_related("history_user")[: limit + 1])
    names = _Names()
    for index, row in enumerate(rows[:limit]):
        older = rows[index + 1] if index + 1 < len(rows) else None
        changes = _changes(older, row, names) if older else ()
        if older and not changes:
            continue
        yield Entry(
            at=row.history_date,
            kind="edit",
            title=_("Edited") if older else _("Added"),
            actor=str(row.history_user or ""),
            reason=row.history_change_reason or "",
            changes=changes,
        )


def _changes(older: Any, newer: Any, names: "_Names") -> tuple[Change, ...]:
    return tuple(
        Change(
            field=str(field.verbose_name),
            before=names.show(field.name, getattr(older, field.attname)),
            after=names.show(field.name, getattr(newer, field.attname)),
        )
        for field in newer.tracked_fields
        if field.name not in _UNTOLD
        and getattr(older, field.attname) != getattr(newer, field.attname)
    )


class _Names:
    """Keys of teams and credentials as names, each table read at most once."""

    _models: Final = {"owner_team": Group, "credential": SshCredential}

    def __init__(self) -> None:
        self._known: dict[str, dict[int, str]] = {}

    def show(self, field: str, value: Any) -> str:
        if value in (None, "", {}):
            return "–"
        model = self._models.get(field)
        if model is None:
            return str(value)
        if field not in self._known:
            self._known[field] = dict(model._default_manager.values_list("pk", "name"))
        return self._known[field].get(value, f"#{value}")


# Told by the two providers above already.
_TOLD: Final = ("add", "change", "change state", "accept drift", "import")


def _audited(machine: Machine, user: Any, limit: int) -> Iterable[Entry]:
    rows = AuditEntry.objects.filter(
        object_type=Machine._meta.label_lower, object_id=str(machine.pk)
    ).exclude(verb__in=_TOLD)
    for row in permissions.visible_to(user, rows).order_by("-id")[:limit]:
        yield Entry(
            at=row.at,
            kind="audit",
            title=capfirst(attempts.told(row)),
            actor=row.actor,
            reason=row.reason,
            changes=tuple(
                Change(
                    field=name,
                    before=display.value_text(row.before.get(name)),
                    after=display.value_text(row.after.get(name)),
                )
                for name in {**row.before, **row.after}
                if row.verb != attempts.REFUSED  # told already
            ),
        )


register("transition", gettext_lazy("Transitions"), "swap_horiz", _transitions)
register("edit", gettext_lazy("Edits"), "edit", _edits)
register("audit", gettext_lazy("Access and checks"), "verified_user", _audited)
