"""Drift: where a machine is not what it is meant to be, since when, and what a person says to it.

Only fields with an intended value can drift.  A row is made when a visit sees a difference, keeps
its ``first_seen`` while the difference lasts, and goes when both agree again or the observed value
is accepted.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import structlog
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from machines.drivers.facts import Facts
from machines.models import Drift, Machine, MachineFacts
from machines.services import lifecycle, observed

logger = structlog.get_logger(__name__)
NUMBERS = frozenset({"cpus", "memory_mib"})


def facts_of(row: MachineFacts) -> Facts | None:
    """The stored facts; None when no visit succeeded yet.

    Facts that an earlier version stored in another shape are as good as none: the next visit, at
    the latest that of the day, brings new ones.
    """
    if not row.facts:
        return None
    try:
        return msgspec.convert(row.facts, Facts)
    except msgspec.ValidationError as error:
        logger.warning("facts_unreadable", machine=row.machine_id, error=str(error))
        return None


def refresh(machines: Sequence[Machine]) -> None:
    """Compare intended values with the last facts of these machines; a few queries for all."""
    keys = [machine.pk for machine in machines]
    rows = MachineFacts.objects.filter(machine__in=keys, gathered_at__isnull=False)
    seen = {row.machine_id: facts for row in rows if (facts := facts_of(row)) is not None}
    if not seen:
        return
    known: dict[tuple[int, str], Drift] = {
        (row.machine_id, row.field): row for row in Drift.objects.filter(machine__in=list(seen))
    }
    changes = _Changes()
    for machine in machines:
        if machine.pk in seen:
            _compare(machine, observed.from_facts(seen[machine.pk]), known, changes)
    with transaction.atomic():
        Drift.objects.filter(pk__in=[row.pk for row in changes.gone]).delete()
        Drift.objects.bulk_create(changes.new, ignore_conflicts=True, batch_size=500)
        Drift.objects.bulk_update(
            changes.kept, ["intended", "observed", "verdict", "last_seen"], batch_size=200
        )


class _Changes:
    def __init__(self) -> None:
        self.new: list[Drift] = []
        self.kept: list[Drift] = []
        self.gone: list[Drift] = []


def _compare(
    machine: Machine,
    seen: observed.Values,
    known: dict[tuple[int, str], Drift],
    changes: _Changes,
) -> None:
    now = timezone.now()
    for field in Drift.FIELDS:
        row = known.get((machine.pk, field))
        intended = intended_text(machine, field)
        found = seen.get(field, "")
        if not intended:
            if row:
                changes.gone.append(row)
        elif not found:
            continue  # not readable this time: what was seen before still stands
        elif observed.agree(field, intended, found):
            if row:
                changes.gone.append(row)
        elif row is None:
            changes.new.append(
                Drift(
                    machine=machine,
                    field=field,
                    intended=intended[:300],
                    observed=found,
                    first_seen=now,
                    last_seen=now,
                )
            )
        else:
            if row.observed != found or row.intended != intended[:300]:
                row.verdict = Drift.Verdict.OPEN  # judged was another difference
            row.intended, row.observed, row.last_seen = intended[:300], found, now
            changes.kept.append(row)


def intended_text(machine: Machine, field: str) -> str:
    value = getattr(machine, field)
    return "" if value is None else str(value)


def accept(*, rows: Iterable[Drift], reason: str, acting_user: Any) -> int:
    """The observed values become the intended ones; returns how many.

    Each machine is saved once, with history.  Raises ``Conflict`` when the value cannot be taken
    over (a serial number that another machine has) or when it is no longer what was shown.
    """
    by_machine: dict[int, list[Drift]] = {}
    for row in rows:
        by_machine.setdefault(row.machine_id, []).append(row)
    count = 0
    for key, chosen in by_machine.items():
        with transaction.atomic():
            count += _accept_on(key, chosen, reason, acting_user)
    return count


def _accept_on(key: int, chosen: list[Drift], reason: str, acting_user: Any) -> int:
    machine = Machine.objects.select_for_update().get(pk=key)
    permissions.require(acting_user, machine, permissions.CHANGE)
    current = {row.pk: row for row in Drift.objects.filter(pk__in=[row.pk for row in chosen])}
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    for row in chosen:
        now = current.get(row.pk)
        if now is None or now.observed != row.observed:
            raise Conflict(
                _("%(field)s of %(machine)s has changed meanwhile; look again.")
                % {"field": label_of(row.field), "machine": machine},
                code="changed_meanwhile",
            )
        before[row.field] = getattr(machine, row.field)
        after[row.field] = int(row.observed) if row.field in NUMBERS else _fitting(row)
        setattr(machine, row.field, after[row.field])
    try:
        machine.full_clean(exclude=[f.name for f in Machine._meta.fields if f.name not in after])
    except ValidationError as error:
        raise Conflict(
            _("The observed value of %(machine)s cannot be accepted: %(why)s")
            % {"machine": machine, "why": " ".join(error.messages)},
            code="cannot_accept",
        ) from error
    lifecycle.require_editable(machine, after)
    why = reason.strip() or Sentence("observed value accepted")
    machine._change_reason = why  # type: ignore[attr-defined]
    machine.save(update_fields=list(after))
    Drift.objects.filter(pk__in=list(current)).delete()
    audit.record("accept drift", machine, before=before, after=after, reason=why)
    return len(chosen)


def _fitting(row: Drift) -> str:
    """The observed text, cut to what the intended field holds."""
    limit = Machine._meta.get_field(row.field).max_length or 300  # type: ignore[union-attr]
    return row.observed[:limit]


def mark_wrong(*, rows: Iterable[Drift], reason: str, acting_user: Any) -> int:
    """The machine is wrong, not the paper: keep the intended value and say so."""
    count = 0
    for row in rows:
        permissions.require(acting_user, row.machine, permissions.OPERATE)
        with transaction.atomic():
            changed = Drift.objects.filter(pk=row.pk, observed=row.observed).update(
                verdict=Drift.Verdict.WRONG
            )
            if not changed:
                raise Conflict(
                    _("%(field)s of %(machine)s has changed meanwhile; look again.")
                    % {"field": label_of(row.field), "machine": row.machine},
                    code="changed_meanwhile",
                )
            audit.record(
                "mark drift as wrong",
                row.machine,
                before={row.field: row.intended},
                after={row.field: row.observed},
                reason=reason,
            )
        count += 1
    return count


def label_of(field: str) -> str:
    """What people call a field that can drift; its own name where machines have it no more."""
    try:
        return str(Machine._meta.get_field(field).verbose_name)  # type: ignore[union-attr]
    except FieldDoesNotExist:
        return field
