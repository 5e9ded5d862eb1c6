"""Who will see machines once they are in no cluster any more: their owner team, if there is one."""

from collections.abc import Sequence

from django.contrib.auth.models import Group
from django.utils.translation import gettext as _

from beidou.base import permissions
from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds.base import Remark


def lost_outside(_cluster: Cluster, machines: Sequence[Machine], user: User) -> list[Remark]:
    """Which of these ``user``, or all but administrators and auditors, would lose sight of."""
    teams = set(user.groups.values_list("pk", flat=True))
    sees_all = user.is_superuser or permissions.is_auditor(user)
    leaving = [machine for machine in machines if machine.cluster_id is not None]
    owners = Group.objects.in_bulk({each.owner_team_id for each in leaving if each.owner_team_id})
    found = []
    for machine in leaving:
        if machine.owner_team_id is None:
            text = _(
                "it has no owner team: out of the cluster only administrators and auditors see "
                "it; give it one first"
            )
        elif not sees_all and machine.owner_team_id not in teams:
            text = _(
                "out of the cluster it is the team %(team)s's alone; you will not see it any more"
            ) % {"team": owners[machine.owner_team_id]}
        else:
            continue
        found.append(Remark(machine, text))
    return found
