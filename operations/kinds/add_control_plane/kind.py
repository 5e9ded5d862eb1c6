"""AddControlPlane as the engine knows it."""

from django.utils.translation import gettext_lazy as _

from machines.models import Machine
from operations.kinds import lifecycle, playbook, scale_up
from operations.kinds.add_control_plane import install, join, planning, post_check, pre_check
from operations.kinds.add_control_plane.params import ANSWERS, AddControlPlaneParams
from operations.kinds.base import Kind, StepKind, register
from operations.kinds.create_cluster.planning import CONTROL_PLANE
from operations.models import OperationMachine


def release(member: OperationMachine, reached: str | None) -> lifecycle.Move | None:
    """As after a ScaleUp; one that was asked for without the last steps is a cordoned node once it
    has joined, and not as it was delivered before."""
    machine = member.machine
    move = scale_up.release(member, reached)
    if machine is None or move is None or member.state != OperationMachine.State.SUCCEEDED:
        return move
    states = {
        "join": Machine.State.CORDONED,
        "install": Machine.State.FAULTY,
        "preCheck": Machine.State.AVAILABLE,
    }
    to = states.get(reached or "preCheck", Machine.State(move.to))
    node = move.node if to in Machine.IN_CLUSTER else ""
    return lifecycle.Move(machine, to, reason=move.reason, node=node, fields=move.fields)


ADD_CONTROL_PLANE = register(
    Kind(
        name="AddControlPlane",
        title=_("Add control planes"),
        description=_("Make machines further control planes of the cluster."),
        icon="add_moderator",
        params=AddControlPlaneParams,
        answers=ANSWERS,
        roles=(CONTROL_PLANE,),
        role=CONTROL_PLANE,
        startable_states=frozenset({Machine.State.AVAILABLE}),
        fresh_states=frozenset({Machine.State.AVAILABLE}),
        looks=frozenset({"preCheck"}),
        blockers=planning.blockers,
        reserve=scale_up.reserve,
        release=release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("Check the machines and the cluster"),
                act=pre_check.pre_check,
                confirm=pre_check.confirm,
                timeout_seconds=420,
                seconds_per_round=60,
            ),
            StepKind(
                name="install",
                title=_("Install"),
                act=install.install,
                confirm=install.confirm,
                timeout_seconds=1800,
                seconds_per_round=900,
                touches=True,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="join",
                title=_("Join as control planes, one by one"),
                act=join.join,
                confirm=join.confirm,
                timeout_seconds=1800,
                seconds_per_round=1800,
                touches=True,
                cleanup=join.clean_up,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove the nodes"),
                act=post_check.post_check,
                confirm=post_check.confirm,
                timeout_seconds=900,
                seconds_per_round=300,
                cleanup=scale_up.remove_probes,
            ),
            scale_up.UNCORDON,
        ),
    )
)
