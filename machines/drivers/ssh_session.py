"""One SSH connection to one host: sign in, become root, run a script (the asynchronous part).

Nothing of the user the portal runs as is used: no configuration, agent, default keys or known
hosts.  The only host key trusted is the pinned one, and until it is seen nothing secret is sent.
Scripts travel through stdin, so neither they nor a password appear in a process list.
"""

import asyncio
import contextlib
import shlex
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final, Literal

import asyncssh

from beidou.base.errors import InvalidInput, PermanentError, shorten
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
from machines.drivers.ssh_keys import BadKey, HostKey, describe, load_public_key, open_private_key

Interpreter = Literal["sh", "python3"]
Connection = asyncssh.SSHClientConnection

OUTPUT_LIMIT: Final = 4 * 1024 * 1024
HOST_KEY_ALGORITHMS: Final = (  # in the order of preference when none is pinned yet
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
_RSA_SIGNATURES: Final = ("rsa-sha2-512", "rsa-sha2-256")
_PROMPT: Final = b"beidou-sudo-password:"
_READY: Final = b"beidou-ready\n"
# sudo repeats a command it refuses on stderr: the command must not contain the mark it prints.
_PRINT_READY: Final = "printf 'beidou-%s\\n' ready >&2"
_PYTHON: Final = (  # some distributions hide their own Python under /usr/libexec
    "for python in python3 /usr/libexec/platform-python; do "
    'command -v "$python" >/dev/null && exec "$python" -I -; done; '
    "echo 'python3: not found' >&2; exit 127"
)
_INTERPRETERS: Final[dict[Interpreter, str]] = {"sh": "exec sh -s", "python3": _PYTHON}


@dataclass(frozen=True, kw_only=True)
class Target:
    """A host and how to sign in to it; secrets are kept out of its ``repr``.

    ``become`` means: use sudo when ``user`` is not root.  ``host_key`` is the pinned public key
    ("ssh-ed25519 AAAA…"); without one nothing but ``scan_host_key`` talks to the host.
    """

    address: str
    port: int = 22
    user: str = "root"
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    become: bool = False
    become_password: str | None = field(default=None, repr=False)
    host_key: str | None = None

    @property
    def place(self) -> str:
        """Address and port as people write them."""
        return place(self.address, self.port)

    @property
    def needs_sudo(self) -> bool:
        """Whether root is to be reached through sudo."""
        return self.become and self.user != "root"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a script printed and how it ended (``status``; negative: ended by that signal).

    ``started_at`` and ``ended_at`` are this machine's clock (seconds since 1970) right before the
    script was sent and right after its end was seen.
    """

    stdout: str
    stderr: str
    status: int
    started_at: float
    ended_at: float


@dataclass(frozen=True, kw_only=True)
class PrivateKeys:
    """Opens each different key once per call: a passphrase costs a tenth of a second or more."""

    opened: dict[tuple[str, str | None], asyncssh.SSHKey | BadKey] = field(
        default_factory=dict, repr=False
    )

    def of(self, target: Target) -> asyncssh.SSHKey | None:
        """Return the target's key; raises ``BadKey``."""
        if not target.private_key:
            return None
        secret = (target.private_key, target.passphrase)
        if secret not in self.opened:
            try:
                self.opened[secret] = open_private_key(*secret)
            except BadKey as error:
                self.opened[secret] = error
        found = self.opened[secret]
        if isinstance(found, BadKey):
            raise found
        return found


class _Contact(asyncssh.SSHClient):
    """Remembers how far a connection came, and trusts exactly one host key."""

    def __init__(self, pinned: HostKey) -> None:
        self.pinned = pinned
        self.is_connected = False
        self.presented: HostKey | None = None

    def connection_made(self, conn: Connection) -> None:
        self.is_connected = True

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        self.presented = describe(key)
        return self.is_verified

    @property
    def is_verified(self) -> bool:
        """Whether the pinned key was shown, so that a later failure is about signing in."""
        return self.presented == self.pinned


def place(address: str, port: int) -> str:
    """Address and port as people write them, IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


async def scan(
    address: str,
    port: int,
    connect_timeout: float,
    algorithms: tuple[str, ...] = HOST_KEY_ALGORITHMS,
) -> HostKey:
    """Fetch the key a host shows, without signing in."""
    where = place(address, port)
    try:
        async with asyncio.timeout(connect_timeout):
            key = await asyncssh.get_server_host_key(
                address, port, config=None, server_host_key_algs=algorithms
            )
    except TimeoutError as error:
        message = f"{where} did not show a host key within {connect_timeout:g} seconds."
        raise Unreachable(message) from error
    except (OSError, asyncssh.Error) as error:
        raise _no_connection(where, error) from error
    if key is None:
        raise PermanentError(f"{where} did not show a host key.", code="no_host_key")
    return describe(key)


@contextlib.asynccontextmanager
async def signed_in(
    target: Target, private_key: asyncssh.SSHKey | None, *, connect_timeout: float
) -> AsyncIterator[Connection]:
    """Hold a connection whose host key is the pinned one and whose user was accepted."""
    connection = await _sign_in(target, private_key, connect_timeout)
    try:
        yield connection
    finally:
        connection.close()  # does not wait for the other side, which may hang
        await connection.wait_closed()


async def _sign_in(
    target: Target, private_key: asyncssh.SSHKey | None, connect_timeout: float
) -> Connection:
    methods = _authentication_methods(target, private_key)
    contact = _Contact(pinned_key(target))
    started = time.monotonic()
    try:
        async with asyncio.timeout(connect_timeout):
            return await asyncssh.connect(
                target.address,
                target.port,
                client_factory=lambda: contact,
                username=target.user,
                # An empty list would load the default keys of the portal's user; None does not.
                client_keys=[private_key] if private_key else None,
                password=target.password,
                preferred_auth=methods,
                known_hosts=([], [], []),
                server_host_key_algs=algorithms_of(contact.pinned),
                config=None,
                agent_path=None,
                x509_trusted_certs=None,
                x509_trusted_cert_paths=[],
                login_timeout=0,
            )
    except TimeoutError as error:
        raise _sign_in_timed_out(target, contact, time.monotonic() - started) from error
    except asyncssh.HostKeyNotVerifiable as error:
        if contact.presented is None:
            raise _no_connection(target.place, error) from error
        raise _changed(target, contact.pinned, contact.presented) from error
    except asyncssh.KeyExchangeFailed as error:
        # A host that was installed anew may have no key of the pinned type at all.
        presented = await scan(target.address, target.port, connect_timeout)
        if presented != contact.pinned:
            raise _changed(target, contact.pinned, presented) from error
        raise _no_connection(target.place, error) from error
    except (OSError, asyncssh.Error) as error:
        if contact.is_verified and not isinstance(error, OSError | asyncssh.ConnectionLost):
            raise _refused(target, methods, error) from error
        raise _no_connection(target.place, error) from error


def _authentication_methods(target: Target, private_key: asyncssh.SSHKey | None) -> list[str]:
    methods = ["publickey"] if private_key else []
    if target.password:
        methods += ["password", "keyboard-interactive"]
    if not methods:
        message = "The credential has neither a private key nor a password."
        raise InvalidInput(message, code="empty_credential", fields={"private_key": message})
    return methods


def pinned_key(target: Target) -> HostKey:
    """Return the only key the host may show; ``HostKeyUnknown`` when none is pinned."""
    if not target.host_key:
        raise HostKeyUnknown(
            f"No host key is pinned for {target.place}; its fingerprint must be accepted first."
        )
    return describe(load_public_key(target.host_key))


def algorithms_of(pinned: HostKey) -> tuple[str, ...]:
    """What to ask a host for to see its key of the pinned type, not the one it prefers."""
    return _RSA_SIGNATURES if pinned.type == "ssh-rsa" else (pinned.type,)


def _changed(target: Target, pinned: HostKey, presented: HostKey) -> HostKeyChanged:
    return HostKeyChanged(target.place, pinned=pinned, presented=presented)


def _sign_in_timed_out(target: Target, contact: _Contact, waited: float) -> TimedOut | Unreachable:
    if contact.is_verified:
        return TimedOut(
            f"{target.place} did not finish the sign-in of {target.user} in {waited:.1f} seconds."
        )
    if contact.is_connected:
        return Unreachable(
            f"{target.place} accepts connections but did not speak SSH for {waited:.1f} seconds."
        )
    return Unreachable(f"{target.place} did not answer for {waited:.1f} seconds.")


def _refused(target: Target, methods: list[str], error: Exception) -> AuthenticationFailed:
    means = " and ".join({"publickey": "key", "password": "password"}.get(m, m) for m in methods)
    return AuthenticationFailed(
        f"{target.place} refused the sign-in of {target.user} (tried: {means}): "
        f"{shorten(str(error), 200)}."
    )


def _no_connection(where: str, error: Exception) -> Unreachable | PermanentError:
    """Say why there is no connection: the network (repeat) or what answers there (do not)."""
    reason = shorten(str(error), 200) or type(error).__name__
    if isinstance(error, OSError | asyncssh.ConnectionLost):
        return Unreachable(f"No SSH connection to {where}: {reason}.")
    return PermanentError(
        f"What answers at {where} cannot be talked to over SSH: {reason}.", code="not_ssh"
    )


async def execute(
    connection: Connection,
    target: Target,
    script: str,
    *,
    interpreter: Interpreter,
    timeout: float,
) -> Result:
    """Run a script on a signed-in connection, as root when the target wants sudo."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            return await _execute(connection, target, script, interpreter)
    except TimeoutError as error:
        waited = time.monotonic() - started
        message = f"The script on {target.place} did not end within {waited:.1f} seconds."
        raise TimedOut(message) from error
    except asyncssh.ChannelOpenError as error:
        message = f"{target.place} lets {target.user} sign in but not run commands: {error}."
        raise PermanentError(shorten(message), code="no_session") from error
    except (OSError, asyncssh.Error) as error:
        raise _broken(target, error) from error


async def _execute(
    connection: Connection,
    target: Target,
    script: str,
    interpreter: Interpreter,
) -> Result:
    command = _command(_INTERPRETERS[interpreter], needs_sudo=target.needs_sudo)
    process = await connection.create_process(command, encoding=None)
    if target.needs_sudo:
        await _become_root(process, target)
    started_at = time.time()
    stdout, stderr, _ = await asyncio.gather(
        _read(process.stdout, target), _read(process.stderr, target), _send(process, script)
    )
    await process.wait_closed()
    ended_at = time.time()
    if process.returncode is None:
        raise _broken(target, None)
    return Result(
        stdout=stdout.decode(errors="replace"),
        stderr=stderr.decode(errors="replace"),
        status=process.returncode,
        started_at=started_at,
        ended_at=ended_at,
    )


def _command(run: str, *, needs_sudo: bool) -> str:
    """Build the remote command; the login shell may be any, so all is one quoted sh script."""
    if not needs_sudo:
        return f"exec sh -c {shlex.quote(run)}"
    # -k: never profit from, nor leave behind, a cached password.  -S: the prompt is on stderr.
    sudo = f"exec sudo -k -S -p {_PROMPT.decode()} sh -c {shlex.quote(f'{_PRINT_READY}; {run}')}"
    return f"exec env LC_ALL=C sh -c {shlex.quote(sudo)}"


async def _become_root(process: asyncssh.SSHClientProcess[bytes], target: Target) -> None:
    """Answer sudo when and only when it asks, then wait until the command under it runs.

    A password that was sent unasked would reach the script instead.
    """
    was_asked = False
    try:
        while not (await process.stderr.readuntil((_PROMPT, _READY))).endswith(_READY):
            if was_asked:
                raise NoPrivilege(f"sudo on {target.place} refused the password of {target.user}.")
            if not target.become_password:
                raise NoPrivilege(
                    f"sudo on {target.place} asks {target.user} for a password and the "
                    "credential has none."
                )
            process.stdin.write(target.become_password.encode() + b"\n")
            was_asked = True
    except asyncio.IncompleteReadError as error:
        await process.wait_closed()
        if process.returncode is None:
            raise _broken(target, None) from error
        said = error.partial.decode(errors="replace")
        reason = shorten(said, 200) or "it ended without a word"
        message = f"{target.user} cannot become root on {target.place} through sudo: {reason}"
        raise NoPrivilege(message) from error


async def _send(process: asyncssh.SSHClientProcess[bytes], script: str) -> None:
    # A command that ends without reading says why in its status; that is the better message.
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(script.encode())
        await process.stdin.drain()
        process.stdin.write_eof()


async def _read(reader: asyncssh.SSHReader[bytes], target: Target) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while chunk := await reader.read(65536):
        chunks.append(chunk)
        size += len(chunk)
        if size > OUTPUT_LIMIT:
            limit = OUTPUT_LIMIT // (1024 * 1024)
            raise OutputTooLarge(f"The script on {target.place} printed more than {limit} MiB.")
    return b"".join(chunks)


def _broken(target: Target, error: Exception | None) -> ConnectionBroken:
    reason = f": {shorten(str(error), 200)}" if error else ""
    return ConnectionBroken(f"The connection to {target.place} ended while the script ran{reason}.")
