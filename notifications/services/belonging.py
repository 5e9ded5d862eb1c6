"""Whose rules and receivers are: one rule for pages and API.

Who has the role Owner on any cluster through a team writes the team's rules; what they tell is
bounded by what the team may see.  What belongs to no team is the fleet's, for administrators alone.
"""

from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.utils.translation import gettext as _

from beidou.base import permissions
from beidou.base.errors import Forbidden, InvalidInput
from clusters.models import Cluster, ClusterGroupObjectPermission


def teams_led_by(user: Any) -> models.QuerySet[Group]:
    """The teams for which ``user`` may write rules and receivers."""
    if user.is_superuser:
        return Group.objects.all()
    owning = ClusterGroupObjectPermission.objects.filter(permission__codename="change_cluster")
    return Group.objects.filter(pk__in=user.groups.values("pk")).filter(
        pk__in=owning.values("group")
    )


def may_add(user: Any) -> bool:
    return bool(user.is_active and teams_led_by(user).exists()) or bool(user.is_superuser)


def require_may_add(user: Any) -> None:
    if not may_add(user):
        raise Forbidden(
            _("Rules and receivers are written by owners of clusters and by administrators.")
        )


def default_team(user: Any) -> Group | None:
    """What a form begins with: the only team; an administrator's is the fleet."""
    if user.is_superuser:
        return None
    teams = list(teams_led_by(user)[:2])
    return teams[0] if len(teams) == 1 else None


def check_team(user: Any, team: Group | None) -> None:
    """Raise ``InvalidInput`` unless ``user`` may write for ``team``."""
    if team is None and user.is_superuser:
        return
    if team is None:
        text = _("Choose one of your teams; what is the whole fleet's is for administrators.")
    elif not teams_led_by(user).filter(pk=team.pk).exists():
        text = _("You are not an owner of clusters in the team %(team)s.") % {"team": team}
    else:
        return
    raise InvalidInput(text, fields={"team": text})


def clusters_for(user: Any) -> models.QuerySet[Cluster]:
    """The clusters that ``user`` may name in a rule."""
    return permissions.visible_to(user, Cluster.objects.all(), permissions.CHANGE)
