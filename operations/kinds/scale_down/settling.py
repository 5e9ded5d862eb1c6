"""What the steps share: what earlier ones found, and how a machine gets through."""

from collections.abc import Mapping, Sequence
from typing import Any

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from operations.kinds import joining, reaching
from operations.kinds.base import StepRun
from operations.kinds.checks import fail
from operations.kinds.patience import patiently
from operations.models import MachineStep, OperationMachine


def evidence_of(target: OperationMachine, step: str) -> Mapping[str, Any]:
    """What an earlier step of this machine found; empty when it was skipped."""
    cell = MachineStep.objects.filter(machine=target, step__name=step).first()
    return cell.evidence if cell else {}


TAKES_OUT = ("scaleDown", "removeControlPlane", "reset")
"""The steps of the kinds that reset hosts, or give up those that are lost."""


def why_given_up(target: OperationMachine) -> str:
    """Why its host was not reset, though its node was deleted; empty when it was."""
    cell = MachineStep.objects.filter(machine=target, step__name__in=TAKES_OUT).first()
    return str(cell.evidence.get("unreached") or "") if cell else ""


def node_name(target: OperationMachine) -> str:
    """As preCheck found it: the machine's own link goes with the Node object."""
    if name := evidence_of(target, "preCheck").get("node"):
        return str(name)
    return joining.linked_node_name(target)


def owners_before(target: OperationMachine) -> dict[str, int]:
    owners = evidence_of(target, "preCheck").get("owners", {})
    return {key: int(counts["ready"]) for key, counts in owners.items()}


def why_not_reached(run: StepRun) -> dict[int, str]:
    """Key of the member → why we could not sign in; empty when we could."""
    return {key: reaching.why(checks) for key, checks in reaching.look(run, run.targets).items()}


def why_node_is_there(run: StepRun, client: KubernetesClient, name: str) -> str | None:
    try:
        patiently(run, lambda: client.get_node(name))
    except kube_errors.NotFound:
        return None
    except ExternalError as error:
        return error.message
    return Sentence("Node %(node)s is still in the cluster.", node=name)


def settle(
    run: StepRun,
    target: OperationMachine,
    checks: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any],
    message: str,
) -> None:
    """Through unless a check that is no warning failed; the first is the message."""
    bad = [item for item in checks if not item["ok"] and item.get("severity") != "warning"]
    if bad:
        fail(run, target, bad, checks=checks, evidence=evidence)
        return
    warnings = sum(not item["ok"] for item in checks)
    said = Sentence("%(message)s; %(count)s warnings", message=message, count=warnings)
    run.succeed(target, message=said, checks=checks, evidence=evidence)
