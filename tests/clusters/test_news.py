"""What clusters are told of: away, back again, and what expires."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.models import Notice
from clusters.models import Cluster, ClusterCredential, HealthChange
from clusters.services import news
from tests import factories

pytestmark = pytest.mark.django_db


def becomes(cluster, health, at):
    """As the collector writes it."""
    old = Cluster.objects.get(pk=cluster.pk).health
    HealthChange.objects.create(subject=cluster, old=old, new=health, at=at)
    Cluster.objects.filter(pk=cluster.pk).update(health=health, health_since=at)


def kinds() -> list[str]:
    return list(Notice.objects.order_by("pk").values_list("kind", flat=True))


def test_a_cluster_that_stays_away_is_told_once(cluster_a):
    now = timezone.now()
    becomes(cluster_a, "unreachable", now)
    assert news.tell_health(now + timedelta(seconds=110)) == 0
    assert news.tell_health(now + timedelta(seconds=130)) == 1
    assert news.tell_health(now + timedelta(hours=5)) == 0
    notice = Notice.objects.get()
    assert (notice.kind, notice.severity) == (news.UNREACHABLE, "critical")
    assert (notice.title, notice.cluster_id) == ("cluster-a is unreachable.", cluster_a.pk)


def test_a_cluster_that_is_back_is_told_when_it_stays(cluster_a):
    now = timezone.now()
    becomes(cluster_a, "unreachable", now)
    news.tell_health(now + timedelta(minutes=3))
    becomes(cluster_a, "healthy", now + timedelta(minutes=4))
    assert news.tell_health(now + timedelta(minutes=6)) == 0
    assert news.tell_health(now + timedelta(minutes=10)) == 1
    assert news.tell_health(now + timedelta(minutes=11)) == 0
    assert kinds() == [news.UNREACHABLE, news.RECOVERED]


def test_a_cluster_that_comes_and_goes_is_told_once(cluster_a):
    now = timezone.now()
    for minute in range(0, 120, 4):
        becomes(cluster_a, "unreachable", now + timedelta(minutes=minute))
        news.tell_health(now + timedelta(minutes=minute + 3))
        becomes(cluster_a, "healthy", now + timedelta(minutes=minute + 3))
        news.tell_health(now + timedelta(minutes=minute + 4))
    assert kinds() == [news.UNREACHABLE]


def test_a_short_absence_is_not_told(cluster_a):
    now = timezone.now()
    for minute in range(20):
        becomes(cluster_a, "unreachable", now + timedelta(minutes=minute))
        news.tell_health(now + timedelta(minutes=minute, seconds=50))
        becomes(cluster_a, "healthy", now + timedelta(minutes=minute, seconds=55))
    assert kinds() == []


def test_a_cluster_that_goes_again_after_it_was_back_is_told_again(cluster_a):
    now = timezone.now()
    for hour in (0, 1):
        becomes(cluster_a, "unreachable", now + timedelta(hours=hour))
        news.tell_health(now + timedelta(hours=hour, minutes=3))
        becomes(cluster_a, "degraded", now + timedelta(hours=hour, minutes=4))
        news.tell_health(now + timedelta(hours=hour, minutes=10))
    assert kinds() == [news.UNREACHABLE, news.RECOVERED] * 2


def test_what_expires_is_told_thirty_seven_and_one_day_before_each_once(cluster_a):
    end = timezone.now() + timedelta(days=40)
    ClusterCredential.objects.create(cluster=cluster_a, kubeconfig="x", expires_at=end)
    told = []
    for day in range(42):
        at = end - timedelta(days=40 - day) + timedelta(minutes=1)
        for _again in range(2):
            if news.tell_expiry(at):
                told.append(40 - day)
    severities = list(Notice.objects.order_by("pk").values_list("severity", flat=True))
    assert severities == ["info", "warning", "critical"]
    assert told == [30, 7, 1]


def test_certificates_of_api_servers_are_told_too(cluster_a, cluster_b):
    now = timezone.now()
    Cluster.objects.filter(pk=cluster_a.pk).update(
        server_certificate_expires_at=now + timedelta(days=5)
    )
    Cluster.objects.filter(pk=cluster_b.pk).update(
        server_certificate_expires_at=now - timedelta(days=1)
    )
    assert news.tell_expiry(now) == 2
    titles = dict(Notice.objects.values_list("cluster_id", "title"))
    assert "certificate of cluster-a expires on" in titles[cluster_a.pk]
    assert "certificate of cluster-b has expired on" in titles[cluster_b.pk]


def test_a_renewed_credential_is_told_anew(cluster_a):
    now = timezone.now()
    credential = ClusterCredential.objects.create(
        cluster=cluster_a, kubeconfig="x", expires_at=now + timedelta(days=5)
    )
    assert news.tell_expiry(now) == 1
    credential.expires_at = now + timedelta(days=6)
    credential.save()
    assert news.tell_expiry(now) == 1


def test_a_look_at_many_clusters_is_few_queries(django_assert_max_num_queries):
    now = timezone.now()
    for _number in range(20):
        cluster = factories.make_cluster(server_certificate_expires_at=now + timedelta(days=3))
        becomes(cluster, "unreachable", now - timedelta(hours=1))
    with django_assert_max_num_queries(10):
        assert (news.tell_health(now), news.tell_expiry(now)) == (20, 20)
