"""Nodes that work are not cleaned up: what takes them out looks after their pods, and after etcd.

That a machine is *Faulty* may be one person's word.
"""

from collections.abc import Set
from functools import partial

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from operations.kinds import joining, lifecycle
from operations.kinds.base import StepRun
from operations.kinds.draining import plan
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.reading import running_pods
from operations.kinds.patience import patiently
from operations.models import OperationMachine


def leave_those_at_work(run: StepRun, client: KubernetesClient) -> None:
    """Fail those whose node is a control plane, or is Ready and has pods.  The others are cordoned,
    so that none come while their hosts are reset."""
    addresses = joining.own_addresses(run)
    for target in list(run.targets):
        run.stop_if_asked()
        try:
            node = patiently(run, partial(own_node, client, target, addresses[target.pk]))
            if node is None:
                continue
            why = patiently(run, partial(_why_left, client, target, node))
            if why:
                run.fail(target, Sentence("Nothing was removed. %(why)s", why=why))
            elif not node.unschedulable:
                patiently(run, partial(client.set_unschedulable, node.name, True))
                run.say(f"Node {node.name} is cordoned.", target=target)
        except ExternalError as error:
            run.fail(target, error.message)


def own_node(
    client: KubernetesClient, target: OperationMachine, addresses: Set[str]
) -> NodeInfo | None:
    """The Node with the machine's name, if it is the machine's: by its link or by an address."""
    name = joining.linked_node_name(target)
    try:
        node = client.get_node(name)
    except kube_errors.NotFound:
        return None
    linked = target.machine.node if target.machine is not None else None
    is_linked = linked is not None and linked.name == name
    return node if is_linked or not addresses.isdisjoint(joining.reported(node)) else None


def _why_left(client: KubernetesClient, target: OperationMachine, node: NodeInfo) -> str:
    pods = client.workloads.pods(node_name=node.name)
    plane = plan.why_control_plane(node, pods)
    is_given_up = target.machine is not None and lifecycle.was_given_up(target.machine)
    if plane and not is_given_up:
        return Sentence(
            "Node %(node)s is a control plane: %(why)s. → RemoveControlPlane takes it out.",
            node=node.name,
            why=plane,
        )
    running = running_pods(client, node.name) if node.is_ready else []
    if not running:
        return ""
    return Sentence(
        "Node %(node)s is Ready, and pods run there: %(pods)s. → Bring the machine back, and let "
        "ScaleDown take it out; or cordon the node and move its pods away, then retry.",
        node=node.name,
        pods=listed(running),
    )
