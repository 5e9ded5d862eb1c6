"""What monitoring is told of events."""

from datetime import timedelta

import pytest
from django.utils import timezone

from clusters.models import Cluster
from events.models import EventArchiving
from tests import factories

pytestmark = pytest.mark.django_db


def test_monitoring_learns_how_each_stream_flows(client, cluster_a, cluster_b):
    factories.make_event_stream(
        cluster_a,
        lag_seconds=12.5,
        waiting=3,
        stored=40,
        refused=2,
        waiting_bytes=512,
        spool_percent=85,
    )
    factories.make_event_stream(cluster_b, problem="The disk is full.")
    assert "beidou_events_archive_problem 0.0" in client.get("/metrics").content.decode()
    EventArchiving.objects.create(pk=1, problem="The archive is away.")
    told = client.get("/metrics").content.decode()
    for line in (
        "beidou_events_archive_problem 1.0",
        'beidou_events_lag_seconds{cluster="cluster-a"} 12.5',
        'beidou_events_waiting{cluster="cluster-a"} 3.0',
        'beidou_events_stored_total{cluster="cluster-a"} 40.0',
        'beidou_events_refused_total{cluster="cluster-a"} 2.0',
        'beidou_events_spool_bytes{cluster="cluster-a"} 512.0',
        'beidou_events_spool_full_ratio{cluster="cluster-a"} 0.85',
        'beidou_events_problem{cluster="cluster-a"} 0.0',
        'beidou_events_problem{cluster="cluster-b"} 1.0',
    ):
        assert line in told
    assert "The disk" not in told


def test_monitoring_learns_how_many_alerts_fire(client, operator, cluster_a, cluster_b):
    critical = factories.make_alert_rule(operator, severity="critical")
    for rule, cluster in (
        (critical, cluster_a),
        (critical, cluster_b),
        (factories.make_alert_rule(operator), cluster_a),
    ):
        factories.make_event_alert(rule, cluster)
    factories.make_event_alert(critical, None, ended_at=timezone.now())
    told = client.get("/metrics").content.decode()
    for severity, count in (("critical", 2), ("warning", 1), ("info", 0)):
        assert f'beidou_event_alerts_firing{{severity="{severity}"}} {count}.0' in told


def test_a_stream_of_which_no_collector_reports_has_a_problem(client, cluster_a, cluster_b):
    now = timezone.now()
    then = now - timedelta(minutes=5)
    factories.make_event_stream(cluster_a, updated_at=then, last_event_at=then)
    factories.make_event_stream(cluster_b, updated_at=now)
    told = client.get("/metrics").content.decode()
    assert 'beidou_events_problem{cluster="cluster-a"} 1.0' in told
    assert 'beidou_events_problem{cluster="cluster-b"} 0.0' in told
    for name in ("reported", "last_event"):
        (line,) = (
            each
            for each in told.splitlines()
            if f'{name}_timestamp_seconds{{cluster="cluster-a' in each
        )
        assert float(line.split()[-1]) == pytest.approx(then.timestamp(), abs=0.001)


def test_of_a_cluster_that_is_being_deleted_no_collector_is_missed(client, cluster_a):
    Cluster.objects.filter(pk=cluster_a.pk).update(phase=Cluster.Phase.DELETED)
    factories.make_event_stream(cluster_a, updated_at=timezone.now() - timedelta(minutes=5))
    assert (
        'beidou_events_problem{cluster="cluster-a"} 0.0' in client.get("/metrics").content.decode()
    )
