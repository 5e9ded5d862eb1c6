"""What the portal says about clusters is stored once and read in every language."""

import json
from datetime import UTC, datetime

import pytest
from django.utils.translation import override

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence, from_column, to_column
from clusters.collector import verdict
from clusters.drivers import errors
from clusters.drivers.answers import ComponentHealth
from clusters.models import Cluster, HealthChange, Node
from clusters.services import inventory, leases
from tests import factories

AT = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-hans"}


@pytest.fixture
def cluster(cluster_a):
    leases.beat("me")
    return cluster_a


def refusal(status=403, body=b"", **values):
    return errors.from_http_status(
        status,
        body,
        cluster_name="c",
        action=Sentence("read node %(node)s", node="n1"),
        **values,
    )


def write(cluster, found):
    inventory.write_health(
        holder="me",
        cluster_id=cluster.pk,
        health=found.health,
        reason=found.reason,
        since=AT,
        at=AT,
    )


def read_in_chinese(text):
    stored = to_column(text)
    with override("zh-hans"):
        return str(from_column(stored))


def test_why_a_cluster_is_not_well_is_told_in_the_language_of_the_request(cluster, api, admin):
    write(
        cluster,
        verdict.judge(
            now=AT,
            not_ready=["n2"],
            nodes=2,
            components=[ComponentHealth(name="etcd", is_healthy=False, message="down")],
            troubles=[refusal().message],
        ),
    )
    client = api(admin)

    def reason(**headers):
        return client.get(f"/api/v1/clusters/{cluster.pk}/", **headers).json()["health_reason"]

    assert reason() == (
        "1 of 2 nodes not ready: n2. etcd: down Cluster c: could not read node n1: "
        "the credential may not do this (HTTP 403)."
    )
    assert reason(**CHINESE) == (
        "2 个节点中有 1 个未就绪：n2。 etcd: down 集群 c：无法读取节点 n1："
        "凭据无权执行此操作（HTTP 403）。"
    )
    with override("zh-hans"):
        assert HealthChange.objects.get().reason == reason(**CHINESE)


def test_the_page_of_a_cluster_tells_it_in_the_language_of_the_person(cluster, client, admin):
    write(cluster, verdict.unreachable(AT, refusal(429).message))
    admin.language = "zh-hans"
    admin.save()
    client.force_login(admin)
    page = client.get(f"/clusters/cluster/{cluster.pk}/change/").content.decode()
    assert "集群 c：无法读取节点 n1：API 服务器过于繁忙（HTTP 429）。" in page


def test_what_the_cluster_itself_says_stays_as_it_is_and_harms_no_page(cluster, client, admin):
    body = json.dumps({"message": "<img src=x> denied %(cluster)s {0} 100%."}).encode()
    write(cluster, verdict.unreachable(AT, refusal(body=body).message))
    client.force_login(admin)
    page = client.get(f"/clusters/cluster/{cluster.pk}/change/").content.decode()
    assert "&lt;img src=x&gt; denied %(cluster)s {0} 100%." in page
    assert "<img src=x>" not in page


def test_a_secret_in_the_cluster_s_words_is_in_no_language():
    body = json.dumps({"message": "token s3cr3t-token is bad"}).encode()
    message = refusal(body=body, secrets=("s3cr3t-token",)).message
    assert "s3cr3t" not in to_column(message)
    assert "token *** is bad" in message


def test_a_component_says_in_every_language_how_it_is(cluster, api, admin):
    component = ComponentHealth(
        name="coredns",
        is_healthy=None,
        message=Sentence(
            "Unknown: %(why)s",
            why=Sentence("There is no Deployment labelled k8s-app=kube-dns."),
        ),
    )
    figures = inventory.component_figures([component], None, None, "")
    inventory.write_figures(holder="me", cluster_id=cluster.pk, figures=figures)
    client = api(admin)

    def message(**headers):
        answer = client.get(f"/api/v1/clusters/{cluster.pk}/", **headers).json()
        return answer["components"][0]["message"]

    assert message() == "Unknown: There is no Deployment labelled k8s-app=kube-dns."
    assert message(**CHINESE) == "未知：没有带标签 k8s-app=kube-dns 的 Deployment。"


def test_a_stored_report_says_in_every_language_why_a_feature_will_not_work(cluster, api, admin):
    trouble = refusal(404).message
    row = {"key": "scale_up", "ok": False, "missing": [], "trouble": trouble, "rbac": ""}
    Cluster.objects.filter(pk=cluster.pk).update(capabilities=[row])
    client = api(admin)
    url = f"/api/v1/clusters/{cluster.pk}/capabilities/"
    assert "it does not exist (HTTP 404)" in client.get(url).json()[0]["why"]
    assert "对象不存在（HTTP 404）" in client.get(url, **CHINESE).json()[0]["why"]


def test_a_node_without_a_report_says_so_in_every_language(db):
    factories.make_node(
        factories.make_cluster(), not_ready_reason=Sentence("The node has not reported yet.")
    )
    with override("zh-hans"):
        assert Node.objects.get().not_ready_reason == "该节点尚未上报状态。"


@pytest.mark.parametrize(
    ("failure", "english", "chinese"),
    [
        (
            ConnectionRefusedError(),
            "Cluster c: could not read node n1: h:1 refused the connection after 0.5 s.",
            "集群 c：无法读取节点 n1：h:1 在 0.5 秒后拒绝了连接。",
        ),
        (
            TimeoutError(),
            "Cluster c: could not read node n1: h:1 did not answer within 10 s (tried for 0.5 s).",
            "集群 c：无法读取节点 n1：h:1 在 10 秒内没有响应（已尝试 0.5 秒）。",
        ),
        (
            OSError("no route to host"),
            "Cluster c: could not read node n1: the connection to h:1 failed after 0.5 s "
            "(no route to host).",
            "集群 c：无法读取节点 n1：与 h:1 的连接在 0.5 秒后失败（no route to host）。",
        ),
    ],
)
def test_why_there_was_no_answer_is_told_in_every_language(failure, english, chinese):
    error = errors.from_connection_failure(
        failure,
        cluster_name="c",
        action=Sentence("read node %(node)s", node="n1"),
        address="h:1",
        seconds=0.5,
        timeout=10,
    )
    assert isinstance(error, TemporaryError)
    assert error.message == english
    assert read_in_chinese(error.message) == chinese


def test_a_reason_from_before_is_shown_as_it_is(cluster, api, admin):
    Cluster.objects.filter(pk=cluster.pk).update(health_reason="as it was: 5 % {x}")
    answer = api(admin).get(f"/api/v1/clusters/{cluster.pk}/", **CHINESE).json()
    assert answer["health_reason"] == "as it was: 5 % {x}"
