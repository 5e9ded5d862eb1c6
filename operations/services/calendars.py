"""The windows and freezes of clusters: read for those who decide what begins, edited by owners."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Forbidden, InvalidInput
from beidou.base.models import User
from beidou.base.tasks import CLOCK, enqueue_on_commit
from clusters.models import Cluster
from operations.kinds.base import Remark
from operations.models import Freeze, MaintenanceWindow
from operations.services.times import Calendar, Frozen, Hold, Window

_DAYS = {day: number for number, day in enumerate(MaintenanceWindow.Weekday.values)}


@dataclass
class Site:
    """What a cluster says about its operations: how many at once, and when."""

    limit: int | None
    zone: ZoneInfo
    labels: Mapping[str, Any]
    windows: list[Window] = field(default_factory=list)
    freezes: list[Frozen] = field(default_factory=list)

    @property
    def calendar(self) -> Calendar:
        return Calendar(self.zone, tuple(self.windows), tuple(self.freezes))


def sites(clusters: Collection[int], now: datetime) -> dict[int, Site]:
    """Two queries, however many clusters."""
    if not clusters:
        return {}
    found: dict[int, Site] = {}
    rows = Cluster.objects.filter(pk__in=clusters).values_list(
        "pk",
        "labels",
        "operation_settings__limit",
        "operation_settings__time_zone",
        "maintenance_windows__weekdays",
        "maintenance_windows__start",
        "maintenance_windows__minutes",
    )
    for key, labels, limit, zone, weekdays, start, minutes in rows.order_by():
        site = found.setdefault(key, Site(limit, zone_of(zone or ""), labels or {}))
        if weekdays:
            site.windows.append(_window(weekdays, start, minutes))
    _add_freezes(found, now)
    return found


def _window(weekdays: Iterable[str], start: time, minutes: int) -> Window:
    return Window(frozenset(_DAYS[day] for day in weekdays if day in _DAYS), start, minutes)


def _add_freezes(found: Mapping[int, Site], now: datetime) -> None:
    for row in Freeze.objects.filter(Q(ends_at=None) | Q(ends_at__gt=now)).order_by("pk"):
        frozen = Frozen(row.begins_at, row.ends_at, row.reason)
        for key, site in found.items():
            if concerns(row, key, site.labels):
                site.freezes.append(frozen)


def concerns(freeze: Freeze, cluster: int, labels: Mapping[str, Any]) -> bool:
    if freeze.cluster_id is not None:
        return freeze.cluster_id == cluster
    if not freeze.label:
        return True
    key, _equals, value = freeze.label.partition("=")
    return key in labels and str(labels[key]) == value


def zone_of(name: str) -> ZoneInfo:
    """That of the portal for none, and for one that the system knows no more."""
    try:
        return ZoneInfo(name or settings.TIME_ZONE)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(settings.TIME_ZONE)


def calendar_of(cluster: Cluster) -> Calendar:
    return sites({cluster.pk}, timezone.now())[cluster.pk].calendar


def hold_of(cluster: Cluster) -> Hold | None:
    """What keeps a change of the cluster from beginning now."""
    return calendar_of(cluster).hold(timezone.now())


def remarks(cluster: Cluster, seconds: tuple[float, float] | None) -> list[Remark]:
    """What the plan of a change says of them; ``seconds`` is how long such operations took."""
    now = timezone.now()
    calendar = calendar_of(cluster)
    hold = calendar.hold(now)
    if hold is not None:
        text = _("It will wait for %(what)s.") % {"what": hold.sentence}
        return [Remark(None, text)]
    closes_at = calendar.closes_at(now)
    if closes_at is not None and seconds and now + timedelta(seconds=seconds[1]) > closes_at:
        text = _(
            "It may take longer than until %(moment)s, from when on no change may begin; one that "
            "has begun goes on to its end."
        ) % {"moment": calendar.moment(closes_at)}
        return [Remark(None, text)]
    return []


# --- editing --------------------------------------------------------------------------------


def require_may_edit(user: User, cluster: Cluster | None) -> None:
    """Owners for their clusters; what concerns many clusters is for administrators."""
    if cluster is not None:
        permissions.require(user, cluster, permissions.CHANGE)
    elif not user.is_superuser:
        raise Forbidden(_("Freezes by label, and of the whole fleet, are for administrators."))


def store(row: MaintenanceWindow | Freeze, *, acting_user: User, reason: str = "") -> None:
    """Check and save a new or changed one; what waits is looked at anew at once."""
    require_may_edit(acting_user, row.cluster)
    problems = find_problems(row)
    if problems:
        name, sentence = next(iter(problems.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_calendar", fields=problems)
    if isinstance(row, Freeze):
        row.label = _one_spelling(row.label)
    with audit.entries_last():
        kept = type(row)._default_manager.filter(pk=row.pk).first() if row.pk else None
        before = audit.snapshot(kept) if kept else {}
        row.save()
        old, new = audit.difference(before, audit.snapshot(row))
        if new:
            audit.record("change" if kept else "add", row, before=old, after=new, reason=reason)
        enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)


def remove(row: MaintenanceWindow | Freeze, *, acting_user: User) -> None:
    require_may_edit(acting_user, row.cluster)
    with audit.entries_last():
        audit.record("delete", row, before=audit.snapshot(row))
        row.delete()
        enqueue_on_commit("operations.tasks.dispatch", queue=CLOCK)


def find_problems(row: MaintenanceWindow | Freeze) -> dict[str, str]:
    """Field -> sentence for what cannot be stored."""
    found: dict[str, str] = {}
    try:
        row.clean_fields()
    except ValidationError as error:
        found |= {name: sentences[0] for name, sentences in error.message_dict.items()}
    if isinstance(row, MaintenanceWindow):
        if sentence := _weekdays_problem(row.weekdays):
            found["weekdays"] = sentence
        elif "minutes" not in found and row.minutes > _minutes_between(row.weekdays):
            found["minutes"] = _("It lasts longer than until it begins the next time.")
        return found
    if row.cluster_id is not None and row.label:
        found["label"] = _("Name either a cluster or a label.")
    key, equals, value = row.label.partition("=")
    if row.label and not (key.strip() and equals and value.strip()):
        found["label"] = _("Write the label as key=value.")
    if row.ends_at is not None and "begins_at" not in found and row.ends_at <= row.begins_at:
        found["ends_at"] = _("It ends before it begins.")
    elif row.pk is None and row.ends_at is not None and row.ends_at <= timezone.now():
        found["ends_at"] = _("It would be over already.")
    return found


def _weekdays_problem(value: Any) -> str:
    known = ", ".join(_DAYS)
    if not isinstance(value, list) or not value or any(day not in _DAYS for day in value):
        return _("Name at least one weekday of these: %(known)s.") % {"known": known}
    return _("Name each weekday once.") if len(set(value)) < len(value) else ""


def _minutes_between(weekdays: Collection[str]) -> int:
    """The shortest time from one beginning to the next."""
    days = sorted(_DAYS[day] for day in weekdays)
    following = [*days[1:], days[0] + 7]
    return min(b - a for a, b in zip(days, following, strict=True)) * 24 * 60


def _one_spelling(label: str) -> str:
    key, _equals, value = label.partition("=")
    return f"{key.strip()}={value.strip()}" if label else ""
