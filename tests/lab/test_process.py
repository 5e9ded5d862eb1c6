"""Programs run to the end, and servers known by pid and start time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.process import (
    Process,
    run,
    run_logged,
    start_server,
    status_of,
    stop_recorded,
    wait_for,
)

STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
SLEEP = "import time; time.sleep(60)"


def test_run_returns_the_output():
    assert run("echo", "hello") == "hello\n"


def test_run_hands_text_to_the_program():
    assert run("cat", input_text="lines") == "lines"


def test_a_failed_command_says_what_it_printed():
    with pytest.raises(LabError, match=r"(?s)failed with status 3.*no disk"):
        run("sh", "-c", "echo no disk >&2; exit 3")


def test_a_missing_program_points_to_setup():
    with pytest.raises(LabError, match="no-such-program is missing; `python -m lab setup`"):
        run("no-such-program")


def test_a_command_that_hangs_is_ended():
    with pytest.raises(LabError, match="did not end within 0 s"):
        run("sleep", "60", timeout=0.1)


def test_a_failed_build_quotes_the_end_of_its_log(tmp_path: Path):
    with pytest.raises(LabError, match="undefined symbol"):
        run_logged(
            "sh", "-c", "echo undefined symbol; exit 1", log_file=tmp_path / "log", timeout=10
        )


def test_status_of_takes_failure_as_an_answer():
    assert status_of("sh", "-c", "echo why; exit 4") == (4, "why\n")


def test_waiting_in_vain_names_the_condition_and_the_details():
    with pytest.raises(LabError, match=r"(?s)The flood did not happen within 0 s.*dry"):
        wait_for("The flood", lambda: False, timeout=0.01, interval=0.01, details=lambda: "dry")


def test_a_server_runs_until_it_is_stopped(tmp_path: Path):
    server = start_server("sleeper", sys.executable, "-c", SLEEP, folder=tmp_path)
    assert server.process.is_running()
    server.stop()
    assert not server.process.is_running()
    assert not server.record.exists()


def test_a_stopped_server_leaves_no_zombie(tmp_path: Path):
    server = start_server("sleeper", sys.executable, "-c", SLEEP, folder=tmp_path)
    server.stop()
    assert not Path(f"/proc/{server.process.pid}").exists()


def test_a_server_that_ignores_the_request_is_killed(tmp_path: Path):
    code = f"{STUBBORN}; time.sleep(60)"
    server = start_server("stubborn", sys.executable, "-c", code, folder=tmp_path)
    wait_for("The output", lambda: server.log_file.read_text() == "up\n", timeout=10)
    server.process.stop(grace=0.2)
    assert not server.process.is_running()


def test_a_server_that_ends_during_its_start_quotes_its_log(tmp_path: Path):
    # Seen at once or a moment later, as the scheduler has it.
    with pytest.raises(LabError, match=r"(?s)weak ended (at once|during its start).*port taken"):
        start_server("weak", "sh", "-c", "echo port taken; exit 1", folder=tmp_path).wait_until(
            lambda: False, timeout=10
        )


def test_a_server_that_never_answers_is_stopped(tmp_path: Path):
    server = start_server("mute", sys.executable, "-c", SLEEP, folder=tmp_path)
    with pytest.raises(LabError, match="The start of mute"):
        server.wait_until(lambda: False, timeout=0.1)
    assert not server.process.is_running()


def test_recorded_servers_of_a_dead_lab_are_ended(tmp_path: Path):
    server = start_server("sleeper", sys.executable, "-c", SLEEP, folder=tmp_path)
    stop_recorded(tmp_path)
    assert not server.process.is_running()


def test_a_stranger_with_the_recorded_pid_is_left_alone(tmp_path: Path):
    with subprocess.Popen(["sleep", "60"]) as stranger:
        known = Process.of(stranger.pid)
        assert known is not None
        (tmp_path / "processes").mkdir()
        record = {"pid": known.pid, "started": known.started - 1}
        (tmp_path / "processes" / "old.json").write_text(json.dumps(record))
        stop_recorded(tmp_path)
        assert stranger.poll() is None
        stranger.kill()


def test_this_process_is_known_by_its_start():
    me = Process.of(os.getpid())
    assert me is not None
    assert me.is_running()
    assert not Process(pid=me.pid, started=me.started + 1).is_running()
