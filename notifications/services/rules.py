"""Rules: checked when saved, and what one of them would have told lately."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import notices
from beidou.base.errors import InvalidInput
from beidou.base.models import Notice
from clusters.models import Cluster
from clusters.services import grants
from notifications.models import NotificationRule, Receiver
from notifications.services import belonging
from notifications.services.matching import Rules, sight_of

PREVIEW: Final = timedelta(hours=24)
LOOKED_AT: Final = 5000
SHOWN: Final = 10


def validate(
    rule: NotificationRule,
    user: Any,
    *,
    clusters: Collection[Cluster],
    receivers: Collection[Receiver],
    stored: NotificationRule | None = None,
) -> None:
    """Raise ``InvalidInput`` naming the fields that cannot be right, or that ``user`` may not
    choose.  ``stored`` is the row as it was, whose choices stay allowed."""
    fields: dict[str, str] = {}
    if stored is None or stored.team_id != rule.team_id:
        belonging.check_team(user, rule.team)
    unknown = [kind for kind in rule.kinds if kind not in notices.KINDS]
    if unknown:
        fields["kinds"] = _("There is no kind %(kind)s.") % {"kind": str(unknown[0])[:60]}
    if rule.scope == NotificationRule.Scope.LABELS:
        try:
            rule.labels = _checked_labels(rule.labels)
        except InvalidInput as error:
            fields["labels"] = error.message
    else:
        rule.labels = ""
    if rule.scope == NotificationRule.Scope.CHOSEN:
        problem = _problem_of_clusters(rule, user, clusters, stored)
        if problem:
            fields["clusters"] = problem
    problem = _problem_of_receivers(rule, receivers)
    if problem:
        fields["receivers"] = problem
    if fields:
        raise InvalidInput(" ".join(fields.values()), fields=fields)


def _checked_labels(text: str) -> str:
    parts = [part for part in text.split(",") if part.strip()]
    if not parts:
        raise InvalidInput(_("Write the label as key=value."))
    return ", ".join(grants.checked_target(None, part) for part in parts)


def _problem_of_clusters(
    rule: NotificationRule,
    user: Any,
    clusters: Collection[Cluster],
    stored: NotificationRule | None,
) -> str:
    if not clusters:
        return _("Choose at least one cluster.")
    present = set() if stored is None else set(stored.clusters.values_list("pk", flat=True))
    new = {cluster.pk for cluster in clusters} - present
    allowed = set(belonging.clusters_for(user).filter(pk__in=new).values_list("pk", flat=True))
    if new - allowed:
        return _("You are not an owner of each of these clusters.")
    if rule.team_id is not None:
        seen = sight_of([rule.team_id])[rule.team_id]
        hidden = next((cluster for cluster in clusters if cluster.pk not in seen), None)
        if hidden is not None:
            return _("The team %(team)s may not see the cluster %(cluster)s.") % {
                "team": rule.team,
                "cluster": hidden,
            }
    return ""


def _problem_of_receivers(rule: NotificationRule, receivers: Collection[Receiver]) -> str:
    if not receivers:
        return _("Choose at least one receiver.")
    foreign = next(
        (each for each in receivers if rule.team_id is not None and each.team_id != rule.team_id),
        None,
    )
    if foreign is not None:
        return _("The receiver %(receiver)s does not belong to the team of the rule.") % {
            "receiver": foreign
        }
    return ""


@dataclass(frozen=True)
class Preview:
    """``found``: notices that the rule is about; ``is_part``: more happened than was looked at."""

    since: datetime
    found: int
    is_part: bool
    newest: list[Notice]


def preview(rule: NotificationRule, now: datetime | None = None) -> Preview:
    """What a stored rule would have told within the last 24 hours, whether enabled or not."""
    since = (now or timezone.now()) - PREVIEW
    rows = list(Notice.objects.filter(at__gte=since).order_by("-pk")[:LOOKED_AT])
    rules = Rules(only=rule)
    found = [notice for notice in rows if rules.matches(notice)]
    return Preview(
        since=since, found=len(found), is_part=len(rows) == LOOKED_AT, newest=found[:SHOWN]
    )
