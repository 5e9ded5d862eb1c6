"""preCheck: what would be lost, who is not reached, and whether somebody else has approved it.

It fails until it is approved: who approves has seen what is in these checks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers import certificates
from clusters.drivers import errors as kube_errors
from clusters.drivers.connection import Connection
from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Node
from clusters.services.connections import client_for, connection_for
from operations.kinds import joining
from operations.kinds.base import Check, StepRun, asking, check
from operations.kinds.delete_cluster.planning import names_of
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.scale_down.settling import settle, why_not_reached
from operations.models import MachineStep, Operation, OperationMachine

_APPROVER = Sentence("somebody else than who asked, with the right to approve")
COUNTED = ("namespaces", "deployments", "statefulsets", "daemonsets", "jobs", "services")


@dataclass
class Found:
    """``reset`` is what the hosts must know once the API is gone."""

    reasons: dict[int, str]
    nodes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → roles."""
    losses: dict[str, int] = field(default_factory=dict)
    trouble: str = ""
    """Why the cluster did not say what would be lost."""
    reset: dict[str, list[str]] = field(default_factory=dict)


def pre_check(run: StepRun) -> Found:
    found = Found(why_not_reached(run))
    found.reset = {
        "ca_cert_hashes": pins(connection_for(run.cluster)),
        "pod_networks": [net for net in run.cluster.pod_cidr.split(",") if net],
    }
    known = Node.objects.filter(cluster=run.cluster).values_list("name", "roles")
    found.nodes = {name: tuple(roles) for name, roles in known}
    try:
        with client_for(run.cluster, timeout=15) as client:
            _ask(client, found)
    except ExternalError as error:
        run.stop_if_asked()
        found.trouble = error.message
    return found


def pins(connection: Connection) -> list[str]:
    """Of the authority by which the portal knows the cluster: so no host of another one is reset,
    also when the API does not answer any more."""
    if not connection.ca_pem:
        return []
    loaded = certificates.load_certificates(connection.ca_pem)
    return [certificates.public_key_hash(each) for each in loaded]


def _ask(client: KubernetesClient, found: Found) -> None:
    found.reset["ca_cert_hashes"] = sorted(
        {*found.reset["ca_cert_hashes"], *client.cluster_info().ca_cert_hashes}
    )
    networks = [net for net in client.kubeadm_config().pod_subnet.split(",") if net]
    found.reset["pod_networks"] = networks or found.reset["pod_networks"]
    found.nodes = {node.name: tuple(node.roles) for node in client.list_nodes()}
    counted = client.workload_counts().counts
    found.losses = {name: counted[name] for name in COUNTED if name in counted}
    found.losses["pods"] = sum(1 for _ in client.iter_pods())
    try:
        found.losses["persistentvolumes"] = len(client.workloads.volumes())
    except kube_errors.Forbidden as error:
        found.trouble = error.message


def confirm(run: StepRun, found: Found) -> None:
    pins_known = authority_check(found.reset.get("ca_cert_hashes", []))
    whole = [losses_check(found), pins_known, _strangers_check(run, found), approval_check(run)]
    for target in list(run.targets):
        run.stop_if_asked()
        reason = found.reasons.get(target.pk, "")
        checks = [host_check(run, target, reason), *whole]
        evidence = {
            "node": joining.linked_node_name(target),
            "is_control_plane": is_control_plane(target, found.nodes),
            "losses": found.losses,
            "approved_by": approver(run.operation) if run.params.approved else "",
            "given_up": sorted(run.params.given_up),
            **found.reset,
        }
        settle(run, target, checks, evidence, Sentence("will be reset"))


def is_control_plane(target: OperationMachine, nodes: dict[str, tuple[str, ...]]) -> bool:
    roles = nodes.get(joining.linked_node_name(target), ())
    return any(role in CONTROL_PLANE for role in roles)


def losses_check(found: Found) -> Check:
    """Always a warning: it is for the eyes of who approves."""
    counts = [f"{count} {name}" for name, count in found.losses.items()]
    told = Sentence("%(nodes)s nodes", nodes=len(found.nodes))
    if counts:
        told = Sentence(
            "%(nodes)s nodes, %(counts)s", nodes=len(found.nodes), counts=", ".join(counts)
        )
    if found.trouble:
        told = Sentence("%(told)s; not all is known: %(why)s", told=told, why=found.trouble)
    return check(
        "losses", False, told, Sentence("nothing there that is needed"),
        Sentence("save what is needed, then go on: all of it will be gone"), "warning",
    )  # fmt: skip


def authority_check(known: Sequence[str]) -> Check:
    """Without it a host of another cluster would be reset like one of this."""
    return check(
        "authority",
        bool(known),
        Sentence("known") if known else Sentence("not known"),
        Sentence("the cluster's authority, by which its hosts are told from those of others"),
        Sentence("replace the credential by one with the CA certificate, then retry"),
    )


def _strangers_check(run: StepRun, found: Found) -> Check:
    """Nodes that are no machines of this operation are not reset, and say so by their names."""
    members = run.operation.machines.filter(machine__isnull=False)
    known = {joining.linked_node_name(each) for each in members} | _reset_before(run)
    return strangers_check([name for name in found.nodes if name not in known], run.params.given_up)


def _reset_before(run: StepRun) -> set[str]:
    """Of earlier operations like this one that did not come to their end: nobody deletes the Node
    of a host that is reset, and its machine is free."""
    cells = MachineStep.objects.filter(
        step__operation__cluster=run.cluster,
        step__operation__kind=run.operation.kind,
        step__name="reset",
        status=MachineStep.Status.SUCCEEDED,
    ).exclude(step__operation=run.operation)
    return {
        str(cell.evidence.get("node", "")) for cell in cells if not cell.evidence.get("unreached")
    }


def strangers_check(strangers: Sequence[str], given_up: frozenset[str]) -> Check:
    wanted = Sentence("every node is a machine here, so that it can be reset")
    if not strangers:
        return check("nodes", True, Sentence("all of them"), wanted)
    open_ones = sorted(name for name in strangers if name.lower() not in given_up)
    told = Sentence("no machine here: %(names)s", names=listed(open_ones or sorted(strangers)))
    if not open_ones:
        advice = Sentence("goes on, because they are named in give_up: nothing is reset there")
        return check("nodes", False, told, wanted, advice, "warning")
    advice = Sentence(
        "register them as machines; or retry and name them in give_up: nothing is reset there"
    )
    return asking(check("nodes", False, told, wanted, advice), "give_up")


def host_check(run: StepRun, target: OperationMachine, reason: str) -> Check:
    is_given_up = is_named(target, run.params.given_up)
    return check(
        "host",
        not reason,
        reason or Sentence("reached over SSH"),
        Sentence("reached over SSH, so that it can be reset"),
        Sentence("goes on, because it is named in give_up: the host is not reset")
        if is_given_up
        else Sentence("mend the connection; or, if the host is lost, retry and name it in give_up"),
        "warning" if is_given_up else "error",
    )


def is_named(target: OperationMachine, given_up: frozenset[str]) -> bool:
    names = {target.address.lower(), target.hostname.lower()} - {""}
    if target.machine is not None:
        names |= names_of(target.machine)
    return bool(names & given_up)


def approval_check(run: StepRun) -> Check:
    if run.params.approved:
        told = Sentence("approved by %(who)s", who=approver(run.operation))
        return check("approval", True, told, _APPROVER)
    return lacks_approval(Sentence("nobody has approved it yet"))


def lacks_approval(told: str) -> Check:
    advice = Sentence("look at what would be lost, then retry with approved")
    return asking(check("approval", False, told, _APPROVER, advice), "approved")


def approver(operation: Operation) -> str:
    """Whoever had it done again with ``approved``, which ``control.retry`` lets nobody else."""
    asked = operation.status_changes.filter(new=Operation.Status.WAITING).order_by("pk").last()
    return asked.actor if asked else ""
