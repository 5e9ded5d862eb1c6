"""What monitoring is told."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from django_q.models import OrmQ

from beidou.base import preparation
from beidou.base.tasks import CLOCK, OUTSIDE, WORK
from operations.models import Operation, Step
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered():
    cache.clear()


def test_a_living_process_says_ok(client):
    assert client.get("/healthz").content == b"ok\n"


def test_a_portal_with_all_it_needs_is_ready(client):
    assert client.get("/readyz").json() == {"ready": True, "problems": []}


def test_missing_migrations_are_named(client, monkeypatch):
    monkeypatch.setattr(
        "beidou.base.monitoring.unapplied_migrations", lambda: ["machines.0002_more"]
    )
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "machines.0002_more" in answer.json()["problems"][0]


def test_an_unapplied_migration_is_noticed():
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'machines'")
    assert "machines.0001_initial" in preparation.unapplied_migrations()


def queue_task(waiting: timedelta, queue: str = WORK) -> None:
    OrmQ.objects.create(key=queue, payload="x", lock=timezone.now() - waiting)


@pytest.fixture
def running_step(cluster_a) -> Step:
    operation = Operation.objects.create(name="long", kind="ScaleUp", cluster=cluster_a)
    lease = timezone.now() + timedelta(seconds=30)
    return Step.objects.create(
        operation=operation, position=1, name="scaleUp", status="running", lease_until=lease
    )


def test_a_queue_that_nobody_takes_from_is_not_ready(client):
    queue_task(timedelta(minutes=10))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "no worker" in answer.json()["problems"][0]


def test_a_step_that_waits_for_busy_workers_is_no_problem(client, running_step):
    queue_task(timedelta(hours=2))
    assert client.get("/readyz").status_code == 200


def test_a_step_that_waits_beside_the_workers_does_not_make_them_busy(client, running_step):
    Operation.objects.update(kind="Network", params={"driver": "webhook"})
    Step.objects.update(name="network")
    queue_task(timedelta(minutes=10))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "no worker" in answer.json()["problems"][0]


def test_a_clock_that_stands_still_is_not_ready_however_busy_the_workers(client, running_step):
    queue_task(timedelta(minutes=10), CLOCK)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "of the clock" in answer.json()["problems"][0]


def test_a_question_that_nobody_asks_outside_is_told(client):
    queue_task(timedelta(minutes=10), OUTSIDE)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "no callers run" in answer.json()["problems"][0]


def test_metrics_tell_the_queues_apart(client):
    queue_task(timedelta(seconds=100))
    queue_task(timedelta(seconds=100))
    queue_task(timedelta(seconds=40), CLOCK)
    text = client.get("/metrics").content.decode()
    assert f'beidou_queue_length{{queue="{WORK}"}} 2.0' in text
    assert f'beidou_queue_length{{queue="{CLOCK}"}} 1.0' in text
    assert f'beidou_queue_age_seconds{{queue="{WORK}"}} 10' in text
    assert f'beidou_queue_age_seconds{{queue="{CLOCK}"}} 4' in text


def test_a_task_that_a_worker_holds_does_not_count_as_waiting(client):
    queue_task(-timedelta(minutes=10))
    assert client.get("/readyz").status_code == 200


def test_metrics_count_what_is_in_the_database(client, cluster_a):
    factories.make_machine()
    text = client.get("/metrics").content.decode()
    assert 'beidou_machines_by_state{state="available"} 1.0' in text
    assert 'beidou_clusters_by_health{health="unknown"} 1.0' in text


def test_metrics_tell_the_age_of_the_figures(client, cluster_a):
    cluster_a.observed_at = timezone.now() - timedelta(seconds=100)
    cluster_a.save()
    text = client.get("/metrics").content.decode()
    assert 'beidou_collector_lag_seconds{cluster="cluster-a"} 10' in text


def test_metrics_count_requests_by_view_and_status(client):
    client.get("/healthz")
    text = client.get("/metrics").content.decode()
    assert 'beidou_request_seconds_count{method="GET",status="200",view="healthz"}' in text


def test_metrics_need_few_queries_however_many_rows(client, django_assert_max_num_queries):
    for _number in range(20):
        factories.make_cluster()
        factories.make_machine()
    with django_assert_max_num_queries(12):
        client.get("/metrics")


def test_metrics_refuse_other_hosts(client):
    assert client.get("/metrics", REMOTE_ADDR="10.0.0.7").status_code == 401


def test_metrics_refuse_a_forged_address(client):
    answer = client.get("/metrics", REMOTE_ADDR="10.0.0.7", HTTP_X_FORWARDED_FOR="127.0.0.1")
    assert answer.status_code == 401


@pytest.mark.parametrize(("token", "status"), [("right", 200), ("wrong", 401), ("", 401)])
def test_metrics_ask_for_the_token_when_there_is_one(token, status, client, settings):
    settings.METRICS_TOKEN = "right"
    answer = client.get(
        "/metrics", REMOTE_ADDR="10.0.0.7", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code == status


def test_notices_that_nobody_hands_on_are_not_ready(client):
    factories.make_notice(at=timezone.now() - timedelta(minutes=6), routed_at=timezone.now())
    assert client.get("/readyz").status_code == 200
    factories.make_notice(at=timezone.now() - timedelta(minutes=6))
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert "no messenger runs" in answer.json()["problems"][0]
