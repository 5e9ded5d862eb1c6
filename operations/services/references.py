"""From the names people and programs use to rows: clusters, machines, an operation's machines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from beidou.base import permissions
from beidou.base.errors import InvalidInput
from beidou.base.numbers import as_key
from clusters.models import Cluster
from machines.models import Machine
from machines.services import selection
from operations.models import Operation

Reference = int | str | Mapping[str, Any]


@dataclass(frozen=True)
class Chosen:
    """Machines in the order they were named, and the roles that were given with them."""

    machines: list[Machine]
    roles: dict[int, str]


def find_cluster(reference: int | str, *, user: Any) -> Cluster:
    """A visible cluster by name or key; ``InvalidInput`` names the field ``cluster``."""
    visible = permissions.visible_to(user, Cluster.objects.all())
    found = visible.filter(name=str(reference)).first()
    if found is None and (key := as_key(reference)) is not None:
        found = visible.filter(pk=key).first()
    if found is None:
        raise InvalidInput(
            no_such_cluster(reference),
            code="unknown_cluster",
            fields={"cluster": _("Unknown cluster.")},
        )
    return found


def no_such_cluster(reference: int | str) -> str:
    """The same sentence for what is not there and for what may not be seen."""
    return _("There is no cluster “%(name)s”, or you may not see it.") % {"name": reference}


def find_machines(references: Sequence[Reference], *, user: Any) -> Chosen:
    """Machines by key, by address (or range), hostname, serial number, or ``{address, role}``.

    ``InvalidInput`` names each reference that means nothing as ``machines[index]``.
    """
    chosen: dict[int, Machine] = {}
    roles: dict[int, str] = {}
    unknown: dict[str, str] = {}
    visible = permissions.visible_to(user, Machine.objects.all())
    keys = [item for item in references if isinstance(item, int) and as_key(item) is not None]
    by_key = visible.select_related("cluster", "credential").in_bulk(keys) if keys else {}
    texts = {
        index: text for index, item in enumerate(references) if (text := _text(item)) is not None
    }
    selections = selection.parse_each(list(texts.values()), user=user)
    by_text = dict(zip(texts, selections, strict=True))
    for index, item in enumerate(references):
        role = str(item.get("role") or "") if isinstance(item, Mapping) else ""
        if isinstance(item, int):
            found = [by_key[item]] if item in by_key else []
            reasons = [] if found else [_("No machine you may use has this key.")]
        else:
            selected = by_text[index]
            found = selected.machines
            reasons = [f"{each.text}: {each.reason}" for each in selected.unknown]
            if not found and not reasons:
                reasons = [_("Name an address, a hostname or a serial number.")]
        if reasons:
            unknown[f"machines[{index}]"] = " ".join(str(reason) for reason in reasons)
        for machine in found:
            chosen[machine.pk] = machine
            if role:
                roles[machine.pk] = role
    if unknown:
        name, sentence = next(iter(unknown.items()))
        raise InvalidInput(f"{name}: {sentence}", code="unknown_machine", fields=unknown)
    return Chosen(list(chosen.values()), roles)


def _text(item: Reference) -> str | None:
    """What is to be looked up; None for a key."""
    if isinstance(item, Mapping):
        return str(item.get("address", ""))
    return None if isinstance(item, int) else item


def not_of_operation(reference: int | str, operation: Operation) -> str:
    return _("“%(machine)s” is not a machine of %(operation)s.") % {
        "machine": reference,
        "operation": operation,
    }


def members_of(operation: Operation, references: Sequence[int | str]) -> list[int]:
    """Keys of the operation's machines, named by that key or by address."""
    rows = dict(operation.machines.values_list("address", "pk"))
    keys = set(rows.values())
    found: list[int] = []
    for index, item in enumerate(references):
        key = rows.get(str(item))
        if key is None and (named := as_key(item)) in keys:
            key = named
        if key is None:
            sentence = not_of_operation(item, operation)
            raise InvalidInput(
                sentence, code="unknown_machine", fields={f"machines[{index}]": sentence}
            )
        found.append(key)
    return found
