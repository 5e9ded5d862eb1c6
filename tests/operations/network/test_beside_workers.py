"""A step that waits for the network system, as the callers do it: in a thread, for real."""

import threading

import pytest
from django.db import connections

from beidou.base import callers
from operations.models import Operation
from operations.outside.models import SiteRequest
from operations.services import dispatch

pytestmark = pytest.mark.django_db(transaction=True)
YES = {"ok": True, "message": "vlan 7"}


@pytest.fixture
def running():
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
