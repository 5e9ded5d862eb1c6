"""Commands that outlive their connection, on a real host."""

import concurrent.futures

import pytest

from tests.operations.ansible.conftest import NAMES, wait_until

pytestmark = pytest.mark.lab


@pytest.fixture
def prefix():
    return f"beidou-{next(NAMES)}-1"


@pytest.fixture
def run(fleet, delivered, prefix):
    """Run ``sh -c`` as a unit; returns the module's answer."""

    def start(command, **arguments):
        play = fleet.module(
            "unit_command",
            delivered,
            **{
                "prefix": prefix,
                "name": "work",
                "argv": ["/bin/sh", "-c", command],
                "timeout_seconds": 60,
                **arguments,
            },
        )
        (result,) = play.of(delivered.name)
        return result.result

    return start


@pytest.fixture
def background():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        yield pool.submit


def wait_for_command(delivered, words, running):
    """Wait until the host runs it; whoever started it must not have ended meanwhile."""

    def runs():
        assert not running.done(), running.result()
        return words in delivered.run("ps -eo args")

    wait_until(runs, words)


def cut_connections(host):
    """Kill every SSH session of root on the host, as a broken network would end them."""
    host.run("kill -9 $(ps -eo pid,args | awk '/sshd: root@/ && !/awk/ {print $1}')")


def test_output_and_exit_code_are_those_of_the_command(run):
    answer = run("echo out; echo err >&2; cat; exit 3", stdin="in")
    assert (answer["rc"], answer["stdout"], answer["stderr"]) == (3, "out\nin", "err\n")
    assert answer["msg"].endswith("-work failed with exit code 3. Its last lines: err")


def test_a_lost_connection_is_taken_up_again_and_the_command_runs_once(
    run, delivered, prefix, background
):
    count = f"/tmp/{prefix}"
    running = background(run, f"echo run >>{count}; until [ -e {count}.go ]; do sleep .1; done")
    wait_for_command(delivered, f"echo run >>{count}", running)
    cut_connections(delivered)
    delivered.run(f"touch {count}.go")
    answer = running.result(60)
    assert (answer["rc"], answer["rejoined"]) == (0, True)
    assert delivered.run(f"cat {count}") == "run\n"


def test_a_call_that_is_repeated_learns_how_the_command_ended(run):
    first, second = run("date +%N; exit 4", call="one"), run("date +%N; exit 4", call="one")
    assert (first["rejoined"], second["rejoined"]) == (False, True)
    assert (second["rc"], second["stdout"]) == (4, first["stdout"])


def test_another_call_runs_the_command_again(run):
    first, second = run("date +%N; exit 4"), run("date +%N; exit 4")
    assert (first["rejoined"], second["rejoined"]) == (False, False)
    assert first["stdout"] != second["stdout"]


def test_another_command_under_a_running_name_is_refused(run, delivered, prefix, background):
    running = background(run, f"until [ -e /tmp/{prefix}.go ]; do sleep .1; done")
    wait_for_command(delivered, f"until [ -e /tmp/{prefix}.go ]", running)
    assert "is already running another command" in run_other(run, delivered, prefix)
    assert running.result(60)["rc"] == 0


def run_other(run, delivered, prefix):
    try:
        return run("true")["msg"]
    finally:
        delivered.run(f"touch /tmp/{prefix}.go")


def test_a_command_that_takes_too_long_is_ended(run, delivered):
    answer = run("sleep 998", timeout_seconds=1)
    assert answer["result"] == "timeout"
    assert "ran longer than allowed" in answer["msg"]
    assert "998" not in delivered.run("ps -eo args")


def test_a_program_that_does_not_exist_fails_at_once(run):
    answer = run("", argv=["/no/such/program"])
    assert "-work could not be started: Failed to find executable" in answer["msg"]


def test_a_cancelled_attempt_leaves_nothing_and_the_command_says_it_was_stopped(
    fleet, run, delivered, prefix, background
):
    script = "trap '' TERM; echo started; sleep 997 & wait; sleep 997"
    running = background(run, script)
    wait_for_command(delivered, "sleep 997", running)
    play = stop(fleet, delivered, prefix)
    assert play.of(delivered.name)[0].result["stopped"] == [f"{prefix}-work.service"]
    assert running.result(60)["msg"].startswith(f"{prefix}-work was stopped.")
    assert "sleep 997" not in delivered.run("ps -eo args")


def test_a_secret_no_command_has_taken_over_goes_with_its_attempt(fleet, delivered, prefix):
    delivered.run(f"mkdir -p /run/beidou && echo secret >/run/beidou/{prefix}-join.yaml")
    stop(fleet, delivered, prefix)
    assert prefix not in delivered.run("ls /run/beidou")


def test_a_stopped_command_may_be_started_again(fleet, run, delivered, prefix, background):
    script = f"[ -e /tmp/{prefix} ] || {{ touch /tmp/{prefix}; sleep 996; }}"
    running = background(run, script)
    wait_for_command(delivered, "sleep 996", running)
    stop(fleet, delivered, prefix)
    assert running.result(60)["rc"] != 0
    assert run(script)["rc"] == 0


def stop(fleet, host, prefix):
    return fleet.play("stop_units.yml", host, unit_prefix=prefix)


def test_stopping_ends_no_unit_of_another_attempt(fleet, run, delivered, prefix, background):
    running = background(run, f"until [ -e /tmp/{prefix}.go ]; do sleep .1; done")
    wait_for_command(delivered, f"until [ -e /tmp/{prefix}.go ]", running)
    stop(fleet, delivered, prefix[:-1])
    stop(fleet, delivered, prefix + "0")
    delivered.run(f"touch /tmp/{prefix}.go")
    assert running.result(60)["rc"] == 0


def test_stopping_what_does_not_run_changes_nothing(fleet, delivered, prefix):
    play = stop(fleet, delivered, prefix)
    assert play.status == "successful"
    assert play.changed(delivered.name) == []


@pytest.mark.parametrize("command", ["true", "false", "kill -9 $$"])
def test_a_secret_is_gone_however_the_command_ends(run, delivered, prefix, command):
    path = f"/run/beidou/{prefix}.yaml"
    delivered.run(f"mkdir -p /run/beidou && echo secret >{path}")
    run(f"grep -q secret {path} && {command}", remove_after=[path])
    assert delivered.run(f"ls {path} 2>&1 || true").endswith("No such file or directory\n")
