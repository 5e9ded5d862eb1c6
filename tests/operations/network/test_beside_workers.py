"""A step that waits for the network system, as the callers do it: in a thread, for real."""

import threading
from contextlib import contextmanager

import pytest
from django.db import connections

from beidou.base import callers
from beidou.base.models import Notice
from operations.models import MachineStep, Operation
from operations.outside.models import SiteRequest
from operations.services import dispatch, recovery, run

pytestmark = pytest.mark.django_db(transaction=True)
YES = {"ok": True, "message": "vlan 7"}


@contextmanager
def running_callers():
    stop = threading.Event()

    def run() -> None:
        callers.run(stop)
        connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def running():
    with running_callers():
        yield


def wait_for(condition) -> None:
    for _look in range(600):
        if condition():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it did not happen within 30 s")


def test_the_callback_ends_a_step_that_waits_beside_the_workers(
    running, begin, cluster, members, network_system, call_back
):
    operation = begin(
        kind="Network", cluster=cluster, machines=members, params={"driver": "webhook"}
    )
    dispatch.dispatch()
    wait_for(lambda: SiteRequest.objects.exclude(accepted_at=None).exists())
    assert operation.steps.get().status == "running"
    answer = {"machines": {machine.address: YES for machine in members}}
    assert call_back(SiteRequest.objects.get(), answer).status_code == 200
    wait_for(lambda: Operation.objects.get(pk=operation.pk).status == "succeeded")


def test_a_step_that_waits_while_they_are_stopped_again_and_again_has_lost_nothing(
    begin, cluster, members, network_system, call_back, monkeypatch
):
    monkeypatch.setattr(run, "RENEW_SECONDS", 0.0)  # it sees at once that it was handed back
    operation = begin(
        kind="Network", cluster=cluster, machines=members, params={"driver": "webhook"}
    )
    dispatch.dispatch()
    for number in range(1, recovery.MAX_LOSSES + 2):
        with running_callers():
            wait_for(lambda n=number: waiting_in(operation, attempt=n))
        step = operation.steps.get()
        assert (step.status, step.losses) == ("waiting", 0)
    assert {each.message for each in step.attempts.all()} == {"The worker was stopped."}
    assert not Notice.objects.filter(kind="operation.worker_lost").exists()
    with running_callers():
        wait_for(lambda: waiting_in(operation, attempt=number + 1))
        answer = {"machines": {machine.address: YES for machine in members}}
        assert call_back(SiteRequest.objects.get(), answer).status_code == 200
        wait_for(lambda: Operation.objects.get(pk=operation.pk).status == "succeeded")


def waiting_in(operation, *, attempt):
    """Whether this attempt of its step waits for the answer."""
    cells = MachineStep.objects.filter(step__operation=operation, attempt=attempt)
    return "waiting for the network system" in {cell.message for cell in cells}
