"""Programs side by side: started, started again, stopped, and none left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

from beidou.base.supervisor import Program, Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent


def wait_for(condition, seconds: float = 15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("the condition did not come true in time")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", textwrap.dedent(code))


def supervised(*programs: Program, while_running) -> None:
    """Run a supervisor here; ``while_running(supervisor)`` runs beside it, then it is stopped."""
    supervisor = Supervisor(programs)
    errors: list[BaseException] = []

    def act() -> None:
        try:
            wait_for(lambda: len(supervisor.pids()) == len(programs))
            while_running(supervisor)
        except BaseException as error:  # noqa: BLE001  handed to the test below
            errors.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=act)
    thread.start()
    supervisor.run()
    thread.join()
    if errors:
        raise errors[0]


SLEEPER = Program("sleeper", python("import time; time.sleep(60)"))


def test_sigterm_stops_every_program():
    seen: list[int] = []
    supervised(SLEEPER, while_running=lambda s: seen.extend(s.pids().values()))
    assert seen
    assert not any(is_alive(pid) for pid in seen)


def test_a_program_that_dies_is_started_again():
    def kill_it(supervisor: Supervisor) -> None:
        first = supervisor.pids()["sleeper"]
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: supervisor.pids().get("sleeper", first) != first)

    supervised(SLEEPER, while_running=kill_it)


def test_a_program_that_ignores_sigterm_is_killed_after_its_time(tmp_path):
    marker = tmp_path / "ready"
    stubborn = Program(
        "stubborn",
        python(
            f"""
            import pathlib, signal, time
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            pathlib.Path({str(marker)!r}).touch()
            time.sleep(60)
            """
        ),
        stop_seconds=0.3,
    )
    seen: list[int] = []

    def note(supervisor: Supervisor) -> None:
        wait_for(marker.exists)
        seen.extend(supervisor.pids().values())

    started = time.monotonic()
    supervised(stubborn, while_running=note)
    assert not is_alive(seen[0])
    assert time.monotonic() - started < 20


def test_whoever_waits_for_a_program_is_told_why(tmp_path, monkeypatch):
    marker, told = tmp_path / "ready", []
    busy = Program(
        "busy",
        python(
            f"""
            import pathlib, signal, sys, time
            signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.6), sys.exit()))
            pathlib.Path({str(marker)!r}).touch()
            time.sleep(60)
            """
        ),
        stop_seconds=20,
    )
    monkeypatch.setattr("beidou.base.supervisor.SAID_AFTER", 0.1)
    monkeypatch.setattr(
        "beidou.base.supervisor.logger.info", lambda event, **values: told.append(values)
    )
    supervised(busy, while_running=lambda _supervisor: wait_for(marker.exists))
    [values] = told
    assert values["program"] == "busy"
    assert 18 <= values["killed_in"] <= 20


def test_the_children_of_a_stopped_program_are_ended_too(tmp_path):
    marker = tmp_path / "pid"
    parent = Program(
        "parent",
        python(
            f"""
            import pathlib, subprocess, sys, time
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            pathlib.Path({str(marker)!r}).write_text(str(child.pid))
            time.sleep(60)
            """
        ),
    )
    supervised(
        parent, while_running=lambda s: wait_for(lambda: marker.exists() and marker.read_text())
    )
    wait_for(lambda: not is_alive(int(marker.read_text())))


def test_no_program_survives_a_sigkill_of_the_supervisor(tmp_path):
    marker = tmp_path / "pid"
    code = f"""
        import pathlib, sys
        from beidou.base.supervisor import Program, Supervisor
        sleeper = Program("sleeper", (sys.executable, "-c", "import time; time.sleep(60)"))
        supervisor = Supervisor([sleeper])
        def note():
            if supervisor.pids():
                pathlib.Path({str(marker)!r}).write_text(str(supervisor.pids()["sleeper"]))
        supervisor.run(tick=note)
        """
    process = subprocess.Popen(python(code), cwd=ROOT)
    try:
        wait_for(lambda: marker.exists() and marker.read_text())
        child = int(marker.read_text())
        assert is_alive(child)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not is_alive(child))
