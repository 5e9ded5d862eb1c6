"""Who may lead a cluster's SSH credential to a machine that is not in the cluster yet.

A machine without a credential of its own is signed in to with that of the cluster an operation
works for.  Whoever could start one without being allowed to use it would have the cluster's
password sent to any address and host key they like.
"""

from collections.abc import Sequence

from django.utils.translation import gettext as _

from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from machines.services import belonging
from operations.kinds import hosts
from operations.kinds.base import Blocker


def blockers(cluster: Cluster, machines: Sequence[Machine], user: User) -> list[Blocker]:
    """Those of ``machines``, as they are stored now, that ``user`` may not lend it to.

    A machine that is in the cluster already got there by somebody's decision.
    """
    settings = hosts.settings_of(cluster.pk)
    credential = settings.credential if settings else None
    if credential is None or belonging.may_use(user, credential):
        return []
    without = Machine.objects.filter(
        pk__in=[machine.pk for machine in machines], credential__isnull=True
    ).exclude(cluster=cluster)
    borrowers = set(without.values_list("pk", flat=True))
    reason = _(
        "it has no SSH credential of its own, and that of the cluster belongs to none of your "
        "teams; give it one of yours, or let somebody do this who may use the cluster's"
    )
    return [Blocker(machine, reason) for machine in machines if machine.pk in borrowers]
