"""Which machine is what in the new cluster, and what all steps tell their playbooks."""

from collections.abc import Mapping
from typing import Any

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from operations.kinds.base import StepRun
from operations.kinds.create_cluster.params import endpoint
from operations.kinds.create_cluster.planning import CONTROL_PLANE
from operations.kinds.playbook import PlaybookResults
from operations.models import ClusterSettings, MachineStep, Operation, OperationMachine


def control_planes(operation: Operation) -> list[OperationMachine]:
    """In the order in which they were chosen; the first one is created, the others join it."""
    rows = operation.machines.filter(role=CONTROL_PLANE).order_by("pk")
    return list(rows.select_related("machine__credential", "operation"))


def first_of(operation: Operation) -> OperationMachine:
    try:
        return control_planes(operation)[0]
    except IndexError:
        raise PermanentError(
            Sentence("The operation has no control plane."), code="no_control_plane"
        ) from None


def is_control_plane(member: OperationMachine) -> bool:
    return member.role == CONTROL_PLANE


def takes_pods(operation: Operation) -> bool:
    """Whether control planes take ordinary pods: only where nothing else could."""
    return not operation.machines.exclude(role=CONTROL_PLANE).exists()


def endpoint_of(run: StepRun) -> str:
    """``host:port`` of the API server for everybody."""
    return run.params.control_plane_endpoint or endpoint(first_of(run.operation).address)


def has_passed(member: OperationMachine, step: str) -> bool:
    return MachineStep.objects.filter(
        machine=member, step__name=step, status__in=MachineStep.PASSED
    ).exists()


def merge(into: PlaybookResults, more: PlaybookResults) -> None:
    """Of a step that runs several playbooks; of each machine the newest counts."""
    into.tasks |= more.tasks
    into.failed |= more.failed
    into.unreachable |= more.unreachable
    into.unreached |= more.unreached


def site_variables(settings: ClusterSettings, **values: Any) -> Mapping[str, Any]:
    """Variables of all machines; the site's overrides win."""
    return {**values, **settings.overrides}
