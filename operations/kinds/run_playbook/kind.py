"""The kind."""

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from operations.kinds.base import Kind, StepKind, register
from operations.kinds.run_playbook import params, planning, playing, pre_check
from operations.playbooks.declaration import STATES

RUN_PLAYBOOK = register(
    Kind(
        name="RunPlaybook",
        title=_("Run a playbook"),
        description=_("Run one of the site's own playbooks on machines."),
        icon="menu_book",
        params=params.RunPlaybookParams,
        roles=("Compute", "ControlPlane"),
        whole_cluster=True,
        startable_states=frozenset(STATES),
        looks=frozenset({"preCheck"}),
        blockers=planning.blockers,
        settle=params.settle,
        secrets=params.secrets,
        keep=params.keep,
        is_same=params.is_same,
        require=params.require,
        changes=params.changes,
        options=planning.options,
        about=planning.about,
        is_offered=planning.is_offered,
        alike=("playbook",),
        steps=(
            StepKind(
                name="preCheck",
                title=_("Check the machines"),
                act=pre_check.look,
                confirm=pre_check.confirm,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            StepKind(
                name="run",
                title=_("Run the playbook"),
                act=playing.play,
                confirm=playing.confirm,
                # The playbook's own limit is declared with it.
                timeout_seconds=settings.STEP_TIMEOUT_MAX,
                repeats=params.repeats,
            ),
        ),
    )
)
