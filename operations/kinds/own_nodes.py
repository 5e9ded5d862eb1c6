"""The Node object of a machine that joins: found, proved to be the machine's own, and labelled."""

import time

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from machines.models import MachineAddress
from operations.kinds.base import StepRun
from operations.models import MachineStep


def own_addresses(run: StepRun) -> dict[int, set[str]]:
    """By key of the member: the addresses that its node may report, as its host was seen."""
    found = {member.pk: {member.address} for member in run.targets}
    for cell in MachineStep.objects.filter(machine__in=found, step__name="preCheck"):
        facts = cell.evidence.get("facts") or {}
        found[cell.machine_id].update(str(each) for each in facts.get("addresses", ()))
    visited = MachineAddress.objects.filter(machine__operations__in=found)
    for key, address in visited.values_list("machine__operations", "address"):
        found[key].add(address)
    return found


def _reported(node: NodeInfo) -> list[str]:
    return [text for kind, text in node.addresses if kind != "Hostname"]


def require_own(node: NodeInfo, addresses: set[str]) -> None:
    """``PermanentError`` for the node of another machine that has the same name.

    By address alone: a series of machines may share one system UUID.
    """
    reported = _reported(node)
    if addresses.isdisjoint(reported):
        raise PermanentError(
            Sentence(
                "Node %(node)s is another machine: it has the address %(found)s, which this "
                "machine has not.",
                node=node.name,
                found=", ".join(reported) or "–",
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
            if is_over or _reported(node):
                return node
        time.sleep(0.5)


def role_labels(role: str, labels: dict[str, str]) -> dict[str, str]:
    """Labels of the role and of the operation; kubelet may not set those of kubernetes.io
    itself."""
    return {f"node-role.kubernetes.io/{role.lower()}": "", "beidou.io/role": role, **labels}
