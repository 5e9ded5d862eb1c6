"""The article's manifests, from the API and the command line."""

import threading
from io import StringIO
from pathlib import Path

import pytest
import yaml
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from beidou.base import audit
from beidou.base.errors import InvalidInput
from machines.models import Machine
from operations.models import ClusterSettings, Operation
from operations.services import manifests
from tests import factories

pytestmark = pytest.mark.django_db
FOLDER = Path(__file__).parent.parent / "manifests"
URL = "/api/v1/manifests/"


@pytest.fixture
def product_cluster(db):
    cluster = factories.make_cluster("product-cluster")
    ClusterSettings.objects.create(
        cluster=cluster,
        artifact_source="/srv/artifacts",
        credential=factories.make_credential(),
    )
    return cluster


@pytest.fixture
def machine(product_cluster):
    return factories.make_machine("10.99.0.21", host_key="ssh-ed25519 AAAA", hostname="bj-r1")


@pytest.fixture
def text():
    return (FOLDER / "operation.yaml").read_text()


def changed(text, path, value):
    document = yaml.safe_load(text)
    place = document
    *way, last = path
    for part in way:
        place = place[part]
    place[last] = value
    return yaml.safe_dump(document)


def post(client, text, content_type="application/yaml"):
    return client.generic("POST", URL, text, content_type=content_type)


def test_the_articles_manifest_starts_the_operation_as_it_stands(api, admin, machine, text):
    answer = post(api(admin), text)
    assert answer.status_code == 202, answer.content
    operation = Operation.objects.get(name="scaleup-2024")
    assert operation.kind == "ScaleUp"
    assert operation.machines.get().address == "10.99.0.21"
    assert answer["Location"].endswith(f"/operations/{operation.pk}/")


def test_a_wrong_field_is_told_in_our_words(api, admin, machine, text):
    answer = post(api(admin), changed(text, ("metadata", "name"), "A"))
    assert answer.json()["fields"] == {"metadata.name": "has characters that are not allowed here."}
    answer = post(api(admin), changed(text, ("spec", "operationMachines"), [{"ip": "x"}]))
    place = "spec.operationMachines[0].ip"
    assert answer.json()["fields"] == {place: "“x” is no IP address."}


def test_steps_behind_the_listed_ones_are_done_too(api, admin, machine, text):
    post(api(admin), text)
    steps = Operation.objects.get().steps.values_list("name", flat=True)
    assert list(steps) == ["preCheck", "scaleUp", "postCheck", "uncordon"]


def test_the_same_manifest_twice_changes_nothing(api, admin, machine, text):
    first = post(api(admin), text)
    second = post(api(admin), text)
    assert second.status_code == 200
    assert second.json()[0]["created"] is False
    assert first.json()[0]["url"] == second.json()[0]["url"]
    assert Operation.objects.count() == 1


def test_the_same_name_with_other_content_is_409(api, admin, machine, text):
    post(api(admin), text)
    factories.make_machine("10.99.0.22")
    other = changed(text, ["spec", "operationMachines", 0, "ip"], "10.99.0.22")
    answer = post(api(admin), other)
    assert answer.status_code == 409
    assert "spec.operationMachines" in answer.json()["message"]


def test_two_who_apply_the_same_at_once_begin_one_operation(admin, machine, text, monkeypatch):
    """The second looks before the first has written, and is refused by the held machine."""
    documents = manifests.parse(text)
    first = manifests.apply(documents, acting_user=admin)[0]
    looked = []
    look = manifests.OperationDocument._existing

    def too_early(self, *args):
        looked.append(1)
        return None if len(looked) == 1 else look(self, *args)

    monkeypatch.setattr(manifests.OperationDocument, "_existing", too_early)
    second = manifests.apply(documents, acting_user=admin)[0]
    assert (second.row, second.is_new) == (first.row, False)
    assert len(looked) == 2


@pytest.mark.django_db(transaction=True)
def test_who_holds_a_machine_and_writes_an_entry_does_not_wait_for_manifests(admin, machine, text):
    """Several documents once held the audit trail while they waited for their second machine."""
    other = factories.make_machine("10.99.0.22", host_key="ssh-ed25519 AAAA", hostname="bj-r2")
    second = changed(text, ["metadata", "name"], "other")
    second = changed(second, ["spec", "operationMachines", 0, "ip"], "10.99.0.22")
    documents = manifests.parse(f"{text}\n---\n{second}")
    done: list[manifests.Applied] = []
    over = threading.Event()

    def apply():
        try:
            done.extend(manifests.apply(documents, acting_user=admin))
        finally:
            connection.close()
            over.set()

    thread = threading.Thread(target=apply)
    with transaction.atomic():
        Machine.objects.filter(pk=other.pk).update(notes="looked at")
        thread.start()
        assert not over.wait(0.5)
        audit.record("change", other)
    thread.join(timeout=30)
    assert [each.is_new for each in done] == [True, True]
    assert list(audit.verify()) == []


def test_a_mistake_in_the_last_document_is_told_before_anything_is_written(admin, machine, text):
    second = changed(text, ["spec", "operationMachines", 0, "role"], "Pilot")
    with (
        CaptureQueriesContext(connection) as queries,
        pytest.raises(InvalidInput, match=r"documents\[1\]\.spec\.operationMachines\[0\]\.role"),
    ):
        manifests.apply(manifests.parse(f"{text}\n---\n{second}"), acting_user=admin)
    assert {query["sql"].split()[0] for query in queries} == {"SELECT"}


@pytest.mark.parametrize("character", ["\\0", "\\ud800"])
def test_a_character_that_cannot_be_stored_is_refused(api, admin, machine, text, character):
    text = text.replace("product-cluster", f'"product{character}"')
    answer = api(admin).post(URL, text, content_type="application/yaml")
    assert answer.status_code == 400
    assert "cannot be stored" in answer.json()["message"]


def test_a_machine_listed_twice_is_refused(api, admin, machine, text):
    twice = [{"ip": "10.99.0.21"}, {"ip": "10.99.0.21"}]
    answer = post(api(admin), changed(text, ["spec", "operationMachines"], twice))
    assert "spec.operationMachines[1].ip" in answer.json()["fields"]


def test_a_role_that_is_left_out_is_the_machines_own(api, admin, machine, text):
    post(api(admin), changed(text, ["spec", "operationMachines"], [{"ip": "10.99.0.21"}]))
    assert Operation.objects.get().machines.get().role == "Compute"


def test_json_is_taken_too(api, admin, machine, text):
    import json  # noqa: PLC0415

    answer = post(api(admin), json.dumps(yaml.safe_load(text)), "application/json")
    assert answer.status_code == 202


def test_any_version_of_the_group_is_taken(api, admin, machine, text):
    other = changed(text, ["apiVersion"], "vcluster.caas.example.com/v1")
    assert post(api(admin), other).status_code == 202


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (["apiVersion"], "apps/v1", "apiVersion"),
        (["kind"], "Deployment", "kind"),
        (["metadata", "name"], "Not A Name", "metadata.name"),
        (["spec", "clusterName"], "nowhere", "spec.clusterName"),
        (["spec", "clusterName"], 5, "spec.clusterName"),
        (["spec", "operationType"], "Explode", "spec.operationType"),
        (["spec", "operationFlow"], ["preCheck", "dance"], "spec.operationFlow[1]"),
        (["spec", "operationFlow"], ["scaleUp", "preCheck"], "spec.operationFlow[0]"),
        (["spec", "operationFlow"], ["preCheck", "postCheck"], "spec.operationFlow[1]"),
        (["spec", "operationFlow"], ["preCheck", "preCheck"], "spec.operationFlow[1]"),
        (["spec", "operationFlow"], [], "spec.operationFlow"),
        (["spec", "operationMachines", 0, "ip"], "10.0.0.9", "spec.operationMachines[0].ip"),
        (["spec", "operationMachines", 0, "ip"], "no address", "spec.operationMachines[0].ip"),
        (["spec", "operationMachines", 0, "role"], "Pilot", "spec.operationMachines[0].role"),
        (["spec", "operationMachines", 0, "port"], 22, "spec.operationMachines[0].port"),
        (["spec", "user"], "nobody-here", "spec.user"),
        (["spec", "strange"], 1, "spec.strange"),
        (["spec", "params"], {"taints": ["x"]}, "spec.params.taints"),
    ],
)
def test_a_mistake_is_400_and_names_the_path_of_the_field(
    path, value, field, api, admin, machine, text
):
    answer = post(api(admin), changed(text, path, value))
    assert answer.status_code == 400, answer.content
    assert field in answer.json()["fields"], answer.json()
    assert not Operation.objects.exists()


def test_a_blocked_machine_is_named_by_its_path(api, admin, machine, text):
    machine.offered_host_key = "ssh-ed25519 BBBB"
    machine.save()
    answer = post(api(admin), text)
    assert answer.status_code == 400
    assert "host key changed" in answer.json()["fields"]["spec.operationMachines[0].ip"]


def test_kinds_to_come_are_refused_with_those_there_are(api, admin):
    text = (FOLDER / "operation.yaml").read_text()
    answer = post(api(admin), changed(text, ["kind"], "Inspection"))
    assert answer.status_code == 400
    assert "not supported yet" in answer.json()["fields"]["kind"]
    assert "supported: Operation, AutoOperationTask" in answer.json()["fields"]["kind"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "not_yaml"),
        ("just words", "not_a_manifest"),
        ("", "empty"),
        ("---\n---\n", "empty"),
        ("a: &x [1]\nb: *x\n", "not_yaml"),
        ("!!python/object/apply:os.getcwd []", "not_yaml"),
        ("a: !!bool foo", "not_yaml"),
        ("a: !!timestamp foo", "not_yaml"),
        ("a: !!int ''", "not_yaml"),
        ("a: !!float ''", "not_yaml"),
        ("a: !!map [1]", "not_yaml"),
    ],
)
def test_what_is_no_manifest_is_400(text, code, api, admin):
    answer = post(api(admin), text)
    assert answer.status_code == 400
    assert answer.json()["code"] == code


def test_bytes_that_are_no_text_are_400(api, admin):
    assert post(api(admin), b"\xff\xfe\x00").status_code == 400


def test_of_several_documents_all_are_done_or_none(api, admin, machine, text):
    second = changed(text, ["metadata", "name"], "other").replace("ScaleUp", "Explode")
    answer = post(api(admin), f"{text}\n---\n{second}")
    assert answer.status_code == 400
    assert "documents[1].spec.operationType" in answer.json()["fields"]
    assert not Operation.objects.exists()


def test_only_an_administrator_may_ask_in_the_name_of_another(
    api, operator, admin, product_cluster, machine, text
):
    assert post(api(operator), text).status_code == 403
    assert not Operation.objects.exists()


def test_the_named_user_needs_the_right_too(api, admin, operator, machine, text):
    answer = post(api(admin), changed(text, ["spec", "user"], "operator"))
    assert answer.status_code == 400
    assert "spec.clusterName" in answer.json()["fields"]


def test_a_stranger_learns_nothing_of_the_cluster(api, stranger, machine, text):
    answer = post(api(stranger), changed(text, ["spec", "user"], "stranger"))
    assert answer.status_code == 400
    assert "you may not see it" in answer.json()["message"]


def test_nobody_is_sent_away(api, text):
    assert post(api(), text).status_code == 401


def test_the_command_applies_a_file(admin, machine):
    out = StringIO()
    call_command("apply", "-f", str(FOLDER / "operation.yaml"), "--user", "admin", stdout=out)
    assert out.getvalue() == "operation/scaleup-2024 created\n"
    call_command("apply", "-f", str(FOLDER / "operation.yaml"), "--user", "admin", stdout=out)
    assert "operation/scaleup-2024 unchanged" in out.getvalue()


@pytest.mark.parametrize(("name", "value"), [("reason", "OPS-43"), ("priority", "high")])
def test_why_and_how_soon_are_no_other_content(api, admin, machine, text, name, value):
    """The priority may be changed later on; what is there already keeps its own."""
    post(api(admin), text)
    answer = post(api(admin), changed(text, ["spec", name], value))
    assert (answer.status_code, answer.json()[0]["created"]) == (200, False)
    assert (Operation.objects.get().reason, Operation.objects.get().priority) == ("", "normal")


def test_the_command_names_the_wrong_field(admin, machine, tmp_path, text):
    file = tmp_path / "wrong.yaml"
    file.write_text(changed(text, ["spec", "clusterName"], "nowhere"))
    with pytest.raises(CommandError, match=r"spec\.clusterName"):
        call_command("apply", "-f", str(file), "--user", "admin")


def test_the_command_needs_a_user_and_a_file_that_exist(admin):
    with pytest.raises(CommandError, match="no active user"):
        call_command("apply", "-f", "x", "--user", "nobody")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("apply", "-f", "/nonexistent.yaml", "--user", "admin")


def test_an_operation_written_as_manifest_asks_for_the_same(api, admin, machine, text):
    post(api(admin), text)
    written = manifests.as_manifest(Operation.objects.get())
    answer = post(api(admin), written)
    assert answer.status_code == 200, answer.content


@pytest.mark.parametrize(("user", "is_kept"), [("operator", True), ("admin", False)])
def test_who_asks_in_the_name_of_somebody_else_is_kept(
    user, is_kept, api, admin, operators, product_cluster, machine, text
):
    factories.make_user("operator", teams=(operators,), is_superuser=True)
    assert post(api(admin), changed(text, ("spec", "user"), user)).status_code == 202
    operation = Operation.objects.get()
    assert operation.requested_by_name == user
    assert operation.sent_by == (admin if is_kept else None)
