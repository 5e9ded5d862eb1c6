"""preCheck: whether the cluster and each node can be upgraded, and what has to be decided first.

What concerns the whole cluster is told with one machine, the first control plane: one that fails
keeps all from beginning.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from beidou.base.errors import BeidouError, ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.answers import ComponentHealth
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from clusters.drivers.upgrading import REMOVED, DeprecatedUse
from clusters.services.connections import client_for
from operations.kinds import hosts, joining, playbook, versions
from operations.kinds.base import Check, StepRun, asking, check
from operations.kinds.control_planes import alone, etcd
from operations.kinds.draining import reading
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.checks import make_checks
from operations.kinds.draining.plan import NodePlan, Situation, make_plan
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.settling import settle
from operations.kinds.upgrade_cluster import facts, gate
from operations.kinds.upgrade_cluster.params import UpgradeClusterParams
from operations.kinds.upgrade_cluster.planning import why_not_to
from operations.models import OperationMachine

NOT_OF_AN_UPGRADE = ("control-plane", "share:")
"""Checks of a node that is taken out for good."""


@dataclass
class Found:
    lead: int
    whole: list[Check] = field(default_factory=list)
    not_whole: list[str] = field(default_factory=list)
    nodes: dict[str, NodeInfo] = field(default_factory=dict)
    plans: dict[str, NodePlan] = field(default_factory=dict)
    results: PlaybookResults = field(default_factory=PlaybookResults)


def pre_check(run: StepRun) -> Found:
    alone.require(run)
    alone.require_no_joining(run)
    settings = hosts.require_settings(run.cluster)
    names = {target.pk: joining.linked_node_name(target) for target in run.targets}
    with client_for(run.cluster, timeout=30) as client:
        situation = reading.situation(run, client)
        nodes = {node.name: node for node in situation.nodes}
        planes = [
            target
            for target in run.targets
            if (node := nodes.get(names[target.pk])) is not None and facts.is_control_plane(node)
        ]
        lead = (planes or run.targets)[0].pk
        found = Found(lead, nodes=nodes, not_whole=gate.not_whole(client))
        found.whole = list(_whole_checks(run, client, situation))
    for wave in _waves(run, [names[target.pk] for target in planes], list(names.values())):
        run.stop_if_asked()
        found.plans |= make_plan(situation, wave)
    found.results = playbook.run_playbook(
        run,
        "upgrade_check",
        variables={**facts.BIN_DIR, **settings.overrides},
        per_machine={
            target.pk: {"is_control_plane": True, "snapshot_folder": _snapshot_folder(run.params)}
            for target in planes
        },
    )
    if planes:
        found.whole += _etcd_checks(run, found.results, planes)
    return found


def _snapshot_folder(params: UpgradeClusterParams) -> str:
    return params.snapshot_folder if params.snapshot == "take" else ""


def _waves(run: StepRun, planes: Sequence[str], names: Sequence[str]) -> Iterator[Sequence[str]]:
    """Nodes that are away together; where they all fit nowhere, none of them could move."""
    yield from ([name] for name in planes)
    workers, size = [name for name in names if name not in planes], run.params.wave_size
    for begin in range(0, len(workers), size):
        yield workers[begin : begin + size]


# --- the cluster ----------------------------------------------------------------------------------


def _whole_checks(run: StepRun, client: KubernetesClient, situation: Situation) -> Iterator[Check]:
    server = client.version().git_version
    yield version_check(run.params.kubernetes_version, server)
    yield skew_check(run.params.kubernetes_version, server, situation.nodes)
    yield _members_check(run, situation.nodes)
    yield ready_check(situation.nodes)
    yield from (_component_check(part) for part in client.component_health())
    yield _kubeadm_check(client)
    yield from _api_checks(client, run.params)


def version_check(target: str, server: str) -> Check:
    try:
        why = why_not_to(target, server)
    except BeidouError as error:
        why = error.message
    return check(
        "version",
        not why,
        server,
        Sentence("an API server that can be upgraded to %(version)s", version=target),
        why or "",
    )


def skew_check(target: str, server: str, nodes: Iterable[NodeInfo]) -> Check:
    """Kubelets stay behind until their turn comes, and must be allowed to."""
    reasons = []
    for node in nodes:
        try:
            why = versions.why_not_join(node.kubelet_version, target)
            if not why and versions.parse(node.kubelet_version) != versions.parse(target):
                why = versions.why_not_join(node.kubelet_version, server)
        except BeidouError as error:
            why = error.message
        if why:
            reasons.append(Sentence("%(node)s: %(why)s", node=node.name, why=why))
    return check(
        "version-skew",
        not reasons,
        listed(reasons) if reasons else Sentence("every kubelet fits"),
        Sentence("kubelets at most %(minors)s minors older", minors=versions.OLDER_KUBELETS),
        Sentence("bring these nodes nearer to the API server's version first"),
    )


def _members_check(run: StepRun, nodes: Iterable[NodeInfo]) -> Check:
    """Nodes may have come since the operation was asked for."""
    known = {joining.linked_node_name(member) for member in run.operation.machines.all()}
    missing = [node.name for node in nodes if node.name not in known]
    return check(
        "every-node",
        not missing,
        Sentence("take no part: %(nodes)s", nodes=listed(missing)) if missing else Sentence("all"),
        Sentence("every node of the cluster takes part"),
        Sentence("register these nodes and start a new operation for the whole cluster"),
    )


def ready_check(nodes: Iterable[NodeInfo]) -> Check:
    unready = [node.name for node in nodes if node.is_ready is not True]
    return check(
        "nodes-ready",
        not unready,
        listed(unready) if unready else Sentence("all are Ready"),
        Sentence("every node is Ready"),
        Sentence("mend these nodes, or take them out of the cluster first"),
    )


def _component_check(part: ComponentHealth) -> Check:
    return check(
        f"component:{part.name}",
        part.is_healthy is True,
        part.message,
        Sentence("healthy"),
        Sentence("mend it first: an upgrade makes nothing whole"),
        "warning" if part.is_healthy is None else "error",
    )


def _kubeadm_check(client: KubernetesClient) -> Check:
    try:
        found, ok = client.kubeadm_config().kubernetes_version, True
    except ExternalError as error:
        found, ok = error.message, False
    return check(
        "kubeadm",
        ok,
        found,
        Sentence("the ConfigMap kube-system/kubeadm-config"),
        Sentence("only clusters of kubeadm are upgraded here"),
    )


def _api_checks(client: KubernetesClient, params: UpgradeClusterParams) -> Iterator[Check]:
    target = versions.parse(params.kubernetes_version)[:2]
    wanted = Sentence("nobody asks for an API that %(version)s no longer has", version=_dot(target))
    try:
        uses = client.upgrading.deprecated_uses()
    except ExternalError as error:
        yield check(
            "removed-apis",
            False,
            Sentence("unknown, because %(why)s", why=error.message),
            wanted,
            Sentence("let our credential read /metrics, or look at the clients yourself"),
            "warning",
        )
    else:
        yield from use_checks(uses, target, allowed=params.allow_removed_apis)
    yield _served_check(client.upgrading.serves, target)


def use_checks(
    uses: Iterable[DeprecatedUse], target: tuple[int, int], *, allowed: bool
) -> Iterator[Check]:
    """What goes with this version, and what will go with a later one."""
    going = [use for use in uses if (0, 0) < use.removed <= target]
    later = [use for use in uses if use not in going]
    yield check(
        "removed-apis",
        not going,
        listed([_use(use) for use in going]) if going else Sentence("none was asked for"),
        Sentence("nobody asks for an API that %(version)s no longer has", version=_dot(target)),
        Sentence("goes on, because allow_removed_apis was chosen")
        if allowed
        else Sentence("change the clients that ask for these, or retry with allow_removed_apis"),
        "warning" if allowed else "error",
    )
    if later:
        yield check(
            "deprecated-apis",
            False,
            listed([_use(use) for use in later]),
            Sentence("nobody asks for what will go later"),
            Sentence("change the clients that ask for these in good time"),
            "warning",
        )


def _use(use: DeprecatedUse) -> str:
    if not use.release:
        return f"{use.api} {use.resource}"
    return Sentence(
        "%(api)s %(resource)s (gone in %(release)s)",
        api=use.api,
        resource=use.resource,
        release=use.release,
    )


def _served_check(serves: Callable[[str], bool], target: tuple[int, int]) -> Check:
    """Clients that were quiet since the API server began are not in its count."""
    names = [name for name, removed in REMOVED.items() if removed == target]
    try:
        served = [name for name in names if serves(name)]
        found: str = listed(served) if served else Sentence("none")
    except ExternalError as error:
        served, found = names, Sentence("unknown, because %(why)s", why=error.message)
    return check(
        "served-apis",
        not served,
        found,
        Sentence("no API is switched on that %(version)s no longer has", version=_dot(target)),
        Sentence("make sure that manifests and clients name a newer version of these"),
        "warning",
    )


def _dot(release: tuple[int, int]) -> str:
    return f"{release[0]}.{release[1]}"


# --- etcd -----------------------------------------------------------------------------------------


def _etcd_checks(
    run: StepRun, results: PlaybookResults, planes: Sequence[OperationMachine]
) -> list[Check]:
    """Asked on the first control plane that has one; its answer names all members."""
    here = [plane for plane in planes if results.find(plane, "etcd_here")]
    if not here:
        return [_no_etcd_check(run.params)]
    settings = hosts.require_settings(run.cluster)
    try:
        return [etcd.whole_check(etcd.ask(run, here[0], settings.overrides))]
    except PermanentError as error:
        return [
            check(
                "etcd-members",
                False,
                error.message,
                Sentence("every member of etcd healthy and voting"),
                Sentence("mend etcd first: each control plane that is restarted needs the others"),
            )
        ]


def _no_etcd_check(params: UpgradeClusterParams) -> Check:
    told = Sentence("etcd runs on none of the control planes")
    wanted = Sentence("an etcd that is looked at, and of which a snapshot is taken")
    if params.snapshot == "skip":
        advice = Sentence("goes on without a snapshot, because it was chosen")
        return check("etcd-members", False, told, wanted, advice, "warning")
    advice = Sentence("back your external etcd up yourself, then retry with snapshot: skip")
    return asking(check("etcd-members", False, told, wanted, advice), "snapshot")


# --- each node ------------------------------------------------------------------------------------


def confirm(run: StepRun, found: Found) -> None:
    for target in list(run.targets):
        run.stop_if_asked()
        name = joining.linked_node_name(target)
        node, plan = found.nodes.get(name), found.plans.get(name)
        checks = list(found.whole) if target.pk == found.lead else []
        checks += found.results.checks(target)
        if target.pk in found.results.failed:
            run.fail(target, found.results.failed[target.pk], checks=checks)
            continue
        if node is None or plan is None:
            sentence = Sentence("There is no node %(node)s in the cluster.", node=name)
            run.fail(target, sentence, checks=checks)
            continue
        if not found.results.checks(target):
            run.fail(target, Sentence("The checks gave no result."), checks=checks)
            continue
        checks += drain_checks(plan, run.params)
        evidence: dict[str, Any] = {
            "node": name,
            "uid": node.uid,
            "kubelet": node.kubelet_version,
            "control_plane": facts.is_control_plane(node),
            "etcd": bool(found.results.find(target, "etcd_here")),
            "moves": len(plan.evicted),
            "pods": [fate.as_dict() for fate in plan.fates],
        }
        if target.pk == found.lead:
            evidence["not_whole"] = found.not_whole
        message = Sentence(
            "%(version)s; %(count)s pods will move", version=node.kubelet_version,
            count=len(plan.evicted),
        )  # fmt: skip
        settle(run, target, checks, evidence, message)


def drain_checks(plan: NodePlan, params: Any) -> list[Check]:
    return [
        each
        for each in make_checks(plan, params)
        if not each["check"].startswith(NOT_OF_AN_UPGRADE)
    ]
