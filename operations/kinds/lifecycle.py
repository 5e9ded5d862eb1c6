"""Moving machines through their lives for an operation: one, or very many in few queries.

Each move is in the audit trail: one machine's with the machine, those of many in one entry with
their operation.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from beidou.base import audit
from beidou.base.errors import Conflict
from beidou.base.sentences import Sentence
from beidou.base.state import Change, change_statuses
from clusters.models import Node
from machines.models import Machine
from machines.services.lifecycle import ensure_state
from operations.models import Operation, OperationMachine


def move(machine: Machine, to: str, *, operation: Operation, reason: str, **fields: object) -> None:
    """Change the machine's state because of ``operation``; nothing happens when it is there
    already."""
    ensure_state(machine=machine, to=to, reason=reason, operation=operation.pk, **fields)


@dataclass(frozen=True)
class Move:
    """What a machine shall become.

    ``node`` names the node of the operation's cluster that the machine is from then on, if there is
    one that no machine is linked to yet.
    """

    machine: Machine
    to: str
    reason: str
    node: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)


def move_all(moves: Iterable[Move], *, operation: Operation) -> dict[int, Conflict]:
    """``move`` for many machines; those that cannot be moved are returned by key."""
    wanted = list(moves)
    keys = [each.machine.pk for each in wanted]
    states = dict(Machine.objects.filter(pk__in=keys).values_list("pk", "state")) if keys else {}
    nodes = _free_nodes(operation, [each.node for each in wanted if each.node])
    now = timezone.now()
    changes, before = [], {}
    for each in wanted:
        if each.machine.pk not in states:
            continue  # deleted meanwhile
        each.machine.state = states[each.machine.pk]
        if each.machine.state == each.to:
            continue
        before[each.machine.pk] = each.machine.state
        link = {"node": nodes[each.node]} if each.node in nodes else {}
        changes.append(
            Change(
                each.machine,
                each.to,
                reason=each.reason,
                fields={"state_since": now, **each.fields, **link},
                extra={"operation": operation.pk},
            )
        )
    with audit.entries_last():
        refused = change_statuses(changes)
        done = before.keys() - refused.keys()
        _record([each for each in wanted if each.machine.pk in done], before, operation)
    return refused


def _record(done: Sequence[Move], before: Mapping[int, str], operation: Operation) -> None:
    if not done:
        return
    reasons = {each.reason for each in done}
    audit.record(
        "change state",
        operation,
        before={each.machine.address: before[each.machine.pk] for each in done},
        after={each.machine.address: each.to for each in done},
        reason=reasons.pop() if len(reasons) == 1 else "",
    )


def _free_nodes(operation: Operation, names: list[str]) -> dict[str, Node]:
    if not names:
        return {}
    nodes = Node.objects.filter(cluster=operation.cluster_id, name__in=names, machine=None)
    return {node.name: node for node in nodes}


RESIDUE = "beidou.io/residue"


def was_given_up(machine: Machine) -> bool:
    """It has left its cluster, and etcd, without being reset."""
    return RESIDUE in machine.labels


def remember_residue(member: OperationMachine) -> None:
    """The machine left its cluster without being reset: a label says so until it is cleaned,
    whatever becomes of the operation."""
    machine, operation = member.machine, member.operation
    if machine is None:
        return
    machine.refresh_from_db(fields=["labels"])
    machine.labels = {**machine.labels, RESIDUE: f"operation-{operation.pk}"}
    reason = Sentence("%(operation)s could not reset it", operation=operation.name)
    _save_labels(machine, reason)


def forget_residue(member: OperationMachine) -> None:
    machine = member.machine
    if machine is None or RESIDUE not in machine.labels:
        return  # without a query, since nearly all machines have none
    machine.refresh_from_db(fields=["labels"])
    if RESIDUE in machine.labels:
        machine.labels = {key: text for key, text in machine.labels.items() if key != RESIDUE}
        _save_labels(machine, Sentence("it was reset"))


def _save_labels(machine: Machine, reason: str) -> None:
    machine._change_reason = reason  # type: ignore[attr-defined]  # of its history
    machine.save(update_fields=["labels"])
