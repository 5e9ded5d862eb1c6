"""State tables over all pairs, and what a person may do in which state."""

import pytest

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.state import change_status
from machines.models import Machine
from operations.models import Operation, Step
from operations.services import control as controls

pytestmark = pytest.mark.django_db


PAIRS = [
    (model, old, new) for model in (Operation, Step) for old in model.Status for new in model.Status
]


@pytest.mark.parametrize(("model", "old", "new"), PAIRS)
def test_only_listed_transitions_are_made(model, old, new, cluster_a):
    operation = Operation.objects.create(name="x", kind="Toy", cluster=cluster_a)
    row: Operation | Step = operation
    if model is Step:
        row = Step.objects.create(operation=operation, position=1, name="first")
    model.objects.filter(pk=row.pk).update(status=old)
    row.refresh_from_db()
    if new in model.TRANSITIONS[old]:
        change_status(row, to=new)
        row.refresh_from_db()
        assert row.status == new
        assert row.status_changes.get().old == old
    else:
        with pytest.raises(Conflict, match="cannot become"):
            change_status(row, to=new)
        row.refresh_from_db()
        assert row.status == old


def test_a_change_from_a_stale_row_is_refused(cluster_a):
    row = Operation.objects.create(name="x", kind="Toy", cluster=cluster_a)
    stale = Operation.objects.get(pk=row.pk)
    change_status(row, to=Operation.Status.RUNNING)
    with pytest.raises(Conflict, match="somebody else was faster"):
        change_status(stale, to=Operation.Status.CANCELED)


ENDED = {Operation.Status.PARTIAL, Operation.Status.FAILED, Operation.Status.CANCELED}
ALLOWED = {
    controls.cancel: {Operation.Status.WAITING, Operation.Status.RUNNING, Operation.Status.PAUSED},
    controls.pause: {Operation.Status.RUNNING},
    controls.resume: {Operation.Status.PAUSED},
    controls.retry: ENDED,
}


@pytest.mark.parametrize("status", Operation.Status)
@pytest.mark.parametrize("action", ALLOWED)
def test_an_action_is_refused_in_the_wrong_state(action, status, toy, begin, operator):
    operation = begin()
    Operation.objects.filter(pk=operation.pk).update(status=status)
    if status not in ALLOWED[action]:
        with pytest.raises(Conflict):
            action(operation, acting_user=operator)


@pytest.mark.parametrize("action", ALLOWED)
def test_a_viewer_may_do_nothing_to_an_operation(action, toy, begin, viewer):
    with pytest.raises(Forbidden):
        action(begin(), acting_user=viewer)


def test_a_skip_without_a_reason_is_refused(toy, begin, work, machines, operator):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    member = operation.machines.get(machine=machines[0])
    with pytest.raises(InvalidInput, match="needs a reason"):
        controls.skip(
            operation, acting_user=operator, step="first", machines=[member.pk], reason=" "
        )


def test_a_step_that_did_not_fail_cannot_be_skipped(toy, begin, work, machines, operator):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    member = operation.machines.get(machine=machines[0])
    with pytest.raises(Conflict, match="has not failed"):
        controls.skip(
            operation, acting_user=operator, step="second", machines=[member.pk], reason="x"
        )


def test_a_retry_of_a_machine_that_is_through_is_refused(toy, begin, work, machines, operator):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    through = operation.machines.get(machine=machines[1])
    with pytest.raises(InvalidInput, match="are through"):
        controls.retry(operation, acting_user=operator, machines=[through.pk])


@pytest.mark.parametrize("verb", ["retry", "skip"])
def test_nothing_is_left_to_do_when_every_machine_was_deleted(
    verb, toy, begin, work, machines, operator
):
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    failed = operation.machines.get(machine=machines[0])
    machines[0].delete()
    values = {"step": "first", "machines": [failed.pk], "reason": "x"} if verb == "skip" else {}
    with pytest.raises(Conflict, match="deleted meanwhile"):
        getattr(controls, verb)(operation, acting_user=operator, **values)
    failed.refresh_from_db()
    assert failed.message == "it is broken"


def test_a_retry_is_refused_while_another_operation_holds_the_machine(
    toy, begin, work, machines, operator
):
    toy.failing = {("first", machines[0].address)}
    first = begin()
    work()
    begin(machines=machines[:1])
    with pytest.raises(Conflict, match="begun on one of these machines"):
        controls.retry(first, acting_user=operator)


def test_an_old_operation_cannot_pull_back_a_machine_that_has_moved_on(
    toy, begin, work, machines, operator
):
    toy.failing = {("second", machines[0].address)}
    operation = begin(machines=machines[:1])
    work()
    Machine.objects.filter(pk=machines[0].pk).update(state=Machine.State.IN_SERVICE)
    with pytest.raises(Conflict, match="over for it"):
        controls.retry(operation, acting_user=operator)


def test_a_machine_that_one_may_no_longer_operate_is_not_retried(
    toy, begin, work, machines, operator, cluster_b
):
    toy.failing = {("second", machines[0].address)}
    operation = begin(machines=machines[:1])
    work()
    Machine.objects.filter(pk=machines[0].pk).update(cluster=cluster_b)
    with pytest.raises(Forbidden):
        controls.retry(operation, acting_user=operator)
