"""Alert rules: who may write them, checked when saved, and what they search at a moment."""

from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any, Final

from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import audit, permissions
from beidou.base.errors import Forbidden, InvalidInput
from clusters.models import Cluster
from events.models import AlertRule
from events.services import asked, searches
from events.services.search import Query

OWN_MAX: Final = 50
NAMES: Final = tuple(name for name in asked.NAMES if name not in searches.TIMES)


def may_add(user: Any) -> bool:
    """What an alert tells, others read: looking alone is too little for it."""
    return permissions.may_anywhere(user, Cluster, permissions.OPERATE)


def require_may_add(user: Any) -> None:
    if not may_add(user):
        raise Forbidden(_("Alert rules are written by people who may operate on some cluster."))


def validate(wanted: AlertRule, user: Any, *, is_new: bool = False) -> None:
    """Raise ``InvalidInput`` naming every field that cannot be right; puts the search in order."""
    fields: dict[str, str] = {}
    try:
        wanted.search = searches.checked(user, wanted.search, names=NAMES)
    except InvalidInput as error:
        fields |= error.fields
    if (wanted.quiet_from is None) != (wanted.quiet_to is None):
        lacking = "quiet_to" if wanted.quiet_to is None else "quiet_from"
        fields[lacking] = _("Quiet hours need a beginning and an end.")
    elif wanted.quiet_from is not None and wanted.quiet_from == wanted.quiet_to:
        fields["quiet_to"] = _("This must be another time than the beginning.")
    if is_new and AlertRule.objects.filter(owner=user.pk).count() >= OWN_MAX:
        fields["name"] = ngettext(
            "One person can have %(count)d alert rule; delete one first.",
            "One person can have %(count)d alert rules; delete some first.",
            OWN_MAX,
        ) % {"count": OWN_MAX}
    if fields:
        raise InvalidInput(" ".join(fields.values()), fields=fields)


def take_over(rule: AlertRule, *, acting_user: Any) -> None:
    """From now on it sees what ``acting_user`` may see."""
    permissions.require(acting_user, rule, permissions.CHANGE)
    before = {"owner": rule.owner_name}
    rule.owner, rule.owner_name = acting_user, acting_user.get_username()
    with audit.entries_last():
        rule.save(update_fields=["owner", "owner_name"])
        audit.record("take over", rule, before=before, after={"owner": rule.owner_name})


def query_of(user: Any, rule: AlertRule, *, since: datetime, until: datetime) -> Query:
    """What the rule searches, as ``user`` may see it; in clusters of which he sees all, because an
    alert belongs to its cluster."""
    query = asked.query(user, QueryDict(rule.search))
    return replace(query, since=since, until=until, in_full=True)


def search_of(rule: AlertRule, *, cluster: int | None, value: str) -> str:
    """The address of what one of the rule's groups counts, without times."""
    given = QueryDict(rule.search, mutable=True)
    if cluster is not None:
        given.setlist("cluster", [str(cluster)])
    if value:
        given.setlist(rule.group_by, [value])
    return given.urlencode()


# --- quiet hours ----------------------------------------------------------------------------------


def is_quiet(rule: AlertRule, moment: datetime) -> bool:
    """By the clock of the portal; the hours may go over midnight."""
    if rule.quiet_from is None or rule.quiet_to is None:
        return False
    now = _local(moment).time()
    if rule.quiet_from < rule.quiet_to:
        return rule.quiet_from <= now < rule.quiet_to
    return now >= rule.quiet_from or now < rule.quiet_to


def told_at(rule: AlertRule, began: datetime, ended: datetime | None) -> datetime | None:
    """When somebody is told of what began then: at once, when the quiet hours end, or never."""
    if not is_quiet(rule, began) or rule.quiet_to is None:
        return began
    end = _next(rule.quiet_to, began)
    return end if ended is None or ended > end else None


def _next(hour: time, moment: datetime) -> datetime:
    local = _local(moment)
    day = local.date() if hour > local.time() else local.date() + timedelta(days=1)
    return timezone.make_aware(datetime.combine(day, hour), timezone.get_default_timezone())


def _local(moment: datetime) -> datetime:
    return timezone.localtime(moment, timezone.get_default_timezone())
