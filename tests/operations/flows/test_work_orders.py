"""Approvals: who decides, when, and that exactly what was approved is done."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from clusters.models import Cluster
from machines.models import Machine
from operations.flows import advance, approval, catalog, saying
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep, WorkOrder
from operations.flows.start import Batches
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Operation
from tests import factories
from tests.operations.toy import ToyParams

pytestmark = pytest.mark.django_db
Status = AutoOperationTask.Status


@pytest.fixture
def asked(begin_task, work):
    """A task that waits for an approval before it begins an operation."""
    task = begin_task("WorkOrder", "Toy")
    work()
    return task


def newest(task):
    return WorkOrder.objects.filter(step__task=task).order_by("step__position", "number").last()


def fresh(task):
    return AutoOperationTask.objects.get(pk=task.pk)


def test_nothing_begins_before_somebody_has_approved(asked, steps_of):
    assert steps_of(asked) == {"WorkOrder": "running", "Toy": "waiting"}
    assert fresh(asked).waiting_for == "an approval: Approval"
    assert not Operation.objects.exists()


def test_an_approval_lets_the_next_step_begin(asked, work, control, approver, steps_of):
    control(controls.approve, newest(asked), acting_user=approver, reason="ticket 7")
    work()
    assert steps_of(asked) == {"WorkOrder": "succeeded", "Toy": "succeeded"}
    order = newest(asked)
    assert (order.status, order.decided_by, order.reason) == ("approved", approver, "ticket 7")
    assert "Approved by approver" in asked.steps.get(key="WorkOrder").message


def test_a_rejection_ends_the_task_and_says_why(asked, work, control, approver, steps_of):
    control(controls.reject, newest(asked), acting_user=approver, reason="not today")
    work()
    assert steps_of(asked) == {"WorkOrder": "failed", "Toy": "waiting"}
    assert "Rejected by approver: not today" in fresh(asked).message


def test_the_audit_trail_says_who_rejected_the_task(asked, work, control, approver):
    control(controls.reject, newest(asked), acting_user=approver, reason="not today")
    work()
    end = AuditEntry.objects.get(verb__startswith="task ")
    assert (end.verb, end.actor, end.outcome) == ("task rejected", "approver", "done")
    assert "Rejected by approver: not today" in end.reason


def test_after_a_rejection_a_retry_asks_again(asked, work, control, approver, operator):
    control(controls.reject, newest(asked), acting_user=approver, reason="not today")
    work()
    control(controls.retry, asked, acting_user=operator)
    work()
    order = newest(asked)
    assert (order.number, order.status) == (2, "open")


def test_a_rejection_needs_a_reason(asked, approver):
    with pytest.raises(InvalidInput, match="needs a reason"):
        controls.reject(newest(asked), acting_user=approver, reason=" ")


@pytest.mark.parametrize("verb", [controls.approve, controls.reject, controls.withdraw])
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_who_has_no_right_to_approve_decides_nothing(verb, who, asked, cast):
    with pytest.raises(Forbidden):
        verb(newest(asked), acting_user=cast[who], reason="x")
    assert newest(asked).status == "open"


@pytest.mark.parametrize("verb", [controls.approve, controls.reject])
def test_whoever_asked_never_decides_not_even_an_administrator(verb, begin_task, work, admin):
    task = begin_task("WorkOrder", acting_user=admin)
    work()
    with pytest.raises(Forbidden, match="somebody else has to approve"):
        verb(newest(task), acting_user=admin, reason="x")


def test_whoever_sent_it_in_the_name_of_somebody_else_does_not_decide(begin_task, work, approver):
    task = begin_task("WorkOrder", "Toy", sent_by=approver)
    work()
    with pytest.raises(Forbidden, match="somebody else has to approve"):
        controls.approve(newest(task), acting_user=approver)
    assert newest(task).status == "open"


def test_the_operations_of_a_task_know_who_sent_it(begin_task, work, approver, operator):
    task = begin_task("Toy", sent_by=approver)
    work()
    operation = Operation.objects.get(task_part__step__task=task)
    assert (operation.requested_by, operation.sent_by) == (operator, approver)


def test_whoever_carries_it_on_does_not_decide_either(asked, work, control, approver, operator):
    control(controls.reject, newest(asked), acting_user=approver, reason="not today")
    work()
    control(controls.retry, asked, acting_user=approver)
    work()
    with pytest.raises(Forbidden, match="somebody else has to approve"):
        controls.approve(newest(asked), acting_user=approver)


def test_a_question_is_decided_once(asked, control, approver, admin):
    order = newest(asked)
    control(controls.approve, order, acting_user=approver)
    with pytest.raises(Conflict):
        controls.reject(order, acting_user=admin, reason="too late")


def test_after_the_time_limit_nobody_decides_and_the_task_fails(asked, control, approver, steps_of):
    past = timezone.now() - timedelta(seconds=1)
    WorkOrder.objects.update(due_at=past)
    TaskStep.objects.filter(key="WorkOrder").update(due_at=past)
    with pytest.raises(Conflict, match="time limit"):
        controls.approve(newest(asked), acting_user=approver)
    control(advance.sweep)
    assert steps_of(asked) == {"WorkOrder": "failed", "Toy": "waiting"}
    assert newest(asked).status == "expired"
    assert "Nobody decided within 72 hours" in fresh(asked).message


def test_a_lost_word_of_a_decision_is_found_by_the_sweeper(asked, control, approver, steps_of):
    controls.approve(newest(asked), acting_user=approver)  # what it queues is lost
    control(advance.sweep)
    assert steps_of(asked)["WorkOrder"] == "succeeded"


def test_what_a_person_has_seen_is_what_is_approved(asked, approver):
    with pytest.raises(Conflict, match="has changed since you looked"):
        controls.approve(newest(asked), acting_user=approver, digest="0" * 64)
    controls.approve(newest(asked), acting_user=approver, digest=newest(asked).digest)


def test_the_question_holds_machines_parameters_and_playbooks(asked, machines):
    plan = newest(asked).plan
    assert sorted(plan["machines"]) == sorted(machine.address for machine in machines)
    assert [step["name"] for step in plan["steps"]] == ["WorkOrder", "Toy"]
    assert plan["playbooks"] == approval.playbook_revision()


CHANGES = {
    "overrides": "playbook variables of the cluster were changed",
    "policy": "preCheck policy of the cluster was changed",
    "artifact_source": "artifact source of the cluster was changed",
}


@pytest.mark.parametrize("field", CHANGES)
def test_settings_that_changed_after_the_approval_ask_again(
    field, begin_task, work, control, approver, steps_of, cluster_a, operator
):
    settings = ClusterSettings.objects.create(cluster=cluster_a)
    task = begin_task("WorkOrder", "Wait", "Toy")
    work()
    control(controls.approve, newest(task), acting_user=approver)
    work()
    setattr(settings, field, "/elsewhere" if field == "artifact_source" else {"a": 1})
    settings.save()
    control(controls.skip, task, acting_user=operator, step="Wait", reason="x")
    work()
    assert steps_of(task)["WorkOrder"] == "running"
    assert steps_of(task)["Toy"] == "waiting"
    assert not Operation.objects.exists()
    order = newest(task)
    assert order.number == 2
    assert CHANGES[field] in " ".join(order.changes)
    control(controls.approve, order, acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED


class Versioned(ToyParams):
    kubernetes_version: str = ""


@pytest.fixture
def versioned(toy, monkeypatch, cluster_a):
    """The toy joins machines in the cluster's version, unless another is given."""
    monkeypatch.setitem(kinds.KINDS, "Toy", replace(kinds.get("Toy"), params=Versioned))
    Cluster.objects.filter(pk=cluster_a.pk).update(version="v1.36.0")


def upgraded(control, task):
    Cluster.objects.update(version="v1.36.1")
    control(advance.advance, task.pk)


def test_a_version_that_nobody_chose_is_that_of_the_cluster_when_it_was_approved(
    versioned, asked, work, control, approver
):
    order = newest(asked)
    assert order.plan["version"] == "v1.36.0"
    assert {"label": "Version of the cluster", "text": "v1.36.0"} in saying.in_words(
        order.plan, asked
    )
    controls.approve(order, acting_user=approver)
    upgraded(control, asked)
    order = newest(asked)
    assert (order.number, order.status) == (2, "open")
    assert order.changes == ["The cluster has another version: v1.36.1, no longer v1.36.0."]
    assert not Operation.objects.exists()
    control(controls.approve, order, acting_user=approver)
    work()
    assert fresh(asked).status == Status.SUCCEEDED


def test_it_is_looked_for_where_an_operation_is_narrowed_to_some_steps_too(
    versioned, begin_task, work
):
    narrowed = catalog.spec("Toy")
    narrowed = replace(narrowed, params={**narrowed.params, "steps": ["first"]})
    task = begin_task(catalog.spec("WorkOrder"), replace(narrowed, needs=("WorkOrder",)))
    work()
    assert newest(task).plan["version"] == "v1.36.0"


def test_one_that_somebody_chose_does_not_ask_again(versioned, begin_task, work, control, approver):
    spec = catalog.spec("Toy", {"kubernetes_version": "v1.36.0"})
    task = begin_task(catalog.spec("WorkOrder"), replace(spec, needs=("WorkOrder",)))
    work()
    assert "version" not in newest(task).plan
    controls.approve(newest(task), acting_user=approver)
    upgraded(control, task)
    work()
    assert fresh(task).status == Status.SUCCEEDED


def test_what_has_been_done_in_the_old_version_asks_nothing_more(
    versioned, begin_task, work, control, approver, operator
):
    task = begin_task("WorkOrder", "Toy", "Wait", "UncordonNodes")
    work()
    control(controls.approve, newest(task), acting_user=approver)
    work()
    Cluster.objects.update(version="v1.36.1")
    controls.skip(task, acting_user=operator, step="Wait", reason="x")
    control(advance.advance, task.pk)
    assert newest(task).number == 1


def test_other_playbooks_than_those_approved_ask_again(
    begin_task, work, control, approver, steps_of, monkeypatch
):
    task = begin_task("WorkOrder", "Toy")
    work()
    order = newest(task)
    controls.approve(order, acting_user=approver)
    monkeypatch.setattr(approval, "playbook_revision", lambda: "another")
    control(advance.advance, task.pk)
    assert newest(task).number == 2
    assert newest(task).changes == ["The playbooks are of another version."]
    assert not Operation.objects.exists()


def test_a_machine_that_is_another_one_by_now_asks_again(asked, work, control, approver, machines):
    controls.approve(newest(asked), acting_user=approver)
    Machine.objects.filter(pk=machines[0].pk).update(hostname="swapped")
    control(advance.advance, asked.pk)
    assert machines[0].address in newest(asked).changes[0]
    assert not Operation.objects.exists()


def test_fewer_machines_than_approved_do_not_ask_again(
    begin_task, work, control, approver, toy, machines
):
    toy.failing = {("first", machines[0].address)}
    task = begin_task("WorkOrder", "Toy", "Toy")
    work()
    control(controls.approve, newest(task), acting_user=approver)
    work()
    assert fresh(task).status == Status.PARTIAL
    assert newest(task).number == 1


def test_a_retry_by_somebody_else_asks_again(
    asked, work, control, approver, operators, toy, machines
):
    toy.failing = {("first", machine.address) for machine in machines}
    control(controls.approve, newest(asked), acting_user=approver)
    work()
    other = factories.make_user("other", teams=(operators,))
    control(controls.retry, asked, acting_user=other)
    work()
    order = newest(asked)
    assert (order.number, order.status) == (2, "open")
    assert "Somebody else carries it on: other" in order.changes[0]


def test_a_retry_by_the_same_person_does_not_ask_again(
    asked, work, control, approver, operator, toy, machines
):
    toy.failing = {("first", machine.address) for machine in machines}
    control(controls.approve, newest(asked), acting_user=approver)
    work()
    toy.failing.clear()
    control(controls.retry, asked, acting_user=operator)
    work()
    assert fresh(asked).status == Status.SUCCEEDED
    assert newest(asked).number == 1


def test_a_withdrawn_approval_holds_back_what_has_not_begun(
    begin_task, work, control, approver, steps_of
):
    task = begin_task("WorkOrder", "Toy", batches=Batches(size=1))
    work()
    control(controls.approve, newest(task), acting_user=approver)
    work(limit=2)
    assert Operation.objects.get().status == "running"
    control(controls.withdraw, newest(task), acting_user=approver, reason="alarm in the rack")
    work()
    assert [each.status for each in Operation.objects.all()] == ["succeeded"]
    assert steps_of(task) == {"WorkOrder": "running", "Toy": "waiting"}
    assert newest(task).number == 2
    control(controls.approve, newest(task), acting_user=approver)
    work()
    assert fresh(task).status == Status.SUCCEEDED
    assert Operation.objects.count() == 3


@pytest.mark.parametrize("paused", [False, True])
def test_one_that_is_withdrawn_before_the_task_was_looked_at_asks_again(
    paused, asked, work, control, approver, operator, steps_of
):
    if paused:
        control(controls.pause, asked, acting_user=operator)
    controls.approve(newest(asked), acting_user=approver)  # nothing looks at the task
    controls.withdraw(newest(asked), acting_user=approver, reason="alarm in the rack")
    if paused:
        controls.resume(asked, acting_user=operator)
    control(advance.advance, asked.pk)
    assert (newest(asked).number, newest(asked).status) == (2, "open")
    assert steps_of(asked) == {"WorkOrder": "running", "Toy": "waiting"}
    TaskStep.objects.filter(key="WorkOrder").update(due_at=timezone.now() - timedelta(seconds=1))
    assert control(advance.sweep) == 1
    control(controls.approve, newest(asked), acting_user=approver)
    work()
    assert fresh(asked).status == Status.SUCCEEDED


def test_of_a_task_that_has_ended_nothing_is_withdrawn(asked, work, control, approver):
    control(controls.approve, newest(asked), acting_user=approver)
    work()
    with pytest.raises(Conflict, match="nothing is left to withdraw"):
        controls.withdraw(newest(asked), acting_user=approver, reason="hm")


def test_a_decision_while_the_task_is_paused_counts_when_it_goes_on(
    asked, work, control, approver, operator
):
    control(controls.pause, asked, acting_user=operator)
    control(controls.approve, newest(asked), acting_user=approver)
    work()
    assert not Operation.objects.exists()
    control(controls.resume, asked, acting_user=operator)
    work()
    assert fresh(asked).status == Status.SUCCEEDED


def test_each_decision_is_in_the_audit_trail(asked, control, approver):
    control(controls.approve, newest(asked), acting_user=approver, reason="ticket 7")
    entry = AuditEntry.objects.get(verb="approve")
    assert entry.reason == "ticket 7"
    assert entry.after["plan"] == newest(asked).digest
