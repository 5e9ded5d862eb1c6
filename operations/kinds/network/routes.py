"""The driver ``routes``: every node keeps a route to the pods of every other node.

It is the service of the routed network, which also CreateCluster sets up: it follows the nodes of
the cluster by itself, so that routes come with a node, go with it, and are there again after a
reboot. In a cluster with a network of its own it keeps the routes alone and writes no CNI
configuration.
"""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from django.utils.translation import gettext

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from clusters.models import Cluster, Node
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import hosts, joining, playbook
from operations.kinds.base import Blocker, StepRun
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_up import ROUTED_NETWORK
from operations.models import OperationMachine

NAME: Final = "beidou-pod-routes"
_LABELS = {"app.kubernetes.io/managed-by": "beidou"}
_RBAC = "rbac.authorization.k8s.io"


def nodes_may_read(name: str) -> Sequence[Mapping[str, Any]]:
    """What lets nodes read each other, as they could before Kubernetes 1.32."""
    metadata = {"name": name, "labels": _LABELS}
    return (
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRole",
            "metadata": metadata,
            "rules": [
                {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
            ],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": "system:nodes"}],
        },
    )


def blockers(cluster: Cluster, machines: Sequence[Machine], params: Any) -> list[Blocker]:
    settings = hosts.settings_of(cluster.pk)
    found = []
    if settings is None:
        reason = gettext("the cluster has no operation settings; make some first")
        found.append(Blocker(None, reason))
    nodes = {node.pk: node for node in Node.objects.filter(machine__in=machines)}
    for machine in machines:
        found += [Blocker(machine, why) for why in hosts.why_unreachable(machine, settings)]
        node = nodes.get(machine.node_id or 0)
        if node is not None:
            pairs = [(each["type"], each["address"]) for each in node.addresses]
            if lost := nowhere(node.pod_cidrs, _internal(pairs)):
                found.append(Blocker(machine, no_way_to(lost)))
    return found


def nowhere(ranges: Iterable[str], internal: Iterable[str]) -> list[str]:
    """The ranges of a node that has no address of their family: nothing can lead there."""
    families = {":" in each for each in internal}
    return [each for each in ranges if (":" in each) not in families]


def no_way_to(ranges: Sequence[str]) -> Sentence:
    return Sentence(
        "its node reports no internal address of the family of %(ranges)s, through which its pods "
        "could be reached; name one in --node-ip of its kubelet",
        ranges=", ".join(ranges),
    )


def _internal(addresses: Iterable[tuple[str, str]]) -> list[str]:
    return [text for kind, text in addresses if kind == "InternalIP"]


def act(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    with client_for(run.cluster, timeout=15) as client:
        nodes = {node.name: node for node in client.list_nodes()}
        is_routed = client.has_config_map(*ROUTED_NETWORK)
        _leave_out(run, nodes)
        if not run.targets:
            return PlaybookResults()
        if not is_routed:
            _give_rights(run, client)
    per_machine = {
        target.pk: {
            "node_name": joining.linked_node_name(target),
            "wanted_routes": wanted(joining.linked_node_name(target), nodes),
        }
        for target in run.targets
    }
    return playbook.run_playbook(
        run,
        "pod_routes",
        variables={"routed_network_routes_only": not is_routed, **settings.overrides},
        per_machine=per_machine,
    )


def _give_rights(run: StepRun, client: KubernetesClient) -> None:
    for item in nodes_may_read(NAME):
        client.applier.apply(item)
    run.say(Sentence("%(kind)s %(name)s applied", kind="ClusterRole", name=NAME))


def _leave_out(run: StepRun, nodes: Mapping[str, NodeInfo]) -> None:
    """Those that are no nodes, are another machine's, or whose pods have no range of their own."""
    for target in list(run.targets):
        name = joining.linked_node_name(target)
        node = nodes.get(name)
        if node is None:
            run.fail(target, Sentence("There is no node %(node)s.", node=name))
        elif not _is_own(target, node):
            run.fail(target, Sentence("Node %(node)s has other addresses.", node=name))
        elif not node.pod_cidrs:
            run.fail(
                target,
                Sentence(
                    "Node %(node)s has no range for its pods: the network of this cluster gives "
                    "addresses by itself, and routes them by itself.",
                    node=name,
                ),
            )
        elif lost := nowhere(node.pod_cidrs, _internal(node.addresses)):
            run.fail(target, no_way_to(lost))
    own = {joining.linked_node_name(target) for target in run.targets}
    for node in nodes.values():
        if node.name not in own and (lost := nowhere(node.pod_cidrs, _internal(node.addresses))):
            run.say(f"No route to node {node.name}: {no_way_to(lost)}", level="warning")


def _is_own(target: OperationMachine, node: NodeInfo) -> bool:
    is_linked = target.machine is not None and target.machine.node is not None
    return is_linked or target.address in joining.reported(node)


def wanted(own: str, nodes: Mapping[str, NodeInfo]) -> dict[str, str]:
    """Range of pods -> the address through which ``own`` has to reach it, of the same family; both
    are spelled as the kernel shows them."""
    found: dict[str, str] = {}
    for node in nodes.values():
        internal = _internal(node.addresses)
        for pod_range in node.pod_cidrs if node.name != own else ():
            family = [each for each in internal if (":" in each) == (":" in pod_range)]
            if family:
                network = ipaddress.ip_network(pod_range, strict=False)
                found[str(network)] = str(ipaddress.ip_address(family[0]))
    return found


def there(stdout: str) -> dict[str, str]:
    """What ``ip route show`` printed: ``10.0.1.0/24 via 192.0.2.7 dev eth0`` per line."""
    found = {}
    for line in stdout.splitlines():
        words = line.split()
        if "via" in words[:-1]:
            found[words[0]] = words[words.index("via") + 1]
    return found


def confirm(run: StepRun, results: PlaybookResults) -> None:
    """The routes that a host has in its kernel are those to the nodes that there are now."""
    playbook.fail_unreached(run, results)
    if not run.targets:
        return
    try:
        with client_for(run.cluster, timeout=15) as client:
            nodes = {node.name: node for node in client.list_nodes()}
    except ExternalError as error:
        for target in list(run.targets):
            run.fail(target, error.message)
        return
    for target in list(run.targets):
        found = there(str(results.find(target, "stdout") or ""))
        asked = wanted(joining.linked_node_name(target), nodes)
        missing = sorted(each for each, via in asked.items() if found.get(each) != via)
        if missing:
            run.fail(
                target,
                Sentence(
                    "No route to %(ranges)s yet; see “journalctl -u beidou-routed-network” there.",
                    ranges=", ".join(missing[:5]),
                ),
                evidence={"routes": found},
            )
        else:
            run.succeed(
                target,
                message=Sentence("%(count)s routes to pods of others", count=len(asked)),
                evidence={"routes": {each: found[each] for each in asked}},
            )
