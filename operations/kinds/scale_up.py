"""ScaleUp: bring machines into a cluster as nodes, and prove that they carry pods.

preCheck    looks at each machine and changes nothing; all failures of a machine are reported
            together
scaleUp     installs containerd, kubelet and kubeadm from the artifact source and joins; the node is
            cordoned from its first moment on (a taint until ``spec.unschedulable`` is set)
postCheck   node Ready in the right version, services on the host, a test pod that reaches and is
            reached
uncordon    opens the node; the machine is in service

Everything a step needs from the cluster is read once through its API; the cost grows with the
machines.
"""

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import structlog
from django.conf import settings as conf
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field, field_validator

from beidou.base.errors import ExternalError, InvalidInput, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo
from clusters.models import Cluster, Node
from clusters.services import capabilities
from clusters.services.connections import client_for
from machines.models import Machine
from machines.services import host_keys
from operations.drivers import artifacts
from operations.kinds import (
    hosts,
    join_tokens,
    joining,
    known_nodes,
    lifecycle,
    playbook,
    versions,
)
from operations.kinds.base import (
    Blocker,
    Kind,
    StepKind,
    StepRun,
    Stopped,
    mistake,
    register,
)
from operations.kinds.checks import describe, fail
from operations.kinds.control_planes import alone
from operations.kinds.namespaces import Namespace
from operations.kinds.peers import Peers
from operations.kinds.playbook import PlaybookResults
from operations.kinds.probe import IMAGE, Probe, check_node, pod_names
from operations.models import ClusterSettings, Operation, OperationMachine

logger = structlog.get_logger(__name__)

# Syntax: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
_LABEL_NAME = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}")
_LABEL_VALUE = re.compile(rf"({_LABEL_NAME})?")
JOINING_TAINT = "beidou.io/joining"
ROUTED_NETWORK = ("kube-system", "beidou-routed-network")
"""The ConfigMap by which a cluster says that its nodes keep the built-in routed network."""
NODE_WAIT_SECONDS = 120
PROBES_AT_ONCE = 8


class ScaleUpParams(BaseModel):
    """``kubernetes_version`` empty: the API server's. Labels and taints are added to the role's."""

    model_config = ConfigDict(extra="forbid")

    kubernetes_version: str = Field(default="", max_length=40)
    labels: dict[str, str] = Field(default_factory=dict, max_length=50)
    taints: list[str] = Field(
        default_factory=list, max_length=20, description="key=value:Effect or key:Effect"
    )
    probe_namespace: Namespace = "kube-system"

    @field_validator("kubernetes_version")
    @classmethod
    def _is_version(cls, value: str) -> str:
        if not value:
            return value
        try:
            return versions.canonical(value)
        except InvalidInput as error:
            raise ValueError(error.message) from error

    @field_validator("labels")
    @classmethod
    def _are_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(text):
                raise ValueError(
                    gettext("%(label)s is no label of Kubernetes") % {"label": f"{key}={text}"}
                )
        return value

    @field_validator("taints")
    @classmethod
    def _are_taints(cls, value: list[str]) -> list[str]:
        for text in value:
            place, _colon, effect = text.rpartition(":")
            key, _equals, content = place.partition("=")
            known = effect in ("NoSchedule", "PreferNoSchedule", "NoExecute")
            if not known or not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(content):
                raise ValueError(
                    gettext("“%(text)s” is no taint; write key=value:NoSchedule") % {"text": text}
                )
        return value


# --- planning --------------------------------------------------------------------------------


def blockers(cluster: Cluster, machines: Sequence[Machine], params: ScaleUpParams) -> list[Blocker]:
    """What is known to be in the way before anything is contacted.

    A retry asks, too: a machine of this cluster has gone half the way, and the node of its name may
    be its own; the steps look.
    """
    found = alone.joining_blockers(cluster)
    found += [Blocker(None, reason) for reason in _whole_blockers(cluster, params)]
    settings = hosts.settings_of(cluster.pk)
    names = set(Node.objects.filter(cluster=cluster).values_list("name", flat=True))
    held = _names_held(cluster, machines)
    chosen: set[str] = set()
    for machine in machines:
        name = node_name(machine)
        reasons = hosts.why_no_node(machine, settings)
        if name in held:
            reasons.append(
                gettext("operation %(operation)s works on another machine called %(name)s")
                % {"operation": held[name], "name": name}
            )
        elif machine.cluster_id is None and (name in names or name in chosen):
            reasons.append(
                gettext("a node called %(name)s is in the cluster already") % {"name": name}
            )
        found += [Blocker(machine, reason) for reason in reasons]
        if name:
            chosen.add(name)
    return found


def _names_held(cluster: Cluster, machines: Sequence[Machine]) -> dict[str, str]:
    """Names of nodes that other machines have or are about to get, and the operations at work."""
    rows = OperationMachine.objects.filter(operation__cluster=cluster, holds_machine=True)
    others = rows.exclude(machine__in=machines).select_related("operation")
    return {joining.node_name(member): member.operation.name for member in others}


def _whole_blockers(cluster: Cluster, params: ScaleUpParams) -> list[str]:
    reasons = []
    settings = hosts.settings_of(cluster.pk)
    if settings is None or not settings.artifact_source:
        reasons.append(gettext("no artifact source is set in the cluster's operation settings"))
    elif problem := _source_problem(settings.artifact_source):
        reasons.append(problem)
    if cluster.health == Cluster.Health.UNREACHABLE:
        reasons.append(
            gettext("the cluster is unreachable: %(reason)s") % {"reason": cluster.health_reason}
        )
    for row in cluster.capabilities:
        if row.get("key") == "scale_up" and not row.get("ok"):
            reasons.append(
                gettext("our credential does not suffice: %(why)s") % {"why": capabilities.why(row)}
            )
    wanted = params.kubernetes_version
    if wanted and (reason := versions.why_not_join(wanted, cluster.version)):
        reasons.append(reason)
    return reasons


def node_name(machine: Machine) -> str:
    """The node's name: the hostname in small letters, as kubelet would choose it."""
    return machine.hostname.lower()


# --- what steps share ------------------------------------------------------------------------


def _source_problem(source: str) -> str:
    """It was taken once, but what folders are allowed may have changed since."""
    try:
        artifacts.check_source(source, folders=conf.ARTIFACT_FOLDERS)
    except InvalidInput as error:
        return error.message
    return ""


def _version(run: StepRun) -> str:
    """Checked here too: without a wish it is what the cluster's API server says."""
    return versions.canonical(run.params.kubernetes_version or run.cluster.version)


def _per_machine(run: StepRun) -> dict[int, dict[str, Any]]:
    return {member.pk: {"node_name": joining.node_name(member)} for member in run.targets}


def _common(run: StepRun, settings: ClusterSettings, server: str) -> dict[str, Any]:
    """Variables of every playbook; the site's overrides win."""
    listed = artifacts.for_worker(
        settings.artifact_source, version=_version(run), folders=conf.ARTIFACT_FOLDERS
    )
    return {
        "kubernetes_version": _version(run),
        "api_server_endpoint": hosts.api_endpoint(server),
        "artifacts": [artifact.as_variable() for artifact in listed],
        "policy": settings.policy,
    }


# --- preCheck --------------------------------------------------------------------------------


def pre_check(run: StepRun) -> PlaybookResults:
    alone.require_no_joining(run)
    settings = hosts.require_settings(run.cluster)
    with client_for(run.cluster, timeout=15) as client:
        server = client.cluster_info().server
        nodes = joining.as_known(known_nodes.of_cluster(run.cluster, client))
    variables = {**_common(run, settings, server), "cluster_nodes": nodes, **settings.overrides}
    return playbook.run_playbook(
        run, "pre_check", variables=variables, per_machine=_per_machine(run)
    )


def confirm_pre_check(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    for target in list(run.targets):
        checks = results.checks(target)
        if not checks:
            run.fail(target, Sentence("The checks gave no result."))
            continue
        bad = [c for c in checks if not c["ok"] and c.get("severity") != "warning"]
        if bad:
            fail(run, target, bad, checks=checks)
        else:
            warnings = sum(not check["ok"] for check in checks)
            run.succeed(
                target,
                message=Sentence(
                    "%(checks)s checks, %(warnings)s warnings",
                    checks=len(checks),
                    warnings=warnings,
                ),
                checks=checks,
                evidence={"facts": results.find(target, "facts") or {}},
            )


# --- scaleUp ---------------------------------------------------------------------------------


def scale_up(run: StepRun) -> PlaybookResults:
    alone.require_no_joining(run)
    settings = hosts.require_settings(run.cluster)
    joining.to_joining(run)
    with client_for(run.cluster, timeout=15) as client:
        info = client.cluster_info()
        kubeadm = client.kubeadm_config()
        with join_tokens.token(run, client) as token:
            variables = {
                **_common(run, settings, info.server),
                "sandbox_image": versions.pause_image(_version(run), kubeadm.image_repository),
                "cgroup_driver": client.kubelet_config().cgroup_driver,
                "ca_cert_hashes": list(info.ca_cert_hashes),
                "bootstrap_token": token,
                "node_labels": run.params.labels,
                "node_taints": [parse_taint(text) for text in run.params.taints],
                "routed_network": client.has_config_map(*ROUTED_NETWORK),
                **settings.overrides,
            }
            results = playbook.run_playbook(
                run, "scale_up", variables=variables, per_machine=_per_machine(run)
            )
            # Cordon as long as our own taint still keeps pods away.
            addresses = joining.own_addresses(run)
            for target in list(run.targets):
                run.stop_if_asked()
                if target.pk not in results.failed:
                    _cordon_new_node(run, client, target, addresses[target.pk])
    return results


def stop_joining(run: StepRun) -> None:
    """End what a step that is over left running on its hosts, then what let it join."""
    playbook.stop_units(run)
    join_tokens.revoke_all(run)


def _cordon_new_node(
    run: StepRun, client: KubernetesClient, target: OperationMachine, addresses: set[str]
) -> None:
    name = joining.node_name(target)
    try:
        joining.require_own(joining.wait_for_node(run, client, name), addresses)
        client.set_unschedulable(name, True)
        client.patch_node(
            name,
            labels=joining.role_labels(target.role, run.params.labels),
            remove_taints=[JOINING_TAINT],
        )
    except ExternalError as error:
        run.stop_if_asked()
        run.fail(target, error.message)


def parse_taint(text: str) -> dict[str, str]:
    """``key=value:Effect`` as kubeadm's nodeRegistration wants it."""
    place, _colon, effect = text.rpartition(":")
    key, _equals, value = place.partition("=")
    return {"key": key, "value": value, "effect": effect}


def confirm_scale_up(run: StepRun, results: PlaybookResults) -> None:
    """Joined means: the API server knows the machine's node, and it is cordoned."""
    playbook.fail_unreached(run, results)
    addresses = joining.own_addresses(run)
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            try:
                node = client.get_node(joining.node_name(target))
                joining.require_own(node, addresses[target.pk])
            except ExternalError as error:
                run.fail(target, error.message)
                continue
            if not node.unschedulable:
                run.fail(
                    target,
                    Sentence("Node %(node)s joined, but is not cordoned.", node=node.name),
                )
            else:
                run.succeed(
                    target,
                    message=Sentence("joined as %(node)s, cordoned", node=node.name),
                    evidence={"node": node.name, "uid": node.uid, "kubelet": node.kubelet_version},
                )


# --- postCheck -------------------------------------------------------------------------------


def post_check(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    joining.to_joining(run)
    variables = {
        "kubernetes_version": _version(run),
        "node_processes": ["kube-proxy"],
        **settings.overrides,
    }
    return playbook.run_playbook(
        run, "post_check", variables=variables, per_machine=_per_machine(run)
    )


def confirm_post_check(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    for target in list(run.targets):
        checks = results.checks(target)
        bad = [check for check in checks if not check["ok"] and check.get("severity") != "warning"]
        if bad or not checks:
            run.fail(
                target,
                describe(bad[0]) if bad else Sentence("The checks gave no result."),
                checks=checks,
            )
    targets = list(run.targets)
    for target in targets:
        run.note(target, Sentence("waiting for Ready, then testing pods and network"))
    with (
        client_for(run.cluster, timeout=15) as client,
        ThreadPoolExecutor(max_workers=PROBES_AT_ONCE) as pool,
    ):
        probe, addresses = _probe(run, client), joining.own_addresses(run)
        peers = Peers(client, run.cluster)
        proofs = {
            pool.submit(_prove, run, client, target, probe, addresses[target.pk], peers): target
            for target in targets
        }
        for proof in as_completed(proofs):
            target = proofs[proof]
            checks = results.checks(target)
            try:
                evidence = proof.result()
            except ExternalError as error:
                run.stop_if_asked()
                run.fail(target, error.message, checks=checks)
                continue
            except Stopped:
                raise
            except Exception as error:
                # Whatever is wrong with the proof of one node, the others have theirs.
                logger.exception("proof_errored", machine=target.pk)
                run.fail(target, mistake(error), checks=checks)
                continue
            run.succeed(
                target,
                message=Sentence(
                    "Ready; pod %(pod)s reaches and is reached", pod=evidence["pod_address"]
                ),
                evidence=evidence,
                checks=checks,
            )


def _prove(
    run: StepRun,
    client: KubernetesClient,
    target: OperationMachine,
    probe: Probe,
    addresses: set[str],
    peers: Peers,
) -> dict[str, Any]:
    """Runs in a thread of its own: talks to the cluster, writes nothing but output."""
    name = joining.node_name(target)
    node = _wait_until_ready(run, client, name)
    joining.require_own(node, addresses)
    if node.kubelet_version != _version(run):
        raise PermanentError(
            Sentence(
                "Node %(node)s runs kubelet %(found)s, wanted %(wanted)s.",
                node=name,
                found=node.kubelet_version,
                wanted=_version(run),
            ),
            code="wrong_version",
        )
    proof = check_node(
        client,
        prefix=_probe_prefix(run, target),
        node=name,
        peer_node=peers.of(name),
        probe=probe,
        should_stop=run.should_stop,
    )
    return {"kubelet": node.kubelet_version, "ready": True, **proof}


def _wait_until_ready(run: StepRun, client: KubernetesClient, name: str) -> NodeInfo:
    run.say(f"Waiting for node {name} to be Ready.")
    deadline = time.monotonic() + NODE_WAIT_SECONDS
    while True:
        run.stop_if_asked()
        node = client.get_node(name)
        if node.is_ready:
            return node
        if time.monotonic() > deadline:
            said = [c.message for c in node.conditions if c.type == "Ready"]
            raise PermanentError(
                Sentence(
                    "Node %(node)s was not Ready within %(limit)s s: %(why)s",
                    node=name,
                    limit=NODE_WAIT_SECONDS,
                    why=said[0] if said else Sentence("no condition"),
                ),
                code="not_ready",
            )
        time.sleep(0.5)


def _probe_prefix(run: StepRun, target: OperationMachine) -> str:
    return f"{run.unit_prefix}-probe-{target.pk}"


def remove_probes(run: StepRun) -> None:
    """Delete the test pods that a canceled or lost postCheck may have left."""
    with client_for(run.cluster, timeout=10) as client:
        for target in run.targets:
            for name in pod_names(_probe_prefix(run, target)).values():
                client.delete_pod(run.params.probe_namespace, name, grace_seconds=0)


def _probe(run: StepRun, client: KubernetesClient) -> Probe:
    overrides = hosts.require_settings(run.cluster).overrides
    domain = client.kubelet_config().cluster_domain or "cluster.local"
    return Probe(
        namespace=run.params.probe_namespace,
        image=str(overrides.get("probe_image", IMAGE)),
        dns_name=f"kubernetes.default.svc.{domain}",
        wait_seconds=60,
    )


# --- uncordon --------------------------------------------------------------------------------


def uncordon(run: StepRun) -> None:
    joining.to_joining(run)
    addresses = joining.own_addresses(run)
    with client_for(run.cluster, timeout=15) as client:
        for target in list(run.targets):
            run.stop_if_asked()
            if target.machine is not None and (why := host_keys.blocked_reason(target.machine)):
                run.fail(target, why)
                continue
            try:
                node = client.get_node(joining.node_name(target))
                joining.require_own(node, addresses[target.pk])
                client.set_unschedulable(node.name, False)
            except ExternalError as error:
                run.fail(target, error.message)


def confirm_uncordon(run: StepRun, _result: None) -> None:
    with client_for(run.cluster, timeout=15) as client:
        joining.confirm_open(run, client, joining.node_name)


UNCORDON = StepKind(
    name="uncordon",
    title=_("Open for pods"),
    act=uncordon,
    confirm=confirm_uncordon,
    timeout_seconds=300,
    seconds_per_round=60,
)


# --- the machines' lives ---------------------------------------------------------------------


def reserve(operation: Operation, machine: Machine) -> lifecycle.Move:
    reason = Sentence("for %(operation)s", operation=operation.name)
    return lifecycle.Move(machine, Machine.State.RESERVED, reason=reason)


def release(member: OperationMachine, reached: str | None) -> lifecycle.Move | None:
    """What the machine is after the operation: in service, as delivered, or faulty half way."""
    machine, operation = member.machine, member.operation
    if machine is None:
        return None
    if member.state == OperationMachine.State.SUCCEEDED:
        # One that was asked for without the last step leaves the node cordoned.
        is_open = reached not in ("scaleUp", "postCheck")
        state = Machine.State.IN_SERVICE if is_open else Machine.State.CORDONED
        return lifecycle.Move(
            machine, state,
            reason=Sentence("%(operation)s succeeded", operation=operation.name),
            node=joining.node_name(member),
        )  # fmt: skip
    if reached in (None, "preCheck"):
        return lifecycle.Move(
            machine, Machine.State.AVAILABLE,
            reason=Sentence("%(operation)s did not touch it", operation=operation.name),
            fields={"cluster": None},
        )  # fmt: skip
    return lifecycle.Move(
        machine, Machine.State.FAULTY,
        reason=Sentence(
            "%(operation)s got as far as %(step)s: %(message)s",
            operation=operation.name, step=reached, message=member.message,
        ),
    )  # fmt: skip


SCALE_UP = register(
    Kind(
        name="ScaleUp",
        title=_("Scale up"),
        description=_("Bring machines into the cluster as nodes."),
        icon="add_circle",
        params=ScaleUpParams,
        takes_roles=True,
        startable_states=frozenset({Machine.State.AVAILABLE}),
        fresh_states=frozenset({Machine.State.AVAILABLE}),
        looks=frozenset({"preCheck"}),
        blockers=blockers,
        reserve=reserve,
        release=release,
        steps=(
            StepKind(
                name="preCheck",
                title=_("Check the machines"),
                act=pre_check,
                confirm=confirm_pre_check,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            StepKind(
                name="scaleUp",
                title=_("Install and join"),
                act=scale_up,
                confirm=confirm_scale_up,
                timeout_seconds=1800,
                seconds_per_round=900,
                touches=True,
                cleanup=stop_joining,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove the nodes"),
                act=post_check,
                confirm=confirm_post_check,
                timeout_seconds=900,
                seconds_per_round=300,
                cleanup=remove_probes,
            ),
            UNCORDON,
        ),
    )
)
