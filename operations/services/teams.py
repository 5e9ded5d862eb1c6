"""Which team an operation counts for, in the limits and in the order of the queue."""

from django.contrib.auth.models import Group

from beidou.base import permissions
from beidou.base.models import User
from clusters.models import Cluster


def counted_for(user: User, cluster: Cluster, action: str) -> Group | None:
    """Of the teams whose role gives ``user`` this right on the cluster its owner team, else the
    first by name.

    An administrator who is in none of them works for no team.
    """
    teams = sorted(
        permissions.granting_teams(user, cluster, action),
        key=lambda team: (team.pk != cluster.team_id, team.name, team.pk),
    )
    return teams[0] if teams else None
