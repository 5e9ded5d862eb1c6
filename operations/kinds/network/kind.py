"""Network: have the network ready for nodes, or free of machines that have left.

It changes the cluster, so it minds windows, freezes and limits.  But it changes no machine's state
and holds none: routes are kept on every node of the cluster, also on those with which something
else is being done.
"""

from collections.abc import Sequence
from typing import Any, Literal

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from clusters.models import Cluster
from machines.models import Machine
from operations.kinds.base import Blocker, Kind, StepKind, StepRun, register
from operations.kinds.network import webhook
from operations.kinds.network.drivers import DRIVERS

State = Machine.State
MINUTES_MAX = 60
_IN_USE = frozenset({State.IN_SERVICE, State.CORDONED})


class NetworkParams(BaseModel):
    """``minutes``: how long the site's network system may take."""

    model_config = ConfigDict(extra="forbid")

    driver: Literal["routes", "webhook"] = "routes"
    action: Literal["add", "remove"] = "add"
    minutes: int = Field(default=15, ge=1, le=MINUTES_MAX)


def blockers(cluster: Cluster, machines: Sequence[Machine], params: NetworkParams) -> list[Blocker]:
    driver = DRIVERS[params.driver]
    if params.action not in driver.actions:
        reason = gettext(
            "routes need not be removed: they go with the node, on its host and on all others"
        )
        return [Blocker(None, reason)]
    found = []
    for machine in machines:
        has_left = params.action == "remove" and machine.cluster_id is None
        if machine.cluster_id != cluster.pk and not has_left:
            found.append(Blocker(machine, gettext("it is not in this cluster")))
        elif params.action == "remove" and not has_left and machine.state in _IN_USE:
            found.append(Blocker(machine, gettext("it is still a node of this cluster")))
        elif params.action == "add" and machine.state == State.AVAILABLE:
            found.append(Blocker(machine, gettext("it is no node yet")))
    return [*found, *driver.blockers(cluster, machines, params)]


def act(run: StepRun) -> Any:
    return DRIVERS[run.params.driver].act(run)


def confirm(run: StepRun, result: Any) -> None:
    DRIVERS[run.params.driver].confirm(run, result)


NETWORK = register(
    Kind(
        name="Network",
        title=_("Network"),
        description=_("Give nodes their pod routes, or tell the site's network system of them."),
        icon="lan",
        params=NetworkParams,
        startable_states=frozenset(
            {State.AVAILABLE, State.CORDONED, State.IN_SERVICE, State.MAINTENANCE, State.FAULTY}
        ),
        holds=False,
        whole_cluster=True,
        blockers=blockers,
        steps=(
            StepKind(
                name="network",
                title=_("Network"),
                act=act,
                confirm=confirm,
                timeout_seconds=MINUTES_MAX * 60 + 300,
                seconds_per_round=60,
                cleanup=webhook.give_up,
                outside=lambda params: params.get("driver") == "webhook",
            ),
        ),
    )
)
