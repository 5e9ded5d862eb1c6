"""Facts: read for real from this machine, and refused when a host sends something else."""

import ast
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from machines.drivers import facts, facts_script, ssh
from tests.fakes.ssh_server import SshServer, closed_port

SMALLEST: dict[str, Any] = {"hostname": "h", "time": 1000.0, "seconds_taken": 1.0, "is_root": True}


def printed(value: object, *, status: int = 0, stderr: str = "") -> ssh.Result:
    """A result as if the script had printed ``value`` between 999 and 1003 seconds."""
    text = value if isinstance(value, str) else json.dumps(value)
    return ssh.Result(stdout=text, stderr=stderr, status=status, started_at=999, ended_at=1003)


def gather_one(target: ssh.Target) -> facts.Facts | ssh.Failure:
    [(_, outcome)] = facts.gather([target])
    return outcome


# --- the script on a real system


@pytest.fixture(scope="session")
def own_facts() -> facts.Facts:
    """What the script says of this machine, through ``python3`` and stdin as on a host."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=facts.script(),
        capture_output=True,
        text=True,
        check=False,
    )
    result = ssh.Result(
        stdout=done.stdout,
        stderr=done.stderr,
        status=done.returncode,
        started_at=started,
        ended_at=time.time(),
    )
    return facts.parse(result, place="here")


def test_the_script_agrees_with_python_about_this_machine(own_facts: facts.Facts) -> None:
    assert own_facts.hostname == os.uname().nodename
    assert own_facts.os is not None
    assert own_facts.os.kernel == os.uname().release
    assert own_facts.cpu is not None
    assert own_facts.cpu.threads == os.cpu_count()
    assert own_facts.memory is not None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert own_facts.memory.total == pages
    assert own_facts.is_root == (os.geteuid() == 0)


def test_the_script_measures_the_file_systems(own_facts: facts.Facts) -> None:
    assert own_facts.filesystems is not None
    by_path = {each.path: each for each in own_facts.filesystems}
    root = os.statvfs("/")

    assert by_path["/"].size == root.f_blocks * root.f_frsize
    assert 0 < by_path["/var/lib/kubelet"].free <= by_path["/var/lib/kubelet"].size


def test_every_part_is_there_or_named_as_unread(own_facts: facts.Facts) -> None:
    parts = msgspec.structs.asdict(own_facts)
    optional = set(parts) - {"is_time_synchronized", "boot_time"}

    assert [name for name in optional if parts[name] is None and name not in parts["unread"]] == []


def test_the_clock_of_this_machine_is_not_off_from_itself(own_facts: facts.Facts) -> None:
    assert abs(own_facts.clock_offset) <= own_facts.clock_uncertainty


def test_addresses_are_found_without_the_ip_command() -> None:
    by_kernel = facts_script.addresses_from_kernel()

    assert "127.0.0.1/8" in by_kernel["lo"]
    assert {name: found[:1] for name, found in facts_script.addresses().items()} == {
        name: found[:1] for name, found in by_kernel.items()
    }


def test_the_script_is_ascii_and_runs_on_python_3_6() -> None:
    assert facts.script().isascii()
    ast.parse(facts.script(), feature_version=(3, 6))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(facts_script, "unread", {})

    assert facts_script.read(str(tmp_path)) is None  # a folder: nobody may read it as a file
    assert facts_script.read(str(tmp_path / "missing")) is None
    assert facts_script.unread == {str(tmp_path): "Is a directory"}


@pytest.mark.parametrize(
    "placeholder",
    [
        "To Be Filled By O.E.M.",
        "Default string",
        "System Serial Number",
        "Not Specified",
        "0000000000",
        "00000000-0000-0000-0000-000000000000",
        "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF",
        "03000200-0400-0500-0006-000700080009",
    ],
)
def test_what_a_vendor_did_not_fill_in_is_no_identity(placeholder: str, tmp_path: Path) -> None:
    file = tmp_path / "product_serial"
    file.write_text(placeholder + "\n")

    assert facts_script.firmware(str(file)) is None


def test_a_real_serial_number_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "product_serial"
    file.write_text("CZ20430ABC\n")

    assert facts_script.firmware(str(file)) == "CZ20430ABC"


# --- over SSH


def test_facts_arrive_over_ssh(ssh_target: ssh.Target) -> None:
    found = gather_one(ssh_target)

    assert isinstance(found, facts.Facts)
    assert found.hostname == os.uname().nodename
    assert abs(found.clock_offset) <= found.clock_uncertainty < 10


def test_a_greeting_of_the_login_shell_does_not_spoil_the_facts(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.greeting = "echo 'Welcome to {host}'"

    assert isinstance(gather_one(ssh_target), facts.Facts)


def test_a_host_without_python_is_told_apart(ssh_server: SshServer, ssh_target: ssh.Target) -> None:
    ssh_server.greeting = "mkdir -p $HOME/b; ln -sf /bin/sh $HOME/b/sh; PATH=$HOME/b"

    error = gather_one(ssh_target)

    assert str(error) == f"{ssh_target.place} has no Python 3, which reading its facts needs."


def test_an_unreachable_host_is_an_error_beside_the_facts_of_the_other(
    ssh_target: ssh.Target,
) -> None:
    gone = replace(ssh_target, port=closed_port())

    outcomes = dict(facts.gather([gone, ssh_target]))

    assert isinstance(outcomes[gone], ssh.Unreachable)
    assert isinstance(outcomes[ssh_target], facts.Facts)


# --- what a host may not print


def test_facts_survive_storing_as_json(own_facts: facts.Facts) -> None:
    stored = json.loads(json.dumps(msgspec.to_builtins(own_facts)))

    assert msgspec.convert(stored, facts.Facts) == own_facts


def test_the_clock_offset_is_measured_against_the_middle_of_the_round_trip() -> None:
    # Sent at 999, answered at 1003 after 1 second of work: read between 999 and 1002.
    found = facts.parse(printed({**SMALLEST, "time": 1060.5}), place="h:22")

    assert found.clock_offset == 60
    assert found.clock_uncertainty == 1.5


def test_a_host_that_claims_to_have_worked_longer_than_it_took_is_not_believed() -> None:
    found = facts.parse(printed({**SMALLEST, "seconds_taken": 900}), place="h:22")

    assert found.clock_uncertainty == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "did not print facts but something else"),
        ("{half", "did not print facts but something else"),
        ("[]", "Expected `object`"),
        ({}, "missing required field `hostname`"),
        ({**SMALLEST, "memory": {"total": -1, "swap": 0}}, "`int` >= 0"),
        ({**SMALLEST, "memory": {"total": 2**70, "swap": 0}}, "Integer value out of range|<="),
        ({**SMALLEST, "hostname": "x" * 2000}, "length <= 1000"),
        ({**SMALLEST, "hostname": "a\0b"}, "contain NUL characters"),
        ({**SMALLEST, "more": "x" * 600_000}, "longer than 524288 characters"),
        ({**SMALLEST, "time": float("nan")}, "did not print facts"),
    ],
)
def test_anything_else_is_refused_with_its_reason(answer: object, reason: str) -> None:
    with pytest.raises(facts.MalformedFacts, match=reason):
        facts.parse(printed(answer), place="h:22")


def test_a_script_that_failed_is_reported_with_its_last_words() -> None:
    result = printed("", status=1, stderr="Traceback: no such thing\n")

    with pytest.raises(facts.MalformedFacts, match="ended with status 1; it said: Traceback"):
        facts.parse(result, place="h:22")
