"""A machine that leaves its cluster leaves the sight of those who saw it by the cluster alone: said
before, and no page leads there afterwards."""

import json
import re

import pytest
from django.urls import reverse

from machines.models import Machine
from operations.kinds import clean_up
from operations.kinds.sight import lost_outside
from operations.models import ClusterSettings
from operations.services import live, plans, start
from tests import factories
from tests.fakes.ssh_server import new_key, public_line

pytestmark = pytest.mark.django_db
START = reverse("operations:start")
NO_TEAM = "it has no owner team"


@pytest.fixture
def node_machine(cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a)
    return factories.make_machine(
        cluster=cluster_a,
        node=factories.make_node(cluster_a, "n1"),
        state=Machine.State.IN_SERVICE,
        credential=factories.make_credential(),
        host_key=public_line(new_key()),
    )


def page_data(client, operation):
    address = reverse("admin:operations_operation_change", args=[operation.pk])
    text = client.get(address).content.decode()
    return json.loads(re.search(r'<script id="op-data"[^>]*>(.*?)</script>', text, re.S)[1])


# --- the plan ---------------------------------------------------------------------------------


def test_a_scale_down_warns_that_nobody_of_the_cluster_sees_the_machine_afterwards(
    cluster_a, node_machine, operator
):
    plan = start.plan_operation(
        kind="ScaleDown", cluster=cluster_a, machines=[node_machine], params={},
        acting_user=operator,
    )  # fmt: skip
    assert plan.ready == (node_machine,)
    (warning,) = plans.as_dict(plan)["warnings"]
    assert warning["address"] == node_machine.address
    assert warning["message"].startswith(NO_TEAM)


def test_the_page_shows_the_warning_and_the_start_is_offered(
    browser, cluster_a, node_machine, operator
):
    asked = {
        "kind": "ScaleDown", "cluster": cluster_a.pk, "machines": node_machine.address,
        "max_failed_percent": 100, "forks": 10, "step": "plan", "params-on_blocked": "stop",
        "params-pods_at_once": 30, "params-limit_minutes": 30,
    }  # fmt: skip
    text = browser(operator).post(START, asked).content.decode()
    assert NO_TEAM in text
    assert "Start with 1 machine" in text


def test_the_api_tells_the_warning_in_a_dry_run(api, cluster_a, node_machine, operator):
    asked = {
        "kind": "ScaleDown", "cluster": cluster_a.name, "machines": [node_machine.address],
        "dry_run": True,
    }  # fmt: skip
    answer = api(operator).post("/api/v1/operations/", asked, format="json").json()
    assert [row["id"] for row in answer["warnings"]] == [node_machine.pk]


def test_a_team_of_ones_own_keeps_it_in_sight(node_machine, operator, operators):
    node_machine.owner_team = operators
    assert lost_outside(node_machine.cluster, [node_machine], operator) == []


def test_a_foreign_team_is_named(node_machine, operator, admin):
    node_machine.owner_team = factories.make_team("others")
    (remark,) = lost_outside(node_machine.cluster, [node_machine], operator)
    assert "others" in remark.text
    assert lost_outside(node_machine.cluster, [node_machine], admin) == []


def test_a_machine_that_is_in_no_cluster_is_lost_to_nobody(cluster_a, operator):
    assert lost_outside(cluster_a, [factories.make_machine()], operator) == []


def test_a_clean_up_of_a_machine_of_the_cluster_warns_too(node_machine, operator):
    assert clean_up.CLEAN_UP.remarks(node_machine.cluster, [node_machine], operator)


# --- the page of the operation ------------------------------------------------------------------


@pytest.fixture
def operation(toy, begin, cluster_a, machines):
    inside, _foreign, own = machines
    Machine.objects.filter(pk=inside.pk).update(cluster=cluster_a)
    running = begin()
    others = factories.make_team("others")
    Machine.objects.exclude(pk__in=[inside.pk, own.pk]).update(owner_team=others)
    return running


def test_the_shared_snapshot_leads_to_machines_of_the_cluster_alone(operation, machines):
    rows = live.snapshot(operation.pk, expected={}).machines.values()
    with_url = {row["address"] for row in rows if row["url"]}
    assert with_url == {machines[0].address}


def test_of_the_others_the_page_leads_to_those_its_reader_may_see(
    operation, machines, browser, operator, viewer, admin
):
    links = {
        user.username: {
            operation.machines.get(pk=key).address
            for key in page_data(browser(user), operation)["urls"]["machines"]
        }
        for user in (operator, viewer, admin)
    }
    _inside, foreign, own = (machine.address for machine in machines)
    assert links == {"operator": {own}, "viewer": set(), "admin": {foreign, own}}


def test_a_machine_that_left_the_cluster_is_named_without_a_link(operation, machines):
    Machine.objects.filter(pk=machines[0].pk).update(cluster=None)
    rows = live.snapshot(operation.pk, expected={}).machines.values()
    (row,) = [row for row in rows if row["address"] == machines[0].address]
    assert row["url"] == ""
