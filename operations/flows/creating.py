"""A new cluster as a one-click task: its row and its task come in one transaction.

So there is no cluster without a task that makes it, and a refusal leaves nothing behind, as with
the operation alone (``services.create_cluster``).
"""

from typing import Final

from beidou.base import audit
from beidou.base.models import User
from operations.flows import catalog, start
from operations.flows.models import AutoOperationTask
from operations.services import create_cluster
from operations.services.create_cluster import Wish
from operations.services.start import refuse_blockers

TEMPLATE: Final = "CreateCluster"


def begin(*, wish: Wish, acting_user: User, reason: str = "") -> AutoOperationTask:
    """Look at the machines, have it approved by somebody else, make the cluster, prove it.

    As with the operation no machine may be blocked: a cluster that lacks one of those that were
    chosen is another one.
    """
    with audit.entries_last():
        cluster = create_cluster.make(wish, acting_user)
        planned = create_cluster.plan_for(wish, cluster, acting_user)
        refuse_blockers(planned.kind, cluster, planned.blockers)
        params = dict(wish.params)
        return start.start_task(
            cluster=cluster,
            machines=wish.machines,
            specs=start.specs_of(catalog.TEMPLATES[TEMPLATE], params=params),
            template=TEMPLATE,
            params=params,
            roles=wish.roles,
            acting_user=acting_user,
            reason=reason,
        )
