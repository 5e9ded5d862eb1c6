"""The audit trail: its chain, its page, its export, its API."""

import csv
import io
import re
from importlib import import_module
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.utils import timezone, translation

from beidou.base import audit, context, verbs
from beidou.base.models import AuditEntry, AuditWords
from beidou.base.sentences import Sentence
from machines import timeline
from tests import factories

pytestmark = pytest.mark.django_db


def record(count: int = 5, **values) -> list[AuditEntry]:
    with context.acting(actor_name="li", address="10.0.0.9", request_id="r-1"):
        return [
            audit.record("change", name=f"thing {number}", after={"size": number}, **values)
            for number in range(count)
        ]


def tamper(statement: str, *values) -> None:
    """What somebody with access to the database might do."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        assert cursor.rowcount


def test_an_untouched_trail_is_whole():
    record()
    assert list(audit.verify()) == []


def test_an_empty_trail_is_whole():
    assert list(audit.verify()) == []


@pytest.mark.parametrize("column", ["actor", "verb", "object_name", "reason", "outcome", "address"])
def test_a_changed_entry_is_found(column):
    third = record()[2]
    tamper(f"UPDATE base_auditentry SET {column} = 'x' WHERE id = %s", third.pk)  # noqa: S608
    assert f"Entry {third.pk} " in next(audit.verify())


def test_a_changed_value_is_found():
    third = record()[2]
    tamper("UPDATE base_auditentry SET after = %s WHERE id = %s", '{"size": 99}', third.pk)
    assert "was changed" in next(audit.verify())


def test_a_change_with_a_fitting_digest_is_found_at_the_next_entry():
    third = record()[2]
    tamper("UPDATE base_auditentry SET actor = 'x' WHERE id = %s", third.pk)
    third.refresh_from_db()
    tamper("UPDATE base_auditentry SET digest = %s WHERE id = %s", audit.digest_of(third), third.pk)
    assert f"Entry {third.pk + 1} does not follow" in next(audit.verify())


def test_a_removed_entry_is_found():
    third = record()[2]
    tamper("DELETE FROM base_auditentry WHERE id = %s", third.pk)
    assert f"Between entry {third.pk - 1} and entry {third.pk + 1}" in next(audit.verify())


def test_a_removed_first_entry_is_found():
    record()
    tamper("DELETE FROM base_auditentry WHERE id = 1")
    assert "Between entry 0 and entry 2" in next(audit.verify())


def test_a_removed_tail_is_found():
    record()
    tamper("DELETE FROM base_auditentry WHERE id > 3")
    assert "was written last" in next(audit.verify())


def test_a_trail_that_was_emptied_is_found():
    record()
    tamper("DELETE FROM base_auditentry")
    assert list(audit.verify())


def test_a_trail_that_was_emptied_with_its_end_is_found():
    record()
    tamper("DELETE FROM base_auditentry")
    tamper("DELETE FROM base_audithead")
    assert "end is missing" in next(audit.verify())


def test_the_command_names_the_newest_entry_and_finds_it_again():
    newest = record()[-1]
    noted = f"{newest.id}:{newest.digest}"
    out = StringIO()
    call_command("verify_audit", stdout=out)
    assert f"Newest: {noted}" in out.getvalue()
    record(2)
    call_command("verify_audit", expect=noted, stdout=out)


def test_a_tail_that_was_cut_with_its_end_is_found_by_what_was_noted_elsewhere():
    kept, *_between, newest = record()
    noted = f"{newest.id}:{newest.digest}"
    tamper("DELETE FROM base_auditentry WHERE id > %s", kept.id)
    tamper(
        "UPDATE base_audithead SET entry_id = %s, digest = %s, count = %s",
        kept.id, kept.digest, AuditEntry.objects.count(),
    )  # fmt: skip
    assert list(audit.verify()) == []
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("verify_audit", expect=noted, stdout=out)
    assert f"Entry {newest.id} is gone" in out.getvalue()


@pytest.mark.parametrize("text", ["5", "x:abc", ":"])
def test_what_is_no_entry_and_digest_is_refused(text):
    with pytest.raises(CommandError, match="ENTRY:DIGEST"):
        call_command("verify_audit", expect=text)


def test_an_inserted_entry_is_found():
    last = record()[-1]
    tamper(
        "INSERT INTO base_auditentry (id, at, actor, address, request_id, verb, object_type, "
        "object_id, object_name, before, after, reason, outcome, previous, digest) "
        "SELECT id + 1, at, 'x', address, request_id, verb, object_type, object_id, object_name, "
        "before, after, reason, outcome, digest, 'made up' FROM base_auditentry WHERE id = %s",
        last.pk,
    )
    sentences = list(audit.verify())
    assert any(f"Entry {last.pk + 1} " in sentence for sentence in sentences)


def test_a_removed_end_record_is_found():
    record()
    tamper("DELETE FROM base_audithead")
    assert "end is missing" in next(audit.verify())


def test_the_command_says_that_the_trail_is_whole():
    record()
    out = StringIO()
    call_command("verify_audit", stdout=out)
    assert "whole: 5 entries" in out.getvalue()


def test_the_command_ends_with_1_and_a_sentence_per_flaw():
    record()
    tamper("UPDATE base_auditentry SET actor = 'x' WHERE id = 2")
    out = StringIO()
    with pytest.raises(CommandError) as raised:
        call_command("verify_audit", stdout=out)
    assert raised.value.returncode == 1
    assert "Entry 2" in out.getvalue()


def test_an_entry_goes_with_the_write_it_speaks_of():
    with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012
        record(1)
        raise RuntimeError
    assert not AuditEntry.objects.exists()
    assert list(audit.verify()) == []


def test_entries_of_a_composed_transaction_are_written_at_its_end_in_their_order():
    with audit.entries_last():
        record(2)
        with audit.entries_last():
            record(1)
        assert not AuditEntry.objects.exists()
    assert list(AuditEntry.objects.order_by("id").values_list("object_name", flat=True)) == [
        "thing 0",
        "thing 1",
        "thing 0",
    ]
    assert list(audit.verify()) == []


def test_an_entry_that_waits_goes_with_the_part_that_is_rolled_back():
    with audit.entries_last():
        audit.record("change", name="kept")
        with pytest.raises(RuntimeError), transaction.atomic():  # noqa: PT012
            audit.record("change", name="rolled back")
            raise RuntimeError
    assert list(AuditEntry.objects.values_list("object_name", flat=True)) == ["kept"]


def test_a_composed_transaction_that_fails_leaves_no_entry():
    with pytest.raises(RuntimeError), audit.entries_last():  # noqa: PT012
        record(2)
        raise RuntimeError
    assert not AuditEntry.objects.exists()
    record(1)
    assert list(audit.verify()) == []


def test_an_entry_that_waits_speaks_of_its_own_moment(cluster_a):
    with audit.entries_last():
        with context.acting(actor_name="li"):
            audit.record("delete", cluster_a, before={"size": 1})
        key = str(cluster_a.pk)
        cluster_a.delete()
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.object_id, entry.before) == ("li", key, {"size": 1})


class Writer:
    """Writes an entry after every statement of somebody else."""

    def __init__(self) -> None:
        self.written = 0
        self.is_writing = False

    def __call__(self, execute, sql, params, many, context):
        result = execute(sql, params, many, context)
        if not self.is_writing:
            self.is_writing = True
            record(1)
            self.written += 1
            self.is_writing = False
        return result


@pytest.mark.parametrize("number", [1e16, 1.5e25, -1e300, 9007199254740993, 0.1, 1e-7])
def test_a_number_of_any_size_is_read_as_it_was_chained(number, cluster_a):
    audit.record("change", cluster_a, after={"policy": {"disk": number}})
    assert list(audit.verify()) == []


def test_a_zero_is_chained_without_the_sign_that_postgresql_drops(cluster_a):
    entry = audit.record("change", cluster_a, after={"policy": {"offset": -0.0}})
    assert str(entry.after) == "{'policy': {'offset': 0.0}}"


@pytest.mark.parametrize("count", [5, 0])
def test_a_trail_that_grows_while_it_is_verified_is_whole(count):
    record(count)
    writer = Writer()
    with connection.execute_wrapper(writer):
        assert list(audit.verify()) == []
    assert writer.written > 1
    assert list(audit.verify()) == []


def test_an_entry_cannot_be_changed_through_the_models():
    entry = record(1)[0]
    with pytest.raises(TypeError, match="append-only"):
        entry.save()
    with pytest.raises(TypeError, match="append-only"):
        entry.delete()
    with pytest.raises(TypeError, match="append-only"):
        AuditEntry.objects.update(actor="x")


def test_secrets_are_named_and_not_copied():
    taken = audit.snapshot(factories.make_credential(password="hunter2"))
    assert taken["password"].startswith(audit.HIDDEN)
    assert "hunter2" not in str(taken)
    assert taken["private_key"] == ""


def test_replacing_a_secret_differs_and_storing_it_again_does_not():
    credential = factories.make_credential(password="hunter2")
    first, again = audit.snapshot(credential), audit.snapshot(credential)
    credential.password = "hunter3"
    old, new = audit.difference(first, audit.snapshot(credential))
    assert first == again
    assert list(old) == list(new) == ["password"]


def test_the_same_secret_of_two_rows_is_not_seen_to_be_the_same():
    one, other = (factories.make_credential(password="hunter2") for _ in range(2))
    assert audit.snapshot(one)["password"] != audit.snapshot(other)["password"]


def test_replacing_an_ssh_secret_through_the_api_is_audited(admin, api):
    credential = factories.make_credential(password="hunter2")
    answer = api(admin).patch(
        f"/api/v1/credentials/{credential.pk}/", {"password": "hunter3"}, format="json"
    )
    assert answer.status_code == 200, answer.json()
    entry = AuditEntry.objects.get(verb="change")
    assert list(entry.after) == ["password"]
    assert "hunter" not in f"{entry.before}{entry.after}"


def test_the_page_shows_before_and_after(admin, browser):
    entry = audit.record("change", name="thing", before={"size": 1}, after={"size": 2})
    page = browser(admin).get(f"/base/auditentry/{entry.pk}/change/").content.decode()
    assert "− 1" in page
    assert "+ 2" in page


def test_the_page_counts_entries(admin, cluster_a, browser):
    audit.record("change", cluster_a)
    audit.record("change", cluster_a)
    text = browser(admin).get("/base/auditentry/").content.decode()
    assert re.search(r"\d+\s+audit entries\s", text)


def test_the_page_searches_by_reason(admin, browser):
    record(1, reason="rack moved")
    audit.record("change", name="other")
    page = browser(admin).get("/base/auditentry/?q=moved").content.decode()
    assert "thing 0" in page
    assert "other" not in page


@pytest.mark.parametrize(
    "query",
    ["verb=change", "object_type=clusters.cluster", "outcome__exact=done", "actor__icontains=li",
     "at_from_0=2020-01-01&at_from_1=00:00:00", "at_to_0=2020-01-01", "at_from_0=nonsense",
     "cluster=1", "cluster=x"],
)  # fmt: skip
def test_the_page_filters(query, admin, browser):
    record()
    assert browser(admin).get(f"/base/auditentry/?{query}").status_code == 200


def test_the_page_filters_by_day(admin, browser):
    record(1)
    client = browser(admin)
    today = f"{timezone.now():%Y-%m-%d}"
    page = client.get(f"/base/auditentry/?at_from_0={today}&at_to_0={today}").content.decode()
    assert "thing 0" in page
    assert "thing 0" not in client.get("/base/auditentry/?at_to_0=2020-01-01").content.decode()


def test_an_owner_sees_the_entries_of_the_own_cluster_only(cluster_a, cluster_b, browser):
    team = factories.make_team()
    factories.grant(team, cluster_a, "owner")
    owner = factories.make_user(teams=(team,))
    for cluster in (cluster_a, cluster_b):
        audit.record("change", cluster, reason=f"about {cluster}")
    page = browser(owner).get("/base/auditentry/").content.decode()
    assert "about cluster-a" in page
    assert "about cluster-b" not in page


def test_an_operator_sees_no_audit_trail(operator, browser):
    assert browser(operator).get("/base/auditentry/").status_code == 403


def test_an_auditor_sees_all_of_it(cluster_a, browser):
    team = factories.make_team()
    factories.give(team, "base.audit_fleet")
    audit.record("change", cluster_a)
    page = browser(factories.make_user(teams=(team,))).get("/base/auditentry/")
    assert "cluster-a" in page.content.decode()


def exported(response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(response).decode())))


def test_the_export_holds_what_the_filters_left(admin, browser):
    record(3)
    audit.record("delete", name="gone")
    rows = exported(browser(admin).get("/base/auditentry/export/?verb=delete"))
    assert [row["object_name"] for row in rows] == ["gone"]


def test_the_export_is_audited(admin, browser):
    exported(browser(admin).get("/base/auditentry/export/?verb=delete"))
    assert AuditEntry.objects.get(verb="export").after == {"filters": {"verb": "delete"}}


def test_the_export_goes_on_after_one_batch(admin, browser, monkeypatch):
    monkeypatch.setattr("beidou.base.admin.trail._BATCH", 2)
    record(5)
    rows = exported(browser(admin).get("/base/auditentry/export/?verb=change"))
    assert [row["object_name"] for row in rows] == [f"thing {n}" for n in (4, 3, 2, 1, 0)]


def test_the_export_disarms_formulas(admin, browser):
    audit.record("change", name="=HYPERLINK(1)")
    rows = exported(browser(admin).get("/base/auditentry/export/?verb=change"))
    assert rows[0]["object_name"] == "'=HYPERLINK(1)"


def test_the_export_leaves_empty_cells_empty(admin, browser):
    audit.record("change", name="", reason="")
    rows = exported(browser(admin).get("/base/auditentry/export/?verb=change"))
    assert (rows[0]["object_name"], rows[0]["reason"], rows[0]["object_type"]) == ("", "", "")


def test_an_operator_cannot_export(operator, browser):
    assert browser(operator).get("/base/auditentry/export/").status_code == 403


def test_the_api_gives_cursor_pages(admin, api):
    record(5)
    first = api(admin).get("/api/v1/audit/?page_size=3").json()
    second = api(admin).get(first["next"]).json()
    names = [row["object_name"] for page in (first, second) for row in page["results"]]
    assert names == [f"thing {n}" for n in (4, 3, 2, 1, 0)]


def test_the_api_filters_by_time(admin, api):
    record(1)
    answer = api(admin).get("/api/v1/audit/?since=2999-01-01T00:00:00Z").json()
    assert answer["results"] == []


def test_the_api_shows_a_stranger_nothing(stranger, api):
    record(1)
    assert api(stranger).get("/api/v1/audit/").json()["results"] == []


def test_the_api_does_not_write_entries(admin, api):
    assert api(admin).post("/api/v1/audit/", {}).status_code == 405


# --- the history of one object ------------------------------------------------------------


def told(client, row) -> str:
    return client.get(f"/clusters/node/{row.pk}/history/", follow=True).content.decode()


def test_the_history_of_an_object_is_for_whoever_may_read_the_audit_trail(
    admin, viewer, cluster_a, browser
):
    node = factories.make_node(cluster_a)
    audit.record("cordon", node, reason="fan broken")
    assert "fan broken" in told(browser(admin), node)
    assert "fan broken" not in told(browser(viewer), node)


def test_whoever_may_not_read_the_trail_is_led_back_with_a_sentence(viewer, cluster_a, browser):
    node = factories.make_node(cluster_a)
    audit.record("cordon", node)
    assert "holds nothing about this object that you may see" in told(browser(viewer), node)


def test_an_owner_reads_what_was_done_to_a_machine_and_a_viewer_does_not(viewer, cluster_a):
    team = factories.make_team()
    factories.grant(team, cluster_a, "owner")
    machine = factories.make_machine(cluster=cluster_a)
    audit.record("accept host key", machine, reason="new board")
    owner = factories.make_user(teams=(team,))
    assert [e.reason for e in timeline.entries(machine, owner, only=["audit"])] == ["new board"]
    assert timeline.entries(machine, viewer, only=["audit"]) == []


def test_the_history_of_a_cluster_and_of_a_machine_stands_on_their_pages(
    viewer, cluster_a, browser
):
    machine = factories.make_machine(cluster=cluster_a)
    client = browser(viewer)
    for address, place in (
        (f"/clusters/cluster/{cluster_a.pk}/", "?tab=history"),
        (f"/machines/machine/{machine.pk}/", "#machine-timeline"),
    ):
        answer = client.get(f"{address}history/")
        assert answer.status_code == 302
        assert answer["Location"] == f"{address}change/{place}"


# --- languages ------------------------------------------------------------------------------------


def test_a_reason_of_the_portal_is_told_in_the_language_of_the_reader(admin, browser):
    record(1, reason=Sentence("the node was cordoned"))
    admin.language = "zh-hans"
    admin.save()
    assert "节点已被封锁" in browser(admin).get("/base/auditentry/").content.decode()
    admin.language = "en"
    admin.save()
    assert "the node was cordoned" in browser(admin).get("/base/auditentry/").content.decode()


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_the_chain_is_whole_in_every_language(language):
    long = "x" * 700
    with translation.override("zh-hans"):
        record(reason=Sentence("host key rejected: %(reason)s", reason=long))
    with translation.override(language):
        record(reason="因为 x\x00 …")
        assert list(audit.verify()) == []


def test_a_reason_of_a_person_that_looks_like_a_stored_sentence_stays_what_it_is():
    written = '{"text": "gone", "params": {}}'
    record(1, reason=written)
    assert AuditEntry.objects.get().reason == written
    assert list(audit.verify()) == []


def test_a_trail_from_before_there_were_sentences_is_whole():
    """Its reasons stood in the column as they were written, whatever they looked like."""
    written = '{"text":"gone","params" : {}}'
    entry = record(1, reason=written)[0]
    entry.stored_reason = written
    digest = audit.digest_of(entry)
    tamper("UPDATE base_auditentry SET reason = %s, digest = %s", written, digest)
    tamper("UPDATE base_audithead SET digest = %s", digest)
    assert list(audit.verify()) == []


def test_a_changed_parameter_of_a_reason_is_found():
    record(1, reason=Sentence("host key rejected: %(reason)s", reason="old"))
    tamper("UPDATE base_auditentry SET reason = replace(reason, 'old', 'new')")
    assert "was changed" in next(audit.verify())


def test_the_export_is_in_one_language(admin, browser):
    record(1, reason=Sentence("the node was cordoned"))
    admin.language = "zh-hans"
    admin.save()
    rows = exported(browser(admin).get("/base/auditentry/export/?verb=change"))
    assert rows[0]["reason"] == "the node was cordoned"


def test_programs_are_called_in_the_language_of_the_reader(admin, browser):
    with context.acting(actor_name="collector"):
        audit.record("change", name="thing")
    admin.language = "zh-hans"
    admin.save()
    page = browser(admin).get("/base/auditentry/").content.decode()
    assert "采集器" in page
    assert ">collector<" not in page


@pytest.fixture
def canceled(cluster_a):
    reason = Sentence("Canceled by %(who)s: %(reason)s", who="li", reason="disk full")
    return audit.record("cancel", cluster_a, reason=reason)


@pytest.mark.parametrize(
    "text", ["Canceled by li", "disk full", "Canceled li full", "cancel", "由 li 取消", "取消"]
)
def test_what_a_page_shows_in_any_language_is_found(text, canceled, admin, browser, api):
    audit.record("change", name="other")
    page = browser(admin).get("/base/auditentry/", {"q": text})
    assert [entry.pk for entry in page.context["cl"].result_list] == [canceled.pk]
    found = api(admin).get("/api/v1/audit/", {"search": text}).json()["results"]
    assert [row["id"] for row in found] == [canceled.pk]


@pytest.mark.parametrize("text", ["params", "%(reason)s", "text"])
def test_how_a_sentence_is_stored_is_not_found(text, canceled, admin, api):
    assert api(admin).get("/api/v1/audit/", {"search": text}).json()["results"] == []


def test_the_words_of_entries_from_before_are_made_by_the_migration(canceled):
    record(3, reason="rack moved")
    before = dict(AuditWords.objects.values_list("entry_id", "text"))
    AuditWords.objects.all().delete()
    migration = import_module("beidou.base.migrations.0008_words_of_the_audit_trail")
    migration.write_words(apps, None)
    assert dict(AuditWords.objects.values_list("entry_id", "text")) == before
    assert len(before) == 4


def test_words_that_were_changed_do_not_touch_the_chain(canceled):
    AuditWords.objects.update(text="nothing")
    assert list(audit.verify()) == []


@pytest.mark.parametrize(
    ("verb", "english", "chinese"),
    [
        ("cordon", "cordon", "封锁"),
        ("refresh_capabilities", "refresh capabilities", "重新检查能力"),
        ("operation partial", "operation partly failed", "操作任务部分失败"),
    ],
)
def test_deeds_are_called_as_people_call_them(verb, english, chinese):
    assert verbs.shown(verb) == english
    with translation.override("zh-hans"):
        assert verbs.shown(verb).replace(" ", "") == chinese
