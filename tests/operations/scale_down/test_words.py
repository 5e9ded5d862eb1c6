"""What ScaleDown finds is stored once and read in every language: messages, checks, evidence."""

import re
from typing import Any

import pytest
from django.urls import reverse
from django.utils.translation import override

from beidou.base import sentences
from clusters.services.connections import client_for
from operations.kinds.draining import telling
from operations.kinds.draining.drainer import Drainer
from operations.models import MachineStep
from tests.operations.draining.running import Run, leaves
from tests.operations.scale_down.looking import cell_of

pytestmark = pytest.mark.django_db
CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-hans"}
PLAIN = re.compile(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}")  # three words of English


@pytest.fixture
def refused(kube, scale_down, machine, work):
    """A ScaleDown whose preCheck has found all kinds of problems."""
    kube.add_pod("debug", "n1", volumes=[{"name": "cache", "emptyDir": {}}])
    kube.deploy("web", on=["n1"])
    kube.budget("web", minAvailable=1)
    kube.nodes["n2"]["spec"]["unschedulable"] = True
    operation = scale_down(machine)
    work()
    return operation


def test_checks_are_read_in_the_language_of_the_reader(refused):
    pk = cell_of(refused).pk
    with override("zh-hans"):
        cell = MachineStep.objects.get(pk=pk)
        rows = {row["check"]: row for row in cell.checks}
    assert rows["only-copies"]["found"].endswith("（Deployment shop/web 唯一就绪的副本）")
    assert rows["room"]["found"].endswith("（无处可调度：1 个节点已封锁）")
    assert rows["budget:shop/web-budget"]["advice"] == (
        "修改中断预算，或重试并选择：临时增加一个副本（raise_owner）或由他人批准后删除"
        "（delete_blocked）"
    )
    assert [text for row in rows.values() for text in _texts(row) if PLAIN.search(text)] == []
    assert "唯一就绪" not in str(MachineStep.objects.get(pk=pk).checks)


def _texts(row):
    return [str(row[name]) for name in ("found", "wanted", "advice")]


def test_the_api_and_the_evidence_page_are_in_the_language_of_the_reader(
    refused, api, browser, operator
):
    address = f"/api/v1/operations/{refused.pk}/"
    answer = api(operator).get(address, **CHINESE).json()
    (debug,) = (
        pod
        for pod in answer["machines"][0]["steps"][0]["evidence"]["pods"]
        if pod["pod"] == "shop/debug"
    )
    assert debug["problems"] == ["不会被重建", "在节点上保存数据：emptyDir cache"]
    operator.language = "zh-hans"
    operator.save()
    page = browser(operator).get(reverse("operations:evidence", args=[refused.pk]))
    assert "在节点上保存数据：emptyDir cache" in page.content.decode()


def test_what_a_drain_waits_for_and_why_it_fails_is_told_in_every_language(kube, cluster):
    kube.deploy("web", on=["n1", "n2"])
    kube.budget("web", minAvailable=2)
    run: Any = Run(on_blocked="stop")
    with client_for(cluster, timeout=5) as client:
        drainer = Drainer(run, client, [leaves()], clock=kube.clock, sleep=kube.sleep, now=kube.now)
        drainer._round()
        (each,) = drainer.state.open
        stored = sentences.to_column(telling.state(drainer.state, each))
        telling.fail(drainer.state, each, sentences.Sentence("the node is not Ready"))
    message, checks = run.failed["n1"]
    with override("zh-hans"):
        assert sentences.from_column(stored) == (
            "1 个中已迁移 0 个; 正在等待中断预算 shop/web-budget（允许 0）"
        )
        assert not PLAIN.search(str(sentences.from_column(sentences.to_column(message))))
        for row in sentences.spoken(sentences.neutral(checks)):
            assert not any(PLAIN.search(text) for text in _texts(row))
