"""Host keys: pinned at first contact, and a changed one blocks the machine until a person decides.

Nothing secret is ever sent to a host whose key is not the pinned one, so trusting the first
contact is the only moment of trust; it is audited, and the fingerprint stays on the machine's page
for comparison.
"""

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, notices, permissions
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.sentences import Sentence
from machines.drivers import ssh
from machines.models import Machine
from machines.services import belonging, lifecycle, signing


def fingerprint(key: str) -> str:
    """ "SHA256:…" of a stored key; empty for none."""
    return ssh.fingerprint(key) if key else ""


def blocked_reason(machine: Machine) -> str | None:
    """Why nothing may be done on this machine over SSH, as a sentence; None when it may."""
    if not machine.offered_host_key:
        return None
    return Sentence(
        "The host key of %(machine)s has changed to %(offered)s (pinned is %(pinned)s); nothing is "
        "done on it until a person accepts or rejects the new key.",
        machine=machine,
        offered=fingerprint(machine.offered_host_key),
        pinned=fingerprint(machine.host_key),
    )


def require_unblocked(machine: Machine) -> None:
    """Raise ``Conflict`` when the machine waits for a decision about its host key."""
    reason = blocked_reason(machine)
    if reason:
        raise Conflict(reason, code="host_key_changed")


class Moved(Conflict):
    """The machine has got another address since it was read: what was found is another host's."""

    code = "moved"


def require_unmoved(current: Machine, visited: Machine) -> None:
    """Raise ``Moved`` unless the locked row still has the address that was visited."""
    if str(current.address) != str(visited.address):
        raise Moved(
            Sentence(
                "The address of %(machine)s was changed while it was visited.", machine=current
            )
        )


def pin(*, machine: Machine, key: ssh.HostKey) -> None:
    """Keep the key of the first contact; a machine that has one already is left as it is.

    Raises ``Moved``.
    """
    with transaction.atomic():
        current = Machine.objects.select_for_update().get(pk=machine.pk)
        require_unmoved(current, machine)
        if not current.host_key:
            _keep(current, key.key, reason=Sentence("first contact"))
            audit.record("pin host key", current, after={"fingerprint": key.fingerprint})
    machine.host_key, machine.host_key_at = current.host_key, current.host_key_at


def offer(*, machine: Machine, key: ssh.HostKey) -> None:
    """The machine showed another key than the pinned one: block it, once per key.

    A machine that was moved meanwhile is left as it is: the key is that of its old address.
    """
    with transaction.atomic():
        current = Machine.objects.select_for_update().get(pk=machine.pk)
        is_known = key.key in (current.offered_host_key, current.host_key)
        if not is_known and str(current.address) == str(machine.address):
            current.offered_host_key = key.key
            shown = Sentence("the machine showed another host key")
            _save(current, ["offered_host_key"], reason=shown)
            notices.publish(
                notices.News(
                    kind="machine.host_key_changed",
                    severity=notices.Severity.CRITICAL,
                    title=Sentence("%(machine)s shows another host key.", machine=current),
                    details=blocked_reason(current) or "",
                    cluster_id=current.cluster_id,
                    team_id=current.owner_team_id,
                    about=current,
                )
            )
            audit.record(
                "host key changed",
                current,
                before={"fingerprint": fingerprint(current.host_key)},
                after={"fingerprint": key.fingerprint},
                outcome="refused",
            )
    machine.offered_host_key = current.offered_host_key


def accept(*, machine: Machine, shown: str, reason: str, acting_user: Any) -> None:
    """A person trusts the new key, whose fingerprint they were shown as ``shown``.

    The portal will send the machine's secrets to whoever has this key, so the right to use them is
    needed.
    """
    if (credential := signing.credential_of(machine)) is not None:
        belonging.require_use(acting_user, credential)
    with transaction.atomic():
        current = _decided(machine, shown, reason, acting_user)
        before = fingerprint(current.host_key)
        key, current.offered_host_key = current.offered_host_key, ""
        _keep(current, key, reason=reason)
        audit.record(
            "accept host key",
            current,
            before={"fingerprint": before},
            after={"fingerprint": shown},
            reason=reason,
        )
    machine.host_key, machine.offered_host_key = current.host_key, ""


def reject(*, machine: Machine, shown: str, reason: str, acting_user: Any) -> None:
    """A person does not trust the new key: the pinned one stays and the machine becomes faulty.

    The next contact decides: the old key, and all is well; the new one, and it is blocked again.
    """
    with audit.entries_last():
        current = _decided(machine, shown, reason, acting_user)
        current.offered_host_key = ""
        _save(current, ["offered_host_key"], reason=reason)
        audit.record(
            "reject host key", current, before={"fingerprint": shown}, after={}, reason=reason
        )
        if current.may_become(Machine.State.FAULTY):
            lifecycle.transition(
                machine=current,
                to=Machine.State.FAULTY,
                reason=Sentence("host key rejected: %(reason)s", reason=reason),
            )
    machine.offered_host_key, machine.state = "", current.state


def forget(*, machine: Machine, reason: str) -> None:
    """The machine has another address: its keys were those of the old one, and the next contact is
    the first."""
    with transaction.atomic():
        current = Machine.objects.select_for_update().get(pk=machine.pk)
        before = fingerprint(current.host_key), fingerprint(current.offered_host_key)
        if any(before):
            current.host_key, current.host_key_at, current.offered_host_key = "", None, ""
            fields = ["host_key", "host_key_at", "offered_host_key"]
            _save(current, fields, reason=Sentence("the address has changed"))
            audit.record(
                "forget host key",
                current,
                before={"fingerprint": before[0], "offered": before[1]},
                after={},
                reason=reason,
            )
    machine.host_key, machine.host_key_at, machine.offered_host_key = "", None, ""


def _decided(machine: Machine, shown: str, reason: str, acting_user: Any) -> Machine:
    """The row, locked, with everything checked that both decisions need."""
    permissions.require(acting_user, machine, permissions.OPERATE)
    if not reason.strip():
        sentence = _("Say why: the reason stays with the machine.")
        raise InvalidInput(sentence, fields={"reason": sentence})
    current = Machine.objects.select_for_update().get(pk=machine.pk)
    if not current.offered_host_key:
        raise Conflict(
            _("%(machine)s has shown no other host key: there is nothing to decide.")
            % {"machine": machine},
            code="wrong_state",
        )
    offered = fingerprint(current.offered_host_key)
    if shown != offered:
        raise Conflict(
            _("%(machine)s now shows the host key %(offered)s, not %(shown)s; look again.")
            % {"machine": machine, "offered": offered, "shown": shown or "–"},
            code="changed_meanwhile",
        )
    return current


def _keep(machine: Machine, key: str, *, reason: str) -> None:
    machine.host_key, machine.host_key_at = key, timezone.now()
    _save(machine, ["host_key", "host_key_at", "offered_host_key"], reason=reason)


def _save(machine: Machine, fields: list[str], *, reason: str) -> None:
    machine._change_reason = reason  # type: ignore[attr-defined]  # read by the history
    machine.save(update_fields=fields)
