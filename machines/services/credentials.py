"""SSH credentials: checked when saved, tested on a chosen machine, turned into driver targets."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit, permissions
from beidou.base.errors import Conflict, ExternalError, InvalidInput
from beidou.base.sentences import Sentence
from machines.drivers import ssh
from machines.models import Machine, SshCredential
from machines.services import belonging, host_keys, signing

SECRETS: Final = ("private_key", "passphrase", "password", "become_password")

# Names of POSIX, and of directories as DOMAIN\name or name@domain.  A leading hyphen would be an
# option to some program on the way.
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]*\$?")


def validate(credential: SshCredential) -> None:
    """Raise ``InvalidInput`` naming the fields when nobody could sign in with this."""
    if not _USER.fullmatch(credential.user):
        sentence = _("A user has letters, digits and . _ - + @ \\ and begins with no hyphen.")
        raise InvalidInput(sentence, fields={"user": sentence})
    for name in ("passphrase", "password", "become_password"):
        if re.search(r"[\r\n]", getattr(credential, name)):
            sentence = _("Nobody can type a line break here: this is one line.")
            raise InvalidInput(sentence, fields={name: sentence})
    if not credential.private_key and not credential.password:
        sentence = _("Give a private key or a password.")
        raise InvalidInput(sentence, fields={"private_key": sentence})
    if credential.passphrase and not credential.private_key:
        sentence = _("A passphrase without a private key opens nothing.")
        raise InvalidInput(sentence, fields={"passphrase": sentence})
    if credential.private_key:
        ssh.validate_private_key(credential.private_key, credential.passphrase or None)


def sign_in_problem(machine: Machine) -> str | None:
    """Why the portal cannot even try to sign in at ``machine``, as a sentence."""
    if signing.credential_of(machine) is None:
        return no_credential(machine)
    return host_keys.blocked_reason(machine)


def no_credential(machine: Machine) -> str:
    return _("%(machine)s has no SSH credential.") % {"machine": machine}


def target_for(machine: Machine, *, credential: SshCredential | None = None) -> ssh.Target:
    """How to reach ``machine``; raises ``Conflict`` when it has no credential or is blocked."""
    chosen = credential or signing.credential_of(machine)
    if chosen is None:
        raise Conflict(
            Sentence("%(machine)s has no SSH credential.", machine=machine), code="no_credential"
        )
    host_keys.require_unblocked(machine)
    return ssh.Target(
        address=machine.address,
        port=chosen.port,
        user=chosen.user,
        private_key=chosen.private_key or None,
        passphrase=chosen.passphrase or None,
        password=chosen.password or None,
        become=chosen.become,
        become_password=chosen.become_password or None,
        host_key=machine.host_key or None,
    )


@dataclass(frozen=True)
class TestResult:
    """The steps of one test in order, the last of which may have failed."""

    __test__ = False  # pytest collects classes by this name
    machine: Machine
    steps: tuple[ssh.CheckStep, ...]
    fingerprint: str

    @property
    def is_ok(self) -> bool:
        return all(step.is_ok for step in self.steps)

    @property
    def summary(self) -> str:
        """One line: what worked, or the step that did not."""
        if self.is_ok:
            return Sentence("works on %(machine)s", machine=self.machine)
        return next(step.message for step in self.steps if not step.is_ok)


def test(*, credential: SshCredential, machine: Machine, acting_user: Any) -> TestResult:
    """Sign in at ``machine`` with ``credential`` and keep the result with the credential.

    Talks to the host: never call it inside a transaction.  A machine met for the first time has
    its host key pinned, unless the portal would from then on send it a credential that the person
    may not use; a changed host key blocks the machine.
    """
    permissions.require(acting_user, machine, permissions.OPERATE)
    belonging.require_use(acting_user, credential)
    host_keys.require_unblocked(machine)
    steps, key = _first_contact(machine, credential, acting_user)
    if not steps:
        target = replace(target_for(machine, credential=credential), host_key=key)
        result = ssh.check(target)
        steps = result.steps
        for step in steps:
            if machine.host_key and isinstance(step.error, ssh.HostKeyChanged):
                host_keys.offer(machine=machine, key=step.error.presented)
    outcome = TestResult(machine=machine, steps=steps, fingerprint=host_keys.fingerprint(key))
    credential.tested_at = timezone.now()
    credential.test_result = outcome.summary
    with transaction.atomic():
        SshCredential.objects.filter(pk=credential.pk).update(
            tested_at=credential.tested_at, test_result=credential.test_result
        )
        audit.record(
            "test credential",
            credential,
            after={"machine": str(machine), "result": credential.test_result},
            outcome="done" if outcome.is_ok else "failed",
        )
    return outcome


def _first_contact(
    machine: Machine, credential: SshCredential, acting_user: Any
) -> tuple[tuple[ssh.CheckStep, ...], str]:
    """The host key to test with, pinned now if the machine has none; the failed step when there is
    none to be had.

    Whoever may not use what the portal signs in with there does not choose the host that gets it:
    their test trusts the key for this once.
    """
    if machine.host_key:
        return (), machine.host_key
    try:
        key = ssh.scan_host_key(machine.address, credential.port)
    except ExternalError as error:
        return (ssh.CheckStep(name="reach", is_ok=False, message=error.message, error=error),), ""
    usual = signing.credential_of(machine)
    if usual is not None and not belonging.may_use(acting_user, usual):
        return (), key.key
    host_keys.pin(machine=machine, key=key)
    return (), machine.host_key


def apply_secrets(
    credential: SshCredential, given: Mapping[str, str], *, forget: tuple[str, ...] = ()
) -> None:
    """Set the secrets that were given; an empty one keeps what is stored, unless forgotten."""
    for name in SECRETS:
        if name in forget:
            setattr(credential, name, "")
        if given.get(name):
            setattr(credential, name, given[name])
