"""The kind Network by the site's own system: asked once, answered per machine."""

import json
from typing import Any

import pytest
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base import tasks
from machines.models import Machine
from operations.kinds.network import webhook
from operations.models import MachineStep, Operation
from operations.outside.models import SiteRequest
from operations.services import control as operation_control
from operations.services import dispatch, recovery, start

pytestmark = pytest.mark.django_db
YES = {"ok": True, "message": "vlan 7"}
NO = {"ok": False, "message": "no free port"}


@pytest.fixture
def pauses(monkeypatch):
    """Instead of sleeping, the next of these is done; the last one stays."""
    todo: list[Any] = []

    def pause(run, seconds):
        run.stop_if_asked()
        assert todo, "it waits for nothing"
        (todo.pop(0) if len(todo) > 1 else todo[0])()

    monkeypatch.setattr(webhook, "_sleep", pause)
    return todo


@pytest.fixture
def network(begin, cluster, members):
    def begin_it(**params):
        return begin(
            kind="Network",
            cluster=cluster,
            machines=members,
            params={"driver": "webhook", **params},
        )

    return begin_it


def results(operation):
    rows = MachineStep.objects.filter(step__operation=operation).select_related("machine")
    return {row.machine.address: (row.status, str(row.message)) for row in rows}


def overdue():
    SiteRequest.objects.update(created_at=timezone.now() - timezone.timedelta(hours=2))


def test_the_system_is_told_which_machines_and_what_their_nodes_are(
    network, work, site, network_system
):
    site.status, site.answer = (
        200,
        json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": YES}}).encode(),
    )
    operation = network()
    work()
    (request,) = site.requests
    body = json.loads(request.body)
    assert (body["action"], body["cluster"], body["by"]) == ("add", "cluster-a", "operator")
    assert body["machines"][0] == {
        "address": "10.0.0.1",
        "hostname": "n1",
        "role": "Compute",
        "node": "n1",
        "pod_cidrs": ["10.244.1.0/24"],
    }
    assert body["id"] == request.headers["Beidou-Delivery"] == str(SiteRequest.objects.get().key)
    assert body["callback"].endswith(f"/api/v1/site-requests/{body['id']}/callback/")
    assert results(operation) == {
        "10.0.0.1": ("succeeded", "vlan 7"),
        "10.0.0.2": ("succeeded", "vlan 7"),
    }


def test_each_machine_is_what_the_system_says_of_it(network, work, site, network_system):
    site.status, site.answer = (
        200,
        json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": NO}}).encode(),
    )
    operation = network()
    work()
    assert results(operation)["10.0.0.1"][0] == "succeeded"
    assert results(operation)["10.0.0.2"] == (
        "failed",
        "The network system says no: no free port",
    )
    operation.refresh_from_db()
    assert operation.status == Operation.Status.PARTIAL


def test_an_answer_may_come_later_by_the_callback(
    network, work, site, network_system, pauses, call_back
):
    def answer_one():
        call_back(SiteRequest.objects.get(), {"machines": {"10.0.0.1": YES}})

    def answer_other():
        call_back(SiteRequest.objects.get(), {"machines": {"10.0.0.2": YES}})

    pauses += [answer_one, answer_other]
    operation = network()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    assert len(site.requests) == 1


def test_no_worker_is_kept_while_it_is_waited_for(network, network_system, control):
    network()
    control(dispatch.dispatch)
    (queued,) = OrmQ.objects.filter(key__in=[tasks.WORK, tasks.OUTSIDE])
    assert (queued.key, queued.task["func"]) == (tasks.OUTSIDE, "operations.tasks.run_step")


def test_a_lost_worker_is_replaced_beside_the_workers_too(
    network, work, network_system, control, pauses
):
    class Killed(BaseException):
        pass

    def die():
        raise Killed

    operation = network()
    pauses.append(die)
    with pytest.raises(Killed):
        work()
    OrmQ.objects.all().delete()
    operation.steps.update(lease_until=timezone.now() - timezone.timedelta(seconds=1))
    control(recovery.reap)
    assert OrmQ.objects.get().key == tasks.OUTSIDE


def test_what_is_not_answered_in_time_has_failed_and_a_late_answer_is_refused(
    network, work, site, network_system, pauses, call_back
):
    pauses += [
        lambda: call_back(SiteRequest.objects.get(), {"machines": {"10.0.0.1": YES}}),
        overdue,
    ]
    operation = network(minutes=5)
    work()
    assert results(operation) == {
        "10.0.0.1": ("succeeded", "vlan 7"),
        "10.0.0.2": ("failed", "The network system did not answer within 5 minutes."),
    }
    late = call_back(SiteRequest.objects.get(), {"machines": {"10.0.0.2": YES}})
    assert late.json()["code"] == "closed"


def test_a_system_that_is_away_is_asked_again_with_the_same_key(
    network, work, site, network_system, pauses
):
    def back():
        site.status = 200
        site.answer = json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": YES}}).encode()

    site.status = 503
    pauses += [lambda: None, back]
    operation = network()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    keys = {request.headers["Beidou-Delivery"] for request in site.requests}
    assert (len(site.requests), len(keys)) == (3, 1)


def test_a_system_that_stays_away_fails_the_machines_with_its_last_word(
    network, work, site, network_system, pauses
):
    site.status, site.answer_headers = 503, {"Retry-After": "60"}
    operation = network(minutes=1)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert len(site.requests) == 1  # the next try would be after the limit
    assert "answered 503" in results(operation)["10.0.0.1"][1]


def test_a_refusal_is_final_at_once(network, work, site, network_system):
    site.status, site.answer = 400, b"unknown cluster"
    operation = network()
    work()
    assert "answered 400. unknown cluster" in results(operation)["10.0.0.1"][1]
    assert len(site.requests) == 1


@pytest.mark.parametrize("answer", [b"thanks", b'{"machines": {"10.9.9.9": {"ok": true}}}'])
def test_an_answer_that_cannot_be_used_is_no_success(answer, network, work, site, network_system):
    site.status, site.answer = 200, answer
    operation = network()
    work()
    assert results(operation)["10.0.0.1"][0] == "failed"
    assert "cannot be used" in results(operation)["10.0.0.1"][1]


def test_a_retry_asks_about_what_failed_alone(
    network, work, site, network_system, control, operator
):
    site.status, site.answer = (
        200,
        json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": NO}}).encode(),
    )
    operation = network()
    work()
    site.answer = json.dumps({"machines": {"10.0.0.2": YES}}).encode()
    operation.refresh_from_db()
    control(operation_control.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED
    asked = [[m["address"] for m in json.loads(r.body)["machines"]] for r in site.requests]
    assert asked == [["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]]


def test_after_a_lost_worker_the_open_request_is_waited_for_and_not_sent_again(
    network, work, site, network_system, pauses, call_back
):
    class Killed(BaseException):
        pass

    def die():
        raise Killed

    def answer():
        call_back(SiteRequest.objects.get(), {"machines": {"10.0.0.1": YES, "10.0.0.2": YES}})

    operation = network()
    pauses.append(die)
    with pytest.raises(Killed):
        work()
    pauses[:] = [answer]
    step = operation.steps.get()
    run = webhook_run(operation, step)
    answers = webhook.act(run)
    assert set(answers) == {"10.0.0.1", "10.0.0.2"}
    assert len(site.requests) == 1


def lose_before_the_result(operation, monkeypatch, work):
    """The answers are there, and the worker dies before it has written what became of machines."""

    class Killed(BaseException):
        pass

    def die(_run, _request):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(webhook, "_wait", die)
        with pytest.raises(Killed):
            work()
    return webhook_run(operation, operation.steps.get())


def test_a_worker_lost_after_the_answer_does_not_have_it_done_twice(
    network, work, site, network_system, monkeypatch, pauses
):
    site.status = 200
    site.answer = json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": YES}}).encode()
    run = lose_before_the_result(network(), monkeypatch, work)
    assert webhook.act(run) == {"10.0.0.1": YES, "10.0.0.2": YES}
    assert len(site.requests) == 1


def test_a_worker_lost_after_the_answer_asks_again_about_what_was_refused_alone(
    network, work, site, network_system, monkeypatch, pauses
):
    site.status = 200
    site.answer = json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": NO}}).encode()
    run = lose_before_the_result(network(), monkeypatch, work)
    site.answer = json.dumps({"machines": {"10.0.0.2": YES}}).encode()
    assert webhook.act(run) == {"10.0.0.1": YES, "10.0.0.2": YES}
    asked = [[m["address"] for m in json.loads(r.body)["machines"]] for r in site.requests]
    assert asked == [["10.0.0.1", "10.0.0.2"], ["10.0.0.2"]]


def test_a_refusal_leaves_those_alone_that_were_done_before(
    network, work, site, network_system, monkeypatch, pauses
):
    site.status = 200
    site.answer = json.dumps({"machines": {"10.0.0.1": YES, "10.0.0.2": NO}}).encode()
    run = lose_before_the_result(network(), monkeypatch, work)
    site.status = 400
    assert webhook.act(run) == {"10.0.0.1": YES}
    assert run.failed == ["10.0.0.2"]


def webhook_run(operation, step) -> Any:
    """The step as a second worker sees it, with nothing settled yet."""
    return _Run(operation, step)


class _Run:
    def __init__(self, operation, step):
        self.operation = Operation.objects.get(pk=operation.pk)
        self.cluster, self.step_name = operation.cluster, step.name
        self.params = type("Params", (), {"action": "add", "minutes": 15})()
        self.targets = list(operation.machines.order_by("pk"))
        self.failed: list[str] = []

    def fail(self, target, _why):
        self.targets.remove(target)
        self.failed.append(target.address)

    def say(self, *_args, **_more): ...
    def note(self, *_args): ...
    def stop_if_asked(self): ...


def test_a_cancel_closes_the_request(
    network, work, site, network_system, pauses, control, operator, call_back
):
    operation = network()
    pauses.append(
        lambda: operation_control.cancel(
            Operation.objects.get(pk=operation.pk), acting_user=operator
        )
    )
    work()
    operation.refresh_from_db()
    assert operation.status in (Operation.Status.CANCELING, Operation.Status.CANCELED)
    webhook.give_up(webhook_run(operation, operation.steps.get()))
    late = call_back(SiteRequest.objects.get(), {"machines": {"10.0.0.1": YES}})
    assert late.json()["code"] == "closed"


def test_machines_that_have_left_are_told_without_a_node(
    begin, work, cluster, operators, site, network_system
):
    site.status, site.answer = 200, json.dumps({"machines": {"10.0.0.9": YES}}).encode()
    gone = Machine.objects.create(
        address="10.0.0.9", hostname="n9", state=Machine.State.AVAILABLE, owner_team=operators
    )
    gone.credential = cluster.operation_settings.credential
    gone.save()
    begin(
        kind="Network",
        cluster=cluster,
        machines=[gone],
        params={"driver": "webhook", "action": "remove"},
    )
    work()
    body = json.loads(site.requests[0].body)
    assert body["action"] == "remove"
    assert body["machines"][0]["pod_cidrs"] == []


@pytest.mark.parametrize(("state", "is_blocked"), [("in_service", True), ("faulty", False)])
def test_a_working_node_is_not_cut_off(state, is_blocked, cluster, members, admin, network_system):
    Machine.objects.update(state=state)
    found = plan(
        cluster, list(Machine.objects.all()), admin, driver="webhook", action="remove"
    ).blockers
    assert ["still a node" in each.reason for each in found] == [True] * len(found)
    assert bool(found) is is_blocked


def plan(cluster, machines, user, **params):
    return start.plan_operation(
        kind="Network", cluster=cluster, machines=machines, params=params, acting_user=user
    )


def test_without_a_system_nothing_begins_and_it_is_said_where_to_name_one(cluster, members, admin):
    (blocker,) = plan(cluster, members, admin, driver="webhook").blockers
    assert blocker.machine is None
    assert "has no network system" in blocker.reason


def test_a_free_machine_is_no_node_yet(cluster, admin, network_system):
    free = Machine.objects.create(
        address="10.0.0.9", hostname="n9", state=Machine.State.AVAILABLE, cluster=cluster
    )
    (blocker,) = plan(cluster, [free], admin, driver="webhook").blockers
    assert "it is no node yet" in str(blocker)
