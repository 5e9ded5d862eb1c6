# ruff: noqa: F811
"""Work orders that the ticket system of the site decides."""

import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base import tasks
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import AuditEntry, Notice
from machines.models import Machine
from operations.flows import advance, catalog
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep, WorkOrder
from operations.models import Operation
from operations.outside import delivery
from operations.outside.models import SiteRequest, SiteSystem
from tests.operations.outside.conftest import SECRET, call_back, site  # noqa: F401

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


@pytest.fixture
def tickets(cluster_a, site):
    return SiteSystem.objects.create(
        cluster=cluster_a, purpose="tickets", url=site.url, secret=SECRET
    )


@pytest.fixture
def asked(tickets, begin_task, work):
    task = begin_task("ExternalTicket", "Toy", reason="grow")
    work()
    return task


@pytest.fixture
def decide(call_back, django_capture_on_commit_callbacks):
    """The callback of the newest order; ``digest`` is what was asked unless another is given."""

    def send(task, decision="approved", *, how=None, **values):
        request = SiteRequest.objects.filter(order__step__task=task).latest("pk")
        body = {"decision": decision, "by": "eve", "digest": request.data["digest"], **values}
        with django_capture_on_commit_callbacks(execute=True):
            return call_back(request, body, **(how or {}))

    return send


def newest(task):
    return WorkOrder.objects.filter(step__task=task).order_by("number").last()


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def test_the_ticket_system_is_told_exactly_what_is_asked(asked, site, machines):
    (request,) = site.requests
    body = json.loads(request.body)
    order = newest(asked)
    assert request.headers["Beidou-Delivery"] == body["id"]
    assert (body["task"], body["by"], body["reason"]) == (asked.name, "operator", "grow")
    assert body["digest"] == order.digest
    assert [each["address"] for each in body["machines"]] == sorted(m.address for m in machines)
    assert {"label": "Done with the rights of", "text": "operator"} in body["about"]
    assert body["callback"].endswith(f"/api/v1/site-requests/{body['id']}/callback/")
    assert body["page"].endswith(
        reverse("admin:operations_autooperationtask_change", args=[asked.pk])
    )


def test_nothing_begins_before_it_has_said_yes(asked, steps_of):
    assert steps_of(asked) == {"ExternalTicket": "running", "Toy": "waiting"}
    assert fresh(asked).waiting_for == "a ticket: Ticket"
    assert not Operation.objects.exists()


def test_its_approval_lets_the_task_on_and_says_who_decided(asked, decide, work, steps_of):
    answer = decide(asked, reason="CAB", ticket="CHG-7")
    assert answer.json() == {"taken": True, "open": []}
    work()
    assert steps_of(asked) == {"ExternalTicket": "succeeded", "Toy": "succeeded"}
    order = newest(asked)
    assert (order.status, order.decided_by, order.decided_by_name, order.reason) == (
        "approved",
        None,
        "eve (127.0.0.1)",
        "CAB",
    )


def test_the_audit_trail_has_it_as_the_deed_of_the_system(asked, decide):
    decide(asked, reason="CAB", ticket="CHG-7")
    entry = AuditEntry.objects.get(verb="approve")
    assert (entry.actor, entry.actor_id, entry.reason) == ("tickets: 127.0.0.1", None, "CAB")
    assert (entry.after["by"], entry.after["ticket"]) == ("eve", "CHG-7")
    assert entry.after["plan"] == newest(asked).digest


def test_a_rejection_ends_the_task_with_its_reason(asked, decide, work):
    decide(asked, "rejected", reason="freeze", digest="")
    work()
    assert fresh(asked).status == Status.FAILED
    assert "Rejected by eve (127.0.0.1): freeze" in fresh(asked).message


def test_an_approval_of_something_else_is_refused(asked, decide):
    answer = decide(asked, digest="0" * 64)
    assert (answer.status_code, answer.json()["code"]) == (409, "changed_meanwhile")
    assert newest(asked).status == "open"


def test_whoever_asked_does_not_approve_there_either(asked, decide):
    answer = decide(asked, by="Operator")
    assert (answer.status_code, answer.json()["code"]) == (403, "own_task")
    assert newest(asked).status == "open"


@pytest.mark.parametrize("how", [{"secret": "not the secret of it"}, {"age": 900}])
def test_what_is_not_genuine_decides_nothing(how, asked, decide):
    assert decide(asked, how=how).status_code == 403
    assert newest(asked).status == "open"


def test_the_same_callback_decides_once(asked, decide):
    stamp = int(time.time())
    decide(asked, how={"stamp": stamp})
    again = decide(asked, how={"stamp": stamp})
    assert (again.status_code, again.json()["code"]) == (409, "replayed")


def test_the_same_decision_may_be_said_again_and_another_one_not(asked, decide):
    stamp = int(time.time())
    decide(asked, how={"stamp": stamp})
    assert decide(asked, how={"stamp": stamp - 1}).status_code == 200
    other = decide(asked, "rejected", how={"stamp": stamp - 2})
    assert (other.status_code, other.json()["code"]) == (409, "answered_otherwise")
    assert AuditEntry.objects.filter(verb__in=["approve", "reject"]).count() == 1


def test_after_the_time_limit_it_decides_nothing_and_the_task_fails(
    asked, decide, control, steps_of
):
    past = timezone.now() - timedelta(seconds=1)
    WorkOrder.objects.update(due_at=past)
    TaskStep.objects.filter(key="ExternalTicket").update(due_at=past)
    assert decide(asked).json()["code"] == "too_late"
    control(advance.sweep)
    assert steps_of(asked)["ExternalTicket"] == "failed"
    assert decide(asked).json()["code"] == "closed"


def test_of_a_canceled_task_it_is_told_that_nobody_waits(asked, decide, control, work, operator):
    control(controls.cancel, asked, acting_user=operator)
    work()
    answer = decide(asked)
    assert answer.json()["code"] == "closed"
    assert "the work order is Closed" in answer.json()["message"]


def test_nobody_decides_it_in_the_portal(asked, approver):
    for verb in (controls.approve, controls.reject):
        with pytest.raises(Conflict, match="The ticket system decides"):
            verb(newest(asked), acting_user=approver, reason="x")


def test_its_approval_can_be_withdrawn_and_it_is_asked_anew(
    tickets,
    begin_task,
    decide,
    control,
    work,
    approver,
    site,
):
    task = begin_task("ExternalTicket", "Wait", "Toy")
    work()
    decide(task)
    work()
    control(controls.withdraw, newest(task), acting_user=approver, reason="alarm")
    work()
    assert newest(task).number == 2
    assert len({request.headers["Beidou-Delivery"] for request in site.requests}) == 2


def test_what_changed_after_its_approval_is_asked_anew(
    tickets,
    begin_task,
    decide,
    control,
    work,
    machines,
    operator,
    site,
):
    task = begin_task("ExternalTicket", "Wait", "Toy")
    work()
    decide(task)
    work()
    Machine.objects.filter(pk=machines[0].pk).update(hostname="swapped")
    control(controls.skip, task, acting_user=operator, step="Wait", reason="x")
    work()
    assert newest(task).number == 2
    assert machines[0].address in json.loads(site.requests[-1].body)["changes"][0]
    assert not Operation.objects.exists()


# --- handing over ---------------------------------------------------------------------------------


def due_now(**values):
    SiteRequest.objects.update(next_try_at=timezone.now() - timedelta(seconds=1), **values)


def test_a_system_that_is_away_is_told_again_with_the_same_key(
    tickets,
    begin_task,
    work,
    site,
    decide,
    steps_of,
):
    site.status = 503
    task = begin_task("ExternalTicket", "Toy")
    work()
    assert "answered 503" in SiteRequest.objects.get().last_error
    site.status = 202
    due_now()
    assert delivery.sweep() == 1
    work()
    assert len({request.headers["Beidou-Delivery"] for request in site.requests}) == 1
    assert SiteRequest.objects.get().next_try_at is None
    decide(task)
    work()
    assert steps_of(task)["Toy"] == "succeeded"


def test_a_system_that_is_away_for_weeks_is_told_every_ten_minutes(asked, site):
    site.status = 503
    due_now(tries=1500, accepted_at=None)
    request = SiteRequest.objects.get()
    delivery.deliver(request.pk)
    request.refresh_from_db()
    assert "answered 503" in request.last_error
    pause = request.next_try_at - timezone.now()
    assert timedelta(minutes=9) < pause <= timedelta(minutes=10)


def test_what_the_queue_forgot_is_handed_over_by_the_sweeper(
    tickets,
    begin_task,
    work,
    site,
):
    begin_task("ExternalTicket")
    work(limit=1)
    OrmQ.objects.all().delete()
    assert not site.requests
    assert delivery.sweep() == 1
    work()
    assert len(site.requests) == 1


def test_a_ticket_waits_for_no_worker_and_is_queued_once(tickets, begin_task, work):
    begin_task("ExternalTicket")
    work(limit=1)
    assert OrmQ.objects.get().key == tasks.OUTSIDE
    assert delivery.sweep() == 0
    assert OrmQ.objects.count() == 1


def test_it_is_handed_over_once_however_often_the_queue_says_so(asked, site):
    key = SiteRequest.objects.get().pk
    for _time in range(3):
        delivery.deliver(key)
    assert len(site.requests) == 1


def test_a_try_that_another_worker_holds_is_left_to_it(
    tickets,
    begin_task,
    work,
    site,
):
    begin_task("ExternalTicket")
    work(limit=1)
    SiteRequest.objects.update(next_try_at=timezone.now() + timedelta(minutes=1), tries=1)
    work()
    assert not site.requests


def test_a_refusal_fails_the_step_with_the_words_of_the_system(
    tickets,
    begin_task,
    work,
    site,
    steps_of,
):
    site.status, site.answer = 422, b"unknown service"
    task = begin_task("ExternalTicket", "Toy")
    work()
    assert steps_of(task) == {"ExternalTicket": "failed", "Toy": "waiting"}
    assert "unknown service" in fresh(task).message
    assert newest(task).status == "closed"


def test_a_retry_opens_another_ticket(
    tickets,
    begin_task,
    work,
    site,
    steps_of,
    control,
    operator,
):
    site.status = 422
    task = begin_task("ExternalTicket")
    work()
    site.status = 202
    control(controls.retry, task, acting_user=operator)
    work()
    assert steps_of(task)["ExternalTicket"] == "running"
    assert len({request.headers["Beidou-Delivery"] for request in site.requests}) == 2


def test_a_system_may_decide_in_the_same_breath(
    tickets,
    begin_task,
    work,
    steps_of,
    site,
):
    site.status = 200
    site.answer = json.dumps({"decision": "rejected", "by": "robot", "reason": "freeze"}).encode()
    task = begin_task("ExternalTicket", "Toy")
    work()
    assert steps_of(task) == {"ExternalTicket": "failed", "Toy": "waiting"}
    assert "Rejected by robot (127.0.0.1): freeze" in fresh(task).message


def test_without_a_ticket_system_no_task_is_made(begin_task):
    with pytest.raises(InvalidInput, match="has no ticket system"):
        begin_task(replace(catalog.spec("ExternalTicket"), key="a"))
    assert not AutoOperationTask.objects.exists()


def test_nobody_in_the_portal_is_asked_to_decide(asked, browser, approver, api):
    assert not Notice.objects.filter(kind="task.asks").exists()
    needs = api(approver).get("/api/v1/overview/").json()
    assert asked.name not in json.dumps(needs.get("attention", needs))


def test_the_page_says_who_decides_and_offers_no_buttons(asked, browser, approver, api):
    live = api(approver).get(f"/api/v1/auto-operation-tasks/{asked.pk}/live/").json()
    (step,) = [each for each in live["steps"] if each["key"] == "ExternalTicket"]
    assert step["orders"][0]["decided_at_host"] == "127.0.0.1"
    assert step["approvers"] == []
