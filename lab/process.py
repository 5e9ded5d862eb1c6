"""Running programs: to the end with their output kept for the error, and as servers by pid.

Servers are recorded in the lab's folder as pid + start time of the process, so that a later
process can end exactly what a dead lab left behind and never a stranger that got the same pid.
"""

import json
import logging
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

log = logging.getLogger("lab")

OUTPUT_LIMIT = 4000
"""Characters of a failed command's output that an error message carries (the end of it)."""


def run(
    *command: str | Path,
    input_text: str | None = None,
    timeout: float = 120,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return its standard output; LabError carries what it printed."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=input_text,
            stdin=subprocess.DEVNULL if input_text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(
            f"The program {words[0]} is missing; `python -m lab setup` installs it."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{_title(words)}` did not end within {timeout:.0f} s.") from error
    if done.returncode != 0:
        raise LabError(_failure(words, done.returncode, done.stdout + done.stderr))
    return done.stdout


def status_of(*command: str | Path, timeout: float = 30) -> tuple[int, str]:
    """Run a program that may fail as part of its work; return its status and all its output."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{_title(words)}` did not end within {timeout:.0f} s.") from error
    return done.returncode, done.stdout + done.stderr


def run_logged(
    *command: str | Path,
    log_file: Path,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> None:
    """Run a long program with its output in ``log_file``; the error quotes the end of that file."""
    words = [str(word) for word in command]
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as output:
        try:
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                check=False,
            )
        except FileNotFoundError as error:
            raise LabError(
                f"The program {words[0]} is missing; `python -m lab setup` installs it."
            ) from error
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"`{_title(words)}` did not end within {timeout:.0f} s (log: {log_file})."
            ) from error
    if done.returncode != 0:
        raise LabError(_failure(words, done.returncode, _tail(log_file)))


def wait_for(
    what: str,
    condition: Callable[[], bool],
    *,
    timeout: float,
    interval: float = 0.2,
    details: Callable[[], str] | None = None,
) -> None:
    """Poll until the condition holds; LabError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            more = f"\n{details()}" if details else ""
            raise LabError(f"{what} did not happen within {timeout:.0f} s.{more}")
        time.sleep(interval)


@dataclass(frozen=True)
class Process:
    """A process known by pid and start time (clock ticks since boot), immune to pid reuse."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has this pid now, or None; a zombie counts as gone."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else cls(pid=pid, started=int(fields[19]))

    def is_running(self) -> bool:
        return Process.of(self.pid) == self

    def stop(self, *, grace: float = 3.0) -> None:
        """SIGTERM to the process group the server leads, SIGKILL after ``grace`` seconds."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._has_ended():
                return
            with suppress(ProcessLookupError):  # it may end between the look and the signal
                os.killpg(self.pid, number)
            deadline = time.monotonic() + grace
            while not self._has_ended() and time.monotonic() < deadline:
                time.sleep(0.02)

    def _has_ended(self) -> bool:
        """Whether all of it is gone; our own child is collected, or it would stay a zombie."""
        try:
            ended, _ = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:  # another process has started it, or it was collected already
            return not self.is_running()
        return ended == self.pid


@dataclass(frozen=True)
class Server:
    """A server the lab started: its process, its log, and the record that survives us."""

    name: str
    process: Process
    log_file: Path
    record: Path

    def stop(self) -> None:
        self.process.stop()
        self.record.unlink(missing_ok=True)

    def wait_until(self, condition: Callable[[], bool], *, timeout: float) -> None:
        """Wait for the server to answer; stop it and quote its log when it does not."""

        def answered() -> bool:
            if not self.process.is_running():
                raise LabError(f"{self.name} ended during its start:\n{_tail(self.log_file)}")
            return condition()

        try:
            wait_for(
                f"The start of {self.name}",
                answered,
                timeout=timeout,
                details=lambda: _tail(self.log_file),
            )
        except LabError:
            self.stop()
            raise


def start_server(
    name: str,
    *command: str | Path,
    folder: Path,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    cwd: Path | None = None,
) -> Server:
    """Start a server as leader of its own session; log and record lie under ``folder``."""
    words = [str(word) for word in command]
    records, logs = folder / "processes", folder / "logs"
    records.mkdir(parents=True, exist_ok=True)
    logs.mkdir(parents=True, exist_ok=True)
    log_file = logs / f"{name}.log"
    with log_file.open("ab") as output:
        try:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=cwd or "/",
                env={**os.environ, **(env or {})},
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        except FileNotFoundError as error:
            raise LabError(
                f"The program {words[0]} is missing; `python -m lab setup` installs it."
            ) from error
    process = Process.of(child.pid)
    child.returncode = 0  # the record owns the process from here on; stop() collects it
    if process is None:
        raise LabError(f"{name} ended at once:\n{_tail(log_file)}")
    record = records / f"{name}.json"
    record.write_text(json.dumps({"pid": process.pid, "started": process.started}))
    return Server(name=name, process=process, log_file=log_file, record=record)


def stop_recorded(folder: Path) -> None:
    """End every server recorded under the lab folder, newest first; strangers are left alone."""
    records = (folder / "processes").glob("*.json")
    for record in sorted(records, key=lambda path: path.stat().st_mtime, reverse=True):
        data = json.loads(record.read_text())
        Process(pid=data["pid"], started=data["started"]).stop()
        record.unlink(missing_ok=True)


def _title(words: Sequence[str]) -> str:
    line = " ".join(words)
    return line if len(line) <= 200 else line[:199] + "…"


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-OUTPUT_LIMIT:] if path.exists() else ""


def _failure(words: Sequence[str], status: int, output: str) -> str:
    return f"`{_title(words)}` failed with status {status}:\n{output.strip()[-OUTPUT_LIMIT:]}"
