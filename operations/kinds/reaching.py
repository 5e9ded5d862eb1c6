"""Whether machines can be signed in to, looked at step by step and told as checks.

Ansible knows only that a host is unreachable, in the words of its ssh program.  A changed host key
that is seen here is offered to a person, which blocks the machine until they decide.
"""

from collections.abc import Sequence
from typing import Final

from beidou.base.errors import BeidouError
from beidou.base.sentences import Sentence
from machines.drivers import ssh
from machines.models import Machine
from machines.services import host_keys
from operations.kinds import hosts
from operations.kinds.base import Check, Checks, StepRun, check
from operations.models import OperationMachine

LOOK_SECONDS: Final = 10
_NAMES: Final = {
    "reach": "reachable",
    "host_key": "host-key",
    "sign_in": "sign-in",
    "privilege": "privilege",
}
_WANTED: Final = {
    "reach": Sentence("an SSH server that answers"),
    "host_key": Sentence("the pinned host key"),
    "sign_in": Sentence("a credential that signs in"),
    "privilege": Sentence("root (user id 0)"),
}
_ADVICE: Final = {
    "reach": Sentence("check that it is on, its address and port, routes and firewalls"),
    "host_key": Sentence(
        "compare the key with the host's own; accept or reject it on the machine's page, or gather "
        "the machine's facts where none is pinned yet; then retry"
    ),
    "sign_in": Sentence("correct the SSH credential, or let its user in on the host"),
    "privilege": Sentence("allow sudo for the SSH user, give its password, or sign in as root"),
}
_STEPS: Final = {"gone": "reach", "host_key_changed": "host_key"}
"""Where signing in ends that was not even tried, by the code of the error; else at the sign-in."""


def look(run: StepRun, members: Sequence[OperationMachine]) -> dict[int, list[Check]]:
    """Key of the member → its checks up to the first that failed."""
    settings = hosts.settings_of(run.cluster.pk)
    found: dict[int, list[Check]] = {}
    targets: dict[ssh.Target, OperationMachine] = {}
    for member in members:
        try:
            targets[hosts.ssh_target(hosts.machine_of(member), settings)] = member
        except BeidouError as error:
            found[member.pk] = [refusal(error)]
    answers = ssh.check_many(list(targets), timeout=LOOK_SECONDS, connect_timeout=LOOK_SECONDS)
    for target, answer in answers:
        run.stop_if_asked()
        member = targets[target]
        found[member.pk] = [_as_check(step.name, step.is_ok, step.message) for step in answer.steps]
        offer(member, answer.steps[-1].error)
    return found


def refusal(error: BeidouError) -> Check:
    """What kept us from even trying, as the check that failed."""
    return _as_check(_STEPS.get(error.code, "sign_in"), False, error.message)


def why(checks: Checks) -> str:
    """What the failed one found; empty when there is none."""
    return next((each["found"] for each in checks if not each["ok"]), "")


def offer(member: OperationMachine, error: Exception | None) -> None:
    """Have a person judge the key that a machine showed in place of the pinned one."""
    if member.machine is None or not isinstance(error, ssh.HostKeyChanged):
        return
    try:
        host_keys.offer(machine=member.machine, key=error.presented)
    except Machine.DoesNotExist:
        return  # deleted meanwhile: nothing is left to block


def _as_check(step: str, ok: bool, found: str) -> Check:
    return check(_NAMES[step], ok, found, _WANTED[step], "" if ok else _ADVICE[step])
