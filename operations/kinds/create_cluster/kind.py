"""The declaration of CreateCluster."""

from django.utils.translation import gettext_lazy as _

from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import lifecycle, playbook, scale_up
from operations.kinds.base import Kind, StepKind, register
from operations.kinds.create_cluster import (
    adopt,
    control_plane,
    join,
    network,
    planning,
    post_check,
    pre_check,
)
from operations.kinds.create_cluster.params import CreateClusterParams
from operations.models import OperationMachine


def release(member: OperationMachine, reached: str | None) -> lifecycle.Move | None:
    """As after a ScaleUp; but a machine that only waited for the first control plane, when nothing
    was begun on any, is as it was delivered."""
    machine = member.machine
    if machine is not None and machine.state == Machine.State.RESERVED and not machine.cluster_id:
        reached = None
    return scale_up.release(member, reached)


CREATE_CLUSTER = register(
    Kind(
        name="CreateCluster",
        title=_("Create cluster"),
        description=_("Make a new cluster of free machines."),
        icon="deployed_code",
        params=CreateClusterParams,
        roles=(planning.CONTROL_PLANE, planning.COMPUTE),
        takes_roles=True,
        makes_cluster=True,
        whole_only=True,
        phases=frozenset({Cluster.Phase.PROVISIONING, Cluster.Phase.RUNNING}),
        startable_states=frozenset({Machine.State.AVAILABLE}),
        fresh_states=frozenset({Machine.State.AVAILABLE}),
        looks=frozenset({"preCheck"}),
        blockers=planning.blockers,
        remarks=planning.remarks,
        retry_blockers=planning.retry_blockers,
        reserve=scale_up.reserve,
        release=release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("Check the machines"),
                act=pre_check.pre_check,
                confirm=pre_check.confirm_pre_check,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            StepKind(
                name=control_plane.STEP,
                title=_("Install, and create the control plane"),
                act=control_plane.create_control_plane,
                confirm=control_plane.confirm_create_control_plane,
                timeout_seconds=1800,
                seconds_per_round=900,
                touches=True,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="join",
                title=_("Join the nodes"),
                act=join.join,
                confirm=join.confirm_join,
                timeout_seconds=1800,
                seconds_per_round=600,
                touches=True,
                cleanup=scale_up.stop_joining,
            ),
            StepKind(
                name="network",
                title=_("Set up the pod network"),
                act=network.set_up_network,
                confirm=network.confirm_network,
                timeout_seconds=900,
                seconds_per_round=120,
                touches=True,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove the nodes"),
                act=post_check.post_check,
                confirm=post_check.confirm_post_check,
                timeout_seconds=900,
                seconds_per_round=300,
                cleanup=scale_up.remove_probes,
            ),
            StepKind(
                name="adopt",
                title=_("Take the cluster over"),
                act=adopt.adopt,
                confirm=adopt.confirm_adopt,
                timeout_seconds=600,
            ),
        ),
    )
)
