"""The API of machines: the same rules as the pages, in one error shape."""

from types import SimpleNamespace

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db.models import ProtectedError
from django_q.models import OrmQ
from rest_framework.test import APIClient

from beidou.base import tokens
from beidou.base.api.errors import exception_handler
from beidou.base.models import AuditEntry
from machines.api import serializers
from machines.drivers import ssh
from machines.files import reading
from machines.models import Machine, SshCredential
from machines.services import facts, lifecycle
from tests import factories
from tests.fakes.ssh_server import new_key, private_text, public_line
from tests.machines.test_facts_and_drift import make_facts

pytestmark = pytest.mark.django_db
State = Machine.State
URL = "/api/v1/machines/"


def of(machine, tail=""):
    return f"{URL}{machine.pk}/{tail}"


def test_a_machine_is_added_with_history_and_audit(admin, api):
    values = {"address": "10.7.0.1", "labels": {"zone": "a"}, "change_reason": "delivery"}
    answer = api(admin).post(URL, values)
    assert answer.status_code == 201, answer.data
    assert answer.data["state"] == "discovered"
    assert Machine.objects.get().history.get().history_change_reason == "delivery"
    assert AuditEntry.objects.get(verb="add").reason == "delivery"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"address": "nonsense"}, "address"),
        ({"address": "10.7.0.9"}, "address"),
        ({"serial": "SN9"}, "serial"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"cpus": -1}, "cpus"),
        ({"owner_team": 99999}, "owner_team"),
        ({"credential": 99999}, "credential"),
    ],
)
def test_bad_input_is_400_naming_the_field(admin, api, values, field):
    factories.make_machine("10.7.0.9", serial="SN9")
    answer = api(admin).post(URL, {"address": "10.7.0.1", **values})
    assert answer.status_code == 400
    assert field in answer.data["fields"] or field in answer.data["message"]
    assert Machine.objects.count() == 1


def test_adding_needs_the_permission_and_a_team(operator, operators, api):
    client = api(operator)
    assert client.post(URL, {"address": "10.7.0.1"}).status_code == 403
    factories.give(operators, "machines.add_machine")
    operator = type(operator).objects.get(pk=operator.pk)
    answer = api(operator).post(URL, {"address": "10.7.0.1"})
    assert answer.data["owner_team"] == operators.pk


def test_a_change_of_a_field_is_audited_with_its_reason(admin, api):
    machine = factories.make_machine(rack="r1")
    answer = api(admin).patch(of(machine), {"rack": "r2", "change_reason": "moved"})
    assert answer.data["rack"] == "r2"
    entry = AuditEntry.objects.get(verb="change")
    assert (entry.before, entry.after, entry.reason) == ({"rack": "r1"}, {"rack": "r2"}, "moved")


@pytest.mark.parametrize("field", ["state", "cluster", "node", "host_key", "offered_host_key"])
def test_what_is_observed_cannot_be_patched(admin, api, cluster_a, field):
    machine = factories.make_machine()
    before = Machine.objects.filter(pk=machine.pk).values().get()
    api(admin).patch(of(machine), {field: cluster_a.pk if field == "cluster" else "in_service"})
    assert Machine.objects.filter(pk=machine.pk).values().get() == before


def test_an_operator_may_not_edit(operator, api, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    assert api(operator).patch(of(machine), {"rack": "r2"}).status_code == 403


def test_a_stranger_gets_404_for_everything(stranger, api, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    client = api(stranger)
    for tail in ("", "facts/", "transitions/"):
        assert client.get(of(machine, tail)).status_code == 404
    for tail in ("transition/", "gather-facts/", "host-key/"):
        assert client.post(of(machine, tail), {}).status_code == 404


def test_nobody_gets_401(api):
    assert api().get(URL).status_code == 401


@pytest.mark.parametrize("old", State.values)
@pytest.mark.parametrize("new", State.values)
def test_a_transition_obeys_the_same_rules_as_a_person(admin, api, old, new):
    machine = factories.make_machine(state=old)
    refused = lifecycle.refusal(machine, new)
    answer = api(admin).post(of(machine, "transition/"), {"to": new, "reason": "x"})
    machine.refresh_from_db()
    if refused:
        assert (answer.status_code, answer.data["message"]) == (409, refused)
        assert machine.state == old
    else:
        assert (answer.status_code, answer.data["state"]) == (200, new)


@pytest.mark.parametrize(
    "values", [{"reason": "x"}, {"to": "faulty"}, {"to": "faulty", "action": "faulty"}, {"to": "x"}]
)
def test_half_a_transition_is_400(admin, api, values):
    assert api(admin).post(of(factories.make_machine(), "transition/"), values).status_code == 400


def test_an_action_is_a_transition_too_and_is_listed(admin, api):
    machine = factories.make_machine()
    client = api(admin)
    client.post(of(machine, "transition/"), {"action": "faulty", "reason": "fan"})
    rows = client.get(of(machine, "transitions/")).data
    assert [(row["old"], row["new"], row["reason"]) for row in rows] == [
        ("available", "faulty", "fan")
    ]


def test_a_viewer_may_not_change_the_state(viewer, api, cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state=State.IN_SERVICE)
    values = {"action": "faulty", "reason": "x"}
    assert api(viewer).post(of(machine, "transition/"), values).status_code == 403


def test_many_are_added_or_none(admin, api):
    client = api(admin)
    answer = client.post(f"{URL}bulk/", [{"address": f"10.7.0.{n}"} for n in range(1, 4)])
    assert (answer.status_code, Machine.objects.count()) == (201, 3)
    answer = client.post(f"{URL}bulk/", [{"address": "10.7.0.9"}, {"address": "10.7.0.9"}])
    assert answer.status_code == 400
    assert "1.address" in answer.data["fields"]
    assert Machine.objects.count() == 3


def test_facts_are_shown_and_missing_ones_are_404(admin, api):
    machine = factories.make_machine()
    client = api(admin)
    assert client.get(of(machine, "facts/")).status_code == 404
    facts.store(machine, make_facts())
    assert client.get(of(machine, "facts/")).data["facts"]["cpu"]["threads"] == 64


@pytest.mark.parametrize("key", [10**30, 0, -1])
def test_a_key_that_no_row_can_have_is_refused_at_its_field(key, api, operator):
    answer = api(operator).post(f"{URL}gather-facts/", {"machines": [key]})
    assert answer.status_code == 400
    assert any(name.startswith("machines") for name in answer.json()["fields"])


def test_asking_for_facts_answers_202_with_who_cannot_be_visited(operator, api, cluster_a):
    good = factories.make_machine(cluster=cluster_a, credential=factories.make_credential())
    bad = factories.make_machine(cluster=cluster_a)
    answer = api(operator).post(f"{URL}gather-facts/", {"machines": [good.pk, bad.pk]})
    assert answer.status_code == 202
    assert answer.data["accepted"] == [good.pk]
    refused = {row["machine"]: row["message"] for row in answer.data["refused"]}
    assert "no SSH credential" in refused[bad.pk]


def test_asking_for_facts_of_a_machine_one_may_only_see_is_refused_and_audited(
    operator, api, cluster_a, cluster_b
):
    factories.grant(operator.groups.get(), cluster_b, "viewer")
    good = factories.make_machine(cluster=cluster_a, credential=factories.make_credential())
    seen = factories.make_machine(cluster=cluster_b, credential=factories.make_credential())
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {tokens.issue(user=operator, name='x')[1]}")
    answer = client.post(f"{URL}gather-facts/", {"machines": [good.pk, seen.pk]})
    assert answer.status_code == 403
    assert str(seen) in answer.json()["message"]
    assert not AuditEntry.objects.filter(verb="gather facts").exists()
    entry = AuditEntry.objects.get(outcome="refused")
    assert (entry.actor, entry.object_id) == ("operator", str(seen.pk))


def test_asking_for_facts_of_a_machine_one_may_not_see_tells_nothing(
    operator, api, cluster_a, cluster_b
):
    good = factories.make_machine(cluster=cluster_a, credential=factories.make_credential())
    foreign = factories.make_machine(cluster=cluster_b)
    answers = [
        api(operator).post(f"{URL}gather-facts/", {"machines": [good.pk, key]})
        for key in (foreign.pk, 999_999)
    ]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["fields"]["machines"] == (
        f"There is no machine {foreign.pk}, or you may not see it."
    )
    assert not AuditEntry.objects.filter(verb="gather facts").exists()


def test_a_changed_host_key_is_accepted_by_fingerprint(admin, api):
    old, new = public_line(new_key()), public_line(new_key())
    machine = factories.make_machine(host_key=old, offered_host_key=new)
    client = api(admin)
    shown = client.get(of(machine)).data["offered_host_key"]
    assert shown == ssh.fingerprint(new)
    values = {"decision": "accept", "fingerprint": "SHA256:other", "reason": "x"}
    assert client.post(of(machine, "host-key/"), values).status_code == 409
    answer = client.post(of(machine, "host-key/"), {**values, "fingerprint": shown})
    assert (answer.data["host_key"], answer.data["offered_host_key"]) == (shown, "")


@pytest.mark.parametrize(
    ("query", "addresses"),
    [
        ("search=10.1.0.2", ["10.1.0.2"]),
        ("search=sn1", ["10.1.0.1"]),
        ("state=faulty", ["10.1.0.2"]),
        ("free=true", ["10.1.0.1"]),
        ("drifting=true", []),
        ("host_key_changed=false", ["10.1.0.1", "10.1.0.2"]),
        ("rack__in=r1,r2&ordering=-address", ["10.1.0.2", "10.1.0.1"]),
    ],
)
def test_lists_are_narrowed(admin, api, query, addresses):
    factories.make_machine("10.1.0.1", serial="SN1", rack="r1")
    factories.make_machine("10.1.0.2", state=State.FAULTY, rack="r2")
    found = api(admin).get(f"{URL}?{query}").data["results"]
    assert [row["address"] for row in found] == addresses


def test_the_list_costs_few_queries(admin, api, cluster_a, django_assert_max_num_queries):
    for _ in range(20):
        factories.make_machine(cluster=cluster_a, node=factories.make_node(cluster_a))
    with django_assert_max_num_queries(4):
        assert api(admin).get(URL).data["count"] == 20


def csv(text):
    return SimpleUploadedFile("fleet.csv", text.encode())


def test_a_file_is_imported_after_a_dry_run(admin, api):
    client = api(admin)
    text = "address,rack\n10.7.0.1,r1\n"
    answer = client.post(
        f"{URL}import/", {"file": csv(text), "dry_run": "true"}, format="multipart"
    )
    assert (answer.data["new"], answer.data["is_applied"]) == (1, False)
    assert not Machine.objects.exists()
    answer = client.post(f"{URL}import/", {"file": csv(text)}, format="multipart")
    assert (answer.data["new"], Machine.objects.count()) == (1, 1)


def test_a_file_with_mistakes_is_400_with_line_and_column(admin, api):
    answer = api(admin).post(
        f"{URL}import/", {"file": csv("address,cpus\n10.7.0.1,x\n")}, format="multipart"
    )
    assert answer.status_code == 400
    assert answer.data["fields"] == {"2.cpus": "“x” is no whole number."}


def test_registered_nodes_are_visited_like_machines_that_were_added(
    operator, operators, api, cluster_a, django_capture_on_commit_callbacks
):
    factories.make_node(cluster_a)
    credential = factories.make_credential(team=operators)
    given = {"cluster": cluster_a.pk, "credential": credential.pk}
    with django_capture_on_commit_callbacks(execute=True):
        created = api(operator).post(f"{URL}register/", given).data["created"]
    task = OrmQ.objects.get()
    assert (task.func(), task.task["args"]) == (facts.GATHER, tuple(created))


def test_what_somebody_saved_meanwhile_is_not_put_back_by_an_edit(admin, api, monkeypatch):
    credential = factories.make_credential()
    is_valid = serializers.CredentialSerializer.is_valid

    def replaced_meanwhile(self, **kwargs):
        SshCredential.objects.filter(pk=credential.pk).update(password="new")
        return is_valid(self, **kwargs)

    monkeypatch.setattr(serializers.CredentialSerializer, "is_valid", replaced_meanwhile)
    answer = api(admin).patch(f"/api/v1/credentials/{credential.pk}/", {"port": 2222})
    assert answer.status_code == 200
    credential.refresh_from_db()
    assert (credential.password, credential.port) == ("new", 2222)


def test_nodes_become_machines(operator, api, cluster_a, cluster_b):
    node = factories.make_node(cluster_a)
    factories.make_node(cluster_a)
    client = api(operator)
    answer = client.post(f"{URL}register/", {"cluster": cluster_a.pk, "nodes": [node.name]})
    assert len(answer.data["created"]) == 1
    assert client.post(f"{URL}register/", {"cluster": cluster_b.pk}).status_code == 400


@pytest.mark.parametrize("field", ["owner_team", "credential"])
def test_registering_with_what_one_may_not_use_is_400_at_the_field(operator, api, cluster_a, field):
    factories.make_node(cluster_a)
    foreign = {"owner_team": factories.make_team(), "credential": factories.make_credential()}
    for key in (foreign[field].pk, 99999):
        answer = api(operator).post(f"{URL}register/", {"cluster": cluster_a.pk, field: key})
        assert answer.status_code == 400
        assert "that you may use" in answer.data["fields"][field]
    assert not Machine.objects.exists()


def test_an_auditor_tests_no_foreign_credential(operator, operators, api, cluster_a):
    factories.give(operators, "base.audit_fleet")
    url = f"{CREDENTIALS}{factories.make_credential().pk}/"
    machine = factories.make_machine(cluster=cluster_a)
    assert api(operator).get(url).status_code == 200
    assert api(operator).post(f"{url}test/", {"machine": machine.pk}).status_code == 403


def test_a_viewer_registers_nothing(viewer, api, cluster_a):
    factories.make_node(cluster_a)
    assert api(viewer).post(f"{URL}register/", {"cluster": cluster_a.pk}).status_code == 403


# --- drift ----------------------------------------------------------------------------------
def test_drift_is_listed_accepted_and_marked_wrong(admin, api):
    machine = factories.make_machine(cpus=32, kernel="5.10", hostname="")
    facts.store(machine, make_facts())
    client = api(admin)
    rows = {row["field"]: row for row in client.get("/api/v1/drift/").data["results"]}
    accepted = client.post(f"/api/v1/drift/{rows['cpus']['id']}/accept/", {"reason": "ok"})
    assert accepted.data["cpus"] == 64
    wrong = client.post(f"/api/v1/drift/{rows['kernel']['id']}/wrong/", {"observed": "6.0"})
    assert wrong.status_code == 409
    wrong = client.post(f"/api/v1/drift/{rows['kernel']['id']}/wrong/", {})
    assert wrong.data["verdict"] == "wrong"


def test_an_operator_may_not_accept_drift(operator, api, cluster_a):
    machine = factories.make_machine(cluster=cluster_a, cpus=1, hostname="")
    facts.store(machine, make_facts())
    row = machine.drift.get()
    assert api(operator).post(f"/api/v1/drift/{row.pk}/accept/", {}).status_code == 403


# --- credentials ----------------------------------------------------------------------------
CREDENTIALS = "/api/v1/credentials/"


def test_secrets_go_in_and_never_come_out(admin, api):
    client = api(admin)
    answer = client.post(CREDENTIALS, {"name": "k", "password": "geheim-1"})
    assert (answer.status_code, answer.data["has"]) == (201, ["password"])
    listed = client.get(CREDENTIALS).content.decode()
    assert "geheim-1" not in answer.content.decode() + listed
    assert SshCredential.objects.get().password == "geheim-1"
    assert "geheim-1" not in str(list(AuditEntry.objects.values()))


def test_a_patch_keeps_the_secrets_it_does_not_name(admin, api):
    credential = factories.make_credential(password="geheim-1", become_password="sudo")
    url = f"{CREDENTIALS}{credential.pk}/"
    client = api(admin)
    client.patch(url, {"name": "new", "password": ""})
    credential.refresh_from_db()
    assert credential.password == "geheim-1"
    assert client.patch(url, {"forget": ["become_password"]}).data["has"] == ["password"]
    assert client.patch(url, {"forget": ["password"]}).status_code == 400


def test_a_bad_key_is_400_at_its_field(admin, api):
    answer = api(admin).post(CREDENTIALS, {"name": "k", "private_key": "nonsense"})
    assert answer.status_code == 400
    assert "private_key" in answer.data["fields"]


def test_a_credential_is_tested_on_request_and_when_saved(admin, api, ssh_server, user_key):
    machine = factories.make_machine(ssh_server.address)
    client = api(admin)
    values = {
        "name": "k",
        "private_key": private_text(user_key),
        "port": ssh_server.port,
        "test_machine": machine.pk,
    }
    answer = client.post(CREDENTIALS, values)
    assert answer.data["test_result"] == f"works on {machine}"
    answer = client.post(f"{CREDENTIALS}{answer.data['id']}/test/", {"machine": machine.pk})
    assert answer.data["is_ok"]
    assert answer.data["fingerprint"] == ssh.fingerprint(ssh_server.host_key)


def test_a_credential_in_use_cannot_be_deleted(admin, api):
    credential = factories.make_credential()
    factories.make_machine(credential=credential)
    assert api(admin).delete(f"{CREDENTIALS}{credential.pk}/").status_code == 409
    assert SshCredential.objects.exists()


def test_the_machines_that_need_a_credential_are_named(admin, api):
    credential = factories.make_credential()
    machines = [factories.make_machine(credential=credential) for _ in range(7)]
    told = api(admin).delete(f"{CREDENTIALS}{credential.pk}/").json()["message"]
    assert [str(each) in told for each in machines] == [True] * 5 + [False] * 2
    assert told.endswith("2 more.")


def test_machines_that_one_may_not_see_are_not_named(operator, cluster_b):
    machine = factories.make_machine(cluster=cluster_b, state="in_service")
    error = ProtectedError("in use", {machine})
    answer = exception_handler(error, {"request": SimpleNamespace(user=operator)})
    assert answer.status_code == 409
    assert answer.data["message"] == "Other objects still depend on this one."


def test_a_team_sees_its_credentials_alone(operator, operators, api):
    mine = factories.make_credential(team=operators)
    factories.make_credential()
    rows = api(operator).get(CREDENTIALS).data["results"]
    assert [row["id"] for row in rows] == [mine.pk]


# --- addresses in filters and huge files ----------------------------------------------------
@pytest.mark.parametrize("query", [{"address": "foo"}, {"address__in": "10.7.0.1,foo"}])
def test_filtering_by_what_is_no_address_is_400(admin, api, query):
    answer = api(admin).get(URL, query)
    assert answer.status_code == 400
    assert "address" in str(answer.data["fields"])


@pytest.mark.parametrize("query", [{"address": "10.7.0.1"}, {"address__in": "10.7.0.1,fd00::9"}])
def test_machines_are_filtered_by_address(admin, api, query):
    factories.make_machine("10.7.0.1")
    factories.make_machine("10.7.0.11")
    answer = api(admin).get(URL, query)
    assert [row["address"] for row in answer.data["results"]] == ["10.7.0.1"]


def test_of_a_huge_upload_no_more_is_read_than_refusing_it_needs(admin, api, monkeypatch):
    monkeypatch.setattr(reading, "FILE_BYTES_MAX", 100)
    taken = []
    read = reading.read
    monkeypatch.setattr(
        reading, "read", lambda n, content: taken.append(content) or read(n, content)
    )
    file = SimpleUploadedFile("fleet.csv", b"address\n" + b"x" * 1000)
    answer = api(admin).post(f"{URL}import/", {"file": file}, format="multipart")
    assert (answer.status_code, len(taken[0])) == (400, 101)
