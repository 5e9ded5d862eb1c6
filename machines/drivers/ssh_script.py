"""A script on a signed-in connection: become root if asked to, send it, collect what it prints.

Scripts and passwords travel through stdin, so neither appears in a process list of the host.
"""

import asyncio
import contextlib
import shlex
import time
from dataclasses import dataclass
from typing import Final, Literal

import asyncssh

from beidou.base.errors import InvalidInput, PermanentError, shorten
from beidou.base.network import in_words
from beidou.base.sentences import Sentence
from machines.drivers.ssh_errors import (
    ConnectionBroken,
    NoPrivilege,
    OutputTooLarge,
    TimedOut,
)
from machines.drivers.ssh_session import Connection, Target

Interpreter = Literal["sh", "python3"]

OUTPUT_LIMIT: Final = 4 * 1024 * 1024
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
        message = Sentence(
            "The script on %(place)s did not end within %(seconds)s seconds.",
            place=target.place,
            seconds=f"{waited:.1f}",
        )
        raise TimedOut(message) from error
    except asyncssh.ChannelOpenError as error:
        message = Sentence(
            "%(place)s lets %(user)s sign in but not run commands: %(why)s.",
            place=target.place,
            user=target.user,
            why=shorten(str(error)),
        )
        raise PermanentError(message, code="no_session") from error
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
                raise NoPrivilege(
                    Sentence(
                        "sudo on %(place)s refused the password of %(user)s.",
                        place=target.place,
                        user=target.user,
                    )
                )
            process.stdin.write(_password_for(target))
            was_asked = True
    except asyncio.IncompleteReadError as error:
        await process.wait_closed()
        if process.returncode is None:
            raise _broken(target, None) from error
        said = error.partial.decode(errors="replace")
        message = Sentence(
            "%(user)s cannot become root on %(place)s through sudo: %(why)s",
            user=target.user,
            place=target.place,
            why=shorten(said, 200) or Sentence("it ended without a word"),
        )
        raise NoPrivilege(message) from error


def _password_for(target: Target) -> bytes:
    """Return the line that answers sudo."""
    if not target.become_password:
        raise NoPrivilege(
            Sentence(
                "sudo on %(place)s asks %(user)s for a password and the credential has none.",
                place=target.place,
                user=target.user,
            )
        )
    if "\n" in target.become_password:  # what follows would reach the script
        message = Sentence("The password for sudo must be a single line.")
        raise InvalidInput(message, fields={"become_password": message})
    return target.become_password.encode() + b"\n"


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
            raise OutputTooLarge(
                Sentence(
                    "The script on %(place)s printed more than %(limit)s MiB.",
                    place=target.place,
                    limit=limit,
                )
            )
    return b"".join(chunks)


def _broken(target: Target, error: Exception | None) -> ConnectionBroken:
    if error is None:
        return ConnectionBroken(
            Sentence("The connection to %(place)s ended while the script ran.", place=target.place)
        )
    return ConnectionBroken(
        Sentence(
            "The connection to %(place)s ended while the script ran: %(why)s.",
            place=target.place,
            why=in_words(error),
        )
    )
