"""Machines that join: how their nodes are called, found, proved to be their own, and labelled."""

import json
import time
from collections.abc import Callable, Iterable

from beidou.base.errors import ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from machines.models import Machine, MachineAddress
from operations.kinds import lifecycle
from operations.kinds.base import StepRun
from operations.kinds.known_nodes import KnownNode
from operations.models import MachineStep, OperationMachine


def node_name(member: OperationMachine) -> str:
    """As kubelet would choose it."""
    return (member.hostname or member.address).lower()


def linked_node_name(member: OperationMachine) -> str:
    """The linked node's; right after a join the collector may not have linked it yet."""
    if member.machine is not None and member.machine.node is not None:
        return member.machine.node.name
    return node_name(member)


def to_joining(run: StepRun) -> None:
    """From here on the machines are changed; also said again by a retry that begins later."""
    targets = {target.machine.pk: target for target in run.targets if target.machine is not None}
    reason = f"{run.operation.name}: {run.step_name}"
    moves = [
        lifecycle.Move(
            target.machine, Machine.State.JOINING, reason, fields={"cluster": run.cluster}
        )
        for target in targets.values()
        if target.machine is not None
    ]
    for key, refused in lifecycle.move_all(moves, operation=run.operation).items():
        run.fail(targets[key], refused.message)


def own_addresses(run: StepRun) -> dict[int, set[str]]:
    """By key of the member: the addresses that its node may report, as its host was seen."""
    found = {member.pk: {member.address} for member in run.targets}
    seen = MachineStep.objects.filter(machine__in=found, step__name="preCheck").defer("checks")
    for cell in seen:
        facts = cell.evidence.get("facts")
        addresses = facts.get("addresses") if isinstance(facts, dict) else None
        if isinstance(addresses, list):  # whoever has root on the host may say anything
            found[cell.machine_id].update(str(each) for each in addresses)
    visited = MachineAddress.objects.filter(machine__operations__in=found)
    for key, address in visited.values_list("machine__operations", "address"):
        found[key].add(address)
    return found


def as_known(nodes: Iterable[KnownNode]) -> str:
    """The nodes of the cluster as the playbook pre_check wants them, which looks for their like.

    As text: of a list Ansible would look at every value, for every machine.
    """
    return json.dumps(
        [
            {
                "name": node.name,
                "addresses": [address for _type, address in node.addresses],
                "system_uuid": node.system_uuid,
            }
            for node in nodes
        ]
    )


def reported(node: NodeInfo) -> list[str]:
    return [text for kind, text in node.addresses if kind != "Hostname"]


def require_own(node: NodeInfo, addresses: set[str]) -> None:
    """``PermanentError`` for the node of another machine that has the same name.

    By address alone: a series of machines may share one system UUID.
    """
    found = reported(node)
    if addresses.isdisjoint(found):
        raise PermanentError(
            Sentence(
                "Node %(node)s is another machine: it has the address %(found)s, which this "
                "machine has not.",
                node=node.name,
                found=", ".join(found) or "–",
            ),
            code="foreign_node",
        )


def wait_for_node(run: StepRun, client: KubernetesClient, name: str) -> NodeInfo:
    """The Node object, which kubelet registers a moment after the join; its addresses may come from
    a cloud's controller and later still."""
    deadline = time.monotonic() + 30
    while True:
        is_over = time.monotonic() > deadline or run.should_stop()
        try:
            node = client.get_node(name)
        except kube_errors.NotFound:
            if is_over:
                raise
        else:
            if is_over or reported(node):
                return node
        time.sleep(0.5)


def confirm_open(
    run: StepRun, client: KubernetesClient, name_of: Callable[[OperationMachine], str]
) -> None:
    """Each node must be Ready and schedulable; its machine is in service then."""
    for target in list(run.targets):
        run.stop_if_asked()
        try:
            node = client.get_node(name_of(target))
        except ExternalError as error:
            run.fail(target, error.message)
            continue
        if node.unschedulable or not node.is_ready:
            run.fail(
                target, Sentence("Node %(node)s is not Ready and schedulable.", node=node.name)
            )
            continue
        run.succeed(
            target,
            message=Sentence("in service"),
            evidence={"node": node.name, "schedulable": True, "ready": True},
        )


def role_labels(role: str, labels: dict[str, str]) -> dict[str, str]:
    """Labels of the role and of the operation; kubelet may not set those of kubernetes.io
    itself."""
    return {f"node-role.kubernetes.io/{role.lower()}": "", "beidou.io/role": role, **labels}
