"""What is done with alert rules, once a minute.

Each rule is claimed, counts its groups and writes what began, goes on and is over; what goes wrong
with one is said on its page and stops no other.  Nothing is told twice: whom to tell is decided in
the transaction that writes that he was told.
"""

import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.utils import timezone

from beidou.base import notices, permissions
from beidou.base.errors import BeidouError, TemporaryError
from beidou.base.notices import News
from beidou.base.sentences import Sentence
from clusters.models import Cluster
from events.drivers.errors import StoreAway
from events.drivers.kube_events import MOST_AHEAD
from events.models import AlertRule, EventAlert
from events.services import alert_rules, figures, searches
from events.services.figures import Clock, Group, Groups

logger = structlog.get_logger(__name__)

KIND: Final = "event.alert"
EVERY: Final = timedelta(seconds=45)
"""A rule is looked at once a minute, also when the clock calls twice."""
GROUPS_MAX: Final = 100
RULE_SECONDS: Final = 10.0
ALL_SECONDS: Final = 45.0
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
        return error
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
        return
    # A cluster's clock may be ahead of ours.
    since, until = now - rule.window, now + MOST_AHEAD
    query = alert_rules.query_of(rule.owner, rule, since=since, until=until)
    found = figures.groups(
        rule.owner,
        query,
        rule.group_by,
        least=rule.threshold,
        most=GROUPS_MAX,
        clock=Clock(RULE_SECONDS),
    )
    if found.is_late:  # what was not counted must not be taken for over
        raise TemporaryError(
            Sentence("The event store answers too slowly: counting took too long.")
        )
    _settle(rule, found, now)
    more = Sentence(
        "There are more groups with so many events than are looked at: the %(count)s largest are "
        "alerts.",
        count=GROUPS_MAX,
    )
    _say(rule, more if found.is_part else "", now)


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


def _settle(rule: AlertRule, found: Groups, now: datetime) -> None:
    groups = _of_present_clusters(found.found)
    with transaction.atomic():
        lately = Q(ended_at=None) | Q(ended_at__gt=now - rule.window)
        rows = EventAlert.objects.select_for_update().filter(lately, rule=rule).order_by("pk")
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
                new.append(_begun(rule, group, now))
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


def _begun(rule: AlertRule, group: Group, now: datetime) -> EventAlert:
    return EventAlert.objects.create(
        rule=rule,
        cluster_id=group.cluster,
        group_by=rule.group_by,
        value=group.value,
        search=alert_rules.search_of(rule, cluster=group.cluster, value=group.value),
        since=now - rule.window,
        began_at=now,
        last_at=now,
        count=group.count,
        peak=group.count,
    )


def _end(rows: list[EventAlert], now: datetime) -> None:
    EventAlert.objects.filter(pk__in=[row.pk for row in rows]).update(ended_at=now)


def _end_those_of_rules_that_are_off(now: datetime) -> None:
    EventAlert.objects.filter(ended_at=None, rule__enabled=False).update(ended_at=now)


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
