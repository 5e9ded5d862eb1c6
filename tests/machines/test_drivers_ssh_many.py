"""Many hosts at once: nobody waits for somebody else's trouble."""

import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import asyncssh
import pytest

from machines.drivers import parallel, ssh
from tests.fakes.ssh_server import (
    SshServer,
    closed_port,
    new_key,
    private_text,
    silent_server,
)


def copies(target: ssh.Target, count: int) -> list[ssh.Target]:
    """Return targets that differ (in an unused word) and all lead to the same server."""
    return [replace(target, passphrase=f"unused {number}") for number in range(count)]


@pytest.fixture
def hanging(ssh_target: ssh.Target) -> Iterator[ssh.Target]:
    with silent_server() as port:
        yield replace(ssh_target, port=port)


def test_one_hanging_host_of_a_hundred_delays_no_other(
    ssh_target: ssh.Target, hanging: ssh.Target
) -> None:
    targets = [hanging, *copies(ssh_target, 99)]

    outcomes = ssh.run_many(targets, "echo in", connect_timeout=60, timeout=60)
    first = dict(itertools.islice(outcomes, 99))
    outcomes.close()

    assert hanging not in first
    assert all(isinstance(outcome, ssh.Result) for outcome in first.values())


def test_every_target_gets_its_own_outcome(
    ssh_server: SshServer, ssh_target: ssh.Target, hanging: ssh.Target
) -> None:
    with SshServer(keys=ssh_server.keys) as other:
        expected = {
            ssh_target: ssh.Result,
            hanging: ssh.Unreachable,
            replace(ssh_target, port=closed_port()): ssh.Unreachable,
            replace(ssh_target, port=other.port): ssh.HostKeyChanged,
            replace(ssh_target, private_key=private_text(new_key())): ssh.AuthenticationFailed,
            replace(ssh_target, private_key="rubbish"): ssh.BadKey,
            replace(ssh_target, host_key=None): ssh.HostKeyUnknown,
        }

        outcomes = dict(ssh.run_many(expected, "echo in", connect_timeout=1))

    assert {target: type(outcome) for target, outcome in outcomes.items()} == expected


def test_no_more_hosts_are_asked_at_once_than_allowed(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.trouble = "hangs_in_command"
    targets = copies(ssh_target, 6)

    outcomes = ssh.run_many(targets, "echo in", concurrency=2, timeout=0.3)
    next(outcomes)

    assert len(ssh_server.signed_in) <= 4
    assert len(list(outcomes)) == 5


def test_an_encrypted_key_is_opened_once_for_all_hosts(
    ssh_target: ssh.Target, user_key: asyncssh.SSHKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted = user_key.export_private_key("pkcs8-pem", passphrase="word").decode()
    target = replace(ssh_target, private_key=encrypted, passphrase="word")
    targets = [replace(target, become_password=str(number)) for number in range(5)]
    opened = []
    real = asyncssh.import_private_key

    def counting(text: str, passphrase: str | None) -> asyncssh.SSHKey:
        opened.append(text)
        return real(text, passphrase)

    monkeypatch.setattr(asyncssh, "import_private_key", counting)

    outcomes = list(ssh.run_many(targets, "echo in"))

    assert all(isinstance(outcome, ssh.Result) for _, outcome in outcomes)
    assert len(opened) == 1


def test_a_slow_reader_does_not_use_up_the_hosts_time(ssh_target: ssh.Target) -> None:
    targets = copies(ssh_target, 3)
    outcomes = ssh.run_many(targets, "sleep 0.2; echo in", concurrency=3, timeout=2)
    next(outcomes)
    threading.Event().wait(2.2)

    assert all(isinstance(outcome, ssh.Result) for _, outcome in outcomes)


def test_leaving_early_ends_what_is_under_way(
    ssh_server: SshServer, ssh_target: ssh.Target
) -> None:
    ssh_server.trouble = "hangs_in_command"
    targets = [replace(ssh_target, port=closed_port()), *copies(ssh_target, 3)]
    started = time.monotonic()

    for _, outcome in ssh.run_many(targets, "echo in", timeout=60):
        assert isinstance(outcome, ssh.Unreachable)
        break

    assert time.monotonic() - started < 10
    assert not [each for each in threading.enumerate() if each.name.startswith("ask-many")]


def test_no_targets_give_no_outcomes() -> None:
    assert list(ssh.run_many([], "echo in")) == []


def test_a_mistake_in_the_asking_is_raised_to_the_caller() -> None:
    async def ask(number: int) -> float:
        return 1 / number

    answers = parallel.as_completed([1, 0, 2], ask, concurrency=1)

    assert next(answers) == (1, 1.0)
    with pytest.raises(ZeroDivisionError):
        list(answers)


def test_many_hosts_are_checked_step_by_step(ssh_target: ssh.Target, hanging: ssh.Target) -> None:
    stranger = replace(ssh_target, private_key=private_text(new_key()))
    gone = replace(ssh_target, port=closed_port())
    answers = ssh.check_many([ssh_target, stranger, gone, hanging], connect_timeout=0.5)
    ended = {target: (len(answer.steps), answer.is_ok) for target, answer in answers}
    assert ended == {
        ssh_target: (4, True),
        stranger: (3, False),
        gone: (1, False),
        hanging: (1, False),
    }
