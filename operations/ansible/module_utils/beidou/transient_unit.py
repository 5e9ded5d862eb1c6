"""Run a long command on the host as a transient systemd unit that outlives the connection.

Loss of SSH, of the worker or of Ansible does not touch the command; whoever comes again with the
same unit name and the same command waits for the running one. Output goes
to files under ``/run/beidou/<unit>`` rather than through a pipe, because a pipe dies with the
connection and takes the command with it at its next line of output.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence

from ansible.module_utils.beidou.sentences import Sentence

RUN_FOLDER = "/run/beidou"
STOP_SECONDS = 3
"""After this long a unit that was told to stop is killed: a cancel has five seconds in all."""
OUTPUT_LIMIT = 256 * 1024
SHOWN_CHARACTERS, LINE_CHARACTERS = 600, 300
"""Of the output in a message."""
UNIT_NAME = re.compile(r"beidou-[A-Za-z0-9][A-Za-z0-9_.-]{0,100}")
KEEP_SECONDS = 24 * 3600
"""Folders of ended units are removed a day later by whichever unit starts next."""
LIVE_STATES = ("active", "activating", "deactivating", "reloading")


class UnitProblem(Exception):
    """The unit cannot be started or followed; the message is a whole sentence."""

    def __init__(self, message: Sentence) -> None:
        super().__init__(message)
        self.message = message


@dataclasses.dataclass(frozen=True)
class Command:
    arguments: Sequence[str]
    script: str = ""
    """Text of a file; its path follows the arguments, the script's own arguments follow that."""
    script_arguments: Sequence[str] = ()
    stdin: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    remove_after: Sequence[str] = ()
    """Files with secrets, there when it begins, which the unit itself removes however it ends."""

    def fingerprint(self) -> str:
        """Tells whether a unit of the same name does the same work."""
        return hashlib.sha256(
            json.dumps(dataclasses.asdict(self), sort_keys=True).encode()
        ).hexdigest()


@dataclasses.dataclass(frozen=True)
class Outcome:
    result: str
    """systemd's word (success, exit-code, signal, timeout, oom-kill, …), or stopped."""
    code: int
    """Exit code, or 128 + signal."""
    stdout: str
    stderr: str
    rejoined: bool
    seconds: float

    @property
    def ok(self) -> bool:
        return self.result == "success"

    def sentence(self, unit: str) -> str:
        """How it ended, with the last lines of output: these name the reason."""
        if self.result == "timeout":
            how = Sentence("%(unit)s ran longer than allowed and was ended.", unit=unit)
        elif self.result == "stopped":
            how = Sentence("%(unit)s was stopped.", unit=unit)
        elif self.result in ("signal", "core-dump"):
            signal = self.code - 128
            how = Sentence("%(unit)s was ended by signal %(signal)d.", unit=unit, signal=signal)
        elif self.result == "oom-kill":
            how = Sentence("%(unit)s was ended because the host ran out of memory.", unit=unit)
        else:
            how = Sentence("%(unit)s failed with exit code %(code)d.", unit=unit, code=self.code)
        last = last_lines(self.stderr or self.stdout)
        if not last:
            return how
        return Sentence("%(how)s Its last lines: %(lines)s", how=how, lines=" | ".join(last))


def last_lines(output: str) -> list[str]:
    """At most six and ``SHOWN_CHARACTERS`` in all, each perhaps cut, so that the very last is there
    in whatever shows a message in part."""
    lines: list[str] = []
    room = SHOWN_CHARACTERS
    for line in reversed([line.strip() for line in output.splitlines() if line.strip()][-6:]):
        shown = line if len(line) <= LINE_CHARACTERS else f"{line[: LINE_CHARACTERS - 1]}…"
        if len(shown) > room:
            break
        room -= len(shown)
        lines.insert(0, shown)
    return lines


def run(unit: str, command: Command, timeout_seconds: int, call: str) -> Outcome:
    """Start the command, or rejoin it, and wait until it has ended.

    ``call`` is the same when a call is repeated because its connection was lost: only such a
    repetition is told how a command ended; any other call runs it again.
    """
    if not UNIT_NAME.fullmatch(unit):
        raise UnitProblem(
            Sentence("“%(unit)s” is not a unit name of the form beidou-….", unit=unit)
        )
    folder = os.path.join(RUN_FOLDER, unit)
    begin = time.monotonic()
    rejoined = can_rejoin(unit, folder, command.fingerprint(), call)
    if not rejoined:
        _start(unit, folder, command, timeout_seconds)
    _write(folder, "call", call)
    result, code = _wait(unit, folder, timeout_seconds + STOP_SECONDS + 30)
    return Outcome(
        result=result,
        code=code,
        stdout=_tail(os.path.join(folder, "stdout")),
        stderr=_tail(os.path.join(folder, "stderr")),
        rejoined=rejoined,
        seconds=round(time.monotonic() - begin, 2),
    )


def can_rejoin(unit: str, folder: str, fingerprint: str, call: str) -> bool:
    """Whether this very command runs under the name, or ended after this very call began."""
    same = _read(os.path.join(folder, "fingerprint")) == fingerprint
    if unit_state(unit) in LIVE_STATES:
        if same:
            return True
        raise UnitProblem(
            Sentence(
                "%(unit)s is already running another command on this host; stop it first.",
                unit=unit,
            )
        )
    has_ended = os.path.exists(os.path.join(folder, "result"))
    return same and has_ended and _read(os.path.join(folder, "call")) == call


def parse_result(text: str) -> tuple[str, int]:
    """``SERVICE_RESULT``, ``EXIT_CODE`` and ``EXIT_STATUS``, a line each."""
    result, how, status = (text.splitlines() + ["", "", ""])[:3]
    if how == "exited" and status.isdigit():
        return result, int(status)
    # To systemd a service that ended by the signal of a stop is a success.
    return "stopped" if result == "success" else result, 128 + SIGNALS.get(status, 0)


SIGNALS = {"HUP": 1, "INT": 2, "QUIT": 3, "ABRT": 6, "KILL": 9, "SEGV": 11, "PIPE": 13, "TERM": 15}


def _start(unit: str, folder: str, command: Command, timeout_seconds: int) -> None:
    for path in command.remove_after:
        if not os.path.exists(path):  # written just before, into a folder that is in memory
            raise UnitProblem(
                Sentence(
                    "%(unit)s cannot begin: %(path)s is gone, as after a restart of the host. Try "
                    "again.",
                    unit=unit,
                    path=path,
                )
            )
    forget_ended_units(KEEP_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    os.chmod(RUN_FOLDER, 0o700)
    _write(folder, "fingerprint", command.fingerprint())
    _write(folder, "stdin", command.stdin)
    _write(folder, "after", after_script(folder, command.remove_after))
    arguments = list(command.arguments)
    if command.script:
        arguments.append(_write(folder, "script", command.script))
    arguments.extend(command.script_arguments)
    done = subprocess.run(
        systemd_run(unit, folder, timeout_seconds, command.environment) + arguments,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise UnitProblem(
            Sentence("%(unit)s could not be started: %(why)s", unit=unit, why=done.stderr.strip())
        )


def systemd_run(
    unit: str, folder: str, timeout_seconds: int, environment: Mapping[str, str]
) -> list[str]:
    properties = {
        "RuntimeMaxSec": f"{timeout_seconds}s",
        "TimeoutStopSec": f"{STOP_SECONDS}s",
        "StandardInput": f"file:{folder}/stdin",
        "StandardOutput": f"file:{folder}/stdout",
        "StandardError": f"file:{folder}/stderr",
        "ExecStopPost": f"/bin/sh {folder}/after",
    }
    return [
        "systemd-run", "--quiet", "--collect", f"--unit={unit}",
        *(f"--property={name}={value}" for name, value in properties.items()),
        *(f"--setenv={name}={value}" for name, value in {"HOME": "/root", **environment}.items()),
        "--",
    ]  # fmt: skip


def after_script(folder: str, remove_after: Sequence[str]) -> str:
    """Run by systemd when the command has ended in whatever way."""
    removals = "".join(f"rm -f -- {_quoted(path)}\n" for path in remove_after)
    return (
        f"{removals}"
        f'printf "%s\\n%s\\n%s\\n" "$SERVICE_RESULT" "$EXIT_CODE" "$EXIT_STATUS"'
        f" >{folder}/result.part && mv {folder}/result.part {folder}/result\n"
    )


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"


def _wait(unit: str, folder: str, seconds: float) -> tuple[str, int]:
    path, deadline, pause = os.path.join(folder, "result"), time.monotonic() + seconds, 0.05
    next_look = time.monotonic() + 2
    while not os.path.exists(path):
        now = time.monotonic()
        if now > deadline:
            raise UnitProblem(
                Sentence(
                    "%(unit)s did not end within %(seconds)d s.", unit=unit, seconds=round(seconds)
                )
            )
        if now > next_look:
            if unit_state(unit) not in LIVE_STATES and not os.path.exists(path):
                raise UnitProblem(
                    Sentence(
                        "%(unit)s left no result: it was stopped, or the host restarted.", unit=unit
                    )
                )
            next_look = now + 2
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)
    return read_result(folder)


def read_result(folder: str) -> tuple[str, int]:
    result, code = parse_result(_read(os.path.join(folder, "result")))
    return ("stopped" if os.path.exists(os.path.join(folder, "stopped")) else result), code


def unit_state(unit: str) -> str:
    done = subprocess.run(
        ["systemctl", "show", "--property=ActiveState", "--value", f"{unit}.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()


def enter_scope(unit: str, seconds: float = 120) -> None:
    """Put this very process into a scope of its own, so that `stop_units` finds and ends it.

    Waits while an earlier run of the same name is still at work.
    """
    if not UNIT_NAME.fullmatch(unit):
        raise UnitProblem(
            Sentence("“%(unit)s” is not a unit name of the form beidou-….", unit=unit)
        )
    deadline = time.monotonic() + seconds
    while True:
        done = subprocess.run(
            ["busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
             "org.freedesktop.systemd1.Manager", "StartTransientUnit", "ssa(sv)a(sa(sv))",
             f"{unit}.scope", "fail", "1", "PIDs", "au", "1", str(os.getpid()), "0"],
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        if "already" not in done.stderr or time.monotonic() > deadline:
            raise UnitProblem(
                Sentence(
                    "%(unit)s could not be started: %(why)s",
                    unit=f"{unit}.scope",
                    why=done.stderr.strip(),
                )
            )
        time.sleep(0.5)


def list_units(prefix: str) -> list[str]:
    """Names with suffix of the services and scopes of one attempt that are loaded now."""
    done = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "--full", f"{prefix}-*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def stop_units(prefix: str) -> list[str]:
    """End all units of an attempt and return the names of those that ran.

    Their folders stay, so that whoever still waits for one learns that it was stopped; files with
    secrets that no unit has taken over yet go.
    """
    units = list_units(prefix)
    for unit in units:
        _mark_stopped(os.path.join(RUN_FOLDER, unit.rsplit(".", 1)[0]))
    if units:
        subprocess.run(["systemctl", "stop", *units], capture_output=True, check=False)
    for unit in list_units(prefix):
        subprocess.run(
            ["systemctl", "kill", "--signal=SIGKILL", unit], capture_output=True, check=False
        )
    for name in _names(RUN_FOLDER):
        path = os.path.join(RUN_FOLDER, name)
        if name.startswith(f"{prefix}-") and os.path.isfile(path):
            os.unlink(path)
    return units


def forget_ended_units(keep_seconds: float) -> None:
    """Remove the folders of units that ended longer ago."""
    for name in _names(RUN_FOLDER):
        folder = os.path.join(RUN_FOLDER, name)
        result = os.path.join(folder, "result")
        if os.path.exists(result) and time.time() - os.path.getmtime(result) > keep_seconds:
            shutil.rmtree(folder, ignore_errors=True)


def _mark_stopped(folder: str) -> None:
    """systemd calls it a timeout when what is told to stop does not, so the order is noted."""
    if os.path.isdir(folder) and not os.path.exists(os.path.join(folder, "stopped")):
        _write(folder, "stopped", "")


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _write(folder: str, name: str, text: str) -> str:
    path = os.path.join(folder, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _tail(path: str) -> str:
    """The file, or its end with a note about how much is left out."""
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            file.seek(max(0, size - OUTPUT_LIMIT))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    left_out = size - OUTPUT_LIMIT
    return f"[{left_out} bytes left out]\n{text}" if left_out > 0 else text
