"""network: the pod network of the new cluster, the built-in routed one or a manifest.

It is there when the nodes are Ready: a kubelet without a pod network never is.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from beidou.base.errors import ExternalError, TemporaryError
from beidou.base.sentences import Sentence
from clusters.drivers import applying
from clusters.drivers.applying import UnknownKind
from clusters.drivers.kubernetes import KubernetesClient
from clusters.services.connections import client_for
from operations.kinds import hosts, joining, playbook
from operations.kinds.base import StepRun
from operations.kinds.create_cluster import members
from operations.kinds.network.routes import nodes_may_read
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_up import ROUTED_NETWORK

NAMESPACE, MARKER = ROUTED_NETWORK
READY_SECONDS = 240
KIND_SECONDS = 60
_LABELS = {"app.kubernetes.io/managed-by": "beidou"}

ROUTED: Sequence[Mapping[str, Any]] = (
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": MARKER, "namespace": NAMESPACE, "labels": _LABELS},
        "data": {"about": "Nodes keep routes to each other's pods; see beidou-routed-network."},
    },
    *nodes_may_read(MARKER),
)
"""Nodes may read each other (as they could before Kubernetes 1.32), and the mark by which ScaleUp
knows that a machine needs the service too."""


def set_up_network(run: StepRun) -> PlaybookResults:
    joining.to_joining(run)
    is_routed = run.params.network == "routed"
    wanted = ROUTED if is_routed else applying.parse(run.params.network_manifest)
    with client_for(run.cluster, timeout=30) as client:
        for item in wanted:
            _apply(run, client, item)
    if not is_routed:
        return PlaybookResults()
    per_machine = {target.pk: {"node_name": joining.node_name(target)} for target in run.targets}
    return playbook.run_playbook(
        run,
        "routed_network",
        variables=members.site_variables(hosts.require_settings(run.cluster)),
        per_machine=per_machine,
    )


def _apply(run: StepRun, client: KubernetesClient, item: Mapping[str, Any]) -> None:
    """A kind may have been defined by the object before, which takes the server a moment."""
    deadline = time.monotonic() + KIND_SECONDS
    while True:
        run.stop_if_asked()
        try:
            client.applier.apply(item)
            break
        except (UnknownKind, TemporaryError):
            if time.monotonic() > deadline:
                raise
        time.sleep(1)
    run.say(Sentence("%(kind)s %(name)s applied", kind=item["kind"], name=item["metadata"]["name"]))


def confirm_network(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    deadline = time.monotonic() + READY_SECONDS
    for target in run.targets:
        run.note(target, Sentence("waiting for Ready"))
    with client_for(run.cluster, timeout=15) as client:
        while run.targets:
            run.stop_if_asked()
            why = _settle_ready(run, client)
            if time.monotonic() > deadline:
                for target in list(run.targets):
                    name = joining.node_name(target)
                    run.fail(
                        target,
                        Sentence(
                            "Node %(node)s was not Ready within %(limit)s s: %(why)s",
                            node=name,
                            limit=READY_SECONDS,
                            why=why.get(name) or Sentence("no condition"),
                        ),
                    )
                return
            time.sleep(1)


def _settle_ready(run: StepRun, client: KubernetesClient) -> dict[str, str]:
    """Let those through that are Ready; says of the others what they say themselves."""
    try:
        nodes = {node.name: node for node in client.list_nodes()}
    except ExternalError as error:
        return dict.fromkeys([joining.node_name(each) for each in run.targets], error.message)
    why = {}
    for target in list(run.targets):
        node = nodes.get(joining.node_name(target))
        if node is not None and node.is_ready:
            run.succeed(
                target, message=Sentence("Ready"), evidence={"node": node.name, "ready": True}
            )
        elif node is not None:
            said = [c.message for c in node.conditions if c.type == "Ready"]
            why[node.name] = said[0] if said else ""
    return why
