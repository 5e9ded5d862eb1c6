"""The pages of operations: who sees them, what they cost, and the start form from wish to deed."""

import re

import pytest
from django.urls import reverse

from beidou.base.models import AuditEntry
from clusters.models import Cluster
from operations.forms import ParamsForm
from operations.kinds.base import KINDS
from operations.models import ClusterSettings, Operation
from tests import factories

pytestmark = pytest.mark.django_db
LIST = "/operations/operation/"
START = "/operations/start/"


def page(operation):
    return reverse("admin:operations_operation_change", args=[operation.pk])


def wish(cluster, machines, **values):
    return {
        "kind": "Toy",
        "cluster": cluster.pk,
        "machines": "\n".join(str(machine.address) for machine in machines),
        "max_failed_percent": 100,
        "forks": 10,
        "reason": "",
        "params-size": 1,
        "step": "plan",
        **values,
    }


def planned(answer):
    found = re.search(r'name="planned" value="([0-9a-f]{64})"', answer.content.decode())
    assert found is not None
    return found[1]


# --- the list --------------------------------------------------------------------------------


def test_the_list_shows_state_machines_and_what_is_waited_for(toy, begin, browser, viewer):
    operation = begin()
    Operation.objects.update(waiting_for="a free slot on cluster-a")
    text = browser(viewer).get(LIST).content.decode()
    assert operation.name in text
    assert "0 / 3" in text
    assert "a free slot on cluster-a" in text


def test_a_cluster_whose_certificate_is_not_verified_is_marked_wherever_it_is_named(
    toy, begin, browser, operator, cluster_a, machines
):
    operation = begin()
    client = browser(operator)
    chosen = f"{START}?kind=Toy&cluster={cluster_a.pk}"
    pages = (LIST, page(operation), START, chosen)
    assert not [each for each in pages if b"TLS not verified" in client.get(each).content]
    Cluster.objects.filter(pk=cluster_a.pk).update(insecure_tls=True)
    assert not [each for each in pages if b"TLS not verified" not in client.get(each).content]
    assert b"no_encryption" in client.get(chosen).content
    plan = client.post(START, wish(cluster_a, machines)).content.decode()
    assert "TLS not verified" in plan[plan.index('id="op-plan"') :]


def test_on_a_phone_each_cell_of_the_list_has_its_own_label(toy, begin, browser, viewer):
    begin()
    text = browser(viewer).get(LIST).content.decode()
    assert 'data-label="name"' in text
    assert 'data-label="Select record"' not in text


def test_a_clusters_page_calls_kinds_as_people_do(toy, begin, browser, viewer, cluster_a):
    Operation.objects.filter(pk=begin().pk).update(kind="ScaleUp")
    url = reverse("admin:clusters_cluster_change", args=[cluster_a.pk])
    text = browser(viewer).get(url).content.decode()
    assert "<td>Scale up</td>" in text


def test_an_empty_list_says_what_to_do_first(browser, admin):
    text = browser(admin).get(LIST).content.decode()
    assert "No operation yet" in text
    assert START in text


def test_an_empty_list_offers_no_start_to_whom_may_not_start(browser, viewer):
    shown = browser(viewer).get(LIST).content.decode()
    assert "No operation yet" in shown
    assert "Start an operation" not in shown


def test_a_stranger_sees_neither_list_nor_page(toy, begin, browser, stranger):
    operation = begin()
    client = browser(stranger)
    assert operation.name not in client.get(LIST).content.decode()
    assert client.get(page(operation)).status_code == 404
    for part in ("evidence", "audit", "manifest"):
        url = reverse(f"operations:{part}", args=[operation.pk])
        assert client.get(url).status_code == 404


def test_who_is_not_signed_in_is_sent_to_sign_in(toy, begin, client):
    operation = begin()
    for url in (page(operation), START, reverse("operations:audit", args=[operation.pk])):
        answer = client.get(url)
        assert answer.status_code == 302
        assert "/login/" in answer["Location"]


def test_the_list_costs_the_same_however_long_it_is(
    toy, begin, browser, admin, cluster_a, machines, django_assert_max_num_queries
):
    for machine in machines:
        begin(machines=[machine])
    client = browser(admin)
    with django_assert_max_num_queries(15):
        assert client.get(LIST).status_code == 200


@pytest.mark.parametrize("query", ["status=active", "status=ended_badly", "kind=Toy", "q=toy"])
def test_the_list_can_be_narrowed(query, toy, begin, browser, admin):
    operation = begin()
    text = browser(admin).get(f"{LIST}?{query}").content.decode()
    assert (operation.name in text) is (query != "status=ended_badly")


# --- the live page ---------------------------------------------------------------------------


def test_the_page_carries_the_snapshot_and_the_words_of_its_script(toy, begin, browser, operator):
    answer = browser(operator).get(page(begin()))
    data = answer.context["page_data"]
    assert data["may_operate"] is True
    assert len(data["snapshot"]["machines"]) == 3
    assert data["states"]["running"]["word"] == "Running"
    assert data["titles"] == {"first": "First", "second": "Second"}


def test_the_script_writes_moments_in_the_time_zone_of_the_pages(
    toy, begin, browser, operator, settings
):
    settings.TIME_ZONE = "Asia/Shanghai"
    answer = browser(operator).get(page(begin()))
    assert answer.context["page_data"]["time_zone"] == "Asia/Shanghai"


def test_a_viewer_gets_no_buttons(toy, begin, browser, viewer):
    answer = browser(viewer).get(page(begin()))
    assert answer.context["page_data"]["may_operate"] is False
    assert b"data-verb" not in answer.content


def test_the_page_holds_no_script_and_no_style_of_its_own(toy, begin, browser, operator):
    """The Content-Security-Policy allows none."""
    text = browser(operator).get(page(begin())).content.decode()
    content = text[text.index('<div id="op"') : text.index("</dialog>")]
    assert " style=" not in content
    assert "onclick" not in content
    assert "<script" not in content


def test_an_operation_of_an_unknown_kind_can_still_be_looked_at(begin, toy, browser, viewer):
    operation = begin()
    Operation.objects.update(kind="Vanished")
    answer = browser(viewer).get(page(operation))
    assert answer.status_code == 200
    assert answer.context["page_data"]["may_operate"] is False


def test_evidence_shows_what_each_step_proved(toy, begin, work, browser, viewer):
    operation = begin()
    work()
    member = operation.machines.last()
    url = reverse("operations:evidence", args=[operation.pk])
    text = browser(viewer).get(url, {"machine": member.pk}).content.decode()
    assert f'<option value="{member.pk}" selected>' in text
    assert "<dt>seen</dt><dd>second</dd>" in text


def test_evidence_is_escaped(toy, begin, work, browser, viewer):
    operation = begin()
    work()
    operation.machines.first().cells.update(evidence={"<b>": "<script>alert(1)</script>"})
    text = browser(viewer).get(reverse("operations:evidence", args=[operation.pk])).content
    assert b"<script>" not in text


def test_the_audit_tab_shows_changes_of_state_to_all_and_entries_to_auditors(
    toy, begin, work, browser, viewer, admin
):
    operation = begin()
    work()
    url = reverse("operations:audit", args=[operation.pk])
    for_viewer = browser(viewer).get(url).content.decode()
    assert "Running → Succeeded" in for_viewer
    assert "start Toy" not in for_viewer
    assert "start Toy" in browser(admin).get(url).content.decode()


def test_the_audit_tab_shows_values_as_people_read_them(toy, begin, browser, admin, machines):
    operation = begin(params={"size": 3}, machines=machines[:2])
    url = reverse("operations:audit", args=[operation.pk])
    text = browser(admin).get(url).content.decode()
    assert f"{machines[0].address}, {machines[1].address}" in text
    assert "size: 3" in text
    assert "[&#x27;" not in text
    assert "{&#x27;" not in text


def test_the_audit_tab_tells_what_was_refused(toy, begin, browser, api, viewer, admin):
    operation = begin()
    client = browser(viewer)
    assert client.post(f"/api/v1/operations/{operation.pk}/cancel/").status_code == 403
    text = browser(admin).get(reverse("operations:audit", args=[operation.pk])).content.decode()
    assert f"refused: cancel operation {operation}" in text


def test_a_manifest_can_be_saved(toy, begin, browser, viewer):
    operation = begin()
    answer = browser(viewer).get(reverse("operations:manifest", args=[operation.pk]))
    assert answer["Content-Disposition"].endswith(f'{operation.name}.yaml"')
    assert b"operationType: Toy" in answer.content


# --- the start form --------------------------------------------------------------------------


def test_the_form_offers_operable_clusters_and_startable_machines_only(
    toy, browser, operator, cluster_a, cluster_b, machines
):
    busy = factories.make_machine(state="joining", owner_team=operator.groups.get())
    answer = browser(operator).get(START, {"kind": "Toy", "cluster": cluster_a.pk})
    assert list(answer.context["page"].form.fields["cluster"].queryset) == [cluster_a]
    assert set(answer.context["candidates"]) == set(machines)
    assert busy.address.encode() not in answer.content


def test_machines_in_the_address_are_filled_in(toy, browser, operator, cluster_a, machines):
    addresses = ",".join(str(machine.address) for machine in machines)
    answer = browser(operator).get(START, {"kind": "Toy", "machines": addresses})
    assert addresses.encode() in answer.content


def test_who_may_operate_nothing_may_not_open_the_form(browser, viewer, stranger):
    assert browser(viewer).get(START).status_code == 403
    assert browser(stranger).post(START, {}).status_code == 403


def test_the_plan_shows_what_is_done_what_is_blocked_and_what_is_unknown(
    toy, browser, operator, cluster_a, machines
):
    faulty = factories.make_machine(state="faulty", owner_team=operator.groups.get())
    asked = wish(cluster_a, [*machines, faulty])
    asked["machines"] += "\nno-such-machine"
    answer = browser(operator).post(START, asked)
    text = answer.content.decode()
    assert "it is Faulty; must be Available" in text
    assert "no-such-machine" in text
    assert "Start with 3 machines" in text
    assert "no earlier runs" in text
    assert not Operation.objects.exists()


def test_there_is_no_plan_where_no_machine_is_chosen(
    toy, browser, operator, cluster_a, begin, work
):
    begin()
    work()
    answer = browser(operator).post(START, wish(cluster_a, []) | {"machines": "no-such-machine"})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "No machine is chosen" in text
    assert "no-such-machine" in text
    assert answer.context["plan"] is None


def test_a_plan_in_which_every_machine_is_blocked_tells_no_time(
    toy, browser, operator, cluster_a, begin, work
):
    begin()
    work()
    faulty = factories.make_machine(state="faulty", owner_team=operator.groups.get())
    text = browser(operator).post(START, wish(cluster_a, [faulty])).content.decode()
    assert "it is Faulty" in text
    assert "earlier run" not in text


def test_start_leaves_out_what_is_blocked_and_leads_to_the_live_page(
    toy, browser, operator, cluster_a, machines
):
    faulty = factories.make_machine(state="faulty", owner_team=operator.groups.get())
    client = browser(operator)
    asked = wish(cluster_a, [*machines, faulty], reason="more room")
    token = planned(client.post(START, asked))
    answer = client.post(START, {**asked, "step": "start", "planned": token})
    operation = Operation.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == page(operation)
    assert operation.machines.count() == 3
    assert operation.reason == "more room"


def test_nothing_is_started_that_was_not_planned(toy, browser, operator, cluster_a, machines):
    client = browser(operator)
    token = planned(client.post(START, wish(cluster_a, machines[:1])))
    answer = client.post(START, wish(cluster_a, machines, step="start", planned=token))
    assert answer.status_code == 409
    assert "has changed since this plan" in answer.content.decode()
    assert not Operation.objects.exists()


def test_a_machine_taken_meanwhile_asks_for_another_look(
    toy, browser, operator, cluster_a, machines, begin
):
    client = browser(operator)
    asked = wish(cluster_a, machines)
    token = planned(client.post(START, asked))
    begin(machines=machines[:1])
    answer = client.post(START, {**asked, "step": "start", "planned": token})
    assert answer.status_code == 409
    assert Operation.objects.count() == 1


def test_starting_by_get_is_impossible(toy, browser, operator, cluster_a, machines):
    browser(operator).get(START, wish(cluster_a, machines, step="start"))
    assert not Operation.objects.exists()


def test_another_kind_brings_its_own_options(toy, browser, operator, cluster_a, machines):
    asked = wish(cluster_a, machines, kind="ScaleUp", step="change")
    text = browser(operator).post(START, asked).content.decode()
    assert "params-taints" in text
    assert str(machines[0].address) in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"machines": ""}, "This field is required"),
        ({"forks": 0}, "greater than or equal to 1"),
        ({"params-size": "many"}, "Enter a whole number"),
        ({"cluster": 999_999}, "Select a valid choice"),
    ],
)
def test_a_wrong_field_is_marked_and_nothing_starts(
    change, sentence, toy, browser, operator, cluster_a, machines
):
    answer = browser(operator).post(START, wish(cluster_a, machines) | change)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()


def test_an_option_the_kind_refuses_is_told_with_its_sentence(
    browser, operator, cluster_a, machines
):
    asked = wish(cluster_a, machines, kind="ScaleUp", **{"params-taints": "no taint"})
    answer = browser(operator).post(START, asked)
    assert answer.status_code == 400
    assert "is no taint" in answer.content.decode()


# --- options from a schema -------------------------------------------------------------------


def test_lists_and_mappings_are_written_by_lines():
    values = {"params-labels": "a=1\nb = 2\n", "params-taints": "x=y:NoSchedule\n\nz:NoExecute"}
    form = ParamsForm(values, kind=KINDS["ScaleUp"])
    assert form.is_valid(), form.errors
    assert form.params["labels"] == {"a": "1", "b": "2"}
    assert form.params["taints"] == ["x=y:NoSchedule", "z:NoExecute"]
    assert "kubernetes_version" not in form.params


def test_a_line_that_is_no_pair_is_refused():
    form = ParamsForm({"params-labels": "just words"}, kind=KINDS["ScaleUp"])
    assert not form.is_valid()
    assert "is not key=value" in str(form.errors)


# --- settings --------------------------------------------------------------------------------


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


def settings_form(cluster, **values):
    return {
        "cluster": cluster.pk,
        "artifact_source": "/srv/files",
        "overrides": "{}",
        "policy": '{"min_cpus": 4}',
        "limit": "",
        "credential": "",
        **values,
    }


def test_an_owner_makes_and_changes_settings_with_a_reason(browser, owner, cluster_a):
    client = browser(owner)
    add = reverse("admin:operations_clustersettings_add")
    assert client.post(add, settings_form(cluster_a)).status_code == 302
    row = ClusterSettings.objects.get()
    assert row.policy == {"min_cpus": 4}
    url = reverse("admin:operations_clustersettings_change", args=[row.pk])
    answer = client.post(url, settings_form(cluster_a, limit=3, change_reason="more at once"))
    assert answer.status_code == 302
    row.refresh_from_db()
    assert row.limit == 3
    assert AuditEntry.objects.filter(reason="more at once").count() == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"artifact_source": "ftp://x"}, "is no artifact source"),
        ({"artifact_source": "/root"}, "may not install from this folder; it may from /srv"),
        ({"policy": '{"min_cpu": 4}'}, "is no key of a policy"),
        ({"policy": "not json"}, "Enter a valid JSON"),
        ({"overrides": "[1]"}, "Must be a mapping"),
        ({"limit": 99}, "1 to 50, or empty"),
    ],
)
def test_wrong_settings_are_marked_at_the_field(change, sentence, browser, owner, cluster_a):
    add = reverse("admin:operations_clustersettings_add")
    answer = browser(owner).post(add, settings_form(cluster_a, **change))
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert not ClusterSettings.objects.exists()


def test_credentials_of_other_teams_are_not_offered(browser, owner, cluster_a):
    foreign = factories.make_credential("foreign-key", team=factories.make_team())
    own = factories.make_credential("own-key", team=owner.groups.get())
    text = browser(owner).get(reverse("admin:operations_clustersettings_add")).content.decode()
    assert foreign.name not in text
    assert own.name in text


def test_an_operator_looks_at_settings_but_cannot_make_them(browser, operator, cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a)
    client = browser(operator)
    assert client.get(reverse("admin:operations_clustersettings_changelist")).status_code == 200
    assert client.get(reverse("admin:operations_clustersettings_add")).status_code == 403
