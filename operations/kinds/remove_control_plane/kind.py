"""RemoveControlPlane as the engine knows it."""

from django.utils.translation import gettext_lazy as _

from machines.models import Machine
from operations.kinds import playbook, sight
from operations.kinds.base import Kind, StepKind, StepRun, register
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.remove_control_plane import leave_etcd, planning, pre_check
from operations.kinds.remove_control_plane.params import (
    ANSWERS,
    APPROVALS,
    RemoveControlPlaneParams,
)
from operations.kinds.scale_down import drain, machines, post_check, take_out

State = Machine.State


def concerns(machine: Machine) -> bool:
    """Control planes, and what may have become one half way."""
    if machine.node is None:
        return machine.state == State.FAULTY and machine.cluster_id is not None
    return any(role in CONTROL_PLANE for role in machine.node.roles)


def remove(run: StepRun) -> take_out.Reset:
    leave_etcd.require_left(run)
    return take_out.take_out(run, is_control_plane=True)


REMOVE_CONTROL_PLANE = register(
    Kind(
        name="RemoveControlPlane",
        title=_("Remove a control plane"),
        description=_("Take a control plane out of the cluster without losing etcd."),
        icon="remove_moderator",
        params=RemoveControlPlaneParams,
        answers=ANSWERS,
        approvals=APPROVALS,
        # Faulty too: one that joined half way may be a member of etcd; nothing else undoes that.
        startable_states=frozenset({State.IN_SERVICE, State.CORDONED, State.FAULTY}),
        fresh_states=frozenset({State.IN_SERVICE}),
        looks=frozenset({"preCheck"}),
        concerns=concerns,
        blockers=planning.blockers,
        remarks=sight.lost_outside,
        retry_blockers=planning.retry_blockers,
        reserve=machines.stays,
        release=machines.release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("See whether the cluster can do without it"),
                act=pre_check.pre_check,
                confirm=pre_check.confirm,
                timeout_seconds=420,
                seconds_per_round=60,
            ),
            drain.DRAIN,
            StepKind(
                name=leave_etcd.STEP,
                title=_("Take its member out of etcd"),
                act=leave_etcd.leave,
                confirm=leave_etcd.confirm,
                timeout_seconds=300,
                touches=True,
                may_be_skipped=False,
            ),
            StepKind(
                name="removeControlPlane",
                title=_("Reset the machine, delete the node"),
                act=remove,
                confirm=take_out.confirm,
                timeout_seconds=900,
                touches=True,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove that nothing is left"),
                act=post_check.post_check,
                confirm=post_check.confirm,
                timeout_seconds=post_check.WHOLE_SECONDS + 420,
            ),
        ),
    )
)
