"""Priorities: who may give which, when they can be changed, and that it is told."""

import pytest
import yaml
from django.urls import reverse

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from operations.models import ClusterSettings, Operation
from operations.services import control as controls
from operations.services import dispatch, manifests
from tests import factories
from tests.operations.queue.conftest import fresh, running

pytestmark = pytest.mark.django_db
URL = "/api/v1/operations/"


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


@pytest.fixture
def full(toy, queued, cluster_a, control):
    """The cluster's one slot is taken."""
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    queued("running")
    control(dispatch.dispatch)


def test_an_operation_is_of_normal_priority(toy, begin):
    assert begin().priority == "normal"


def test_low_is_for_everybody_who_may_start(toy, begin):
    assert begin(priority="low").priority == "low"


def test_high_needs_the_right_to_approve(toy, begin):
    with pytest.raises(Forbidden, match="“approve”"):
        begin(priority="high")
    assert not Operation.objects.exists()


def test_high_is_for_administrators(toy, begin, admin):
    assert begin(acting_user=admin, priority="high").priority == "high"


def test_high_is_for_owners(toy, begin, owner, cluster_a):
    machine = factories.make_machine(owner_team=owner.groups.get())
    assert begin(machines=[machine], acting_user=owner, priority="high").priority == "high"


def test_an_unknown_priority_is_refused_at_its_field(toy, begin):
    with pytest.raises(InvalidInput, match="low, normal, high") as caught:
        begin(priority="urgent")
    assert set(caught.value.fields) == {"priority"}


def test_another_priority_stands_in_the_audit_trail_of_the_start(toy, begin):
    begin(priority="low")
    assert AuditEntry.objects.get(verb="start Toy").after["priority"] == "low"


def test_changed_while_it_waits_it_goes_first(full, queued, control, owner):
    queued("patient")
    urgent = queued("urgent")
    control(controls.change_priority, urgent, acting_user=owner, priority="high", reason="outage")
    Operation.objects.filter(name="running").update(status="succeeded", **Operation.NO_SLOTS)
    control(dispatch.dispatch)
    assert running() == ["urgent"]
    entry = AuditEntry.objects.get(verb="change priority")
    assert (entry.before, entry.after) == ({"priority": "normal"}, {"priority": "high"})
    assert entry.reason == "outage"


def test_whoever_may_operate_may_lower_it_and_not_raise_it(full, queued, operator):
    waiting = queued(priority="high")
    with pytest.raises(Forbidden):
        controls.change_priority(waiting, acting_user=operator, priority="high")
    assert controls.change_priority(waiting, acting_user=operator, priority="low").priority == "low"


def test_whoever_may_only_look_changes_nothing(full, queued, viewer):
    waiting = queued()
    with pytest.raises(Forbidden):
        controls.change_priority(waiting, acting_user=viewer, priority="low")
    assert fresh(waiting).priority == "normal"


def test_what_runs_has_no_priority_to_change(full, owner):
    row = Operation.objects.get(name="running")
    with pytest.raises(Conflict, match="only what waits"):
        controls.change_priority(row, acting_user=owner, priority="low")


def test_the_same_priority_again_leaves_no_entry(full, queued, owner):
    controls.change_priority(queued(), acting_user=owner, priority="normal")
    assert not AuditEntry.objects.filter(verb="change priority").exists()


def test_a_retry_keeps_the_priority_and_waits_from_then_on(
    toy, begin, work, control, operator, machines
):
    toy.failing = {("first", machine.address) for machine in machines}
    operation = begin(priority="low")
    work()
    asked_first = fresh(operation).queued_at
    control(controls.retry, fresh(operation), acting_user=operator)
    again = fresh(operation)
    assert (again.priority, again.status) == ("low", "waiting")
    assert again.queued_at > asked_first


def test_it_can_be_given_and_changed_over_the_api(full, api, admin, queued):
    waiting = queued()
    answer = api(admin).post(f"{URL}{waiting.pk}/priority/", {"priority": "high", "reason": "now"})
    assert answer.status_code == 202
    assert answer.json()["priority"] == "high"


@pytest.mark.parametrize("body", [{}, {"priority": "urgent"}, {"priority": 1}], ids=str)
def test_the_api_refuses_what_is_no_priority(full, api, admin, queued, body):
    waiting = queued()
    answer = api(admin).post(f"{URL}{waiting.pk}/priority/", body)
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"priority"})


def test_the_api_tells_who_may_not_raise_it(full, api, operator, queued):
    answer = api(operator).post(f"{URL}{queued().pk}/priority/", {"priority": "high"})
    assert answer.status_code == 403


def test_the_api_tells_what_is_waited_for_and_since_when(full, api, viewer, queued, control):
    waiting = queued(team=factories.make_team("the team"))
    control(dispatch.dispatch)
    row = api(viewer).get(f"{URL}{waiting.pk}/").json()
    assert row["waiting_for"] == "one of the 1 slots for changes on its cluster"
    assert row["waiting_since"] >= row["queued_at"]
    assert row["team_name"] == "the team"


def test_a_manifest_names_a_priority_that_is_not_normal(toy, begin, machines):
    low, normal = (begin(machines=[m], priority=p) for m, p in zip(machines, ("low", "normal")))  # noqa: B905
    assert yaml.safe_load(manifests.as_manifest(low))["spec"]["priority"] == "low"
    assert "priority" not in yaml.safe_load(manifests.as_manifest(normal))["spec"]


def document(cluster, machine, **spec) -> str:
    """A manifest as people write it."""
    wish = {
        "clusterName": cluster.name,
        "operationType": "Toy",
        "operationFlow": ["first", "second"],
        "operationMachines": [{"ip": machine.address, "role": "Compute"}],
        **spec,
    }
    return yaml.safe_dump(
        {
            "apiVersion": "vcluster.caas.beidou.io/v1alpha1",
            "kind": "Operation",
            "metadata": {"name": "by-manifest"},
            "spec": wish,
        }
    )


def post(client, text):
    return client.generic("POST", "/api/v1/manifests/", text, content_type="application/yaml")


def test_a_manifest_may_ask_for_a_priority(toy, api, operator, cluster_a, machines):
    assert post(api(operator), document(cluster_a, machines[0], priority="low")).status_code == 202
    assert Operation.objects.get(name="by-manifest").priority == "low"


def test_a_manifest_may_ask_for_no_unknown_one(toy, api, operator, cluster_a, machines):
    answer = post(api(operator), document(cluster_a, machines[0], priority="urgent"))
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"spec.priority"})


def test_a_manifest_asks_for_a_high_one_with_the_right_of_its_user(
    toy, api, operator, admin, cluster_a, machines
):
    text = document(cluster_a, machines[0], priority="high")
    assert post(api(operator), text).status_code == 403
    assert post(api(admin), text).status_code == 202


def test_the_form_takes_a_priority_and_refuses_a_high_one(
    toy, browser, operator, cluster_a, machines
):
    client, address = browser(operator), reverse("operations:start")
    asked = {
        "kind": "Toy", "cluster": cluster_a.pk, "machines": machines[0].address, "forks": 10,
        "max_failed_percent": 100, "params-size": 1,
    }  # fmt: skip

    def start(priority: str):
        wish = {**asked, "priority": priority}
        page = client.post(address, {**wish, "step": "plan"}).context["page"]
        return client.post(address, {**wish, "step": "start", "planned": page.planned})

    answer = start("high")
    assert answer.status_code == 403
    assert "“approve”" in answer.content.decode()
    assert start("low").status_code == 302
    assert Operation.objects.get().priority == "low"


# --- the limit of a team -------------------------------------------------------------------


def test_an_administrator_sets_the_limit_of_a_team(api, admin, operators):
    answer = api(admin).post("/api/v1/team-limits/", {"team": operators.pk, "limit": 2})
    assert answer.status_code == 201
    assert AuditEntry.objects.get(verb="add").after["limit"] == 2


@pytest.mark.parametrize("limit", [0, -1, 201, "x", None], ids=str)
def test_a_limit_that_is_none_is_refused(api, admin, operators, limit):
    answer = api(admin).post(
        "/api/v1/team-limits/", {"team": operators.pk, "limit": limit}, format="json"
    )
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"limit"})


def test_a_team_has_one_limit(api, admin, operators):
    for status in (201, 400):
        answer = api(admin).post("/api/v1/team-limits/", {"team": operators.pk, "limit": 2})
        assert answer.status_code == status


def test_whoever_may_add_all_else_adds_no_limit(api, operator, operators, browser):
    factories.give(operators, "operations.add_teamlimit")
    answer = api(operator).post("/api/v1/team-limits/", {"team": operators.pk, "limit": 99})
    assert answer.status_code == 403
    assert browser(operator).get("/operations/teamlimit/add/").status_code == 403


@pytest.mark.parametrize("limit", [-3, 0])
def test_a_limit_below_one_is_refused_with_one_sentence(browser, admin, operators, limit):
    answer = browser(admin).post(
        "/operations/teamlimit/add/", {"team": operators.pk, "limit": limit}
    )
    errors = answer.context["adminform"].form.errors["limit"]
    assert errors == ["Ensure this value is greater than or equal to 1."]
