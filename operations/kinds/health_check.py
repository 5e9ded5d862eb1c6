"""HealthCheck: how well nodes are, from their hosts, from the cluster, and between each other.

Side by side: one module of ours on each host (services and their errors, resources, certificates,
the way to the others), the API server's own view (conditions, versions, DaemonSets), and test pods
on all nodes (started, reached by and reaching others, Service, DNS, gone again).  It is one step,
so that a machine with a bad disk still has its network tested.

Nothing that is wrong with a machine blocks: that is what is to be found out.  Nothing lasting is
changed, so it runs beside everything else, and several at once do not disturb each other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base.errors import BeidouError, ExternalError
from beidou.base.models import User
from beidou.base.sentences import Sentence
from clusters.drivers import errors as kube_errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.objects import NodeInfo, PodInfo
from clusters.models import Cluster, Node
from clusters.services import capabilities
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import hosts, joining, playbook, reaching
from operations.kinds.base import (
    Blocker,
    Check,
    Kind,
    Remark,
    StepKind,
    StepRun,
    Stopped,
    check,
    mistake,
    register,
)
from operations.kinds.checks import fail
from operations.kinds.health import changes, last, node_checks, pairs, pods
from operations.kinds.namespaces import Namespace
from operations.kinds.playbook import PlaybookResults
from operations.kinds.probe import IMAGE, Probe
from operations.models import MachineStep, Operation, OperationMachine

logger = structlog.get_logger(__name__)

State = Machine.State
STATES = frozenset(
    {State.IN_SERVICE, State.CORDONED, State.DRAINING, State.MAINTENANCE, State.FAULTY}
)
LEAST_NODES = 3
"""With fewer chosen, others of the cluster help: two alone cannot tell whose fault it is."""
KUBELET_PORT = 10250
CALLS_AT_ONCE = 8
POD_WAIT_SECONDS = 60
EVERY_REGISTRY = "_default"
"""As containerd calls the mirror of all registries."""


class HealthCheckParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    test_pods: bool = True
    pull_image: str = Field(default="", max_length=500, pattern=r"^\S*$")
    log_minutes: int = Field(default=30, ge=1, le=1440)
    probe_namespace: Namespace = "kube-system"


# --- planning --------------------------------------------------------------------------------


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: HealthCheckParams
) -> list[Blocker]:
    found = []
    for row in cluster.capabilities:
        if params.test_pods and row.get("key") == "health_check" and not row.get("ok"):
            reason = gettext(
                "our credential does not suffice for test pods: %(why)s Correct that, or leave "
                "them out (test_pods)"
            ) % {"why": capabilities.why(row)}
            found.append(Blocker(None, reason))
    for machine in machines:
        if machine.cluster_id != cluster.pk:
            found.append(Blocker(machine, gettext("it is not in this cluster")))
    return found


def remarks(cluster: Cluster, machines: Sequence[Machine], _user: User) -> list[Remark]:
    """Of a whole cluster: nodes without a machine cannot be looked at."""
    names = left_out(cluster, machines)
    if not names:
        return []
    text = gettext("%(count)s nodes are registered as no machine and cannot be checked: %(names)s")
    return [Remark(None, text % {"count": len(names), "names": node_checks.named(names)})]


def left_out(cluster: Cluster, machines: Sequence[Machine]) -> list[str]:
    """The nodes without a machine, when ``machines`` are all that could be checked."""
    others = Machine.objects.filter(cluster=cluster, state__in=STATES)
    if others.exclude(pk__in=[machine.pk for machine in machines]).exists():
        return []
    rows = Node.objects.filter(cluster=cluster, machine=None).order_by("name")
    return list(rows.values_list("name", flat=True))


# --- looking ---------------------------------------------------------------------------------


@dataclass
class Seen:
    """What the API server told; ``trouble`` when it did not.  ``pods``: by node, of the targets."""

    nodes: dict[str, NodeInfo] = field(default_factory=dict)
    pods: dict[str, list[PodInfo]] = field(default_factory=dict)
    version: str = ""
    endpoint: str = ""
    dns_name: str = ""
    has_kube_proxy: bool = False
    trouble: str = ""


@dataclass
class Found:
    """Everything that was found out, to be judged; keys are those of OperationMachine or names of
    nodes."""

    names: dict[int, str]
    seen: Seen
    hosts: PlaybookResults
    answers: dict[str, pods.Answer] = field(default_factory=dict)
    pods_trouble: str = ""
    pull_image: str = ""
    wrong: dict[int, Check] = field(default_factory=dict)
    refused: dict[int, Check] = field(default_factory=dict)


def look(run: StepRun) -> Found:
    targets = list(run.targets)
    names = _node_names(targets)
    seen = _ask_cluster(run, list(names.values()))
    found = Found(names, seen, PlaybookResults(), pull_image=_pull_image(run))
    found.wrong = _wrong_nodes(targets, names, seen)
    for target in targets:
        run.note(target, Sentence("looking at host, node and network"))
    ours = [names[target.pk] for target in targets if target.pk not in found.wrong]
    around = pairs.peers_of([*_ready(seen, ours), *_helpers(seen, ours)])
    with ThreadPoolExecutor(max_workers=1) as pool, ExitStack() as stack:
        testing: Future[dict[str, pods.Answer]] | None = None
        if run.params.test_pods and not seen.trouble and around:
            client = stack.enter_context(client_for(run.cluster, timeout=15))
            testing = pool.submit(_pod_round(run, client, found).run, around)
            run.say(Sentence("Testing pods and network on %(count)s nodes.", count=len(around)))
        found.hosts = _ask_hosts(run, targets, found, around)
        if testing is not None:
            found.answers, found.pods_trouble = _answers_of(testing)
    return found


def _answers_of(testing: "Future[dict[str, pods.Answer]]") -> tuple[dict[str, pods.Answer], str]:
    try:
        return testing.result(), ""
    except ExternalError as error:
        return {}, error.message
    except Stopped:
        raise
    except Exception as error:
        logger.exception("test_pods_errored")
        return {}, mistake(error)


def _node_names(targets: Sequence[OperationMachine]) -> dict[int, str]:
    """The linked nodes, else the names that kubelets would choose; one query for all."""
    keys = {t.pk: t.machine.node_id for t in targets if t.machine is not None}
    linked = Node.objects.in_bulk([key for key in keys.values() if key])
    names = {}
    for target in targets:
        node = linked.get(keys.get(target.pk) or 0)
        names[target.pk] = node.name if node else joining.node_name(target)
    return names


def _ask_cluster(run: StepRun, names: Sequence[str]) -> Seen:
    """One list of nodes, and for each target its pods; what else may not be read has a default."""
    seen = Seen(endpoint=hosts.api_endpoint(run.cluster.server), dns_name="kubernetes.default.svc")
    try:
        with client_for(run.cluster, timeout=15) as client:
            seen.version = client.version().git_version
            seen.nodes = {node.name: node for node in client.list_nodes()}
            there = [name for name in names if name in seen.nodes]
            with ThreadPoolExecutor(max_workers=CALLS_AT_ONCE) as pool:
                lists = pool.map(lambda name: list(client.iter_pods(node_name=name)), there)
                seen.pods = dict(zip(there, lists, strict=True))
            seen.has_kube_proxy = _has_kube_proxy(client)
            seen.dns_name = f"kubernetes.default.svc.{_domain(client)}"
    except BeidouError as error:
        seen.trouble = error.message
        run.say(error.message, level="error")
    run.stop_if_asked()
    return seen


def _has_kube_proxy(client: KubernetesClient) -> bool:
    try:
        return client.has_daemon_set("kube-system", "kube-proxy")
    except kube_errors.Forbidden:
        return False


def _domain(client: KubernetesClient) -> str:
    try:
        return client.kubelet_config().cluster_domain or "cluster.local"
    except (kube_errors.NotFound, kube_errors.Forbidden):
        return "cluster.local"


def _wrong_nodes(
    targets: Sequence[OperationMachine], names: Mapping[int, str], seen: Seen
) -> dict[int, Check]:
    """Machines whose node is missing, or is another machine's."""
    wrong = {}
    for target in targets:
        node = seen.nodes.get(names[target.pk])
        if seen.trouble:
            wrong[target.pk] = node_checks.no_api(seen.trouble)
        elif node is None:
            wrong[target.pk] = node_checks.no_node(names[target.pk])
        else:
            own = joining.reported(node)
            is_linked = target.machine is not None and target.machine.node_id is not None
            if target.address not in own and not is_linked:
                wrong[target.pk] = node_checks.foreign_node(node.name, own)
    return wrong


def _ready(seen: Seen, names: Sequence[str]) -> list[str]:
    return [name for name in names if name in seen.nodes and seen.nodes[name].is_ready]


def _helpers(seen: Seen, ours: Sequence[str]) -> list[str]:
    """Other Ready nodes, so many that there are enough: open ones and workers first."""
    missing = LEAST_NODES - len(_ready(seen, ours))
    others = [node for name, node in seen.nodes.items() if node.is_ready and name not in ours]
    others.sort(key=lambda node: (node.unschedulable, "control-plane" in node.roles, node.name))
    return [node.name for node in others[: max(0, missing)]]


def _ask_hosts(
    run: StepRun,
    targets: Sequence[OperationMachine],
    found: Found,
    around: Mapping[str, Sequence[str]],
) -> PlaybookResults:
    settings, seen = hosts.settings_of(run.cluster.pk), found.seen
    members = []
    for target in targets:
        try:
            hosts.ansible_host(target, settings, {})
            members.append(target)
        except BeidouError as error:
            found.refused[target.pk] = reaching.refusal(error)
    if not members:
        return PlaybookResults()
    return playbook.run_playbook(
        run,
        "health_check",
        variables={
            "node_processes": ["kube-proxy"] if seen.has_kube_proxy else [],
            "log_minutes": run.params.log_minutes,
            "api_server_endpoint": seen.endpoint,
        },
        per_machine={target.pk: _about(found.names[target.pk], seen, around) for target in members},
        members=members,
    )


def _about(name: str, seen: Seen, around: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the module must know of one machine; a node that is not Ready still reaches others."""
    node = seen.nodes.get(name)
    peers = around.get(name) or [other for other in around if other != name][: pairs.PEERS]
    places = {peer: seen.nodes[peer].address() for peer in peers}
    return {
        "runtime": node.container_runtime_version if node else "",
        "neighbours": {
            peer: f"[{address}]:{KUBELET_PORT}" if ":" in address else f"{address}:{KUBELET_PORT}"
            for peer, address in places.items()
            if address
        },
    }


def _pod_round(run: StepRun, client: KubernetesClient, found: Found) -> pods.PodRound:
    """Runs in a thread of its own: talks to the cluster, and to nothing else."""
    probe = Probe(
        namespace=run.params.probe_namespace,
        image=_probe_image(_overrides(run)),
        dns_name=found.seen.dns_name,
        wait_seconds=POD_WAIT_SECONDS,
    )
    return pods.PodRound(
        client,
        probe,
        prefix=run.unit_prefix,
        attempt=run.number,
        pull_image=found.pull_image,
        stop_if_asked=run.stop_if_asked,
    )


def _overrides(run: StepRun) -> Mapping[str, Any]:
    settings = hosts.settings_of(run.cluster.pk)
    return settings.overrides if settings else {}


def _probe_image(overrides: Mapping[str, Any]) -> str:
    return str(overrides.get("probe_image", IMAGE))


def _pull_image(run: StepRun) -> str:
    """The one that was named; else the test image, where the cluster's settings say from which
    mirror nodes pull it.  Without one it may be on the nodes and in no registry: empty."""
    if run.params.pull_image:
        return str(run.params.pull_image)
    overrides = _overrides(run)
    image = _probe_image(overrides)
    mirrors = overrides.get("containerd_registry_mirrors", {})
    return image if {EVERY_REGISTRY, registry_of(image)} & set(mirrors) else ""


def registry_of(image: str) -> str:
    first, slash, _rest = image.partition("/")
    is_host = bool(slash) and (first == "localhost" or "." in first or ":" in first)
    return first if is_host else "docker.io"


def remove_pods(run: StepRun) -> None:
    """Delete the test pods that a canceled or lost attempt may have left."""
    with client_for(run.cluster, timeout=10) as client:
        pods.remove(client, run.params.probe_namespace, {pods.STEP_LABEL: run.unit_prefix})


# --- judging ---------------------------------------------------------------------------------


def judge(run: StepRun, found: Found) -> None:
    """Put each machine's checks together, compare them with the last time, and settle it."""
    targets = list(run.targets)
    machines = [target.machine for target in targets if target.machine is not None]
    earlier = last.before(
        [machine.pk for machine in machines], operation=run.operation.pk, cluster=run.cluster.pk
    )
    network = _Network(targets, found)
    now = timezone.now()
    _say_who_is_left_out(run, machines)
    for target in targets:
        run.stop_if_asked()
        before = earlier.get(target.machine.pk) if target.machine is not None else None
        checks = changes.compared(_checks_of(run, target, found, network), before, now=now)
        _settle(run, target, checks, network.evidence(target, found))


def _say_who_is_left_out(run: StepRun, machines: Sequence[Machine]) -> None:
    if names := left_out(run.cluster, machines):
        sentence = Sentence(
            "%(count)s nodes are registered as no machine and were not checked: %(names)s",
            count=len(names),
            names=node_checks.named(names),
        )
        run.say(sentence, level="warning")


def found_by(operation: Operation) -> str:
    """How many errors and warnings: machines with warnings alone have succeeded."""
    cells = MachineStep.objects.filter(step__operation=operation).values_list("checks", flat=True)
    levels = Counter(changes.level(each) for checks in cells for each in checks)
    if not levels["error"] and not levels["warning"]:
        return ""
    return Sentence(
        "Errors: %(errors)s, warnings: %(warnings)s.",
        errors=levels["error"],
        warnings=levels["warning"],
    )


def _settle(
    run: StepRun, target: OperationMachine, checks: list[Check], evidence: Mapping[str, Any]
) -> None:
    bad = [each for each in checks if changes.level(each) == "error"]
    warnings = sum(changes.level(each) == "warning" for each in checks)
    if bad:
        fail(run, target, bad, checks=checks, evidence=evidence)
        return
    tried = sum(not each.get(changes.NOT_TRIED) for each in checks)
    message = Sentence("%(checks)s checks, %(warnings)s warnings", checks=tried, warnings=warnings)
    run.succeed(target, message=message, checks=checks, evidence=evidence)


class _Network:
    """The matrices between nodes and between pods, and who is to blame for what fails in them."""

    def __init__(self, targets: Sequence[OperationMachine], found: Found) -> None:
        self.pods = {
            name: answer.reached for name, answer in found.answers.items() if answer.address
        }
        self.nodes: dict[str, dict[str, bool]] = {}
        self.why: dict[str, dict[str, str]] = {}
        for target in targets:
            row = found.hosts.find(target, "neighbours")
            if isinstance(row, Mapping):
                name = found.names[target.pk]
                self.why[name] = {peer: why for peer, why in row.items() if isinstance(why, str)}
                self.nodes[name] = {peer: not why for peer, why in row.items()}
        self.guilty_pods = pairs.to_blame(pairs.failed(self.pods))
        self.guilty_nodes = pairs.to_blame(pairs.failed(self.nodes))

    def checks_of(self, name: str) -> list[Check]:
        found = []
        if name in self.nodes or any(name in row for row in self.nodes.values()):
            found.append(
                node_checks.of_network(
                    "node-network", name, self.nodes, self.guilty_nodes, self.why.get(name, {})
                )
            )
        if name in self.pods:
            found.append(
                node_checks.of_network("pod-network", name, self.pods, self.guilty_pods, {})
            )
        return found

    def evidence(self, target: OperationMachine, found: Found) -> dict[str, Any]:
        name = found.names[target.pk]
        evidence: dict[str, Any] = {"node": name}
        if name in self.nodes:
            evidence["nodes_reached"] = self.nodes[name]
        if name in self.pods:
            evidence["pods_reached"] = dict(self.pods[name])
        if (answer := found.answers.get(name)) and answer.address:
            evidence |= {"pod_address": answer.address, "pod_seconds": answer.seconds}
        if samples := found.hosts.find(target, "log_samples"):
            evidence["log_samples"] = samples
        return evidence


def _checks_of(
    run: StepRun, target: OperationMachine, found: Found, network: _Network
) -> list[Check]:
    checks = _of_host(target, found)
    name = found.names[target.pk]
    if wrong := found.wrong.get(target.pk):
        return [*checks, wrong, *network.checks_of(name)]
    seen = found.seen
    checks += node_checks.of_node(seen.nodes[name], seen.pods.get(name, ()), seen.version)
    if run.params.test_pods:
        checks += _of_pods(run, name, found)
    return [*checks, *network.checks_of(name)]


def _of_host(target: OperationMachine, found: Found) -> list[Check]:
    if refused := found.refused.get(target.pk):
        return [refused]
    checks = [dict(each) for each in found.hosts.checks(target)]
    if checks:
        return checks
    why = found.hosts.failed.get(target.pk) or Sentence("The checks gave no result.")
    return [
        check("host", False, why, Sentence("a host that answers"),
              Sentence("see the output of this operation"))
    ]  # fmt: skip


def _of_pods(run: StepRun, name: str, found: Found) -> list[Check]:
    if found.pods_trouble:
        return [node_checks.not_tested(found.pods_trouble)]
    answer = found.answers.get(name)
    if answer is None:
        return [node_checks.not_tested(Sentence("not tried: the node is not Ready"))]
    return node_checks.of_answer(
        answer,
        dns_name=found.seen.dns_name,
        image=found.pull_image,
        is_image_named=bool(run.params.pull_image),
    )


HEALTH_CHECK = register(
    Kind(
        name=last.KIND,
        title=_("Check health"),
        description=_("Look at hosts, nodes and the network between them; changes nothing."),
        icon="monitor_heart",
        params=HealthCheckParams,
        mutating=False,
        whole_cluster=True,
        compares=True,
        found=found_by,
        startable_states=STATES,
        blockers=blockers,
        remarks=remarks,
        steps=(
            StepKind(
                name="healthCheck",
                title=_("Look at hosts, nodes and network"),
                act=look,
                confirm=judge,
                timeout_seconds=420,
                seconds_per_round=60,
                cleanup=remove_pods,
            ),
        ),
    )
)
