"""Steps that tell people something."""

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import InvalidInput, PermanentError
from beidou.base.models import Notice
from beidou.base.notices import Fate, fate_of
from clusters.models import ClusterGroupObjectPermission
from notifications.models import Delivery, NotificationRule
from notifications.services import routing, sending
from operations.flows import advance, catalog
from operations.flows import control as controls
from operations.flows.models import AutoOperationTask, TaskStep
from tests import factories

pytestmark = pytest.mark.django_db


def notify(**params):
    return replace(catalog.spec("Notify", {"text": "Racks 3 and 4 go first.", **params}), key="say")


def said(task):
    return task.steps.get(key="say")


@pytest.fixture
def receiver(cluster_a, settings):
    settings.MAIL_SERVER = {"host": "127.0.0.1", "port": 9, "security": "none"}
    row = factories.make_receiver(name="on call")
    rule = NotificationRule.objects.create(name="all", severity="info", kinds=["task.says"])
    rule.receivers.add(row)
    return row


@pytest.fixture
def later(control, work):
    def pass_time():
        TaskStep.objects.filter(key="say").update(due_at=timezone.now() - timedelta(seconds=1))
        control(advance.sweep)
        work()

    return pass_time


def deliver(*, error=None):
    routing.route()
    for job in sending.claim_due(most=10):
        sending.settle(delivery_id=job.delivery_id, number=job.number, error=error)


def follow(cluster, count):
    """Notices that somebody waits for; their keys."""
    first = Notice.objects.count()
    keys = [f"step-{first + number}" for number in range(count)]
    for key in keys:
        factories.make_notice(
            cluster=cluster, kind="task.says", severity="info", key=key, is_followed=True
        )
    return keys


def told():
    """Who got a message of the step."""
    rows = Delivery.objects.order_by("pk")
    return [row.receiver for row in rows if row.content["lines"][0]["kind"] == "task.says"]


def test_a_sentence_is_told_as_news_of_the_task_and_the_next_step_begins(
    begin_task, work, steps_of, cluster_a
):
    behind = replace(catalog.spec("Toy"), key="go", needs=("say",))
    task = begin_task(notify(severity="warning"), behind, name="monday")
    work()
    assert steps_of(task) == {"say": "succeeded", "go": "succeeded"}
    notice = Notice.objects.get(kind="task.says")
    assert notice.title == "Task monday: Racks 3 and 4 go first."
    assert (notice.severity, notice.cluster_id) == ("warning", cluster_a.pk)


def test_rules_say_who_is_told(begin_task, work, receiver):
    begin_task(notify())
    work()
    deliver()
    assert told() == [receiver]


def test_a_named_receiver_is_told_whatever_the_rules_say(begin_task, work, receiver):
    other = factories.make_receiver(name="other")
    begin_task(notify(receiver="other"))
    work()
    deliver()
    assert told() == [other]


def test_a_receiver_that_is_not_there_is_named_before_anything_begins(begin_task):
    with pytest.raises(InvalidInput, match="no receiver “nobody”"):
        begin_task(notify(receiver="nobody"))
    assert not AutoOperationTask.objects.exists()


def test_a_receiver_of_a_team_that_may_not_see_the_cluster_is_not_there(begin_task):
    factories.make_receiver(name="theirs", team=factories.make_team("strangers"))
    with pytest.raises(InvalidInput, match="that may hear of this cluster"):
        begin_task(notify(receiver="theirs"))


def test_a_team_that_lost_its_sight_meanwhile_is_not_told(begin_task, work, operators):
    factories.make_receiver(name="ours", team=operators)
    begin_task(notify(receiver="ours"))
    work()
    ClusterGroupObjectPermission.objects.all().delete()
    routing.route()
    assert not Delivery.objects.exists()


def test_where_it_must_arrive_the_step_waits_until_somebody_was_told(
    begin_task, work, steps_of, receiver, later
):
    task = begin_task(notify(must_arrive=True))
    work()
    later()
    assert steps_of(task)["say"] == "running"
    deliver()
    later()
    assert steps_of(task)["say"] == "succeeded"
    assert said(task).message == "Told: on call"


def test_where_it_must_arrive_and_nobody_is_named_the_step_fails(begin_task, work, steps_of, later):
    task = begin_task(notify(must_arrive=True))
    work()
    routing.route()
    later()
    assert steps_of(task)["say"] == "failed"
    assert said(task).message == "No rule tells this to anybody."


def test_what_was_given_up_fails_the_step_with_the_last_error(
    begin_task, work, steps_of, receiver, later
):
    task = begin_task(notify(must_arrive=True))
    work()
    deliver(error=PermanentError("the mailbox is full"))
    later()
    assert steps_of(task)["say"] == "failed"
    assert said(task).message == "the mailbox is full"


def test_what_does_not_arrive_in_time_fails_the_step(begin_task, work, steps_of, receiver, later):
    task = begin_task(notify(must_arrive=True, minutes=5))
    work()
    row = said(task)
    row.progress = {**row.progress, "until": timezone.now().isoformat()}
    row.save()
    later()
    assert steps_of(task)["say"] == "failed"
    assert "Nobody was told within 5 minutes" in said(task).message


def test_a_failure_that_may_be_passed_over_stops_nothing(begin_task, work, steps_of, later):
    behind = replace(catalog.spec("Toy"), key="go", needs=("say",))
    task = begin_task(replace(notify(must_arrive=True), on_failure="continue"), behind)
    work()
    routing.route()
    later()
    assert steps_of(task) == {"say": "failed", "go": "succeeded"}


def test_in_a_storm_of_others_what_is_waited_for_has_a_message_of_its_own(
    begin_task, work, receiver, cluster_a
):
    NotificationRule.objects.update(kinds=[])
    for _number in range(20):
        factories.make_notice(cluster=cluster_a)
    begin_task(notify(must_arrive=True))
    work()
    routing.route()
    notice = Notice.objects.get(kind="task.says")
    (own,) = Delivery.objects.filter(followed=notice)
    assert own.count == 1
    for _number in range(20):
        factories.make_notice(cluster=cluster_a)
    routing.route()
    own.refresh_from_db()
    assert own.count == 1


def test_a_storm_of_what_is_waited_for_is_few_messages_and_all_of_them_were_told(
    receiver, cluster_a
):
    keys = follow(cluster_a, 3)
    routing.route()
    keys += follow(cluster_a, 300)
    routing.route()
    assert [row.count for row in Delivery.objects.order_by("pk")] == [1, 1, 301]
    for _number in range(3):
        deliver()
    assert {fate_of(key).arrived for key in keys} == {("on call",)}


def test_what_came_meanwhile_does_not_wait_for_all_of_them(receiver, cluster_a):
    NotificationRule.objects.update(kinds=[])
    follow(cluster_a, 300)
    routing.route()
    factories.make_notice("a cluster is away", cluster=cluster_a)
    routing.route()
    assert [row.count for row in Delivery.objects.order_by("pk")] == [300, 1]


def test_a_message_that_was_given_up_fails_all_that_it_would_have_told(receiver, cluster_a):
    keys = follow(cluster_a, 20)
    deliver(error=PermanentError("the mailbox is full"))
    fates = [fate_of(key) for key in keys]
    assert {(fate.is_over, fate.why) for fate in fates} == {(True, "the mailbox is full")}


def test_of_what_the_team_may_no_longer_see_nobody_was_told(
    settings, cluster_a, cluster_b, operators
):
    settings.MAIL_SERVER = {"host": "127.0.0.1", "port": 9, "security": "none"}
    receiver = factories.make_receiver(name="ours", team=operators)
    factories.make_rule(receiver)
    factories.grant(operators, cluster_b, "viewer")
    gone, kept = follow(cluster_a, 10), follow(cluster_b, 10)
    routing.route()
    ClusterGroupObjectPermission.objects.filter(content_object=cluster_a).delete()
    deliver()
    assert {fate_of(key) for key in kept} == {Fate(arrived=("ours",))}
    assert {fate_of(key).arrived for key in gone} == {()}
    assert all(fate_of(key).is_over for key in gone)


def test_a_retry_tells_it_again(begin_task, work, steps_of, later, control, operator):
    task = begin_task(notify(must_arrive=True))
    work()
    routing.route()
    later()
    control(controls.retry, task, acting_user=operator)
    work()
    assert Notice.objects.filter(kind="task.says").count() == 2


def test_it_can_be_asked_for_over_the_api(api, operator, cluster_a, machines, toy):
    graph = [{"key": "say", "step": "Notify", "params": {"text": ""}}]
    wish = {"cluster": cluster_a.name, "machines": [machines[0].pk], "graph": graph}
    answer = api(operator).post("/api/v1/auto-operation-tasks/", wish)
    assert answer.status_code == 400
    assert "steps[0].params.text" in json.dumps(answer.json())
