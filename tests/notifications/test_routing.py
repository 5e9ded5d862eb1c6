"""From notices to few messages."""

from collections import Counter
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beidou.base.models import Notice
from notifications.models import Delivery
from notifications.services import content, routing, sending
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def receiver(db, mail_server):
    found = factories.make_receiver()
    factories.make_rule(found)
    return found


def deliveries() -> list[Delivery]:
    return list(Delivery.objects.order_by("pk"))


def test_a_notice_becomes_one_message_and_is_handed_on_once(receiver):
    notice = factories.make_notice("the cluster is away")
    assert routing.route() == 1
    assert routing.route() == 0
    delivery = Delivery.objects.get()
    assert (delivery.receiver, delivery.status, delivery.count) == (receiver, "waiting", 1)
    assert delivery.first_line == "the cluster is away"
    assert delivery.severity == "critical"
    notice.refresh_from_db()
    assert notice.routed_at is not None


def test_what_nobody_wants_is_handed_on_to_nobody(db):
    factories.make_notice()
    assert routing.route() == 1
    assert not Delivery.objects.exists()
    assert not Notice.objects.filter(routed_at=None).exists()


def test_a_few_are_messages_of_their_own(receiver):
    for _number in range(routing.PER_MINUTE):
        factories.make_notice()
    routing.route()
    assert [delivery.count for delivery in deliveries()] == [1] * routing.PER_MINUTE


def test_more_than_a_few_are_one_message(receiver):
    for _number in range(routing.PER_MINUTE + 1):
        factories.make_notice()
    routing.route()
    assert [delivery.count for delivery in deliveries()] == [routing.PER_MINUTE + 1]


def test_what_comes_beyond_joins_a_message_that_waits(receiver):
    for _number in range(20):
        factories.make_notice(severity="info")
        routing.route()
    factories.make_notice("the worst", severity="critical")
    routing.route()
    found = deliveries()
    assert [delivery.count for delivery in found] == [1, 1, 1, 1, 17]
    assert found[-1].severity == "critical"
    assert found[-1].first_line == "the worst"


def test_nothing_joins_a_message_that_may_have_arrived(receiver):
    tried = factories.make_delivery(receiver, status="waiting", tries=1)
    for _number in range(10):
        factories.make_notice()
    routing.route()
    tried.refresh_from_db()
    assert tried.count == 1
    assert Delivery.objects.exclude(pk=tried.pk).get().count == 10


def test_while_a_receiver_fails_everything_waits_in_one_message(receiver):
    factories.make_delivery(receiver, status="failed", tries=3)
    for _number in range(3):
        factories.make_notice()
        routing.route()
    assert [each.count for each in deliveries() if each.status == "waiting"] == [3]


def storm(many: int, clusters: list[int]) -> None:
    Notice.objects.bulk_create(
        Notice(
            kind="operation.failed" if number % 3 else "cluster.unreachable",
            severity="critical" if number % 3 else "warning",
            title=f"notice {number}",
            cluster_id=clusters[number % len(clusters)],
        )
        for number in range(many)
    )


def test_a_storm_of_ten_thousand_is_told_in_few_messages_that_count_all(receiver, mail_server):
    clusters = [factories.make_cluster().pk for _number in range(10)]
    storm(10_000, clusters)
    with CaptureQueriesContext(connection) as captured:
        while routing.route():
            pass
    now = timezone.now()
    sent = 0
    for second in range(60):
        for job in sending.claim_due(most=10, now=now + timedelta(seconds=second)):
            job.send()
            sending.settle(delivery_id=job.delivery_id, number=job.number, error=None)
            sent += 1
    assert 1 <= sent <= routing.PER_MINUTE
    assert sum(delivery.count for delivery in deliveries()) == 10_000
    assert all(delivery.status == "sent" for delivery in deliveries())
    texts = [mail.get_content() for mail in mail_server.mails]
    assert all(len(text) < 10_000 for text in texts)
    # The chunks of SQLite's INSERT above are not among them: this is what handing on costs.
    assert len(captured) < 60


def test_the_queries_do_not_grow_with_the_notices(receiver, cluster_a):
    def queries(many: int) -> int:
        storm(many, [cluster_a.pk])
        with CaptureQueriesContext(connection) as captured:
            routing.route()
        return len(captured)

    few = queries(10)
    assert queries(900) <= few + 1


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(waves=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), min_size=1, max_size=12))
def test_whatever_comes_no_minute_sees_more_than_five_messages_and_nothing_is_lost(receiver, waves):
    """Waves of notices, each after a pause; the messenger looks each second meanwhile."""
    Delivery.objects.all().delete()
    Notice.objects.all().delete()
    now = timezone.now()
    tried: list[datetime] = []

    def look() -> None:
        while routing.route(now):
            pass
        for job in sending.claim_due(most=10, now=now):
            tried.append(now)
            sending.settle(delivery_id=job.delivery_id, number=job.number, error=None, now=now)

    for many, pause in waves:
        Notice.objects.bulk_create(
            Notice(kind="operation.failed", severity="info", title=str(number), at=now)
            for number in range(many)
        )
        for _second in range(pause):
            look()
            now += timedelta(seconds=1)
    for _second in range(200):
        look()
        now += timedelta(seconds=1)
        if not Delivery.objects.exclude(status="sent").exists():
            break
    for moment in tried:
        within = [each for each in tried if moment <= each < moment + routing.WINDOW]
        assert len(within) <= routing.PER_MINUTE
    assert sum(delivery.count for delivery in deliveries()) == sum(many for many, _p in waves)
    assert Counter(delivery.status for delivery in deliveries()).keys() <= {"sent"}


def test_merging_keeps_all_counts_and_the_worst_lines():
    def some(many: int, severity: str) -> content.Content:
        return content.of_notices(
            Notice(pk=number, kind="k", severity=severity, title=f"{severity} {number}")
            for number in range(many)
        )

    both = content.merged(some(500, "info"), some(7, "critical"))
    assert content.count(both) == 507
    assert content.severity(both) == "critical"
    severities = [line["severity"] for line in both["lines"]]
    assert severities == ["critical"] * 7 + ["info"] * 3
