"""Hosts over SSH, as plain calls: look at a host key, test a credential, run a script on many.

Everything here is synchronous and may be called from pages and workers alike; inside, each call
runs its own event loop.  Asking many hosts costs one connection each and no process of ours.
An answer is a ``Result``; a host that cannot be asked yields an error instead and never holds up
the others for longer than its own limits.
"""

import asyncio
from collections.abc import Generator, Iterable
from typing import Final

from beidou.base.errors import ExternalError, InvalidInput
from machines.drivers import parallel
from machines.drivers.ssh_check import CheckResult, CheckStep, check_steps
from machines.drivers.ssh_errors import (
    AuthenticationFailed,
    ConnectionBroken,
    HostKeyChanged,
    HostKeyUnknown,
    NoPrivilege,
    OutputTooLarge,
    TimedOut,
    Unreachable,
)
from machines.drivers.ssh_keys import (
    BadKey,
    HostKey,
    decrypt_private_key,
    fingerprint,
    validate_private_key,
)
from machines.drivers.ssh_script import Interpreter, Result, execute
from machines.drivers.ssh_session import PrivateKeys, Target, scan, signed_in

__all__ = [
    "AuthenticationFailed",
    "BadKey",
    "CheckResult",
    "CheckStep",
    "ConnectionBroken",
    "Failure",
    "HostKey",
    "HostKeyChanged",
    "HostKeyUnknown",
    "NoPrivilege",
    "OutputTooLarge",
    "Result",
    "Target",
    "TimedOut",
    "Unreachable",
    "check",
    "check_many",
    "decrypt_private_key",
    "fingerprint",
    "run",
    "run_many",
    "scan_host_key",
    "validate_private_key",
]

CONNECT_TIMEOUT: Final = 10.0
RUN_TIMEOUT: Final = 60.0
CONCURRENCY: Final = 50

Failure = ExternalError | InvalidInput
"""What can take the place of a result: the host's fault, or that of what was stored for it."""


def scan_host_key(address: str, port: int = 22, timeout: float = CONNECT_TIMEOUT) -> HostKey:
    """Return the key a host shows (Ed25519 if it has one) without signing in.

    Raises ``Unreachable``, or ``PermanentError`` when no SSH server answers.
    """
    return asyncio.run(scan(address, port, timeout))


def run(
    target: Target,
    script: str,
    *,
    interpreter: Interpreter = "sh",
    timeout: float = RUN_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Result:
    """Run a script on one host and raise what goes wrong; a status other than 0 is a result."""
    return asyncio.run(_run(target, script, PrivateKeys(), interpreter, timeout, connect_timeout))


def run_many(
    targets: Iterable[Target],
    script: str,
    *,
    interpreter: Interpreter = "sh",
    concurrency: int = CONCURRENCY,
    timeout: float = RUN_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Generator[tuple[Target, Result | Failure], None, None]:
    """Run a script on many hosts; yields each host's outcome as soon as it is known.

    Nothing starts before the first item is asked for; closing the iterator ends what still runs.
    """
    keys = PrivateKeys()

    async def outcome(target: Target) -> Result | Failure:
        try:
            return await _run(target, script, keys, interpreter, timeout, connect_timeout)
        except (ExternalError, InvalidInput) as error:
            return error

    return parallel.as_completed(targets, outcome, concurrency=concurrency)


def check(
    target: Target, *, timeout: float = RUN_TIMEOUT, connect_timeout: float = CONNECT_TIMEOUT
) -> CheckResult:
    """Test a credential on a host: reached, host key as pinned, user accepted, root available.

    Never raises for what a host or the credential does wrong; that is the result.  Without a
    pinned key it stops after showing the host's key, before anything secret is sent.
    """
    return asyncio.run(check_steps(target, timeout=timeout, connect_timeout=connect_timeout))


def check_many(
    targets: Iterable[Target],
    *,
    concurrency: int = CONCURRENCY,
    timeout: float = RUN_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
) -> Generator[tuple[Target, CheckResult], None, None]:
    """``check`` for many hosts; yields each host's result as soon as it is known."""

    async def outcome(target: Target) -> CheckResult:
        return await check_steps(target, timeout=timeout, connect_timeout=connect_timeout)

    return parallel.as_completed(targets, outcome, concurrency=concurrency)


async def _run(
    target: Target,
    script: str,
    keys: PrivateKeys,
    interpreter: Interpreter,
    timeout: float,
    connect_timeout: float,
) -> Result:
    async with signed_in(target, keys.of(target), connect_timeout=connect_timeout) as connection:
        return await execute(connection, target, script, interpreter=interpreter, timeout=timeout)
