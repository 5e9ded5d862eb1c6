"""How nodes are upgraded: drained, given to kubeadm, their programs replaced, opened again.

Whatever has been done is read from the node and the cluster, so a repeated step goes on where the
lost one stood: a node in the new version is only proved, and one that this operation has cordoned
carries its mark.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from beidou.base.errors import BeidouError, ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from clusters.services.connections import client_for
from operations.kinds import hosts, playbook
from operations.kinds.base import StepRun
from operations.kinds.draining import reading
from operations.kinds.draining.drainer import Drainer
from operations.kinds.draining.leaving import Leaving
from operations.kinds.draining.plan import make_plan, owners_of
from operations.kinds.draining.raising import put_back
from operations.kinds.names import name_of
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.settling import node_name
from operations.kinds.upgrade_cluster import facts, prepare
from operations.models import OperationMachine

READY_SECONDS = 300
PAUSE_SECONDS = 1.0
PROXY = ("kube-system", "kube-proxy")


def upgrade(
    run: StepRun, client: KubernetesClient, targets: Sequence[OperationMachine]
) -> PlaybookResults:
    """Up to nodes that are open again; what went wrong with one of them fails it."""
    due = [target for target in targets if not _is_upgraded(run, client, target)]
    drained = _drain(run, client, due) if due else []
    results = _upgrade_hosts(run, client, drained) if drained else PlaybookResults()
    playbook.fail_unreached(run, results)
    left = {target.pk for target in run.targets}
    for target in targets:
        if target.pk in left:
            _open(run, client, target)
    return results


def _is_upgraded(run: StepRun, client: KubernetesClient, target: OperationMachine) -> bool:
    """The kubelet is replaced last, so a node that reports the new one has had the rest."""
    name, version = node_name(target), run.params.kubernetes_version
    node = facts.asked(run, partial(client.get_node, name))
    if node.kubelet_version != version:
        return False
    is_whole = not facts.is_control_plane(node) or not facts.asked(
        run, partial(why_old_pods, client, name, version)
    )
    if is_whole:
        run.say(f"Node {name} has {version} already.", target=target)
    return is_whole


# --- drain ----------------------------------------------------------------------------------------


def _drain(
    run: StepRun, client: KubernetesClient, targets: Sequence[OperationMachine]
) -> list[OperationMachine]:
    """Those that are empty; the others have failed and stay cordoned."""
    names = {target.pk: node_name(target) for target in targets}
    for target in targets:
        facts.asked(run, partial(_mark, run, client, names[target.pk]))
    situation = facts.asked(run, partial(reading.situation, run, client))
    plans = make_plan(situation, names.values())
    leaving = []
    for target in targets:
        plan = plans.get(names[target.pk])
        owners = owners_of(situation, plan) if plan is not None else {}
        leaving.append(
            Leaving(
                target,
                names[target.pk],
                total=len(plan.evicted) if plan is not None else 0,
                before={key: counts["ready"] for key, counts in owners.items()},
            )
        )
    with client_for(run.cluster, timeout=5) as quick:  # a cancel must be seen within seconds
        Drainer(run, quick, leaving).drain()
        facts.asked(run, partial(_put_back, run, quick))
    still = {target.pk for target in run.targets}
    return [target for target in targets if target.pk in still]


def _mark(run: StepRun, client: KubernetesClient, name: str) -> None:
    """Say at the node that it is cordoned by us, before it is; one that somebody else has cordoned
    stays so."""
    node = client.get_node(name)
    if not node.unschedulable and facts.MARK not in node.labels:
        client.patch_node(name, labels={facts.MARK: facts.mark_of(run)})


def _put_back(run: StepRun, client: KubernetesClient) -> None:
    put_back(client.workloads, operation=name_of(run.operation), say=run.say)


# --- the hosts ------------------------------------------------------------------------------------


def _upgrade_hosts(
    run: StepRun, client: KubernetesClient, targets: Sequence[OperationMachine]
) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    verb = "node"
    for target in targets:  # one alone, where it is a control plane
        name = node_name(target)
        # Not what preCheck has found: it may have been skipped.
        if facts.is_control_plane(facts.asked(run, partial(client.get_node, name))):
            verb = facts.asked(run, partial(_verb, run, client, name))
    for target in targets:
        run.note(target, Sentence("kubeadm upgrade %(verb)s", verb=verb))
    programs = [
        {"name": each.name, "sha256": each.sha256}
        for each in prepare.listed_for(run, control_plane=False)
        if each.name in facts.PROGRAMS
    ]
    variables = {
        "kubernetes_version": run.params.kubernetes_version,
        "upgrade_verb": verb,
        "programs": programs,
        "staged_dir": facts.STAGED,
        **facts.BIN_DIR,
        **settings.overrides,
    }
    return playbook.run_playbook(run, "upgrade_node", variables=variables, members=targets)


def _verb(run: StepRun, client: KubernetesClient, name: str) -> str:
    """What kubeadm does on a control plane, kept at its node: after a lost worker it may be at work
    still, and the same command rejoins it."""
    said = client.get_node(name).labels.get(facts.VERB, "")
    mark, _dot, verb = said.rpartition(".")
    if mark == facts.mark_of(run):
        return verb
    verb = "apply" if _is_first(run, client, name) else "node"
    client.patch_node(name, labels={facts.VERB: f"{facts.mark_of(run)}.{verb}"})
    return verb


def _is_first(run: StepRun, client: KubernetesClient, name: str) -> bool:
    """Whether the cluster's own parts still wait for ``kubeadm upgrade apply``.

    It writes the version into its ConfigMap near its end.  The new kube-proxy comes last of all,
    with the last control plane, whatever kubeadm is told there.  So the old one means an apply that
    was interrupted, unless another control plane has had all of it: kubelets are replaced after it.
    """
    version = run.params.kubernetes_version
    if client.kubeadm_config().kubernetes_version != version:
        return True
    others = [node for node in client.list_nodes() if node.name != name]
    if any(facts.is_control_plane(node) and node.kubelet_version == version for node in others):
        return False
    try:
        images = client.upgrading.daemon_set_images(*PROXY)
    except kube_errors.NotFound:
        return False  # a cluster without kube-proxy
    return not any(image.endswith(f":{version}") for image in images)


# --- proof ----------------------------------------------------------------------------------------


def _open(run: StepRun, client: KubernetesClient, target: OperationMachine) -> None:
    """Pods come back to a node only when it is Ready in the new version."""
    name = node_name(target)
    run.note(target, Sentence("waiting for Ready in %(version)s",
                              version=run.params.kubernetes_version))  # fmt: skip
    deadline = time.monotonic() + READY_SECONDS
    while why := _asked(partial(why_not_proved, client, name, run.params.kubernetes_version)):
        run.stop_if_asked()
        if time.monotonic() > deadline:
            run.fail(
                target,
                Sentence(
                    "Node %(node)s is not Ready in the new version after %(limit)s s and stays "
                    "cordoned; see the kubelet's log on the machine, then retry. Last seen: "
                    "%(why)s",
                    node=name,
                    limit=READY_SECONDS,
                    why=why,
                ),
            )
            return
        time.sleep(PAUSE_SECONDS)
    try:
        node = facts.asked(run, partial(client.get_node, name))
        if facts.MARK in node.labels:
            facts.asked(run, partial(client.set_unschedulable, name, False))
            run.say(f"Node {name} is open again.", target=target)
        if {facts.MARK, facts.VERB} & node.labels.keys():
            labels = {facts.MARK: None, facts.VERB: None}
            facts.asked(run, partial(client.patch_node, name, labels=labels))
    except ExternalError as error:
        run.stop_if_asked()
        run.fail(target, error.message)


def _asked(why: Callable[[], str]) -> str:
    try:
        return why()
    except BeidouError as error:
        return error.message


def why_not_proved(client: KubernetesClient, name: str, version: str) -> str:
    """Empty when the node is Ready in the version and, of a control plane, its static pods too."""
    node = client.get_node(name)
    if node.kubelet_version != version:
        return Sentence("its kubelet is %(found)s", found=node.kubelet_version)
    if node.is_ready is not True:
        return Sentence("it is not Ready")
    return why_old_pods(client, name, version) if facts.is_control_plane(node) else ""


def why_old_pods(client: KubernetesClient, node: str, version: str) -> str:
    """Which static pod of the control plane is not ready in this version; empty when all are."""
    for part in facts.STATIC_PODS:
        try:
            pod = client.get_pod("kube-system", f"{part}-{node}")
        except kube_errors.NotFound:
            return Sentence("%(pod)s does not run", pod=part)
        if not any(image.endswith(f":{version}") for image in pod.images):
            return Sentence("%(pod)s has the image %(image)s", pod=part,
                            image=", ".join(pod.images))  # fmt: skip
        if not pod.is_ready:
            return Sentence("%(pod)s is not ready", pod=part)
    return ""


def proof_of(run: StepRun, client: KubernetesClient, target: OperationMachine) -> Mapping[str, Any]:
    """The evidence; ``PermanentError`` for a node that is not what it should be."""
    name, version = node_name(target), run.params.kubernetes_version
    if why := facts.asked(run, partial(why_not_proved, client, name, version)):
        raise PermanentError(
            Sentence("Node %(node)s: %(why)s.", node=name, why=why), code="not_upgraded"
        )
    node: NodeInfo = facts.asked(run, partial(client.get_node, name))
    if facts.MARK in node.labels:
        raise PermanentError(
            Sentence("Node %(node)s was not opened again.", node=name), code="still_cordoned"
        )
    return {
        "node": name,
        "kubelet": node.kubelet_version,
        "ready": True,
        "schedulable": not node.unschedulable,
    }


def after(run: StepRun) -> None:
    """After a cancel or a failure: nothing goes on by itself, additional copies go."""
    playbook.stop_units(run)
    try:
        with client_for(run.cluster, timeout=5) as client:
            _put_back(run, client)
    except ExternalError as error:
        run.say(f"Additional copies were not taken away: {error.message}", level="warning")
