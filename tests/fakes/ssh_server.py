"""A real SSH server on 127.0.0.1 whose sign-in, host key and sudo misbehave as a test asks.

Commands run for real in a local ``sh``, with a scripted ``sudo`` first in the path, so a driver
is tested against the true protocol and true exit codes.  ``SilentServer`` is the other extreme:
it accepts connections and says nothing.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import asyncssh

Sudo = Literal["free", "password", "refused", "missing"]
Trouble = Literal["hangs_in_sign_in", "hangs_in_command", "cuts_in_command"]

_FREE_SUDO = """#!/bin/sh
# Understands the options the driver uses and asks for nothing.
while [ "${1#-}" != "$1" ]; do [ "$1" = -p ] && shift; shift; done
exec "$@"
"""
_PASSWORD_SUDO = """#!/bin/sh
# Asks on stderr and reads stdin as `sudo -S` does: three times, then it gives up.
while [ "${1#-}" != "$1" ]; do [ "$1" = -p ] && { prompt=$2; shift; }; shift; done
echo 'We trust you have received the usual lecture.' >&2
for try in 1 2 3; do
    printf %s "$prompt" >&2
    IFS= read -r given
    [ "$given" = '%(password)s' ] && exec "$@"
    echo 'Sorry, try again.' >&2
done
exit 1
"""
_REFUSED_SUDO = """#!/bin/sh
# Repeats the whole refused command, as the real one does.
while [ "${1#-}" != "$1" ]; do [ "$1" = -p ] && shift; shift; done
echo "Sorry, user tester is not allowed to execute '$*' as root on host." >&2
exit 1
"""
_MISSING_SUDO = """#!/bin/sh
echo 'sh: 1: exec: sudo: not found' >&2
exit 127
"""
SUDO_PASSWORD = "sudo-secret"
_SUDO: dict[Sudo, str] = {
    "free": _FREE_SUDO,
    "password": _PASSWORD_SUDO.replace("%(password)s", SUDO_PASSWORD),
    "refused": _REFUSED_SUDO,
    "missing": _MISSING_SUDO,
}


@dataclass
class SshServer:
    """Start with ``with SshServer(...) as server``; change its attributes while it runs.

    ``keys`` maps a user to the public keys that may sign in, ``passwords`` to the password.
    ``signed_in`` counts completed sign-ins and ``attempts`` those begun (users in order).
    """

    host_key_type: str = "ssh-ed25519"
    keys: dict[str, list[asyncssh.SSHKey]] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    trouble: Trouble | None = None
    sudo: Sudo = "free"
    greeting: str = ""
    attempts: list[str] = field(default_factory=list)
    signed_in: list[str] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-sshd")
        self._folder = tempfile.TemporaryDirectory(prefix="fake-ssh-")
        self._acceptor: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._commands: set[asyncio.Task[None]] = set()
        self.address = "127.0.0.1"
        self.host_key = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self.install_host_key(self.host_key_type)
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()

    def install_host_key(self, *types: str) -> None:
        """Go on at the same port with new host keys; ``host_key`` becomes the first of them."""
        keys = [new_key(each) for each in types]
        self.host_key = public_line(keys[0])
        self._call(self._listen(keys))

    def _call(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _listen(self, host_keys: list[asyncssh.SSHKey]) -> None:
        await self._stop()
        self._acceptor = await asyncssh.listen(
            self.address,
            self.port,
            reuse_address=True,
            server_factory=lambda: _Server(self),
            server_host_keys=host_keys,
            process_factory=self._start,
            encoding=None,
            login_timeout=0,
        )
        self.port = self._acceptor.get_port()

    async def _stop(self) -> None:
        if self._acceptor:
            self._acceptor.close()
            await self._acceptor.wait_closed()
        await self._abort()
        await asyncio.gather(*self._commands)

    async def _abort(self) -> None:
        for connection in list(self._connections):
            connection.abort()
            await connection.wait_closed()

    def _start(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        command = self._loop.create_task(self._run(process))
        self._commands.add(command)
        command.add_done_callback(self._commands.discard)

    async def _run(self, process: "asyncssh.SSHServerProcess[bytes]") -> None:
        """Run one command until it ends or the client leaves."""
        if self.trouble == "cuts_in_command":
            process.get_extra_info("connection").abort()
        if self.trouble in ("hangs_in_command", "cuts_in_command"):
            await process.wait_closed()
            return
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            f"{self.greeting}\n{process.command}",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": self._path(), "HOME": self._folder.name, "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        feeding = asyncio.create_task(_feed(process, child))
        answering = asyncio.create_task(_answer(process, child))
        left = asyncio.create_task(process.wait_closed())
        watched: set[asyncio.Task[None]] = {answering, left}
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in (feeding, answering, left):
            task.cancel()
        await asyncio.gather(feeding, answering, left, return_exceptions=True)
        await _end(child)

    def _path(self) -> str:
        """Folders of the commands: the scripted sudo, then this Python, then the system's."""
        folder = Path(self._folder.name, self.sudo)
        if not folder.exists():
            folder.mkdir()
            script = folder / "sudo"
            script.write_text(_SUDO[self.sudo])
            script.chmod(0o755)
        return f"{folder}:{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"

    def opened(self, connection: asyncssh.SSHServerConnection) -> None:
        self._connections.add(connection)

    def closed(self, connection: asyncssh.SSHServerConnection | None) -> None:
        self._connections = {each for each in self._connections if each is not connection}


class _Server(asyncssh.SSHServer):
    """The sign-in of one connection."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._server.opened(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self._connection)

    async def begin_auth(self, username: str) -> bool:
        self._server.attempts.append(username)
        if self._server.trouble == "hangs_in_sign_in":
            await asyncio.Event().wait()
        return True

    def auth_completed(self) -> None:
        self._server.signed_in.append(self._server.attempts[-1])

    def public_key_auth_supported(self) -> bool:
        return bool(self._server.keys)

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = self._server.keys.get(username, [])
        return key.public_data in [each.public_data for each in known]

    def password_auth_supported(self) -> bool:
        return bool(self._server.passwords)

    def validate_password(self, username: str, password: str) -> bool:
        return self._server.passwords.get(username) == password


async def _feed(
    process: "asyncssh.SSHServerProcess[bytes]", child: asyncio.subprocess.Process
) -> None:
    assert child.stdin
    try:
        while data := await process.stdin.read(65536):
            child.stdin.write(data)
            await child.stdin.drain()
    except (BrokenPipeError, ConnectionResetError, asyncssh.Error):
        pass  # the command reads no further, or the client left
    finally:
        child.stdin.close()


async def _answer(
    process: "asyncssh.SSHServerProcess[bytes]", child: asyncio.subprocess.Process
) -> None:
    """Pass on what the command prints, then how it ended."""
    assert child.stdout
    assert child.stderr
    with contextlib.suppress(BrokenPipeError, asyncssh.Error):  # the client left
        await asyncio.gather(
            _pass_on(child.stdout, process.stdout), _pass_on(child.stderr, process.stderr)
        )
        status = await child.wait()
        if status < 0:
            process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
        else:
            process.exit(status)


async def _pass_on(source: asyncio.StreamReader, sink: "asyncssh.SSHWriter[bytes]") -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()


async def _end(child: asyncio.subprocess.Process) -> None:
    """Kill what is left of a command and read its pipes to their end, which closes them."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    for pipe in (child.stdout, child.stderr):
        while pipe and await pipe.read(65536):
            pass
    await child.wait()


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Yield a port where connections are accepted by the kernel and nobody ever speaks."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]


@contextlib.contextmanager
def talking_server(words: bytes) -> Iterator[int]:
    """Yield a port that answers every connection with ``words`` and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the listener was closed: the test is over
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(words)

        thread = threading.Thread(target=serve, name="talking-server")
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def closed_port() -> int:
    """Return a port of 127.0.0.1 where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_key(kind: str = "ssh-ed25519") -> asyncssh.SSHKey:
    """Make a key pair (RSA with 2048 bits to stay quick)."""
    if kind == "ssh-rsa":
        return asyncssh.generate_private_key(kind, key_size=2048)
    return asyncssh.generate_private_key(kind)


def public_line(key: asyncssh.SSHKey) -> str:
    """Return "type base64" of a key."""
    return key.export_public_key("openssh").decode().strip()


def private_text(key: asyncssh.SSHKey) -> str:
    """Return the private key as a person would paste it."""
    return key.export_private_key("openssh").decode()
