"""Edits of intended values: saved with who and why, whichever edge they come from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, InvalidInput
from machines.models import Machine, SshCredential
from machines.services import belonging, drift, host_keys, lifecycle, signing

IN_BULK: Final = ("role", "owner_team", "room", "rack", "credential")


def add(*, machine: Machine, reason: str, acting_user: Any) -> Machine:
    """Validate and store a new machine, with history, audit and drift.

    Raises ``InvalidInput`` naming the fields.
    """
    belonging.check(
        acting_user, owner_team=machine.owner_team, credential=machine.credential, is_new=True
    )
    _clean(machine)
    with audit.entries_last():
        machine._change_reason = reason or None  # type: ignore[attr-defined]
        machine.save()
        audit.record("add", machine, after=audit.snapshot(machine), reason=reason)
        drift.refresh([machine])
    return machine


def change(*, machine: Machine, fields: Collection[str], reason: str, acting_user: Any) -> Machine:
    """Validate and store ``fields`` of ``machine``, with history, audit and fresh drift.

    Nothing else is written: meanwhile the product moves states, links nodes and blocks host keys,
    and other persons edit other fields; ``machine`` may be older than that and is brought up to
    date.  Raises ``InvalidInput`` naming the fields.  The right to edit is asked here too.
    """
    with audit.entries_last():
        stored = Machine.objects.select_for_update().get(pk=machine.pk)
        permissions.require(acting_user, stored, permissions.CHANGE)
        for field in Machine._meta.concrete_fields:
            if field.name not in fields:
                setattr(machine, field.attname, getattr(stored, field.attname))
        check_belonging_of_change(stored, machine, acting_user)
        _clean(machine)
        old, new = audit.difference(audit.snapshot(stored), audit.snapshot(machine))
        if new:
            lifecycle.require_editable(stored, new)
            machine._change_reason = reason or None  # type: ignore[attr-defined]
            machine.save(update_fields=list(new))
            audit.record("change", machine, before=old, after=new, reason=reason)
        if "address" in new:
            host_keys.forget(machine=machine, reason=reason)
        drift.refresh([machine])
    return machine


def check_belonging_of_change(stored: Machine, wanted: Machine, acting_user: Any) -> None:
    """A team or credential that stays as it is was somebody's decision; only a new one is asked."""
    belonging.check(
        acting_user,
        owner_team=wanted.owner_team if wanted.owner_team_id != stored.owner_team_id else None,
        credential=wanted.credential if wanted.credential_id != stored.credential_id else None,
    )
    if wanted.address != stored.address:
        problem = belonging.new_address_problem(acting_user, signing.credential_of(wanted))
        if problem:
            raise InvalidInput(problem, fields={"address": problem})
    if problem := lost_credential_problem(acting_user, stored, wanted.credential):
        raise InvalidInput(problem, fields={"credential": problem})


def lost_credential_problem(
    user: Any, stored: Machine, credential: SshCredential | None
) -> str | None:
    """Why ``user`` may not take the machine's own credential away: that of its cluster would be
    sent to an address and host key that it was not meant for."""
    if credential is not None or stored.credential_id is None:
        return None
    used = signing.credential_of(Machine(cluster=stored.cluster))
    if used is None or belonging.may_use(user, used):
        return None
    return _(
        "Without one of its own, the portal would sign in there with the credential %(name)s of "
        "the cluster, which belongs to none of your teams; choose one of yours."
    ) % {"name": used}


def _clean(machine: Machine) -> None:
    try:
        machine.full_clean()
    except ValidationError as error:
        fields = {name: " ".join(found) for name, found in error.message_dict.items()}
        message = "; ".join(f"{name}: {found}" for name, found in fields.items())
        raise InvalidInput(message, fields=fields) from error


@dataclass
class BulkResult:
    """``refused`` maps a machine's key to a sentence."""

    changed: list[Machine] = field(default_factory=list)
    unchanged: int = 0
    refused: dict[int, str] = field(default_factory=dict)


def edit_many(
    *,
    machines: Sequence[Machine],
    values: Mapping[str, Any],
    add_labels: Mapping[str, str],
    remove_labels: Sequence[str] = (),
    reason: str,
    acting_user: Any,
) -> BulkResult:
    """Give many machines the same values; each is saved by itself: a refusal stops no other."""
    unknown = set(values) - set(IN_BULK)
    if unknown:
        raise InvalidInput(_("Not editable in bulk: %(names)s.") % {"names": ", ".join(unknown)})
    result = BulkResult()
    for machine in machines:
        before = audit.snapshot(machine)
        for name, value in values.items():
            setattr(machine, name, value)
        if add_labels or remove_labels:
            labels = {k: v for k, v in machine.labels.items() if k not in remove_labels}
            machine.labels = {**labels, **add_labels}
        _old, wanted = audit.difference(before, audit.snapshot(machine))
        if not wanted:
            result.unchanged += 1
            continue
        try:
            change(machine=machine, fields=wanted, reason=reason, acting_user=acting_user)
        except (Conflict, InvalidInput) as error:
            result.refused[machine.pk] = error.message
        else:
            result.changed.append(machine)
    return result


def parse_labels(text: str) -> dict[str, str]:
    """ "a=b, c=d" as labels; raises ``InvalidInput`` with the part that is none."""
    labels: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.replace("\n", ",").split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            sentence = _("“%(part)s” is no label; write key=value.") % {"part": part}
            raise InvalidInput(sentence, fields={"labels": sentence})
        key, value = key.strip(), value.strip()
        if labels.setdefault(key, value) != value:
            sentence = _("The label “%(key)s” is given twice: %(one)s and %(other)s.") % {
                "key": key,
                "one": labels[key],
                "other": value,
            }
            raise InvalidInput(sentence, fields={"labels": sentence})
    return labels


def write_labels(labels: Mapping[str, str]) -> str:
    """The inverse of ``parse_labels``, in a fixed order."""
    return ", ".join(f"{key}={value}" for key, value in sorted(labels.items()))
