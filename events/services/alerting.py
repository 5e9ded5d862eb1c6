"""What is done with alert rules, once a minute.

Each rule is claimed, counts its groups and writes what began, goes on and is over; what goes wrong
with one is said on its page and stops no other.  Nothing is told twice: whom to tell is decided in
the transaction that writes that he was told.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Max, Q, QuerySet
from django.utils import timezone

from beidou.base import notices, permissions
from beidou.base.errors import BeidouError, TemporaryError
from beidou.base.notices import News
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from events.drivers.errors import SearchTooSlow, StoreAway
from events.drivers.kube_events import MOST_AHEAD
from events.models import SILENT_AFTER, AlertRule, EventAlert, EventStream
from events.services import alert_rules, figures, searches
from events.services.figures import Clock, Group, Groups
from events.services.search import Query

logger = structlog.get_logger(__name__)

KIND: Final = "event.alert"
EVERY: Final = timedelta(seconds=45)
"""A rule is looked at once a minute, also when the clock calls twice."""
GROUPS_MAX: Final = 100
RULE_SECONDS: Final = 10.0
ALL_SECONDS: Final = 45.0
LATE: Final = timedelta(minutes=2)
"""What another collector takes over, or a server has not yet made searchable, is found later than
it was seen."""
WAITING_MAX: Final = timedelta(hours=2)
"""What waits in a spool for longer is not waited for: all rules would look far back for it."""
PORTION: Final = timedelta(hours=2)
"""So much is looked back over at a time."""
MISSED_MAX: Final = timedelta(days=1)
"""After an outage, so far back is looked."""
WINDOW_STEPS: Final = 60
STEPS_MAX: Final = 20_000
"""A server counts no more parts than about three times as many."""
Key = tuple[int | None, str]


def look_at_all(now: datetime | None = None) -> int:
    """How many rules were looked at; those that had to wait come first the next time."""
    now = now or timezone.now()
    _end_those_of_rules_that_are_off(now)
    begun = time.monotonic()
    due = AlertRule.objects.filter(Q(looked_at=None) | Q(looked_at__lte=now - EVERY), enabled=True)
    rows = due.select_related("owner").order_by(F("looked_at").asc(nulls_first=True), "pk")
    count = 0
    away: StoreAway | None = None
    for rule in rows:
        if away is not None:
            _say(rule, away.message, now)
            continue
        if time.monotonic() - begun > ALL_SECONDS:
            logger.warning("alert_rules_took_too_long", looked_at=count)
            break
        if _claim(rule, now):
            away = look_at(rule, now)
            count += 1
    return count


def _claim(rule: AlertRule, now: datetime) -> bool:
    """False when another worker was faster, or somebody switched it off."""
    same = AlertRule.objects.filter(pk=rule.pk, looked_at=rule.looked_at, enabled=True)
    return bool(same.update(looked_at=now))


def look_at(rule: AlertRule, now: datetime) -> StoreAway | None:
    """Count for one rule, and write what became of its alerts; gives why the store cannot be asked:
    the others need not wait in vain for it, too."""
    try:
        _look_at(rule, now)
    except StoreAway as error:
        _say(rule, error.message, now)
        return None if isinstance(error, SearchTooSlow) else error
    except BeidouError as error:
        _say(rule, error.message, now)
    except DatabaseError:
        logger.exception("alert_rule_not_looked_at", rule=rule.pk)
        _say(rule, Sentence("The database did not answer as it should; it is in the log."), now)
    except Exception:
        logger.exception("alert_rule_not_looked_at", rule=rule.pk)
        _say(rule, Sentence("The portal made a mistake; it is in its log."), now)
    return None


def _look_at(rule: AlertRule, now: datetime) -> None:
    why = _hindrance(rule)
    if why is not None:
        _settle(rule, Groups(()), now)
        _say(rule, why, now)
        AlertRule.objects.filter(pk=rule.pk).update(counted_at=None)
        return
    clock = Clock(RULE_SECONDS)
    found = _groups(rule, now - rule.window, now, clock)
    if found.is_late:  # what was not counted must not be taken for over
        raise _too_slow()
    # What fires now is told first: looking back may take too long.
    _settle(rule, found, now)
    _look_back(rule, found, now, clock)
    more = Sentence(
        "There are more groups with so many events than are looked at: the %(count)s largest are "
        "alerts.",
        count=GROUPS_MAX,
    )
    _say(rule, more if found.is_part else "", now)


def _groups(rule: AlertRule, since: datetime, now: datetime, clock: Clock) -> Groups:
    # A cluster's clock may be ahead of ours.
    query = alert_rules.query_of(rule.owner, rule, since=since, until=now + MOST_AHEAD)
    return figures.groups(
        rule.owner, query, rule.group_by, least=rule.threshold, most=GROUPS_MAX, clock=clock
    )


def _too_slow() -> TemporaryError:
    return TemporaryError(Sentence("The event store answers too slowly: counting took too long."))


# --- windows between the looks --------------------------------------------------------------------


def _look_back(rule: AlertRule, found: Groups, now: datetime, clock: Clock) -> None:
    """In portions, so that after an outage it comes to an end although the time for it does, too:
    the next look goes on behind the last one that was counted."""
    if rule.counted_at is None or rule.counted_as != rule.meaning:
        _note_counted(rule, now, now)
        return
    begin = max(rule.counted_at, now - MISSED_MAX)
    while begin < now:
        until = min(now, begin + PORTION)
        try:
            missed, are_all = _missed(rule, found, begin, until, now, clock)
        except StoreAway as error:  # of this wider question alone: others need not wait for it
            raise TemporaryError(error.message) from error
        _begin_late(rule, missed, now)
        if not are_all:
            raise _too_slow()
        _note_counted(rule, until, now)
        begin = until


def _note_counted(rule: AlertRule, until: datetime, now: datetime) -> None:
    counted = min(until, _stored_until(now))
    AlertRule.objects.filter(pk=rule.pk).update(counted_at=counted, counted_as=rule.meaning)


@dataclass(frozen=True)
class Missed:
    """The latest window that held enough, and no look counted: with how many events, at most."""

    group: Group
    since: datetime
    until: datetime


def _missed(
    rule: AlertRule, found: Groups, begin: datetime, until: datetime, now: datetime, clock: Clock
) -> tuple[list[Missed], bool]:
    """What no look has counted: it was stored late, lies across two looks, or there was none.

    Gives what is not found now, and whether there was time to look at all of it.
    """
    begin = max(begin - LATE, now - MISSED_MAX) - rule.window
    wide = _groups(rule, begin, until, clock)
    known = {(group.cluster, group.value) for group in found.found}
    known |= set(_lately(rule, now).values_list("cluster", "value"))
    missed: list[Missed] = []
    for group in wide.found:
        if (group.cluster, group.value) in known:
            continue
        query = alert_rules.query_of(rule.owner, rule, since=begin, until=until)
        window = _fullest(rule, figures.of_group(query, rule.group_by, group), group, clock)
        if window is None:
            return missed, False
        if window.group.count >= rule.threshold:
            missed.append(window)
    return missed, not wide.is_late


def _stored_until(now: datetime) -> datetime:
    """What was heard before is in the store; what still waits in a spool is counted later."""
    reporting = EventStream.objects.filter(updated_at__gt=now - SILENT_AFTER, waiting__gt=0)
    lag = reporting.aggregate(most=Max("lag_seconds"))["most"] or 0.0
    return now - min(timedelta(seconds=lag), WAITING_MAX)


def _fullest(rule: AlertRule, query: Query, group: Group, clock: Clock) -> Missed | None:
    """The last window that holds enough, in small steps; one step more than a window has is
    counted, so that where a step begins does not matter.  None when the time is over."""
    span = query.until - query.since
    width = max(timedelta(seconds=1), *_rounded(rule.window / WINDOW_STEPS, span / STEPS_MAX))
    found = figures.steps(rule.owner, query, width, clock=clock)
    if found.is_late:
        return None
    behind = -(-rule.window // width)
    last, most = 0, 0
    for end in sorted(found.steps):
        total = sum(found.steps.get(end - back, 0) for back in range(behind + 1))
        if total >= rule.threshold:
            last, most = end, max(most, total)
    until = query.since + (last + 1) * width
    return Missed(replace(group, count=most), until - rule.window - width, until)


def _rounded(*widths: timedelta) -> Iterator[timedelta]:
    """Up to whole seconds."""
    for width in widths:
        yield timedelta(seconds=math.ceil(width.total_seconds()))


def _hindrance(rule: AlertRule) -> Sentence | None:
    """Why the rule stands still, if it does."""
    owner: Any = rule.owner
    if owner is None or not owner.is_active:
        return Sentence(
            "%(who)s, whose rule it is, has no account any more; an administrator can take it over "
            "or delete it.",
            who=rule.owner_name,
        )
    if not permissions.may_anywhere(owner, Cluster):
        return Sentence("%(who)s, whose rule it is, may see no cluster.", who=rule.owner_name)
    return None


def _say(rule: AlertRule, problem: str, now: datetime) -> None:
    if problem == rule.problem:
        return
    since = rule.problem_since if problem and rule.problem else now if problem else None
    rule.problem, rule.problem_since = problem, since
    AlertRule.objects.filter(pk=rule.pk).update(problem=problem, problem_since=since)


# --- what became of the alerts --------------------------------------------------------------------


def _lately(rule: AlertRule, now: datetime) -> QuerySet[EventAlert]:
    """Those that fire, or were over within a window: found again, they go on."""
    return rule.alerts.filter(Q(ended_at=None) | Q(ended_at__gt=now - rule.window))


def _settle(rule: AlertRule, found: Groups, now: datetime) -> None:
    groups = _of_present_clusters(found.found)
    with transaction.atomic():
        rows = _lately(rule, now).select_for_update().order_by("pk")
        present: dict[Key, EventAlert] = {}
        over: list[EventAlert] = []
        for row in rows:
            if row.group_by != rule.group_by:  # the rule was changed
                over.append(row)
                continue
            present[row.cluster_id, row.value] = row
        new, going_on = [], []
        for key, group in groups.items():
            known = present.pop(key, None)
            if known is None:
                new.append(_begun(rule, group, now - rule.window, now))
            else:
                known.last_at, known.ended_at = now, None
                known.count, known.peak = group.count, max(known.peak, group.count)
                going_on.append(known)
        over += present.values()
        _end([row for row in over if row.is_firing], now)
        _tell(rule, [*new, *going_on], now)
        EventAlert.objects.bulk_update(
            going_on, ["last_at", "ended_at", "count", "peak"], batch_size=100
        )


def _of_present_clusters(found: Iterable[Group]) -> dict[Key, Group]:
    """An administrator's counts hold events of clusters that were un-adopted just now."""
    groups = {(group.cluster, group.value): group for group in found}
    keys = {cluster for cluster, _value in groups if cluster is not None}
    known = set(Cluster.objects.filter(pk__in=keys).values_list("pk", flat=True)) | {None}
    return {key: group for key, group in groups.items() if key[0] in known}


def _begin_late(rule: AlertRule, missed: Sequence[Missed], now: datetime) -> None:
    """What an alert told already, or would have gone on with, is none."""
    windows = {(each.group.cluster, each.group.value): each for each in missed}
    with transaction.atomic():
        begun = []
        for key, group in _of_present_clusters(each.group for each in missed).items():
            since = windows[key].since
            told = rule.alerts.filter(
                cluster=group.cluster, value=group.value, group_by=rule.group_by
            )
            if not told.filter(Q(ended_at=None) | Q(ended_at__gte=since)).exists():
                begun.append(_begun(rule, group, since, now))
        _tell(rule, begun, now)


def _begun(rule: AlertRule, group: Group, since: datetime, now: datetime) -> EventAlert:
    return EventAlert.objects.create(
        rule=rule,
        cluster_id=group.cluster,
        group_by=rule.group_by,
        value=group.value,
        search=alert_rules.search_of(rule, cluster=group.cluster, value=group.value),
        since=since,
        began_at=now,
        last_at=now,
        count=group.count,
        peak=group.count,
    )


def _end(rows: list[EventAlert], now: datetime) -> None:
    EventAlert.objects.filter(pk__in=[row.pk for row in rows]).update(ended_at=now)


def _end_those_of_rules_that_are_off(now: datetime) -> None:
    EventAlert.objects.filter(ended_at=None, rule__enabled=False).update(ended_at=now)
    off = AlertRule.objects.filter(enabled=False).exclude(counted_at=None)
    off.update(counted_at=None)  # switched on again, it begins then


# --- telling --------------------------------------------------------------------------------------


def _tell(rule: AlertRule, firing: list[EventAlert], now: datetime) -> None:
    """Of each alert once, and not in quiet hours."""
    if alert_rules.is_quiet(rule, now):
        return
    untold = [row for row in firing if not row.told]
    notices.publish(*(_news(rule, row) for row in untold))
    for row in untold:
        row.told = 1
    EventAlert.objects.filter(pk__in=[row.pk for row in untold]).update(told=1)


def _news(rule: AlertRule, row: EventAlert) -> News:
    counted = {"rule": rule.name, "count": row.count, "minutes": rule.window_minutes}
    title = (
        Sentence(
            "Alert %(rule)s for %(value)s: %(count)s events within %(minutes)s minutes.",
            value=row.value,
            **counted,
        )
        if row.value
        else Sentence("Alert %(rule)s: %(count)s events within %(minutes)s minutes.", **counted)
    )
    return News(
        kind=KIND,
        severity=rule.severity,
        title=title,
        details=searches.plain(row.search, but=row.told_apart),
        cluster_id=row.cluster_id,
        about=row,
    )


# --- forgetting -----------------------------------------------------------------------------------


def forget_old(now: datetime | None = None) -> int:
    """What has been over for as long as notices are kept."""
    until = (now or timezone.now()) - timedelta(days=settings.NOTICE_DAYS)
    return EventAlert.objects.filter(ended_at__lt=until).delete()[0]
