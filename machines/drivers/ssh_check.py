"""Test a credential on a host step by step, so that a person sees where it ends and why."""

from dataclasses import dataclass
from typing import Final

from beidou.base.errors import ExternalError, InvalidInput, shorten
from beidou.base.sentences import Sentence
from machines.drivers.ssh_errors import HostKeyChanged, NoPrivilege
from machines.drivers.ssh_keys import HostKey
from machines.drivers.ssh_script import execute
from machines.drivers.ssh_session import (
    Connection,
    PrivateKeys,
    Target,
    algorithms_for,
    pinned_key,
    scan,
    signed_in,
)

CHECK_STEPS: Final = ("reach", "host_key", "sign_in", "privilege")


@dataclass(frozen=True, kw_only=True)
class CheckStep:
    """One thing found out, as a sentence for a person; ``name`` is one of ``CHECK_STEPS``."""

    name: str
    is_ok: bool
    message: str
    error: ExternalError | InvalidInput | None = None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The steps up to the first that failed; ``host_key`` is what the host showed, if it did."""

    steps: tuple[CheckStep, ...]
    host_key: HostKey | None

    @property
    def is_ok(self) -> bool:
        """Whether the credential gives root on the host."""
        return len(self.steps) == len(CHECK_STEPS) and self.steps[-1].is_ok


async def check_steps(target: Target, *, timeout: float, connect_timeout: float) -> CheckResult:
    """Do the four steps in order and stop at the first that fails.

    Without a pinned key that is the second: the host's key is shown, nothing secret is sent.
    """
    steps: list[CheckStep] = []
    shown: HostKey | None = None

    def passed(message: str) -> None:
        steps.append(CheckStep(name=CHECK_STEPS[len(steps)], is_ok=True, message=message))

    try:
        wanted = algorithms_for(target)
        shown = await scan(target.address, target.port, connect_timeout, wanted)
        passed(Sentence("%(place)s answers.", place=target.place))
        pinned = pinned_key(target)
        if shown != pinned:
            raise HostKeyChanged(target.place, pinned=pinned, presented=shown)
        passed(Sentence("The host key is the pinned one, %(key)s.", key=shown.fingerprint))
        key = PrivateKeys().of(target)
        async with signed_in(target, key, connect_timeout=connect_timeout) as connection:
            passed(Sentence("%(user)s is signed in.", user=target.user))
            await _require_root(connection, target, timeout)
            passed(Sentence("Commands run as root."))
    except (ExternalError, InvalidInput) as error:
        name = CHECK_STEPS[len(steps)]
        steps.append(CheckStep(name=name, is_ok=False, message=error.message, error=error))
        if isinstance(error, HostKeyChanged):
            shown = error.presented
    return CheckResult(steps=tuple(steps), host_key=shown)


async def _require_root(connection: Connection, target: Target, timeout: float) -> None:
    result = await execute(connection, target, "id -u", interpreter="sh", timeout=timeout)
    printed = result.stdout.split()
    if result.status == 0 and printed and printed[-1] == "0":
        return
    if result.status == 0 and printed and printed[-1].isdigit():
        raise NoPrivilege(
            Sentence(
                "%(user)s is not root on %(place)s (user id %(uid)s) and sudo is not switched on "
                "in the credential.",
                user=target.user,
                place=target.place,
                uid=printed[-1],
            )
        )
    raise NoPrivilege(
        Sentence(
            "%(user)s cannot run commands on %(place)s; it said: %(said)s",
            user=target.user,
            place=target.place,
            said=shorten(result.stderr or result.stdout, 200) or Sentence("nothing"),
        )
    )
