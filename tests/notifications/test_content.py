"""What messages say, in the language of the receiver."""

import pytest

from beidou.base.models import Notice
from beidou.base.sentences import Sentence
from notifications.models import Delivery
from notifications.services import content, routing
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _portal(settings):
    settings.PUBLIC_URL, settings.LABEL = "https://portal.example.com", "production"


def away(cluster, **values) -> Notice:
    return factories.make_notice(
        Sentence("%(cluster)s is unreachable.", cluster=cluster.name),
        cluster=cluster,
        details="connection refused",
        object_type="clusters.cluster",
        object_id=str(cluster.pk),
        **values,
    )


def written(*notices, language="en"):
    factories.make_rule(factories.make_receiver())
    routing.route()
    delivery = Delivery.objects.latest("pk")  # as it is stored
    return content.write(delivery.content, key=str(delivery.key), language=language)


def test_one_notice_is_told_with_its_cluster_and_a_link(cluster_a):
    message = written(away(cluster_a))
    assert message.subject == "[production] critical: cluster-a is unreachable."
    assert "connection refused" in message.text
    assert "Cluster: cluster-a" in message.text
    assert f"https://portal.example.com/clusters/cluster/{cluster_a.pk}/change/" in message.text


def test_many_are_counted_by_kind_and_cluster(cluster_a, cluster_b):
    for _number in range(7):
        away(cluster_a)
    away(cluster_b, severity="warning", kind="operation.partial")
    message = written()
    assert message.subject == "[production] 8 notices, the worst: critical"
    assert "7 × Cluster unreachable (cluster-a)" in message.text
    assert "1 × Operation failed in part (cluster-b)" in message.text
    assert message.data["counts"][0] == {
        "kind": "cluster.unreachable", "severity": "critical", "cluster": "cluster-a", "count": 7,
    }  # fmt: skip
    assert len(message.data["notices"]) == 8


def test_more_than_the_lines_leads_to_the_list(cluster_a):
    for _number in range(30):
        away(cluster_a)
    message = written()
    assert message.text.count("is unreachable.") == content.LINES
    assert "All of them: https://portal.example.com/base/notice/" in message.text


def test_a_message_is_in_the_language_of_its_receiver(cluster_a):
    message = written(away(cluster_a), language="zh-hans")
    assert "cluster-a 无法访问" in message.subject
    assert "集群：cluster-a" in message.text
    assert "cluster-a 无法访问" in message.data["notices"][0]["title"]


def test_an_object_without_a_page_has_no_link():
    assert content.link("made.up", "1") == ""
    assert content.link("", "") == ""
