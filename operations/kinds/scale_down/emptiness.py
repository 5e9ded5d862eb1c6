"""Whether a node is empty, asked where it counts: right before what ends all that runs there.

That an earlier step has drained it may be long ago, or somebody's word alone (a skip); meanwhile it
may have been opened.
"""

from collections.abc import Sequence
from functools import partial

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from operations.kinds.base import AGAIN_FROM, StepRun
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.reading import running_pods
from operations.kinds.patience import patiently
from operations.kinds.scale_down.settling import evidence_of, node_name
from operations.models import MachineStep, OperationMachine

DRAIN = "drain"


def require_empty(
    run: StepRun, client: KubernetesClient, targets: Sequence[OperationMachine]
) -> None:
    """Fail those whose node takes pods again, or has some, and have a retry drain them again.

    Not where a lost host is given up: what its node keeps cannot end.
    """
    for target in list(targets):
        run.stop_if_asked()
        try:
            node = patiently(run, partial(client.get_node, node_name(target)))
            why = _why_not_its_own(target, node) or _why_not_empty(run, client, node)
        except kube_errors.NotFound:
            continue
        except ExternalError as error:
            run.fail(target, error.message)
            continue
        if why:
            run.fail(target, _with_advice(target, why), evidence={AGAIN_FROM: DRAIN})


def is_own(target: OperationMachine, node: NodeInfo) -> bool:
    """Whether it is the machine's, as preCheck has found it; else by address, or by its link."""
    if target.address in [text for _kind, text in node.addresses]:
        return True
    if uid := evidence_of(target, "preCheck").get("uid"):
        return bool(node.uid == uid)
    linked = target.machine.node if target.machine is not None else None
    return linked is not None and linked.name == node.name


def not_its_own(node: str) -> Sentence:
    return Sentence("Node %(node)s is another machine by now; it is left alone.", node=node)


def _why_not_its_own(target: OperationMachine, node: NodeInfo) -> str:
    return "" if is_own(target, node) else not_its_own(node.name)


def _why_not_empty(run: StepRun, client: KubernetesClient, node: NodeInfo) -> str:
    if node.is_ready is not True and run.params.force_unreachable:
        return ""
    if not node.unschedulable:
        return Sentence("Node %(node)s takes pods again: somebody opened it.", node=node.name)
    pods = patiently(run, partial(running_pods, client, node.name))
    if not pods:
        return ""
    return Sentence("Pods run on node %(node)s: %(pods)s.", node=node.name, pods=listed(pods))


def _with_advice(target: OperationMachine, why: str) -> Sentence:
    is_drained = MachineStep.objects.filter(machine=target, step__name=DRAIN).exists()
    return Sentence(
        "%(why)s Nothing was reset. → %(advice)s",
        why=why,
        advice=Sentence("Retry: it is drained first.")
        if is_drained
        else Sentence("Cordon it and move its pods away, then retry."),
    )
