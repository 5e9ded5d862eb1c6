"""What does the work of the kind Network: one driver per way, each a module."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from clusters.models import Cluster
from machines.models import Machine
from operations.kinds.base import Blocker, StepRun
from operations.kinds.network import routes, webhook


@dataclass(frozen=True)
class Driver:
    """``blockers`` contacts nothing; ``act`` has it done, ``confirm`` settles every machine by what
    the hosts, or the system that did it, say now."""

    name: str
    actions: frozenset[str]
    blockers: Callable[[Cluster, Sequence[Machine], Any], list[Blocker]]
    act: Callable[[StepRun], Any]
    confirm: Callable[[StepRun, Any], None]


DRIVERS: Final = {
    each.name: each
    for each in (
        Driver("routes", frozenset({"add"}), routes.blockers, routes.act, routes.confirm),
        Driver(
            "webhook",
            frozenset({"add", "remove"}),
            webhook.blockers,
            webhook.act,
            webhook.confirm,
        ),
    )
}
