"""Machines and nodes find each other: registration of what already runs, and the periodic link.

A node and a machine are the same thing when an address is the same or when the system UUID is.  A
kubelet reports the operating system's machine id where the firmware has no UUID, so both count.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_ipv46_address
from django.db import models, transaction
from django.db.models import F, Q
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.sentences import Sentence
from clusters.models import Cluster, Node
from machines.models import Machine, MachineAddress, MachineFacts, SshCredential
from machines.services import belonging, lifecycle, signing

State = Machine.State
CONTROL_PLANE_ROLES: Final = frozenset({"control-plane", "master"})
_ON_THE_WAY: Final = {
    State.DISCOVERED: (State.IN_SERVICE,),
    State.AVAILABLE: (State.RESERVED, State.JOINING, State.IN_SERVICE),
}


def unregistered(cluster: Cluster) -> models.QuerySet[Node]:
    """The nodes of ``cluster`` that no machine is linked to."""
    return cluster.nodes.filter(machine__isnull=True).order_by("name")


@dataclass
class Registration:
    """What came of registering nodes; ``refused`` maps a node's name to a sentence."""

    created: list[Machine] = field(default_factory=list)
    linked: list[Machine] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def register_nodes(
    *,
    cluster: Cluster,
    nodes: Sequence[Node],
    acting_user: Any,
    owner_team: Group | None = None,
    credential: SshCredential | None = None,
) -> Registration:
    """Make a machine of every node that has none, or link the machine that already is known.

    New machines are *In service* (or *Cordoned*).  Needs ``operate`` on the cluster, and on a
    machine that is known already: a node's word for its own address gives no right to that
    machine.  One bad node keeps no other from being registered.
    """
    permissions.require(acting_user, cluster, permissions.OPERATE)
    belonging.check(acting_user, owner_team=owner_team, credential=credential)
    if any(node.cluster_id != cluster.pk for node in nodes):
        raise InvalidInput(_("All nodes must belong to the cluster %(name)s.") % {"name": cluster})
    result = Registration()
    index = _Index(nodes)
    for node in nodes:
        try:
            with audit.entries_last():
                machine, is_new = _register(node, index, owner_team, credential, acting_user)
        except (Conflict, Forbidden, InvalidInput) as refusal:
            result.refused[node.name] = refusal.message
        else:
            (result.created if is_new else result.linked).append(machine)
    return result


def _register(
    node: Node,
    index: "_Index",
    owner_team: Group | None,
    credential: SshCredential | None,
    acting_user: Any,
) -> tuple[Machine, bool]:
    candidates = index.machines_of(node)
    _require_operate(candidates, node, acting_user)
    known = _only(candidates, node)
    if known is not None:
        _require_lending(known, node, acting_user)
        _link_by_hand(known, node)
        return known, False
    address = _address_of(node)
    machine = Machine(
        address=address,
        hostname=node.name,
        system_uuid=node.system_uuid,
        owner_team=owner_team,
        credential=credential,
    )
    if CONTROL_PLANE_ROLES.intersection(node.roles):
        machine.role = "ControlPlane"
    machine._change_reason = Sentence("registered from the inventory")  # type: ignore[attr-defined]
    try:
        # The system UUID is what the cluster reports, which not all firmware has one for.
        machine.full_clean(exclude=["cluster", "node", "system_uuid"])
    except ValidationError as error:
        raise InvalidInput(" ".join(error.messages)) from error
    machine.save()
    audit.record("add", machine, after=audit.snapshot(machine))
    _enter_service(machine, node)
    return machine, True


def _require_operate(machines: Sequence[Machine], node: Node, acting_user: Any) -> None:
    """Raise ``Forbidden``, without naming a machine that the person may not see."""
    for machine in machines:
        if not permissions.may(acting_user, machine, permissions.VIEW):
            raise Forbidden(
                _(
                    "The node %(node)s is a machine that is known already, but that you may not "
                    "see; ask an administrator to register it."
                )
                % {"node": node}
            )
        permissions.require(acting_user, machine, permissions.OPERATE)


def _require_lending(machine: Machine, node: Node, acting_user: Any) -> None:
    """Raise ``Forbidden`` where the link would have the portal send what it uses in the cluster to
    an address that the cluster does not know, and the person may not use that."""
    if machine.cluster_id is not None or str(machine.address) in addresses_of(node):
        return
    used = signing.credential_of(Machine(credential=machine.credential, cluster=node.cluster))
    if used is not None and used.pk != machine.credential_id:
        belonging.require_use(acting_user, used)


def _only(machines: Sequence[Machine], node: Node) -> Machine | None:
    """The one machine that this node is; ``Conflict`` when several could be."""
    if len(machines) > 1:
        raise Conflict(
            _("The node %(node)s could be several machines: %(machines)s.")
            % {"node": node, "machines": ", ".join(str(each) for each in machines)},
            code="ambiguous",
        )
    return machines[0] if machines else None


def _address_of(node: Node) -> str:
    """The node's internal address, or the first that is one."""
    for text in [node.internal_ip, *addresses_of(node)]:
        try:
            validate_ipv46_address(text)
        except ValidationError:
            continue
        return text
    raise InvalidInput(
        _("The node %(node)s reports no IP address.") % {"node": node}, code="no_address"
    )


def _link_by_hand(machine: Machine, node: Node) -> None:
    if machine.state == State.RETIRED:
        raise Conflict(
            _("%(machine)s is retired, but runs as the node %(node)s.")
            % {"machine": machine, "node": node},
            code="wrong_state",
        )
    if machine.node_id is not None and machine.node_id != node.pk:
        raise Conflict(
            _("%(machine)s is linked to the node %(other)s already.")
            % {"machine": machine, "other": machine.node},
            code="linked_already",
        )
    if machine.cluster_id not in (None, node.cluster_id):
        raise Conflict(
            _("%(machine)s belongs to the cluster %(other)s.")
            % {"machine": machine, "other": machine.cluster},
            code="other_cluster",
        )
    if machine.state in _ON_THE_WAY:
        _enter_service(machine, node)
    else:
        link(machine, node)


def _enter_service(machine: Machine, node: Node) -> None:
    """Walk the table's way to *In service*: each step is a row, as for an operation."""
    reason = Sentence(
        "registered as the node %(node)s of %(cluster)s", node=node.name, cluster=node.cluster
    )
    *before, last = _ON_THE_WAY[State(machine.state)]
    for state in before:
        lifecycle.transition(machine=machine, to=state, reason=reason)
    lifecycle.transition(machine=machine, to=last, reason=reason, cluster=node.cluster, node=node)
    if node.unschedulable:
        lifecycle.transition(
            machine=machine, to=State.CORDONED, reason=Sentence("the node is cordoned")
        )


def link(machine: Machine, node: Node) -> None:
    """Set the link alone; the state stays what it is."""
    Machine.objects.filter(pk=machine.pk).update(node=node, cluster=node.cluster_id)
    audit.record("link node", machine, after={"cluster": str(node.cluster), "node": node.name})
    machine.node, machine.cluster = node, node.cluster


def addresses_of(node: Node) -> list[str]:
    """Every address the node reports, whichever way the collector wrote it down."""
    found = [node.internal_ip] if node.internal_ip else []
    for entry in node.addresses:
        text = entry.get("address", "") if isinstance(entry, dict) else str(entry)
        if text and text not in found:
            found.append(text)
    return found


def is_node(machine: Machine) -> bool:
    """Whether some adopted cluster reports a node that is this machine."""
    if machine.node_id is not None:
        return True
    facts = MachineFacts.objects.filter(machine=machine).first()
    uuids = {
        machine.system_uuid.lower(),
        *((facts.system_uuid, facts.os_machine_id) if facts else ()),
    }
    names = [value for uuid in uuids if uuid for value in (uuid, uuid.upper())]
    addresses = [str(machine.address), *machine.addresses.values_list("address", flat=True)]
    return Node.objects.filter(Q(internal_ip__in=addresses) | Q(system_uuid__in=names)).exists()


class _Index:
    """The machines that these nodes may be, read in three queries whatever the number of nodes."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        addresses = {text for node in nodes for text in addresses_of(node) if _is_address(text)}
        uuids = {node.system_uuid.lower() for node in nodes if node.system_uuid}
        spelled = [*uuids, *(uuid.upper() for uuid in uuids)]
        self._machines: dict[int, Machine] = {}
        self._by_address: dict[str, set[int]] = {}
        self._by_uuid: dict[str, set[int]] = {}
        own = Machine.objects.select_related("node", "cluster")
        for machine in own.filter(Q(address__in=addresses) | Q(system_uuid__in=spelled)):
            self._machines[machine.pk] = machine
            self._by_address.setdefault(str(machine.address), set()).add(machine.pk)
            self._by_uuid.setdefault(machine.system_uuid.lower(), set()).add(machine.pk)
        for other in MachineAddress.objects.filter(address__in=addresses):
            self._by_address.setdefault(other.address, set()).add(other.machine_id)
        visited = MachineFacts.objects.filter(
            Q(system_uuid__in=uuids)
            | Q(os_machine_id__in=uuids | {u.replace("-", "") for u in uuids})
        )
        for row in visited:
            for uuid in (row.system_uuid, row.os_machine_id):
                self._by_uuid.setdefault(uuid, set()).add(row.machine_id)

    def machines_of(self, node: Node) -> list[Machine]:
        """The machines that this node may be, by address: none, one, or several."""
        uuid = node.system_uuid.lower()
        found = set(self._by_uuid.get(uuid, ())) if uuid else set()
        if not found and uuid:
            found = set(self._by_uuid.get(uuid.replace("-", ""), ()))
        if not found:
            found = {key for text in addresses_of(node) for key in self._by_address.get(text, ())}
        return sorted((self._load(key) for key in found), key=lambda each: str(each.address))

    def _load(self, key: int) -> Machine:
        if key not in self._machines:
            self._machines[key] = Machine.objects.select_related("node", "cluster").get(pk=key)
        return self._machines[key]


def _is_address(text: str) -> bool:
    try:
        validate_ipv46_address(text)
    except ValidationError:
        return False
    return True


def follow_nodes() -> dict[str, int]:
    """Let machines follow what the collector sees; the clock calls this every minute.

    1. A machine of a cluster whose node came (again) is linked to it.
    2. *In service* and *Cordoned* follow the node.
    3. A machine whose cluster is no longer adopted goes to maintenance: whether it still runs there
       is not known any more.
    """
    return {"linked": _relink(), "followed": _follow_cordons(), "left": _leave_lost_clusters()}


def _relink() -> int:
    lonely = Machine.objects.filter(cluster__isnull=False, node__isnull=True)
    clusters = lonely.values("cluster").distinct()
    nodes = list(
        Node.objects.filter(cluster__in=clusters, machine__isnull=True).select_related("cluster")
    )
    index, count = _Index(nodes), 0
    for node in nodes:
        try:
            machine = _only(index.machines_of(node), node)
        except Conflict:
            continue  # a person is told when they register it
        if machine is None or machine.node_id is not None or machine.cluster_id != node.cluster_id:
            continue
        with transaction.atomic():
            link(machine, node)
        count += 1
    return count


def _follow_cordons() -> int:
    away = Q(state=State.IN_SERVICE, node__unschedulable=True)
    back = Q(state=State.CORDONED, node__unschedulable=False)
    # What was seen before the machine came to its state says nothing: an operation that has just
    # opened the node is ahead of the inventory by some seconds.
    seen_since = Q(node__observed_at__gt=F("state_since"))
    count = 0
    for machine in Machine.objects.filter(away | back, seen_since).select_related("node"):
        if lifecycle.held_by(machine):
            continue  # an operation is at work and says itself how it ends
        cordoned = machine.state == State.IN_SERVICE
        try:
            lifecycle.transition(
                machine=machine,
                to=State.CORDONED if cordoned else State.IN_SERVICE,
                reason=Sentence("the node was cordoned")
                if cordoned
                else Sentence("the node was uncordoned"),
            )
        except Conflict:
            continue  # somebody else was faster; the next minute sees what is left to do
        count += 1
    return count


def _leave_lost_clusters() -> int:
    lost = Machine.objects.filter(state__in=Machine.IN_CLUSTER, cluster__isnull=True)
    count = 0
    for machine in lost:
        try:
            lifecycle.transition(
                machine=machine,
                to=State.MAINTENANCE,
                reason=Sentence("its cluster is no longer adopted"),
            )
        except Conflict:
            continue
        count += 1
    return count
