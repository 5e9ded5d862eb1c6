"""CleanUp: bring a machine back to how it was delivered.

For machines on which an operation failed half way, and for free ones on which preCheck found
leftovers.

The host is reset by the role ``reset_node``, its Node object is deleted when it is the machine's
own, and the same checks as in preCheck must find nothing left.  The machine is Available again.  A
node that works is left alone (``at_work``).
"""

from collections.abc import Mapping, Set
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict

from beidou.base.errors import BeidouError, ExternalError
from beidou.base.sentences import Sentence
from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Cluster, Node
from clusters.services.connections import client_for
from machines.models import Machine
from operations.kinds import at_work, hosts, joining, lifecycle, playbook, sight
from operations.kinds.base import Blocker, Kind, StepKind, StepRun, get, register
from operations.kinds.checks import describe
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.playbook import PlaybookResults
from operations.models import MachineStep, Operation, OperationMachine


class CleanUpParams(BaseModel):
    model_config = ConfigDict(extra="forbid")


def blockers(cluster: Any, machines: Any, params: CleanUpParams) -> list[Blocker]:
    settings = hosts.settings_of(cluster.pk)
    found = []
    nodes = Node.objects.in_bulk([machine.node_id for machine in machines if machine.node_id])
    for machine in machines:
        if machine.cluster_id not in (None, cluster.pk):
            found.append(
                Blocker(
                    machine, gettext("it belongs to cluster %(name)s") % {"name": machine.cluster}
                )
            )
        node = nodes.get(machine.node_id or 0)
        if cluster.is_watched and node is not None and _is_control_plane(machine, node):
            reason = gettext("it is a control plane; RemoveControlPlane takes such out")
            found.append(Blocker(machine, reason))
        for reason in hosts.why_unreachable(machine, settings):
            found.append(Blocker(machine, reason))
    return found


def _is_control_plane(machine: Machine, node: Node) -> bool:
    is_one = any(role in CONTROL_PLANE for role in node.roles)
    return is_one and not lifecycle.was_given_up(machine)


def reset_variables(run: StepRun, client: KubernetesClient) -> dict[str, Any]:
    """What the role ``reset_node`` must know of the cluster; the site's overrides win."""
    settings = hosts.settings_of(run.cluster.pk)
    networks = client.kubeadm_config().pod_subnet
    return {
        "ca_cert_hashes": list(client.cluster_info().ca_cert_hashes),
        "pod_networks": [net for net in networks.split(",") if net],
        **(settings.overrides if settings else {}),
    }


def clean_up(run: StepRun) -> PlaybookResults:
    if not run.cluster.is_watched:
        return _clean_up_without_api(run)
    with client_for(run.cluster, timeout=15) as client:
        variables = reset_variables(run, client)
        at_work.leave_those_at_work(run, client)
        per_machine = {
            # One that was given up has left etcd already, and may be reset like any other.
            target.pk: {
                "node_name": joining.linked_node_name(target),
                "is_control_plane": target.machine is not None
                and lifecycle.was_given_up(target.machine),
            }
            for target in run.targets
        }
        results = _reset(run, variables, per_machine)
        # The host first: a kubelet that still ran would register its node again, and a host that
        # refuses keeps its node.
        addresses = joining.own_addresses(run)
        for target in list(run.targets):
            run.stop_if_asked()
            if target.pk not in results.failed:
                try:
                    _delete_own_node(run, client, target, addresses[target.pk])
                except ExternalError as error:
                    run.fail(target, error.message)
    return results


def _reset(
    run: StepRun, variables: Mapping[str, Any], per_machine: Mapping[int, Mapping[str, Any]]
) -> PlaybookResults:
    return playbook.run_playbook(run, "clean_up", variables=variables, per_machine=per_machine)


def _clean_up_without_api(run: StepRun) -> PlaybookResults:
    """Of a cluster that is being created, whose API may have never been there, or that goes or was
    deleted.  Control planes are reset too, where they are known to be its own."""
    results = _reset(run, variables_without_api(run), own_without_api(run))
    try:
        addresses = joining.own_addresses(run)
        with client_for(run.cluster, timeout=5) as client:
            for target in run.targets:
                if target.pk not in results.failed:
                    _delete_own_node(run, client, target, addresses[target.pk])
    except BeidouError as error:
        run.say(
            Sentence("Node objects are left as they are: %(why)s", why=error.message),
            level="warning",
        )
    return results


def variables_without_api(run: StepRun) -> dict[str, Any]:
    settings = hosts.settings_of(run.cluster.pk)
    return {
        "ca_cert_hashes": _kept_pins(run),
        "pod_networks": [net for net in run.cluster.pod_cidr.split(",") if net],
        **(settings.overrides if settings else {}),
    }


def own_without_api(run: StepRun) -> dict[int, dict[str, Any]]:
    """A deletion has kept the pins of the cluster's authority.  A creation has none yet; but it
    has proven its machines free of any cluster before it began with them, so what is on those is
    its own.  Any other machine must belong to no cluster."""
    begun = _begun_machines(run) if run.cluster.is_unmade else None
    own = {}
    for target in run.targets:
        is_begun = begun is not None and target.machine is not None and target.machine.pk in begun
        own[target.pk] = {
            "node_name": joining.linked_node_name(target),
            "is_control_plane": begun is None or is_begun,
            "any_cluster": is_begun,
        }
    return own


def _begun_machines(run: StepRun) -> set[int]:
    """Those of the cluster that CreateCluster has proven free and then changed."""
    touching = [step.name for step in get("CreateCluster").steps if step.touches]
    cells = MachineStep.objects.filter(
        step__operation__cluster=run.cluster,
        step__operation__kind="CreateCluster",
        machine__machine__cluster=run.cluster,
    )
    proven = cells.filter(step__name="preCheck", status=MachineStep.Status.SUCCEEDED)
    begun = cells.filter(
        step__name__in=touching, started_at__isnull=False, machine__in=proven.values("machine")
    )
    return set(begun.values_list("machine__machine", flat=True))


def _kept_pins(run: StepRun) -> list[str]:
    cells = MachineStep.objects.filter(
        step__operation__cluster=run.cluster,
        step__operation__kind="DeleteCluster",
        step__name="preCheck",
    )
    return sorted({pin for cell in cells for pin in cell.evidence.get("ca_cert_hashes", ())})


def _delete_own_node(
    run: StepRun, client: KubernetesClient, target: OperationMachine, addresses: Set[str]
) -> None:
    node = at_work.own_node(client, target, addresses)
    if node is not None:
        client.delete_node(node.name)
        run.say(f"Node {node.name} was deleted.", target=target)


def confirm_clean_up(run: StepRun, results: PlaybookResults) -> None:
    for target in list(run.targets):
        checks = results.checks(target)
        bad = [check for check in checks if not check["ok"] and check.get("severity") != "warning"]
        if target.pk in results.failed:
            run.fail(target, results.failed[target.pk], checks=checks)
        elif bad or not checks:
            run.fail(
                target,
                describe(bad[0]) if bad else Sentence("The checks gave no result."),
                checks=checks,
            )
        else:
            run.succeed(target, message=Sentence("as delivered"), checks=checks)


def release(member: OperationMachine, reached: str | None) -> lifecycle.Move | None:
    if member.machine is None or member.state != OperationMachine.State.SUCCEEDED:
        return None
    lifecycle.forget_residue(member)
    return lifecycle.Move(
        member.machine,
        Machine.State.AVAILABLE,
        reason=Sentence("%(operation)s cleaned it", operation=member.operation.name),
        fields={"cluster": None, "node": None},
    )


def reserve(operation: Operation, machine: Machine) -> None:
    """The machine stays what it is until it is proven clean."""


CLEAN_UP = register(
    Kind(
        name="CleanUp",
        title=_("Clean up"),
        description=_("Bring machines that failed half way back to how they were delivered."),
        icon="mop",
        params=CleanUpParams,
        startable_states=frozenset({Machine.State.FAULTY, Machine.State.AVAILABLE}),
        phases=frozenset({Cluster.Phase.RUNNING, *Cluster.UNWATCHED}),
        blockers=blockers,
        remarks=sight.lost_outside,
        reserve=reserve,
        release=release,
        steps=(
            StepKind(
                name="cleanUp",
                title=_("Reset the machines"),
                act=clean_up,
                confirm=confirm_clean_up,
                timeout_seconds=600,
                seconds_per_round=300,
                touches=True,
                cleanup=playbook.stop_units,
            ),
        ),
    )
)
