"""The pages of machines: what they show, whom they refuse, what a click does."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from beidou.base.errors import Conflict
from beidou.base.models import AuditEntry
from beidou.base.page_head import buttons
from beidou.base.page_head.buttons import Button
from clusters.models import Cluster
from machines import timeline
from machines.drivers import ssh
from machines.models import Drift, Machine, SshCredential
from machines.services import facts, lifecycle
from tests import factories
from tests.fakes.ssh_server import new_key, private_text
from tests.machines.test_facts_and_drift import make_facts

pytestmark = pytest.mark.django_db
State = Machine.State
LIST = "/machines/machine/"


def page(machine, tail="change/"):
    return f"{LIST}{machine.pk}/{tail}"


def act(client, action, machines, **values):
    chosen = {"action": action, "_selected_action": [each.pk for each in machines], **values}
    return client.post(LIST, chosen, follow=True)


def said(response):
    return [str(message) for message in response.context["messages"]]


# --- list -----------------------------------------------------------------------------------
def listed(response):
    return {str(machine.address) for machine in response.context["cl"].result_list}


@pytest.fixture
def fleet(cluster_a):
    node = factories.make_node(cluster_a, "worker-7", internal_ip="172.16.0.7")
    factories.make_machine("10.1.0.1", cluster=cluster_a, node=node, state=State.IN_SERVICE)
    factories.make_machine("10.1.0.2", serial="CN77", rack="r12")
    factories.make_machine("10.1.0.3", state=State.FAULTY, hostname="bj-r3-1")
    drifting = factories.make_machine("10.1.0.4", cpus=1, hostname="")
    facts.store(drifting, make_facts())


@pytest.mark.parametrize(
    ("view", "addresses"),
    [
        ("", {"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"}),
        ("cluster", {"10.1.0.1"}),
        ("free", {"10.1.0.2", "10.1.0.4"}),
        ("faulty", {"10.1.0.3"}),
        ("drift", {"10.1.0.4"}),
        ("host_key", set()),
    ],
)
def test_the_saved_views_are_tabs(admin, browser, fleet, view, addresses):
    assert listed(browser(admin).get(LIST, {"view": view} if view else {})) == addresses


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("10.1.0.2", {"10.1.0.2"}),
        ("10.1.", {"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"}),
        ("cn77", {"10.1.0.2"}),
        ("r12", {"10.1.0.2"}),
        ("BJ-R3", {"10.1.0.3"}),
        ("worker-7", {"10.1.0.1"}),
        ("172.16.0.7", {"10.1.0.1"}),
        ("fd00::11", {"10.1.0.4"}),
        ("gz-r3", {"10.1.0.4"}),
        ("abc%", set()),
        ("r12 cn77", {"10.1.0.2"}),
        ("r12 worker-7", set()),
    ],
)
def test_a_machine_is_found_by_the_beginning_of_any_name(admin, browser, fleet, text, addresses):
    assert listed(browser(admin).get(LIST, {"q": text})) == addresses


def test_a_viewer_sees_the_machines_of_their_cluster_alone(viewer, browser, fleet):
    assert listed(browser(viewer).get(LIST)) == {"10.1.0.1"}


def test_an_empty_list_offers_what_one_may_do_alone(viewer, admin, browser):
    offer = "register the nodes of an adopted cluster"
    assert offer in browser(admin).get(LIST).content.decode()
    shown = browser(viewer).get(LIST).content.decode()
    assert offer not in shown
    assert "You see the machines of your teams" in shown
    assert "Reset filters" not in shown


def test_a_search_without_result_says_so_and_can_be_taken_back(admin, browser):
    shown = browser(admin).get(LIST, {"q": "no-such"}).content.decode()
    assert "Nothing matches the filters and the search." in shown
    assert "Reset filters" in shown


def test_a_stranger_has_no_list(stranger, browser, fleet):
    assert browser(stranger).get(LIST).status_code == 403


def test_the_list_costs_at_most_fifteen_queries(
    admin, browser, cluster_a, django_assert_max_num_queries
):
    for _ in range(30):
        node = factories.make_node(cluster_a)
        machine = factories.make_machine(node=node, cluster=cluster_a, cpus=1)
        facts.store(machine, make_facts())
    client = browser(admin)
    with django_assert_max_num_queries(15):
        assert client.get(LIST).status_code == 200


def test_the_list_of_an_operator_costs_little_more(
    operator, browser, cluster_a, django_assert_max_num_queries
):
    for _ in range(30):
        factories.make_machine(cluster=cluster_a)
    client = browser(operator)
    with django_assert_max_num_queries(24):
        assert len(listed(client.get(LIST))) == 30


# --- actions --------------------------------------------------------------------------------
def test_an_action_first_shows_its_plan_and_changes_nothing(admin, browser):
    machine = factories.make_machine()
    response = act(browser(admin), "to_maintenance", [machine])
    assert "1 machine: Available → Maintenance" in response.content.decode()
    machine.refresh_from_db()
    assert machine.state == State.AVAILABLE


def test_a_confirmed_action_changes_what_it_may_and_says_the_rest(admin, browser):
    free = factories.make_machine()
    retired = factories.make_machine(state=State.RETIRED)
    response = act(browser(admin), "to_maintenance", [free, retired], post="yes", reason="new fans")
    free.refresh_from_db()
    assert (free.state, free.status_changes.get().reason) == (State.MAINTENANCE, "new fans")
    assert "1 machine changed." in said(response)
    assert any("is Retired and cannot become Maintenance" in text for text in said(response))


def test_an_action_that_none_can_do_says_so_and_asks_for_no_reason(admin, browser):
    retired = factories.make_machine(state=State.RETIRED)
    response = act(browser(admin), "to_maintenance", [retired])
    assert "None of the chosen machines can go there." in said(response)
    assert any("is Retired and cannot become Maintenance" in text for text in said(response))


def test_an_action_without_a_reason_asks_again(admin, browser):
    machine = factories.make_machine()
    response = act(browser(admin), "retire", [machine], post="yes", reason=" ")
    assert "This field is required" in response.content.decode()
    machine.refresh_from_db()
    assert machine.state == State.AVAILABLE


def test_a_viewer_is_offered_no_action_and_can_do_none(viewer, browser, cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state=State.IN_SERVICE)
    act(browser(viewer), "mark_faulty", [machine], post="yes", reason="x")
    machine.refresh_from_db()
    assert machine.state == State.IN_SERVICE


def test_machines_one_may_not_operate_are_left_out(operator, viewer, browser, cluster_a, cluster_b):
    team = operator.groups.get()
    factories.grant(team, cluster_b, "viewer")
    mine = factories.make_machine(cluster=cluster_a, state=State.IN_SERVICE)
    theirs = factories.make_machine(cluster=cluster_b, state=State.IN_SERVICE)
    response = act(browser(operator), "mark_faulty", [mine, theirs], post="yes", reason="x")
    theirs.refresh_from_db()
    assert theirs.state == State.IN_SERVICE
    assert any("1 machine is left out" in text for text in said(response))


@pytest.mark.parametrize("old", State.values)
@pytest.mark.parametrize("action", lifecycle.Action.values)
def test_the_page_obeys_the_rules_of_the_lifecycle(admin, browser, old, action):
    machine = factories.make_machine(state=old)
    refused = lifecycle.action_refusal(machine, action)
    target = lifecycle.target_of(machine, action)
    browser(admin).post(page(machine, f"state/{action}/"), {"reason": "x"})
    machine.refresh_from_db()
    assert machine.state == (old if refused else target)


def test_many_machines_get_new_values_with_history(admin, browser):
    team = factories.make_team("blue")
    machines = [factories.make_machine(labels={"old": "1", "keep": "2"}) for _ in range(2)]
    act(
        browser(admin),
        "edit_many",
        machines,
        post="yes",
        change=["rack", "owner_team"],
        rack="r9",
        owner_team=team.pk,
        add_labels="zone=a",
        remove_labels="old",
        reason="moved",
    )
    for machine in Machine.objects.all():
        assert (machine.rack, machine.owner_team) == ("r9", team)
        assert machine.labels == {"keep": "2", "zone": "a"}
        assert machine.history.first().history_change_reason == "moved"
    assert AuditEntry.objects.filter(verb="change", reason="moved").count() == 2


def test_a_bulk_edit_that_changes_nothing_is_refused(admin, browser):
    response = act(browser(admin), "edit_many", [factories.make_machine()], post="yes")
    assert "nothing would change" in response.content.decode()


def told(response):
    return [(message.level_tag, str(message)) for message in response.context["messages"]]


def test_a_bulk_edit_promises_no_more_than_what_will_be_filled_in(admin, browser):
    text = act(browser(admin), "edit_many", [factories.make_machine()]).content.decode()
    assert "What is filled in or ticked below is changed on 1 machine; the rest stays" in text
    assert "errornote" not in text


def test_a_bulk_edit_claims_no_success_where_all_were_so_already(admin, browser):
    machines = [factories.make_machine(rack="r9") for _ in range(2)]
    answer = act(browser(admin), "edit_many", machines, post="yes", rack="r9")
    assert told(answer) == [("info", "2 machines were so already; nothing was changed there.")]
    assert not AuditEntry.objects.filter(verb="change").exists()


def test_a_bulk_edit_tells_what_it_changed_apart_from_what_was_so_already(admin, browser):
    machines = [factories.make_machine(rack=rack) for rack in ("r1", "r9")]
    answer = act(browser(admin), "edit_many", machines, post="yes", rack="r9")
    assert told(answer) == [
        ("success", "1 machine changed."),
        ("info", "1 machine was so already; nothing was changed there."),
    ]


def test_a_bulk_edit_that_is_refused_everywhere_claims_nothing_else(admin, browser, monkeypatch):
    def refuse(*args):
        raise Conflict("An operation holds it.")

    monkeypatch.setattr(lifecycle, "require_editable", refuse)
    answer = act(browser(admin), "edit_many", [factories.make_machine()], post="yes", rack="r9")
    assert told(answer) == [("warning", "An operation holds it.")]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_the_filtered_list_is_exported(admin, browser, fleet, kind):
    response = browser(admin).get(f"{LIST}export.{kind}", {"view": "free"})
    assert response.status_code == 200
    if kind == "csv":
        assert b"10.1.0.2" in response.content
        assert b"10.1.0.1," not in response.content


def test_a_viewer_exports_what_they_see(viewer, browser, fleet):
    content = browser(viewer).get(f"{LIST}export.csv").content
    assert b"10.1.0.1" in content
    assert b"10.1.0.2" not in content


# --- page -----------------------------------------------------------------------------------
def test_the_page_shows_three_columns_and_the_timeline(admin, browser, cluster_a):
    node = factories.make_node(cluster_a, "w7", cpu_capacity=64000, kernel_version="6.1.0-28")
    machine = factories.make_machine(
        cluster=cluster_a, node=node, state=State.IN_SERVICE, cpus=32, hostname="w7"
    )
    facts.store(machine, make_facts(hostname="w7"))
    lifecycle.act(machine=machine, action="faulty", reason="fan broken", acting_user=admin)
    text = browser(admin).get(page(machine)).content.decode()
    for part in (
        "Observed (Kubernetes)",
        "6.1.0-28",
        "fan broken",
        "In service → Faulty",
        "2×960G",
    ):
        assert part in text


def test_a_cluster_whose_certificate_is_not_verified_is_marked(admin, browser, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    assert b"TLS not verified" not in browser(admin).get(page(machine)).content
    Cluster.objects.filter(pk=cluster_a.pk).update(insecure_tls=True)
    assert b"TLS not verified" in browser(admin).get(page(machine)).content


def test_the_timeline_shows_fields_before_and_after_with_who_and_why(admin, browser):
    machine = factories.make_machine(rack="r1")
    client = browser(admin)
    values = {
        "address": machine.address,
        "hostname": machine.hostname,
        "role": "Compute",
        "labels": "{}",
        "rack": "r2",
        "change_reason": "moved to the new room",
    }
    assert client.post(page(machine), values).status_code == 302
    entry = timeline.entries(machine, admin, only=["edit"])[0]
    assert entry.changes == (timeline.Change("rack", "r1", "r2"),)
    assert (entry.actor, entry.reason) == (str(admin), "moved to the new room")
    assert "r1 → r2" in client.get(page(machine), {"show": "edit"}).content.decode()


def test_the_timeline_can_be_narrowed_to_a_kind(admin, browser):
    machine = factories.make_machine()
    lifecycle.act(machine=machine, action="faulty", reason="fan broken", acting_user=admin)
    text = browser(admin).get(page(machine), {"show": "audit"}).content.decode()
    assert "fan broken" not in text


def test_an_app_above_adds_entries_and_buttons(admin, browser, monkeypatch):
    machine = factories.make_machine()
    kind = timeline.Kind(
        "test",
        "Operations",
        "bolt",
        lambda machine, user, limit: [
            timeline.Entry(at=machine.created_at, kind="test", title="ScaleUp #7")
        ],
    )
    monkeypatch.setitem(timeline._kinds, "test", kind)
    monkeypatch.setitem(
        buttons._providers, (Machine, "test"), lambda machine, user: [Button("Scale up", "/start/")]
    )
    text = browser(admin).get(page(machine)).content.decode()
    assert "ScaleUp #7" in text
    assert 'href="/start/"' in text


def test_what_one_may_not_see_is_404(viewer, browser, cluster_b):
    machine = factories.make_machine(cluster=cluster_b)
    client = browser(viewer)
    assert client.get(page(machine)).status_code == 404
    assert client.post(page(machine, "gather-facts/")).status_code == 404


def test_what_one_may_see_but_not_do_is_403(viewer, browser, cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state=State.IN_SERVICE)
    client = browser(viewer)
    assert client.get(page(machine)).status_code == 200
    assert client.post(page(machine, "gather-facts/")).status_code == 403
    assert client.post(page(machine, "state/faulty/"), {"reason": "x"}).status_code == 403


def test_nothing_changes_by_a_get(admin, browser):
    machine = factories.make_machine()
    client = browser(admin)
    assert client.get(page(machine, "gather-facts/")).status_code == 405
    assert client.get(page(machine, "host-key/accept/")).status_code == 405
    client.get(page(machine, "state/faulty/"))
    machine.refresh_from_db()
    assert machine.state == State.AVAILABLE


def test_a_difference_is_accepted_in_one_click(admin, browser):
    machine = factories.make_machine(cpus=32, hostname="")
    facts.store(machine, make_facts())
    row = machine.drift.get()
    client = browser(admin)
    client.post(page(machine, f"drift/{row.pk}/accept/"), {"observed": "64"})
    machine.refresh_from_db()
    assert machine.cpus == 64


def test_a_difference_that_changed_meanwhile_is_not_accepted(admin, browser):
    machine = factories.make_machine(cpus=32, hostname="")
    facts.store(machine, make_facts())
    row = machine.drift.get()
    response = browser(admin).post(
        page(machine, f"drift/{row.pk}/accept/"), {"observed": "63"}, follow=True
    )
    assert "This difference has changed meanwhile; look again." in said(response)
    machine.refresh_from_db()
    assert machine.cpus == 32


def test_the_list_of_drift_names_fields_as_people_do(admin, browser):
    machine = factories.make_machine()
    machine.drift.create(field="memory_mib", intended="262144", observed="196608")
    machine.drift.create(field="kernel", intended="5.10", observed="6.1")
    page = browser(admin).get("/machines/drift/?field=memory_mib").content.decode()
    assert "memory, MiB" in page
    assert "262144" in page
    assert "5.10" not in page


def test_many_differences_are_accepted_at_once(admin, browser):
    for _ in range(3):
        facts.store(factories.make_machine(cpus=32, hostname=""), make_facts())
    chosen = {"_selected_action": [row.pk for row in Drift.objects.all()], "action": "accept"}
    browser(admin).post("/machines/drift/", {**chosen, "post": "yes", "reason": "new boards"})
    assert set(Machine.objects.values_list("cpus", flat=True)) == {64}


def test_a_changed_host_key_is_shown_and_accepted(admin, browser):
    old, new = (" ".join(_line().split()[:2]) for _ in range(2))
    machine = factories.make_machine(host_key=old, offered_host_key=new)
    client = browser(admin)
    text = client.get(page(machine)).content.decode()
    assert ssh.fingerprint(new) in text
    client.post(
        page(machine, "host-key/accept/"), {"shown": ssh.fingerprint(new), "reason": "new disk"}
    )
    machine.refresh_from_db()
    assert (machine.host_key, machine.offered_host_key) == (new, "")


def _line():
    return new_key().export_public_key().decode()


# --- forms ----------------------------------------------------------------------------------
def test_a_machine_is_added_by_the_form(admin, browser):
    values = {"address": "10.7.0.1", "role": "Compute", "labels": '{"zone": "a"}'}
    assert browser(admin).post(f"{LIST}add/", values).status_code == 302
    assert Machine.objects.get().state == State.DISCOVERED
    assert AuditEntry.objects.get(verb="add").object_name == "10.7.0.1"


@pytest.mark.parametrize("labels", ["", "{}"])
def test_a_machine_without_labels_has_an_empty_mapping(labels, admin, browser):
    values = {"address": "10.7.0.1", "role": "Compute", "labels": labels}
    assert browser(admin).post(f"{LIST}add/", values).status_code == 302
    assert Machine.objects.get().labels == {}


@pytest.mark.parametrize(
    "labels", ["zone=a\ntier=gold", "tier=gold, zone=a", '{"zone": "a", "tier": "gold"}']
)
def test_labels_are_written_by_lines(labels, admin, browser):
    values = {"address": "10.7.0.1", "role": "Compute", "labels": labels}
    client = browser(admin)
    assert client.post(f"{LIST}add/", values).status_code == 302
    machine = Machine.objects.get()
    assert machine.labels == {"zone": "a", "tier": "gold"}
    form = client.get(page(machine)).context["adminform"].form
    assert form["labels"].value() == "tier=gold\nzone=a"


@pytest.mark.parametrize(
    ("labels", "sentence"), [("tier gold", "write key=value"), ("{nonsense", "valid JSON")]
)
def test_a_label_that_is_none_is_told_at_its_field(labels, sentence, admin, browser):
    values = {"address": "10.7.0.1", "role": "Compute", "labels": labels}
    form = browser(admin).post(f"{LIST}add/", values).context["adminform"].form
    assert sentence in form.errors["labels"][0]
    assert not Machine.objects.exists()


def test_leaving_the_labels_empty_changes_nothing(admin, browser):
    machine = factories.make_machine(address="10.7.0.1", hostname="", role="Compute")
    client = browser(admin)
    form = client.get(page(machine)).context["adminform"].form
    assert form["labels"].value() == ""
    assert "tier" in form.fields["labels"].widget.attrs["placeholder"]
    client.post(page(machine), {"address": "10.7.0.1", "role": "Compute", "labels": ""})
    assert not AuditEntry.objects.exists()


def test_labels_are_taken_away_by_emptying_the_field(admin, browser):
    machine = factories.make_machine(address="10.7.0.1", role="Compute", labels={"zone": "a"})
    values = {"address": "10.7.0.1", "role": "Compute", "labels": ""}
    assert browser(admin).post(page(machine), values).status_code == 302
    machine.refresh_from_db()
    assert machine.labels == {}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"address": "10.7.0.300"}, "Enter a valid IPv4 or IPv6 address"),
        ({"address": "10.7.0.9"}, "already exists"),
        ({"labels": '["a"]'}, "Labels are written as an object"),
        ({"labels": '{"a b": "c"}'}, "is no label key"),
        ({"cpus": "-1"}, "greater than or equal to 0"),
    ],
)
def test_the_form_refuses_with_a_sentence(admin, browser, values, sentence):
    factories.make_machine("10.7.0.9")
    known = {"address": "10.7.0.1", "role": "Compute", "labels": "{}", **values}
    response = browser(admin).post(f"{LIST}add/", known)
    assert sentence in response.content.decode()
    assert Machine.objects.count() == 1


def test_the_state_cannot_be_posted(admin, browser):
    values = {"address": "10.7.0.1", "role": "", "labels": "{}", "state": "in_service"}
    browser(admin).post(f"{LIST}add/", values)
    assert Machine.objects.get().state == State.DISCOVERED


def test_an_operator_who_adds_names_their_team(operator, operators, browser):
    factories.give(operators, "machines.add_machine")
    foreign = factories.make_team("foreign")
    values = {"address": "10.7.0.1", "role": "", "labels": "{}"}
    client = browser(operator)
    assert "Choose one of your teams" in client.post(f"{LIST}add/", values).content.decode()
    client.post(f"{LIST}add/", {**values, "owner_team": foreign.pk})
    assert not Machine.objects.exists()
    client.post(f"{LIST}add/", {**values, "owner_team": operators.pk})
    assert Machine.objects.get().owner_team == operators


CREDENTIALS = "/machines/sshcredential/"


def test_a_secret_never_comes_back(admin, browser):
    credential = factories.make_credential(password="geheim-1", private_key="")
    text = browser(admin).get(f"{CREDENTIALS}{credential.pk}/change/").content.decode()
    assert "geheim-1" not in text
    assert "Stored; leave empty to keep it." in text


def test_an_empty_secret_keeps_the_stored_one(admin, browser):
    credential = factories.make_credential("old", password="geheim-1")
    values = {"name": "new", "user": "root", "port": "22"}
    assert browser(admin).post(f"{CREDENTIALS}{credential.pk}/change/", values).status_code == 302
    credential.refresh_from_db()
    assert (credential.name, credential.password) == ("new", "geheim-1")


def test_a_bad_key_is_told_at_its_field(admin, browser):
    values = {"name": "k", "user": "root", "port": "22", "private_key": "ssh-ed25519 AAAA"}
    response = browser(admin).post(f"{CREDENTIALS}add/", values)
    assert "This is a public key" in response.content.decode()
    assert not SshCredential.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_credential_is_tried_on_a_machine_when_saved(admin, browser, ssh_server, user_key):
    machine = factories.make_machine(ssh_server.address)
    values = {
        "name": "k",
        "user": "root",
        "port": ssh_server.port,
        "private_key": private_text(user_key),
        "test_machine": ssh_server.address,
    }
    response = browser(admin).post(f"{CREDENTIALS}add/", values, follow=True)
    credential = SshCredential.objects.get()
    assert credential.test_result == f"works on {machine}"
    assert any(ssh.fingerprint(ssh_server.host_key) in text for text in said(response))


@pytest.mark.django_db(transaction=True)
def test_a_credential_that_fails_its_test_is_saved_with_the_reason(admin, browser, ssh_server):
    factories.make_machine(ssh_server.address)
    values = {
        "name": "k",
        "user": "root",
        "port": ssh_server.port,
        "private_key": private_text(new_key()),
        "test_machine": ssh_server.address,
    }
    browser(admin).post(f"{CREDENTIALS}add/", values)
    credential = SshCredential.objects.get()
    assert credential.tested_at is not None
    assert "works on" not in credential.test_result


# --- import and registration ----------------------------------------------------------------
def upload(text, name="fleet.csv"):
    return SimpleUploadedFile(name, text.encode())


def agreed_to(shown):
    """What the form of the shown differences sends."""
    return {"token": shown.context["token"], "shown": shown.context["shown"]}


def test_an_edit_between_both_pages_is_shown_instead_of_overwritten(admin, browser):
    client = browser(admin)
    url = reverse("admin:machines_machine_import")
    machine = factories.make_machine("10.7.0.1", rack="r1")
    sent = agreed_to(client.post(url, {"file": upload("address,rack\n10.7.0.1,r2\n")}))
    Machine.objects.update(rack="r9")
    answer = client.post(url, sent)
    machine.refresh_from_db()
    assert machine.rack == "r9"
    assert "have changed since the differences were shown" in said(answer)[0]
    assert answer.context["changes"][0].changes == [("rack", "r9", "r2")]
    client.post(url, agreed_to(answer))
    machine.refresh_from_db()
    assert machine.rack == "r2"


def test_an_import_without_shown_differences_writes_nothing(admin, browser):
    client = browser(admin)
    url = reverse("admin:machines_machine_import")
    sent = agreed_to(client.post(url, {"file": upload("address\n10.7.0.1\n")}))
    client.post(url, {"token": sent["token"]})
    assert not Machine.objects.exists()


def test_an_import_shows_its_plan_and_then_applies_what_was_shown(admin, browser):
    client = browser(admin)
    url = reverse("admin:machines_machine_import")
    shown = client.post(
        url, {"file": upload("address,rack\n10.7.0.1,r1\n"), "change_reason": "delivery"}
    )
    assert shown.context["totals"]["new"] == 1
    assert not Machine.objects.exists()
    values = agreed_to(shown) | {"file_name": "fleet.csv", "change_reason": "delivery"}
    response = client.post(url, values, follow=True)
    assert "Imported: 1 new, 0 changed, 0 unchanged." in said(response)
    assert Machine.objects.get().history.get().history_change_reason == "delivery"
    again = client.post(url, values, follow=True)
    assert "was applied already" in said(again)[0]


def test_an_import_with_mistakes_offers_nothing_to_apply(admin, browser):
    response = browser(admin).post(
        reverse("admin:machines_machine_import"), {"file": upload("address,cpus\n10.7.0.1,x\n")}
    )
    assert "B (cpus)" in response.content.decode()
    assert "token" not in response.context


def test_a_wrong_heading_and_a_wrong_row_stand_on_one_page(admin, browser):
    response = browser(admin).post(
        reverse("admin:machines_machine_import"),
        {"file": upload("address,colour,cpus\n10.7.0.1,red,x\n")},
    )
    text = response.content.decode()
    assert "2 mistakes; nothing was imported" in text
    assert "not known: colour" in text
    assert "C (cpus)" in text
    assert "token" not in response.context


def test_nobody_applies_the_upload_of_somebody_else(admin, browser):
    client = browser(admin)
    url = reverse("admin:machines_machine_import")
    sent = agreed_to(client.post(url, {"file": upload("address\n10.7.0.1\n")}))
    other = browser(factories.make_user("other", is_superuser=True))
    other.post(url, sent)
    other.post(url, sent | {"token": "../../secret_key.csv"})
    assert not Machine.objects.exists()


def test_a_second_upload_replaces_the_one_that_was_never_applied(admin, browser):
    client = browser(admin)
    url = reverse("admin:machines_machine_import")
    first = agreed_to(client.post(url, {"file": upload("address\n10.7.0.1\n")}))
    second = agreed_to(client.post(url, {"file": upload("address\n10.7.0.2\n")}))
    client.post(url, first)
    assert not Machine.objects.exists()
    client.post(url, second)
    assert str(Machine.objects.get().address) == "10.7.0.2"


def test_a_viewer_may_not_import(viewer, browser):
    assert browser(viewer).get(reverse("admin:machines_machine_import")).status_code == 403


def test_the_nodes_of_a_cluster_are_registered_in_one_action(operator, browser, cluster_a):
    nodes = [factories.make_node(cluster_a) for _ in range(3)]
    client = browser(operator)
    url = f"{reverse('admin:machines_machine_register')}?cluster={cluster_a.pk}"
    assert nodes[0].name in client.get(url).content.decode()
    client.post(url, {"node": [node.pk for node in nodes[:2]]})
    assert Machine.objects.filter(state=State.IN_SERVICE, cluster=cluster_a).count() == 2


def test_a_viewer_cannot_register_nodes(viewer, browser, cluster_a):
    url = f"{reverse('admin:machines_machine_register')}?cluster={cluster_a.pk}"
    assert browser(viewer).get(url).status_code == 404


# --- stale and foreign values ---------------------------------------------------------------
def posted(response, **values):
    """What the browser sends back of the form it was given."""
    form = response.context["adminform"].form
    sent = {name: form[name].value() for name in form.fields}
    sent["labels"] = "{}"
    return {name: "" if value is None else value for name, value in {**sent, **values}.items()}


def test_an_editor_keeps_the_team_and_credential_that_they_may_not_choose(browser, cluster_a):
    owners = factories.make_team()
    factories.grant(owners, cluster_a, "owner")
    foreign, key = factories.make_team("foreign"), factories.make_credential()
    machine = factories.make_machine(cluster=cluster_a, owner_team=foreign, credential=key)
    client = browser(factories.make_user(teams=(owners,)))
    response = client.post(page(machine), posted(client.get(page(machine)), rack="r77"))
    assert response.status_code == 302, response.context["adminform"].form.errors
    machine.refresh_from_db()
    assert (machine.rack, machine.owner_team, machine.credential) == ("r77", foreign, key)


def test_a_foreign_team_cannot_be_chosen_anew(browser, cluster_a):
    owners = factories.make_team()
    factories.grant(owners, cluster_a, "owner")
    machine = factories.make_machine(cluster=cluster_a)
    client = browser(factories.make_user(teams=(owners,)))
    foreign = factories.make_team("foreign")
    response = client.post(page(machine), posted(client.get(page(machine)), owner_team=foreign.pk))
    assert "owner_team" in response.context["adminform"].form.errors


def test_what_keeps_a_page_from_being_saved_is_told_at_its_top(admin, browser):
    machine = factories.make_machine()
    client = browser(admin)
    values = posted(client.get(page(machine)), hostname="no_name!")
    text = client.post(page(machine), values).content.decode()
    assert text.index("Nothing was saved") < text.index('id="machine-timeline"')
    assert '<a href="#id_hostname">Hostname</a>' in text


def test_the_page_writes_the_changed_fields_alone(admin, browser, monkeypatch):
    """The product blocks the machine between reading the row and writing it."""
    machine = factories.make_machine()
    client = browser(admin)
    form = posted(client.get(page(machine)), rack="r77")

    def meanwhile(*args, **kwargs):
        Machine.objects.filter(pk=machine.pk).update(offered_host_key="ssh-ed25519 AAAA", role="db")

    monkeypatch.setattr("machines.admin.forms.belonging.check", meanwhile)
    client.post(page(machine), form)
    machine.refresh_from_db()
    assert (machine.rack, machine.offered_host_key, machine.role) == (
        "r77",
        "ssh-ed25519 AAAA",
        "db",
    )


def test_what_is_filled_in_needs_no_tick(admin, browser):
    machine = factories.make_machine(room="r1", rack="r2")
    act(browser(admin), "edit_many", [machine], post="yes", rack="r9", change=["room"])
    machine.refresh_from_db()
    assert (machine.room, machine.rack) == ("", "r9")


def test_a_label_that_is_given_twice_is_refused(admin, browser):
    machine = factories.make_machine()
    answer = act(browser(admin), "edit_many", [machine], post="yes", add_labels="a=b, a=c")
    assert "“a” is given twice: b and c" in answer.content.decode()
    machine.refresh_from_db()
    assert machine.labels == {}
