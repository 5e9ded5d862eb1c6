"""*Needs you*: every trouble is told, with its age, to whoever may see it, and nothing else is."""

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from beidou.base.models import AuditEntry, User
from beidou.overview.attention import needs
from beidou.overview.running import running
from clusters.models import Cluster, ClusterCredential, Node
from machines.models import Drift, Machine
from operations.flows.models import AutoOperationTask
from operations.models import Step
from operations.services import estimates
from tests import factories
from tests.overview import rows

pytestmark = pytest.mark.django_db


def texts(user: User) -> list[str]:
    return [need.text for need in needs(user)]


def set_health(cluster: Cluster, health: str, **values) -> None:
    Cluster.objects.filter(pk=cluster.pk).update(health=health, checked_at=timezone.now(), **values)


def test_a_quiet_fleet_needs_nobody(admin: User, cluster_a: Cluster) -> None:
    set_health(cluster_a, "healthy")
    rows.make_operation(cluster_a, status="succeeded")
    assert texts(admin) == []


def test_an_unreachable_cluster_comes_before_a_degraded_one(
    admin: User, cluster_a: Cluster, cluster_b: Cluster
) -> None:
    since = timezone.now() - timedelta(hours=2)
    set_health(cluster_a, "degraded", health_reason="1 of 3 nodes not ready", health_since=since)
    set_health(cluster_b, "unreachable", health_reason="no answer", health_since=since)
    first, second = needs(admin)
    assert (first.text, first.detail) == ("cluster-b is unreachable", "no answer")
    assert first.moment == since
    assert second.text == "cluster-a is degraded"


def test_clusters_that_no_collector_looks_at_are_told(admin: User, cluster_a: Cluster) -> None:
    old = timezone.now() - timedelta(minutes=5)
    Cluster.objects.update(checked_at=old, health="healthy")
    assert texts(admin) == ["1 cluster is not being watched"]


def test_a_cluster_adopted_a_moment_ago_is_no_silence(admin: User, cluster_a: Cluster) -> None:
    assert texts(admin) == []


@pytest.mark.parametrize(("days", "tone"), [(2, "bad"), (20, "warning")])
def test_what_expires_soon_is_told(days: int, tone: str, admin: User, cluster_a: Cluster) -> None:
    end = timezone.now() + timedelta(days=days)
    set_health(cluster_a, "healthy", server_certificate_expires_at=end)
    ClusterCredential.objects.create(cluster=cluster_a, kubeconfig="x", expires_at=end)
    found = needs(admin)
    assert {need.kind for need in found} == {"expiring_credential", "expiring_certificate"}
    assert {need.tone for need in found} == {tone}
    assert {need.moment for need in found} == {end}


def test_what_expires_in_three_months_is_not_told(admin: User, cluster_a: Cluster) -> None:
    end = timezone.now() + timedelta(days=90)
    set_health(cluster_a, "healthy", server_certificate_expires_at=end)
    assert texts(admin) == []


def test_only_failures_of_the_last_day_that_nobody_retried_are_told(
    admin: User, cluster_a: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    now = timezone.now()
    rows.make_operation(cluster_a, status="failed", name="fresh")
    rows.make_operation(cluster_a, status="partial", name="in-part")
    rows.make_operation(
        cluster_a, status="failed", name="old", finished_at=now - timedelta(hours=25)
    )
    rows.make_operation(cluster_a, status="running", name="retried")
    assert sorted(texts(admin)) == ["fresh failed", "in-part failed in part"]


def make_task(cluster: Cluster, name: str, status: str, **values) -> AutoOperationTask:
    if status in AutoOperationTask.ENDED_BADLY:
        values.setdefault("finished_at", timezone.now())
    return AutoOperationTask.objects.create(name=name, cluster=cluster, status=status, **values)


def test_tasks_that_failed_within_a_day_and_paused_ones_are_told(
    admin: User, cluster_a: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    make_task(cluster_a, "gate", "failed", message="no data")
    make_task(cluster_a, "half", "partial")
    make_task(cluster_a, "old", "failed", finished_at=timezone.now() - timedelta(hours=25))
    make_task(cluster_a, "resting", "paused")
    for status in ("waiting", "running", "succeeded", "canceled"):
        make_task(cluster_a, status, status)
    assert texts(admin) == ["half failed in part", "gate failed", "resting is paused"]
    failed = next(need for need in needs(admin) if need.text == "gate failed")
    assert (failed.kind, failed.tone, failed.detail) == ("failed_task", "bad", "no data")


def test_many_failed_tasks_cost_no_more_queries_than_one(
    admin: User, cluster_a: Cluster, django_assert_num_queries
) -> None:
    make_task(cluster_a, "first", "failed")
    with CaptureQueriesContext(connection) as captured:
        needs(admin)
    for number in range(6):
        make_task(cluster_a, f"more-{number}", "failed")
    with django_assert_num_queries(len(captured)):
        assert "4 more like these" in texts(admin)


def test_failed_tasks_of_clusters_one_may_not_see_are_not_told(
    viewer: User, cluster_a: Cluster, cluster_b: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    make_task(cluster_b, "theirs", "failed")
    assert texts(viewer) == []


def test_an_operation_that_has_just_been_asked_for_does_not_wait_yet(
    admin: User, cluster_a: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    rows.make_operation(cluster_a, status="waiting", created_at=timezone.now())
    assert texts(admin) == []


def test_an_operation_that_waits_says_for_what(admin: User, cluster_a: Cluster) -> None:
    set_health(cluster_a, "healthy")
    rows.make_operation(cluster_a, status="waiting", name="patient", waiting_for="a free slot")
    need = needs(admin)[0]
    assert (need.text, need.detail) == ("patient waits", "a free slot")


def test_changed_host_keys_faulty_machines_and_drift_are_told(admin: User) -> None:
    factories.make_machine("10.0.0.1", hostname="a", offered_host_key="ssh-ed25519 AAAA")
    factories.make_machine("10.0.0.2", hostname="b", state=Machine.State.FAULTY)
    machine = factories.make_machine("10.0.0.3", hostname="c")
    for field in ("cpus", "kernel"):
        machine.drift.create(field=field, intended="1", observed="2")
    machine.drift.create(field="os", intended="1", observed="2", verdict=Drift.Verdict.WRONG)
    found = {need.kind: need for need in needs(admin)}
    assert found["changed_host_key"].text == "a (10.0.0.1) shows another host key"
    assert found["faulty_machine"].text == "b (10.0.0.2) is faulty"
    assert found["drift"].text == "1 machine differs from what was intended"
    assert found["drift"].count == 2


def test_the_drift_of_a_retired_machine_needs_nobody(admin: User) -> None:
    machine = factories.make_machine(state=Machine.State.RETIRED)
    machine.drift.create(field="cpus", intended="1", observed="2")
    assert "drift" not in {need.kind for need in needs(admin)}


def test_many_of_a_kind_are_a_few_and_a_number(admin: User) -> None:
    for _ in range(10):
        factories.make_machine(state=Machine.State.FAULTY)
    found = needs(admin)
    assert [need.count for need in found] == [1, 1, 1, 7]
    assert found[-1].text == "7 more like these"


def test_troubles_of_clusters_one_may_not_see_are_not_told(
    viewer: User, cluster_a: Cluster, cluster_b: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    set_health(cluster_b, "unreachable")
    rows.make_operation(cluster_b, status="failed")
    machine = factories.make_machine(cluster=cluster_b, state=Machine.State.FAULTY)
    machine.drift.create(field="cpus", intended="1", observed="2")
    assert texts(viewer) == []


def test_a_running_operation_says_how_far_it_is(admin: User, cluster_a: Cluster) -> None:
    operation = rows.make_operation(cluster_a, status="running", machines=4)
    step = operation.steps.get(name="scaleUp")
    step.cells.filter(pk__in=step.cells.values("pk")[:3]).update(status="succeeded")
    (found,) = running(admin)
    assert found.step == step
    assert (found.here, found.machines) == (3, 4)
    assert (found.settled, found.all_parts) == (7, 16)
    assert found.remaining_seconds is None  # nobody has ever done this


def test_the_remaining_time_is_what_such_steps_took_less_what_has_passed(
    admin: User, cluster_a: Cluster
) -> None:
    earlier = rows.make_operation(cluster_a, status="succeeded")
    for step in earlier.steps.all():
        rows.make_attempt(step, seconds=100, machines=2)
        rows.make_attempt(step, seconds=900, machines=50)  # a fleet takes longer
    rows.make_operation(cluster_a, status="running")  # for 60 s in its second step of four
    (found,) = running(admin)
    assert found.remaining_seconds == pytest.approx(240, abs=5)
    assert found.remaining_minutes == 4
    assert not found.is_overdue


def test_an_operation_slower_than_any_before_promises_nothing(
    admin: User, cluster_a: Cluster
) -> None:
    earlier = rows.make_operation(cluster_a, status="succeeded")
    for step in earlier.steps.all():
        rows.make_attempt(step, seconds=5, machines=2)
    now = rows.make_operation(cluster_a, status="running")
    now.steps.filter(status=Step.Status.WAITING).delete()
    (found,) = running(admin)
    assert found.is_overdue


def test_a_late_step_makes_no_promise_for_those_to_come(admin: User, cluster_a: Cluster) -> None:
    earlier = rows.make_operation(cluster_a, status="succeeded")
    for step in earlier.steps.all():
        rows.make_attempt(step, seconds=20, machines=2)
    rows.make_operation(cluster_a, status="running")  # for 60 s in its second step of four
    (found,) = running(admin)
    assert found.is_overdue


def test_the_time_of_a_step_that_is_repeated_counts_from_its_newest_attempt(
    admin: User, cluster_a: Cluster
) -> None:
    earlier = rows.make_operation(cluster_a, status="succeeded")
    for step in earlier.steps.all():
        rows.make_attempt(step, seconds=100, machines=2)
    now = rows.make_operation(cluster_a, status="running")
    step = now.steps.get(name="scaleUp")
    now.steps.filter(pk=step.pk).update(started_at=timezone.now() - timedelta(days=1))
    step.attempts.create(number=2, holder="test", started_at=timezone.now() - timedelta(seconds=30))
    (found,) = running(admin)
    assert found.remaining_seconds == pytest.approx(270, abs=5)


@pytest.mark.parametrize(("status", "is_told"), [("running", True), ("paused", False)])
def test_a_remaining_time_is_told_only_of_what_goes_on(
    status: str, is_told: bool, admin: User, cluster_a: Cluster
) -> None:
    rows.make_operation(cluster_a, status=status)
    (found,) = running(admin)
    assert found.is_going_on is is_told


@pytest.mark.parametrize(
    ("usual", "spent", "is_late"),
    [(2, 11, False), (2, 13, True), (100, 120, False), (100, 126, True)],
)
def test_a_step_is_late_when_it_is_well_beyond_its_usual_time(
    usual: float, spent: float, is_late: bool
) -> None:
    assert estimates.is_late(usual, spent) is is_late


# --- alerts on events -----------------------------------------------------------------------------


def test_alerts_that_fire_are_told_the_critical_ones_first(
    admin: User, operator: User, cluster_a: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    usual = factories.make_alert_rule(operator, name="Back-offs", group_by="namespace")
    bad = factories.make_alert_rule(operator, name="Nodes", severity="critical")
    alert = factories.make_event_alert(bad, cluster_a)
    factories.make_event_alert(usual, cluster_a, value="shop")
    factories.make_event_alert(usual, cluster_a, value="old", ended_at=timezone.now())
    first, second = needs(admin)
    assert (first.text, first.tone, first.detail) == ("Alert on events: Nodes", "bad", "cluster-a")
    assert (first.url, first.moment) == (
        f"/events/eventalert/{alert.pk}/change/", alert.began_at,
    )  # fmt: skip
    assert (second.tone, second.detail) == ("warning", "shop, cluster-a")


def test_many_alerts_are_a_few_and_the_way_to_the_rest(
    admin: User, operator: User, cluster_a: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    rule = factories.make_alert_rule(operator, group_by="namespace")
    for number in range(5):
        factories.make_event_alert(rule, cluster_a, value=f"n{number}")
    last = needs(admin)[-1]
    assert last.text == "2 more like these"
    assert last.url == "/events/eventalert/?state=firing"


def test_alerts_are_told_to_nobody_who_may_not_see_them(
    viewer: User, stranger: User, operator: User, cluster_a: Cluster, cluster_b: Cluster
) -> None:
    set_health(cluster_a, "healthy")
    rule = factories.make_alert_rule(operator, name="Mine", group_by="")
    factories.make_event_alert(rule, cluster_b)
    factories.make_event_alert(rule, None)  # of all that its owner may see
    assert texts(viewer) == texts(stranger) == []
    assert texts(operator) == ["Alert on events: Mine"]


# --- nodes, in spite of windows and freezes -------------------------------------------------------


def break_glass(node: Node, *, at: datetime | None = None, to: str = "cordon") -> None:
    AuditEntry.objects.create(
        at=at or timezone.now(),
        actor="owner",
        verb="break glass",
        object_type="clusters.node",
        object_id=str(node.pk),
        object_name=node.name,
        cluster_id=node.cluster_id,
        after={"waited_for": "the window Sat", "to": to},
        reason="disk on fire",
        outcome="done",
    )


def test_glass_that_was_broken_for_a_node_is_told_to_whoever_sees_its_cluster(
    viewer: User, stranger: User, cluster_a: Cluster
) -> None:
    node = factories.make_node(cluster_a, "n1")
    break_glass(node)
    (need,) = needs(viewer)
    assert (need.kind, need.detail) == ("broken_glass", "disk on fire")
    assert need.text == "owner asked to cordon n1 in spite of windows and freezes"
    assert need.url == f"/clusters/node/{node.pk}/change/"
    assert texts(stranger) == []


def test_that_a_node_was_to_be_opened_is_told_as_such(viewer: User, cluster_a: Cluster) -> None:
    break_glass(factories.make_node(cluster_a, "n1"), to="uncordon")
    assert texts(viewer) == ["owner asked to uncordon n1 in spite of windows and freezes"]


def test_it_is_told_for_a_day_alone(viewer: User, cluster_a: Cluster) -> None:
    break_glass(
        factories.make_node(cluster_a, "n1"), at=timezone.now() - timedelta(hours=24, minutes=1)
    )
    assert texts(viewer) == []


def test_it_is_told_of_a_node_that_is_gone_without_a_link(viewer: User, cluster_a: Cluster) -> None:
    node = factories.make_node(cluster_a, "n1")
    break_glass(node)
    node.delete()
    (need,) = needs(viewer)
    assert need.url == ""


def test_of_many_the_newest_are_told_and_the_others_counted(
    viewer: User, cluster_a: Cluster
) -> None:
    for number in range(5):
        break_glass(factories.make_node(cluster_a, f"n{number}"))
    told = texts(viewer)
    assert told[0] == "owner asked to cordon n4 in spite of windows and freezes"
    assert told[3:] == ["2 more like these"]
