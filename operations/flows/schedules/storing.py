"""Schedules as people write them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import User
from operations.flows import base, catalog, graph, nesting, start
from operations.flows.library import finding
from operations.flows.schedules import times
from operations.flows.schedules.models import EVERY_LEAST, TaskSchedule
from operations.kinds import base as operation_kinds
from operations.kinds.base import Kind
from operations.models import Operation
from operations.services import calendars


def next_of(row: TaskSchedule, after: datetime) -> datetime | None:
    if row.cron:
        return times.next_of(row.cron, zone_of(row), after)
    if row.every_minutes:
        begin = row.next_at or row.created_at
        return times.next_every(row.every_minutes, begin, after)
    return None


def upcoming(row: TaskSchedule, count: int = 5) -> Iterator[datetime]:
    """The next times, as far as nothing puts them off."""
    if not row.enabled:
        return
    moment = row.next_at
    for _number in range(count):
        if moment is None:
            return
        yield moment
        following = next_of(row, moment)
        moment = following if following is None or following > moment else None


def zone_of(row: TaskSchedule) -> ZoneInfo:
    return calendars.zone_of(row.time_zone)


def shown(row: TaskSchedule, moment: datetime) -> str:
    zone = zone_of(row)
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M} ({zone.key})"


def find_problems(row: TaskSchedule, user: User, *, newest: bool = True) -> dict[str, str]:
    """Field -> sentence for what cannot be stored by ``user``; ``newest``: with the versions that
    are the newest now, not with those that it has."""
    found: dict[str, str] = {}
    try:
        row.clean_fields()
    except ValidationError as error:
        found |= {name: sentences[0] for name, sentences in error.message_dict.items()}
    if row.name and TaskSchedule.objects.filter(name=row.name).exclude(pk=row.pk or 0).exists():
        found.setdefault("name", _taken(row))
    found |= {name: said for name, said in problems_of_times(row).items() if name not in found}
    if not _is_only_off(row):
        found |= {name: said for name, said in _of_priority(row, user).items() if name not in found}
        if "template" not in found:
            found |= _of_template(row, user, newest=newest)
    return found


def _of_priority(row: TaskSchedule, user: User) -> dict[str, str]:
    is_high = row.priority == Operation.Priority.HIGH
    if not is_high or permissions.may(user, row.cluster, permissions.APPROVE):
        return {}
    return {"priority": _("High is for those who may approve on the cluster.")}


def _is_only_off(row: TaskSchedule) -> bool:
    """Whether it stays, or becomes, switched off, and begins nothing else than before: what cannot
    begin any more can be switched off."""
    kept = None if row.enabled or not row.pk else TaskSchedule.objects.filter(pk=row.pk).first()
    names = ("cluster_id", "template", "machines", "params")
    return kept is not None and all(getattr(kept, n) == getattr(row, n) for n in names)


def specs_of(row: TaskSchedule) -> tuple[catalog.Template, list[graph.Spec]]:
    """The template in the version that was saved, and its steps with all that is below them."""
    chosen = finding.template(row.template, row.template_version)
    specs = start.specs_of(chosen, params=row.params)
    return chosen, nesting.expand(specs, versions=row.versions_below)


def is_outdated(row: TaskSchedule) -> bool:
    """Whether saving it now would take another version of something."""
    try:
        found = _newest(row)
    except InvalidInput:
        return False
    return found != (row.template_version, row.versions_below)


def _newest(row: TaskSchedule) -> tuple[int, dict[str, int]]:
    chosen = finding.template(row.template)
    specs = nesting.expand(start.specs_of(chosen, params=row.params))
    return chosen.version, nesting.versions_of(specs)


def problems_of_times(row: TaskSchedule) -> dict[str, str]:
    found: dict[str, str] = {}
    if bool(row.cron) == bool(row.every_minutes):
        found["cron"] = _("Give either a cron expression or an interval.")
    elif row.cron and not times.is_cron(row.cron):
        found["cron"] = _("“%(text)s” is no cron expression of five fields that comes true.") % {
            "text": row.cron
        }
    elif row.cron and times.least_gap(row.cron) < timedelta(minutes=EVERY_LEAST):
        found["cron"] = _("At most every %(count)s minutes.") % {"count": EVERY_LEAST}
    if row.time_zone and row.time_zone not in available_timezones():
        found["time_zone"] = _("There is no time zone “%(name)s”.") % {"name": row.time_zone}
    return found


def _of_template(row: TaskSchedule, user: User, *, newest: bool) -> dict[str, str]:
    if not isinstance(row.params, dict):
        return {"params": _("Must be a mapping.")}
    try:
        chosen = finding.template(row.template, None if newest else row.template_version)
    except InvalidInput as error:
        return {"template": error.message}
    if chosen.groups:
        return {
            "template": _("Machines are replaced by others that somebody names; not by a schedule.")
        }
    try:
        specs = start.specs_of(chosen, params=row.params)
        specs = nesting.expand(specs, versions=None if newest else row.versions_below)
        # Asked again each time; but a secret must not even be stored.
        start.settled(specs, cluster=row.cluster, acting_user=user)
    except (InvalidInput, Conflict) as error:
        return {"params": error.message}
    found = {
        "machines": "" if row.machines.strip() else why_named(specs),
        "batch_size": start.why_no_batches(kinds_of(specs), row.batch_size),
    }
    return {name: sentence for name, sentence in found.items() if sentence}


def why_named(specs: list[graph.Spec]) -> str:
    """Why machines have to be named; empty where none named can mean the whole cluster."""
    kinds = kinds_of(specs)
    if kinds and all(kind.whole_cluster for kind in kinds):
        return ""
    return _("Name at least one machine.")


def kinds_of(specs: list[graph.Spec]) -> list[Kind]:
    """Of the operations in the expanded tree, in their order."""
    return [
        operation_kinds.get(str(spec.params.get("kind", "")))
        for _place, spec in nesting.walk(specs)
        if base.get(spec.kind).name == "operation"
    ]


def store(row: TaskSchedule, *, acting_user: User, reason: str = "", newest: bool = True) -> None:
    """Check and save; who saves is the owner from now on, and the times are counted anew."""
    permissions.require(acting_user, row.cluster, permissions.OPERATE)
    if problems := find_problems(row, acting_user, newest=newest):
        name, sentence = next(iter(problems.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_schedule", fields=problems)
    try:
        _save(row, acting_user, reason, newest=newest)
    except IntegrityError as error:
        if not TaskSchedule.objects.filter(name=row.name).exclude(pk=row.pk or 0).exists():
            raise
        # Somebody was faster.
        sentence = _taken(row)
        fields = {"name": sentence}
        raise InvalidInput(sentence, code="invalid_schedule", fields=fields) from error


def _taken(row: TaskSchedule) -> str:
    return _("There is a schedule “%(name)s” already.") % {"name": row.name}


def _save(row: TaskSchedule, acting_user: User, reason: str, *, newest: bool) -> None:
    with audit.entries_last():
        kept = TaskSchedule.objects.select_for_update().filter(pk=row.pk or 0).first()
        if kept is None and row.pk:
            raise Conflict(_("It was deleted meanwhile."), code="gone")
        if kept is not None:
            # Meanwhile the clock may have begun one.
            row.last_at, row.last_task = kept.last_at, kept.last_task
        before = audit.snapshot(kept) if kept else {}
        row.owner, row.owner_name = acting_user, acting_user.get_username()
        if newest and not _is_only_off(row):
            row.template_version, row.versions_below = _newest(row)
        row.message = ""
        row.next_at = _first(row, kept)
        row.save()
        old, new = audit.difference(before, audit.snapshot(row))
        if new:
            audit.record("change" if kept else "add", row, before=old, after=new, reason=reason)


def _first(row: TaskSchedule, kept: TaskSchedule | None) -> datetime | None:
    """What was planned stays, unless the times are others or it was switched off."""
    if not row.enabled:
        return None
    now = timezone.now()
    names = ("cron", "every_minutes", "time_zone")
    is_same = kept is not None and all(getattr(kept, n) == getattr(row, n) for n in names)
    if kept is not None and is_same and kept.enabled and kept.next_at is not None:
        return kept.next_at
    if row.every_minutes:
        return now + timedelta(minutes=row.every_minutes)
    return next_of(row, now)


def switch(row: TaskSchedule, *, enabled: bool, acting_user: User, reason: str = "") -> None:
    """Nothing else; who switches it on is the owner from now on, in the version that it has."""
    with audit.entries_last():
        kept = TaskSchedule.objects.select_for_update().filter(pk=row.pk).first()
        if kept is None:
            raise Conflict(_("It was deleted meanwhile."), code="gone")
        permissions.require(acting_user, kept.cluster, permissions.OPERATE)
        if kept.enabled != enabled:
            kept.enabled = enabled
            if enabled:
                store(kept, acting_user=acting_user, reason=reason, newest=False)
            else:
                _switch_off(kept, reason)
    row.refresh_from_db()


def _switch_off(row: TaskSchedule, reason: str) -> None:
    row.next_at, row.message = None, ""
    row.save(update_fields=["enabled", "next_at", "message"])
    audit.record("change", row, before={"enabled": True}, after={"enabled": False}, reason=reason)


def remove(row: TaskSchedule, *, acting_user: User) -> None:
    permissions.require(acting_user, row.cluster, permissions.OPERATE)
    with audit.entries_last():
        audit.record("delete", row, before=audit.snapshot(row))
        row.delete()
