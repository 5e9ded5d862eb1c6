"""ScaleDown as the engine knows it."""

from django.utils.translation import gettext_lazy as _

from machines.models import Machine
from operations.kinds import playbook, sight
from operations.kinds.base import Kind, StepKind, register
from operations.kinds.scale_down import (
    drain,
    machines,
    planning,
    post_check,
    pre_check,
    take_out,
)
from operations.kinds.scale_down.params import ANSWERS, APPROVALS, ScaleDownParams

State = Machine.State

SCALE_DOWN = register(
    Kind(
        name="ScaleDown",
        title=_("Scale down"),
        description=_("Take machines out of the cluster without losing what runs there."),
        icon="do_not_disturb_on",
        params=ScaleDownParams,
        answers=ANSWERS,
        approvals=APPROVALS,
        startable_states=frozenset({State.IN_SERVICE, State.CORDONED}),
        fresh_states=frozenset({State.IN_SERVICE}),  # it takes pods again, so it is drained again
        looks=frozenset({"preCheck"}),
        concerns=planning.concerns,
        blockers=planning.blockers,
        remarks=sight.lost_outside,
        retry_blockers=planning.retry_blockers,
        reserve=machines.reserve,
        release=machines.release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("See what will happen to each pod"),
                act=pre_check.pre_check,
                confirm=pre_check.confirm,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            drain.DRAIN,
            StepKind(
                name="scaleDown",
                title=_("Reset the machines, delete the nodes"),
                act=take_out.take_out,
                confirm=take_out.confirm,
                timeout_seconds=600,
                seconds_per_round=300,
                touches=True,
                cleanup=playbook.stop_units,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove that nothing is left"),
                act=post_check.post_check,
                confirm=post_check.confirm,
                timeout_seconds=post_check.WHOLE_SECONDS + 300,
                seconds_per_round=120,
            ),
        ),
    )
)
