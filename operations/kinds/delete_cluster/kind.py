"""DeleteCluster as the engine knows it."""

from django.utils.translation import gettext_lazy as _

from beidou.base.permissions import CHANGE
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import playbook, sight
from operations.kinds.base import Kind, StepKind, register
from operations.kinds.delete_cluster import forget, planning, pre_check, reset
from operations.kinds.delete_cluster.params import ANSWERS, APPROVALS, DeleteClusterParams
from operations.kinds.scale_down import machines

State = Machine.State

DELETE_CLUSTER = register(
    Kind(
        name="DeleteCluster",
        title=_("Delete the cluster"),
        description=_("Reset all machines of the cluster, and let it go."),
        icon="delete_forever",
        permission=CHANGE,
        params=DeleteClusterParams,
        answers=ANSWERS,
        approvals=APPROVALS,
        whole_cluster=True,
        whole_only=True,
        phases=frozenset({Cluster.Phase.RUNNING, Cluster.Phase.DELETING}),
        startable_states=frozenset({State.IN_SERVICE, State.CORDONED, State.FAULTY}),
        looks=frozenset({"preCheck"}),
        blockers=planning.blockers,
        retry_blockers=planning.retry_blockers,
        remarks=sight.lost_outside,
        reserve=machines.stays,
        release=machines.release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("See what will be lost, have it approved"),
                act=pre_check.pre_check,
                confirm=pre_check.confirm,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            StepKind(
                name=reset.STEP,
                title=_("Reset the machines, control planes last"),
                act=reset.reset,
                confirm=reset.confirm,
                timeout_seconds=1800,
                seconds_per_round=300,
                touches=True,
                # The cluster would be let go with a host that nobody has named and given up.
                may_be_skipped=False,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="forget",
                title=_("Let the cluster go"),
                act=forget.forget,
                confirm=forget.confirm,
                timeout_seconds=120,
            ),
        ),
    )
)
