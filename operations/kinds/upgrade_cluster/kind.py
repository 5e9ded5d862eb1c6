"""UpgradeCluster as the engine knows it."""

from django.utils.translation import gettext_lazy as _

from machines.models import Machine
from operations.kinds import playbook
from operations.kinds.base import Kind, StepKind, register
from operations.kinds.upgrade_cluster import (
    control_planes,
    facts,
    freshness,
    node,
    planning,
    post_check,
    pre_check,
    prepare,
    snapshot,
    workers,
)
from operations.kinds.upgrade_cluster.params import (
    ANSWERS,
    APPROVALS,
    DRAIN_MINUTES,
    GATE_MINUTES,
    UpgradeClusterParams,
)

State = Machine.State
NODE_SECONDS = 2400

UPGRADE_CLUSTER = register(
    Kind(
        name="UpgradeCluster",
        title=_("Upgrade cluster"),
        description=_("Bring a cluster of kubeadm to its next version, node by node."),
        icon="upgrade",
        params=UpgradeClusterParams,
        whole_cluster=True,
        whole_only=True,
        stops_at_first=True,
        answers=ANSWERS,
        approvals=APPROVALS,
        startable_states=frozenset({State.IN_SERVICE, State.CORDONED}),
        looks=frozenset({"preCheck"}),
        blockers=planning.blockers,
        remarks=planning.remarks,
        retry_blockers=planning.retry_blockers,
        outdated=freshness.outdated,
        steps=(
            StepKind(
                name="preCheck",
                title=_("See whether it can be upgraded"),
                act=pre_check.pre_check,
                confirm=pre_check.confirm,
                timeout_seconds=600,
                seconds_per_round=60,
            ),
            StepKind(
                name="prepare",
                title=_("Bring programs and images to the nodes"),
                act=prepare.prepare,
                confirm=prepare.confirm,
                timeout_seconds=1800,
                seconds_per_round=900,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name=snapshot.STEP,
                title=_("Take a snapshot of etcd"),
                act=snapshot.take,
                confirm=snapshot.confirm,
                timeout_seconds=1200,
                part=snapshot.part,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="controlPlanes",
                title=_("Upgrade the control planes, one by one"),
                act=control_planes.upgrade,
                confirm=control_planes.confirm,
                timeout_seconds=(DRAIN_MINUTES + GATE_MINUTES) * 60 + NODE_SECONDS,
                touches=True,
                cleanup=node.after,
                part=facts.planes_of,
                wave=facts.one_control_plane,
            ),
            StepKind(
                name="workers",
                title=_("Upgrade the workers in waves"),
                act=workers.upgrade,
                confirm=workers.confirm,
                timeout_seconds=(DRAIN_MINUTES + GATE_MINUTES) * 60 + NODE_SECONDS,
                touches=True,
                cleanup=node.after,
                part=facts.workers_of,
                wave=facts.some_workers,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove the new version"),
                act=post_check.post_check,
                confirm=post_check.confirm,
                timeout_seconds=GATE_MINUTES * 60 + 600,
                seconds_per_round=120,
            ),
        ),
    )
)
