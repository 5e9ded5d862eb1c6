"""Workers die at any moment: nothing is lost, nothing is done twice, nothing hangs."""

import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.db import OperationalError
from django.test import override_settings
from django.utils import timezone
from django_q.brokers import get_broker
from django_q.models import OrmQ

from beidou.base import clock, tasks
from operations.drivers import git, processes
from operations.kinds import names
from operations.models import Attempt, ClusterSettings, MachineStep, Operation, Step
from operations.services import control as controls
from operations.services import engine, finish, recovery
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db

DEAD = f"{processes.identity().rsplit('/', 2)[0]}/999999999/1"


@pytest.fixture
def lose(control):
    """Claim a step as a worker that dies right after: the lease is held by a process that is
    gone."""

    def claim_and_die(step: Step, holder: str = DEAD) -> Attempt:
        attempt = engine.claim(step.pk)
        Step.objects.filter(pk=step.pk).update(holder=holder)
        OrmQ.objects.all().delete()
        return attempt

    return claim_and_die


def test_a_step_whose_worker_died_is_done_again(toy, begin, work, lose, control):
    operation = begin()
    work(limit=1)
    attempt = lose(operation.steps.get(name="first"))
    control(recovery.maintain)
    work()
    operation.refresh_from_db()
    attempt.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert attempt.outcome == Attempt.Outcome.LOST
    assert operation.steps.get(name="first").attempt == 2


def test_a_process_that_is_stopped_hands_back_its_own_steps_and_nothing_is_lost(
    toy, begin, work, lose, control
):
    operation = begin()
    work(limit=1)
    attempt = lose(operation.steps.get(name="first"))
    assert recovery.hand_back() == 0
    Step.objects.filter(attempt=1).update(holder=processes.identity())
    assert control(recovery.hand_back) == 1
    step = operation.steps.get(name="first")
    assert (step.status, step.losses) == ("waiting", 0)
    attempt.refresh_from_db()
    assert attempt.message == "The worker was stopped."
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_but_none_that_is_being_canceled_or_must_not_be_repeated(begin, work, lose, operator):
    with toy_kind(idempotent=False):
        operation = begin()
        work(limit=1)
        lose(operation.steps.get(name="first"), holder=processes.identity())
        assert recovery.hand_back() == 0
    with toy_kind():
        controls.cancel(operation, acting_user=operator)
        assert recovery.hand_back() == 0
    assert operation.steps.get(name="first").status == "running"


@pytest.mark.parametrize(
    ("moment", "attempts"),
    [("act", ["lost", "done"]), ("confirm", ["lost", "done"]), ("end", ["done"])],
)
def test_a_step_in_which_the_database_was_away_goes_on(
    toy, begin, work, control, monkeypatch, moment, attempts
):
    """Where that is no mistake of ours, it must not look like one: nobody could do anything."""
    happened: list[str] = []

    def be_away(*_args, **_values) -> None:
        if not happened:
            happened.append(moment)
            raise OperationalError("terminating connection due to administrator command")

    operation = begin()
    if moment == "act":
        toy.during = be_away
    else:
        place = (toy, "failing") if moment == "confirm" else (finish, "step_result")
        real = getattr(*place)

        class Failing(set[tuple[str, str]]):
            def __contains__(self, pair: object) -> bool:
                be_away()
                return super().__contains__(pair)

        def once_away(*args, **values):
            be_away()
            return real(*args, **values)

        monkeypatch.setattr(*place, Failing() if moment == "confirm" else once_away)
    monkeypatch.setattr(engine.connection, "close", lambda: None)  # this test's own transaction
    work()
    operation.refresh_from_db()
    assert happened == [moment]
    assert operation.status == Operation.Status.SUCCEEDED
    first = operation.steps.get(name="first")
    assert [each.outcome for each in first.attempts.order_by("pk")] == attempts


@pytest.fixture
def leave_sockets(tmp_path, monkeypatch):
    """What a worker that was killed in a playbook leaves in the folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def leave(step: Step, number: int) -> Path:
        place = processes.private_folder()
        folder = Path(tempfile.mkdtemp(prefix=f"{names.run_mark(step, number)}-", dir=place))
        (folder / "0123456789").touch()
        return folder

    return leave


def test_the_sockets_of_a_killed_worker_are_removed_and_those_of_a_living_one_stay(
    toy, begin, work, lose, control, leave_sockets
):
    operation = begin()
    work(limit=1)
    step = operation.steps.get(name="first")
    lose(step)
    left = leave_sockets(step, 1)
    control(recovery.maintain)
    engine.claim(step.pk)
    used = leave_sockets(step, 2)
    control(recovery.maintain)
    assert (left.exists(), used.exists()) == (False, True)


def test_the_sockets_of_another_portal_stay(toy, begin, work, control, leave_sockets):
    operation = begin()
    work()
    with override_settings(SECRET_KEY="another-portal-" + "x" * 50):
        foreign = leave_sockets(operation.steps.get(name="first"), 1)
    strange = foreign.with_name("of-somebody-else")
    strange.mkdir()
    control(recovery.maintain)
    assert (foreign.exists(), strange.exists()) == (True, True)


def test_the_secret_of_a_git_that_was_killed_is_removed_once_it_must_be_over(
    tmp_path, monkeypatch, control, db
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folders = [processes.private_folder() / name for name in ("git-old", "git-new", "git-link")]
    for folder in folders[:2]:
        folder.mkdir()
        (folder / "secret").write_text("s3cret")
    outside = tmp_path / "outside"
    outside.mkdir()
    folders[2].symlink_to(outside)
    old = time.time() - git.SECONDS - 70
    for folder in (folders[0], outside):
        os.utime(folder, (old, old))
    control(recovery.maintain)
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_a_link_that_looks_like_a_folder_of_sockets_is_not_followed(
    toy, begin, work, control, leave_sockets, tmp_path
):
    operation = begin()
    work()
    folder = leave_sockets(operation.steps.get(name="first"), 1)
    target = folder.rename(tmp_path / "something-else")
    folder.symlink_to(target)
    control(recovery.maintain)
    assert (target / "0123456789").exists()


def test_a_step_whose_lease_lapsed_is_done_again(toy, begin, work, lose, control):
    operation = begin()
    work(limit=1)
    step = operation.steps.get(name="first")
    lose(step, holder="other-host/boot/1/1")
    control(recovery.reap)
    assert not OrmQ.objects.exists()  # the lease still runs: of another host nothing is known
    Step.objects.filter(pk=step.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    control(recovery.reap)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_with_every_worker_busy_the_clock_reaps_and_dispatches(
    toy, begin, work, lose, control, cluster_a, machines
):
    """No task of the queue of work is taken here, as if all workers were in long steps."""
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    first = begin(machines=machines[:1])
    work(limit=1)
    lose(first.steps.get(name="first"))
    second = begin(machines=machines[1:2])
    tasks.enqueue("operations.tasks.maintain", queue=tasks.CLOCK)
    broker = get_broker(tasks.CLOCK)
    while control(clock.tick, broker):
        continue
    second.refresh_from_db()
    assert first.steps.get(name="first").status == Step.Status.WAITING
    assert "slots" in second.waiting_for
    queued = {(row.key, row.func()) for row in OrmQ.objects.all()}
    assert queued == {(tasks.WORK, "operations.tasks.run_step")}


def test_a_step_that_lives_is_left_alone(toy, begin, work, control):
    operation = begin()
    work(limit=1)
    engine.claim(operation.steps.get(name="first").pk)
    assert control(recovery.reap) == 0


def test_a_step_that_must_not_be_repeated_asks_a_person(
    begin, work, lose, control, cluster_a, operator
):
    with toy_kind(idempotent=False):
        operation = begin()
        work(limit=1)
        lose(operation.steps.get(name="first"))
        control(recovery.maintain)
        operation.refresh_from_db()
        assert operation.status == Operation.Status.FAILED
        assert "must not be repeated unasked" in operation.steps.get(name="first").message


def test_a_step_that_kills_every_worker_is_given_up(toy, begin, work, lose, control):
    operation = begin()
    work(limit=1)
    for _ in range(recovery.MAX_LOSSES):
        lose(operation.steps.get(name="first"))
        control(recovery.maintain)
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "lost 3 times" in operation.steps.get(name="first").message


def test_a_worker_that_died_after_the_last_machine_only_needs_the_end(
    toy, begin, work, lose, control
):
    operation = begin()
    work(limit=1)
    step = operation.steps.get(name="first")
    lose(step)
    MachineStep.objects.filter(step=step).update(status=MachineStep.Status.SUCCEEDED)
    control(recovery.maintain)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert [name for name, _ in toy.calls] == ["second"]


def test_machines_settled_before_the_loss_are_not_done_again(
    toy, begin, work, lose, control, machines
):
    operation = begin()
    work(limit=1)
    step = operation.steps.get(name="first")
    lose(step)
    MachineStep.objects.filter(step=step, machine__machine=machines[0]).update(
        status=MachineStep.Status.SUCCEEDED
    )
    control(recovery.maintain)
    work()
    assert toy.calls[0] == ("first", [machines[1].address, machines[2].address])


def test_a_canceled_step_whose_worker_died_is_cleaned_up(toy, begin, work, lose, control, operator):
    operation = begin()
    work(limit=2)
    lose(operation.steps.get(name="second"))
    control(controls.cancel, operation, acting_user=operator)
    control(recovery.maintain)
    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELED
    assert toy.cleaned == ["second"]


def test_a_lost_step_is_cleaned_up_on_machines_that_had_failed_in_it_too(
    toy, begin, work, lose, control, operator, machines
):
    operation = begin()
    work(limit=2)
    step = operation.steps.get(name="second")
    lose(step)
    cells = MachineStep.objects.filter(step=step)
    cells.filter(machine__machine=machines[0]).update(status=MachineStep.Status.FAILED)
    cells.filter(machine__machine=machines[1]).update(status=MachineStep.Status.SUCCEEDED)
    control(controls.cancel, operation, acting_user=operator)
    control(recovery.maintain)
    assert toy.cleaned_machines == [machines[0].address, machines[2].address]


def test_a_task_that_the_queue_lost_is_queued_again(toy, begin, work, control):
    operation = begin()
    work(limit=1)
    OrmQ.objects.all().delete()
    control(recovery.maintain)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_a_waiting_operation_that_the_queue_lost_is_started(toy, begin, work, control):
    operation = begin()
    OrmQ.objects.all().delete()
    control(recovery.maintain)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_looking_after_500_operations_costs_few_queries(
    toy, begin, work, django_assert_max_num_queries, cluster_a, leave_sockets
):
    Operation.objects.bulk_create(
        Operation(name=f"old-{i}", kind="Toy", cluster=cluster_a, status="succeeded")
        for i in range(500)
    )
    operation = begin()
    work()
    for number in range(1, 4):
        leave_sockets(operation.steps.get(name="first"), number)
    # reap, socket folders, sizes of the queues (2), wake, dispatch (3), output to pack
    with django_assert_max_num_queries(9):
        recovery.maintain()


def test_of_an_earlier_boot_nothing_is_known():
    host, _kernel, pid, started = processes.identity().rsplit("/", 3)
    assert not processes.is_gone(f"{host}/00000000-1/{pid}/{started}")


def test_a_live_process_of_another_container_with_the_same_host_name_is_not_gone():
    tells = "from operations.drivers import processes; print(processes.identity()); input()"
    with subprocess.Popen(
        [*processes.isolation(), sys.executable, "-uc", tells],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as container:
        there = container.stdout.readline().strip()
        assert there.split("/")[0] == processes.identity().split("/")[0]
        assert not processes.is_gone(there)
        container.communicate("\n")


def test_this_process_is_not_gone():
    assert not processes.is_gone(processes.identity())


def test_a_process_with_the_same_pid_but_another_start_is_gone():
    host, boot, pid, started = processes.identity().rsplit("/", 3)
    assert processes.is_gone(f"{host}/{boot}/{pid}/{int(started) - 50}")


def test_of_other_hosts_nothing_is_known():
    assert not processes.is_gone("elsewhere/abc/1/1")


def test_a_cleanup_that_fails_keeps_no_operation_from_ending(
    toy, begin, work, lose, control, operator, caplog
):
    operation = begin()
    work(limit=2)
    lose(operation.steps.get(name="second"))
    toy.cleaned = None  # appending to it fails
    control(controls.cancel, operation, acting_user=operator)
    control(recovery.maintain)
    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELED
    assert "cleanup_failed" in caplog.text


def test_one_step_that_cannot_be_taken_over_keeps_no_other_waiting(
    toy, begin, work, lose, control, machines, caplog
):
    broken = begin(machines=machines[:1])
    work(limit=1)
    lose(broken.steps.get(name="first"))
    Operation.objects.filter(pk=broken.pk).update(kind="Gone")
    good = begin(machines=machines[1:2])
    OrmQ.objects.all().delete()
    Operation.objects.filter(pk=broken.pk).update(kind="Gone")
    control(recovery.reap)
    control(recovery.dispatch)
    work()
    good.refresh_from_db()
    assert good.status == Operation.Status.SUCCEEDED
    assert "step_not_taken_over" in caplog.text


UNREADABLE = [{"params": {"removed": 1}}, {"step_name": "removed"}]


def outdate(step, *, params=None, step_name=""):
    """Leave a step as an upgrade does that knows one of its parameters or itself no more."""
    if params is not None:
        Operation.objects.filter(pk=step.operation_id).update(params=params)
    if step_name:
        Step.objects.filter(pk=step.pk).update(name=step_name)


@pytest.mark.parametrize("change", UNREADABLE)
def test_a_step_that_this_version_cannot_read_ends(change, toy, begin, work):
    operation = begin()
    work(limit=1)
    outdate(operation.steps.get(name="first"), **change)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert "cannot read" in operation.steps.get(position=1).message
    assert not operation.machines.filter(holds_machine=True).exists()


@pytest.mark.parametrize("change", UNREADABLE)
def test_a_canceled_step_that_this_version_cannot_read_ends_when_its_worker_died(
    change, toy, begin, work, lose, control, operator
):
    operation = begin()
    work(limit=1)
    step = operation.steps.get(name="first")
    lose(step)
    control(controls.cancel, operation, acting_user=operator)
    outdate(step, **change)
    control(recovery.maintain)
    operation.refresh_from_db()
    assert operation.status == Operation.Status.CANCELED
    assert not operation.machines.filter(holds_machine=True).exists()


def test_a_step_that_was_queued_just_now_is_not_queued_again(toy, begin, work, control):
    begin()
    work(limit=1)
    queued = OrmQ.objects.count()
    control(recovery.wake)
    assert OrmQ.objects.count() == queued


@pytest.fixture
def forgotten(toy, begin, work):
    """An operation whose task the queue lost some minutes ago, while it holds another one."""
    operation = begin()
    work(limit=1)
    OrmQ.objects.all().delete()
    long_ago = timezone.now() - 2 * recovery.FORGOTTEN_AFTER
    operation.status_changes.update(at=long_ago)
    tasks.enqueue("machines.tasks.gather_facts", 0)
    return operation


def test_a_task_that_was_lost_is_queued_again_whatever_else_is_queued(forgotten, control):
    assert control(recovery.wake) == 1
    assert [row.func() for row in OrmQ.objects.all()] == [
        "machines.tasks.gather_facts",
        "operations.tasks.run_step",
    ]


def test_a_queue_that_is_long_already_is_made_no_longer(forgotten, control, monkeypatch):
    monkeypatch.setattr(recovery, "LONG_QUEUE", 1)
    assert control(recovery.wake) == 0


def test_an_operation_whose_step_ended_just_now_is_not_forgotten(forgotten, control):
    step = forgotten.steps.get(name="first")
    step.status_changes.create(old="waiting", new="running")
    assert control(recovery.wake) == 0


@pytest.fixture
def unknown(toy, begin, machines, cluster_a):
    """An operation of a kind that only a newer version knows, on a cluster with one slot."""
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    operation = begin(machines=machines[:1])
    Operation.objects.filter(pk=operation.pk).update(kind="Newer")
    return operation


def test_a_waiting_operation_of_an_unknown_kind_keeps_no_other_waiting(
    unknown, begin, work, machines
):
    good = begin(machines=machines[1:2])
    work()
    good.refresh_from_db()
    unknown.refresh_from_db()
    assert good.status == Operation.Status.SUCCEEDED
    assert unknown.status == Operation.Status.WAITING
    assert "knows its kind" in unknown.waiting_for


def test_an_operation_that_cannot_be_started_takes_no_slot_from_another(
    toy, begin, work, machines, cluster_a, monkeypatch, caplog
):
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    broken, good = begin(machines=machines[:1]), begin(machines=machines[1:2])
    explode_for(monkeypatch, broken)
    work()
    good.refresh_from_db()
    assert good.status == Operation.Status.SUCCEEDED
    assert "operation_not_started" in caplog.text


def test_an_operation_that_cannot_be_woken_keeps_no_other_waiting(
    toy, begin, work, control, machines, monkeypatch, caplog
):
    broken, good = begin(machines=machines[:1]), begin(machines=machines[1:2])
    work(limit=1)
    OrmQ.objects.all().delete()
    explode_for(monkeypatch, broken)
    control(recovery.wake)
    work()
    good.refresh_from_db()
    assert good.status == Operation.Status.SUCCEEDED
    assert "operation_not_woken" in caplog.text


def test_a_step_of_an_unknown_kind_is_claimed_by_nobody(toy, begin, work):
    operation = begin()
    work(limit=1)
    Operation.objects.filter(pk=operation.pk).update(kind="Newer")
    work()
    assert operation.steps.get(name="first").status == Step.Status.WAITING


def explode_for(monkeypatch, broken):
    """Going on with this operation raises what nobody expects."""
    go_on = finish.go_on

    def explode(operation):
        if operation.pk == broken.pk:
            raise ZeroDivisionError
        go_on(operation)

    monkeypatch.setattr(finish, "go_on", explode)
