"""The start form asks for what the chosen playbook declares; the review page shows what is new."""

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from beidou.base.models import AuditEntry
from operations.models import Operation, PlaybookRun, PlaybookSource, SourceRevision
from operations.services import playbook_sources

pytestmark = pytest.mark.django_db
START = "/operations/start/"
SECRET = "very-secret-1"


@pytest.fixture
def wish(cluster_a, machine):
    def make(**values):
        return {
            "kind": "RunPlaybook",
            "cluster": cluster_a.pk,
            "machines": machine.address,
            "max_failed_percent": 100,
            "forks": 10,
            "reason": "",
            "params-playbook": "ops/greet",
            "params-variables.greeting": "hi",
            "step": "plan",
            **values,
        }

    return make


def hidden(answer, name):
    found = re.search(rf'name="{name}" value="([^"]+)"', answer.content.decode())
    return found[1] if found else ""


def test_the_form_asks_for_what_the_playbook_declares(site, browser, operator):
    site.release()
    text = browser(operator).get(START, {"kind": "RunPlaybook"}).content.decode()
    assert 'name="params-variables.greeting"' in text
    assert 'value="hello"' in text
    assert re.search(r'type="password"[^>]*name="params-variables.token"', text) or re.search(
        r'name="params-variables.token"[^>]*type="password"', text
    )
    assert "Greet – ops/greet" in text
    assert 'name="params-confirm"' not in text


def test_the_chosen_playbook_decides(site, browser, operator, wish):
    one = {"name": "one", "playbook": "greet.yml", "title": "One"}
    two = {**one, "name": "two", "title": "Two", "destructive": True}
    site.release(one, two)
    client = browser(operator)
    text = client.get(START, {"kind": "RunPlaybook", "playbook": "ops/two"}).content.decode()
    assert 'name="params-confirm"' in text
    answer = client.post(START, wish(**{"params-playbook": "ops/two", "step": "change"}))
    assert 'name="params-confirm"' in answer.content.decode()
    answer = client.post(START, wish(**{"params-playbook": "ops/one", "step": "change"}))
    assert 'name="params-confirm"' not in answer.content.decode()


def test_without_a_released_playbook_the_form_says_so(browser, operator):
    answer = browser(operator).get(START, {"kind": "RunPlaybook"})
    assert "No playbook is released yet" in answer.content.decode()


def test_the_plan_shows_the_revision_and_what_is_started_is_that(site, browser, operator, wish):
    revision = site.release()
    client = browser(operator)
    plan = client.post(START, wish())
    assert revision.revision in plan.content.decode()
    planned = hidden(plan, "planned")
    site.release(description="another")
    answer = client.post(START, wish(step="start", planned=planned))
    assert answer.status_code == 409
    assert not Operation.objects.exists()
    planned = hidden(answer, "planned") or hidden(client.post(START, wish()), "planned")
    assert client.post(START, wish(step="start", planned=planned)).status_code == 302
    assert Operation.objects.get().params["variables"] == {"greeting": "hi"}


def test_a_secret_is_kept_from_plan_to_start_and_never_sent_back(site, browser, operator, wish):
    site.release()
    client = browser(operator)
    plan = client.post(START, wish(**{"params-variables.token": SECRET}))
    assert plan.status_code == 200
    assert SECRET not in plan.content.decode()
    kept = hidden(plan, "params-kept")
    values = {"step": "start", "planned": hidden(plan, "planned"), "params-kept": kept}
    assert client.post(START, wish(**values)).status_code == 302
    assert PlaybookRun.objects.get().given_secrets == {"token": SECRET}
    page = client.get(
        reverse("admin:operations_operation_change", args=[Operation.objects.get().pk])
    )
    assert SECRET not in page.content.decode()


def test_what_somebody_else_kept_is_worth_nothing(site, browser, operator, admin, wish):
    site.release()
    kept = hidden(
        browser(admin).post(START, wish(**{"params-variables.token": SECRET})), "params-kept"
    )
    assert kept
    browser(operator).post(START, wish(**{"params-kept": kept}))
    plan = browser(operator).post(START, wish(**{"params-kept": kept}))
    assert hidden(plan, "params-kept") == ""
    assert plan.context["plan"].params.variables == {"greeting": "hi"}


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("params-variables.count", "9", "less than or equal to 5"),
        ("params-variables.greeting", "x" * 30, "at most 20 characters"),
        ("params-variables.token", "short", "fewer than 8 characters"),
    ],
)
def test_what_is_wrong_is_said(site, browser, operator, wish, name, value, sentence):
    site.release()
    answer = browser(operator).post(START, wish(**{name: value}))
    assert answer.status_code == 400
    assert sentence in answer.content.decode()


def test_a_destructive_one_must_be_confirmed_on_the_page(site, browser, operator, wish):
    site.release(destructive=True)
    client = browser(operator)
    assert "Type the name of the cluster" in client.post(START, wish()).content.decode()
    assert client.post(START, wish(**{"params-confirm": "cluster-a"})).status_code == 200


def test_types_are_those_of_the_schema(site, browser, operator, wish):
    properties = {
        "size": {"type": "integer", "enum": [1, 2]},
        "share": {"type": "number"},
        "names": {"type": "array", "items": {"type": "string"}},
        "deep": {"type": "object"},
        "on": {"type": "boolean"},
    }
    site.release(parameters={"properties": properties})
    values = {"size": "2", "share": "1.5", "names": "a\nb", "deep": '{"x": [1]}', "on": "on"}
    given = {f"params-variables.{name}": value for name, value in values.items()}
    plan = browser(operator).post(START, wish(**given)).context["plan"]
    assert plan.params.variables == {
        "size": 2, "share": 1.5, "names": ["a", "b"], "deep": {"x": [1]}, "on": True,
    }  # fmt: skip


def test_the_operations_page_shows_what_it_runs(site, begin, browser, viewer):
    revision = site.release()
    operation = begin(variables={"greeting": "moin"})
    url = reverse("admin:operations_operation_change", args=[operation.pk])
    text = browser(viewer).get(url).content.decode()
    assert revision.revision in text
    assert "moin" in text


def test_machines_and_clusters_lead_here(site, browser, operator, machine, cluster_a):
    client = browser(operator)
    url = reverse("admin:machines_machine_change", args=[machine.pk])
    assert "kind=RunPlaybook" not in client.get(url).content.decode()
    site.release()
    assert "kind=RunPlaybook" in client.get(url).content.decode()
    cluster = reverse("admin:clusters_cluster_change", args=[cluster_a.pk])
    assert "kind=RunPlaybook" in client.get(cluster).content.decode()
    chosen = {"action": "run_playbook_chosen", "_selected_action": [machine.pk]}
    answer = client.post(reverse("admin:machines_machine_changelist"), chosen)
    assert "kind=RunPlaybook" in answer["Location"]


@pytest.mark.parametrize(
    ("part", "value", "sentence"),
    [
        ({"type": "string", "pattern": "^[a-z]+$"}, "ABC", "This does not have the form"),
        ({"type": "array", "items": {"type": "string", "maxLength": 2}}, "a\nbbb", "[1]: This has"),
    ],
)
def test_a_mistake_is_told_once_at_its_field(site, browser, operator, wish, part, value, sentence):
    site.release(parameters={"properties": {"text": part}})
    answer = browser(operator).post(START, wish(**{"params-variables.text": value}))
    assert answer.status_code == 400
    (told,) = answer.context["page"].params.errors["variables.text"]
    assert told.startswith(sentence)
    assert answer.context["page"].problem == ""
    text = answer.content.decode()
    assert text.count(sentence) == 1
    assert "params.variables" not in text


# --- sources -------------------------------------------------------------------------------


def source_page(source):
    return reverse("admin:operations_playbooksource_change", args=[source.pk])


def test_a_source_is_added_and_read(browser, admin, tmp_path, settings):
    settings.PLAYBOOK_FOLDERS = [tmp_path]
    values = {"name": "ops", "kind": "folder", "location": str(tmp_path), "enabled": "on"}
    add = reverse("admin:operations_playbooksource_add")
    answer = browser(admin).post(add, {**values, "operations_playbooksource_save_and_read": "1"})
    assert answer.status_code == 302, answer.context["errors"]
    assert PlaybookSource.objects.get().is_being_read


def test_the_page_on_which_a_source_is_added_offers_to_read_it(browser, admin):
    text = browser(admin).get(reverse("admin:operations_playbooksource_add")).content.decode()
    assert 'name="operations_playbooksource_save_and_read"' in text


def test_a_source_that_no_worker_read_says_so(site, browser, admin):
    PlaybookSource.objects.update(asked_at=timezone.now() - timedelta(minutes=10))
    text = browser(admin).get(source_page(site.source)).content.decode()
    assert "was not read; read it again" in text


def test_a_review_says_what_it_does_not_show(site, browser, admin, monkeypatch):
    monkeypatch.setattr("operations.playbooks.review.LINES_MAX", 3)
    page = reverse("admin:operations_sourcerevision_change", args=[site.read().pk])
    assert "Not shown whole" in browser(admin).get(page).content.decode()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"name": "Not So"}, "Enter a valid value"),
        ({"location": "/etc"}, "BEIDOU_PLAYBOOK_FOLDERS"),
        ({"kind": "git", "location": "http://x/y"}, "https://, ssh:// or file://"),
        ({"kind": "git", "location": "ssh://x/y"}, "a private key"),
    ],
)
def test_a_wrong_source_is_refused_at_its_field(browser, admin, values, sentence):
    add = reverse("admin:operations_playbooksource_add")
    given = {"name": "ops", "kind": "folder", "location": "/srv", **values}
    answer = browser(admin).post(add, given)
    assert answer.status_code == 200
    assert sentence in answer.content.decode()
    assert not PlaybookSource.objects.exists()


def test_the_secret_of_a_source_is_kept_and_never_shown(site, browser, admin):
    values = {"kind": "git", "location": "https://host/x", "ref": "main", "enabled": "on"}
    client = browser(admin)
    client.post(source_page(site.source), {**values, "secret": SECRET})
    site.source.refresh_from_db()
    assert site.source.secret == SECRET
    assert SECRET not in client.get(source_page(site.source)).content.decode()
    client.post(source_page(site.source), values)
    site.source.refresh_from_db()
    assert site.source.secret == SECRET


def test_the_parameters_of_a_revision_carry_their_headings_for_small_screens(site, browser, admin):
    page = reverse("admin:operations_sourcerevision_change", args=[site.read().pk])
    text = browser(admin).get(page).content.decode()
    assert all(f'data-label="{name}"' in text for name in ("Type", "Allowed", "Description"))


def test_a_source_is_reviewed_and_released(site, browser, admin):
    site.write("ansible.cfg", "")
    revision = site.read()
    client = browser(admin)
    page = reverse("admin:operations_sourcerevision_change", args=[revision.pk])
    text = client.get(page).content.decode()
    for part in (revision.digest, "ansible.cfg is not used", "greet.yml", "greeting", "secret"):
        assert part in text
    release = reverse("admin:operations_sourcerevision_release", args=[revision.pk])
    assert client.post(release, {"digest": "sha256:x"}).status_code == 200
    assert site.offered() == []
    assert client.post(release, {"digest": revision.digest}).status_code == 302
    assert site.offered() == ["greet"]


def test_what_differs_is_shown(site, browser, admin):
    site.release()
    site.write("greet.yml", "- hosts: none\n")
    page = reverse("admin:operations_sourcerevision_change", args=[site.read().pk])
    assert "+- hosts: none" in browser(admin).get(page).content.decode()


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_nobody_else_sees_or_releases_content(site, browser, cast, who):
    revision = site.read()
    client = browser(cast[who])
    release = reverse("admin:operations_sourcerevision_release", args=[revision.pk])
    assert client.post(release, {"digest": revision.digest}).status_code == 404
    assert client.get(source_page(site.source)).status_code == 404
    assert site.offered() == []


def test_everybody_sees_what_is_offered(site, browser, stranger):
    site.release(description="Says hello.")
    text = browser(stranger).get("/operations/siteplaybook/").content.decode()
    assert "Says hello." in text


@pytest.fixture
def deletion(site):
    return reverse("admin:operations_playbooksource_delete", args=[site.source.pk])


def test_a_source_that_was_read_is_deleted_with_what_was_read(site, browser, admin, deletion):
    site.release()
    client = browser(admin)
    text = client.get(deletion).content.decode()
    assert "have permission" not in text
    client.post(deletion, {"post": "yes"})
    assert not PlaybookSource.objects.exists()
    assert not SourceRevision.objects.exists()
    assert AuditEntry.objects.filter(verb="delete").count() == 1


def test_a_source_that_operations_need_is_not_deleted(site, begin, browser, admin, deletion):
    site.release()
    begin()
    answer = browser(admin).post(deletion, {"post": "yes"}, follow=True)
    assert "switch the source off instead" in answer.content.decode()
    assert PlaybookSource.objects.exists()


def test_that_is_said_before_anybody_is_asked_to_confirm(site, begin, browser, admin, deletion):
    site.release()
    begin()
    answer = browser(admin).get(deletion, follow=True)
    assert "switch the source off instead" in answer.content.decode()
    assert "Are you sure" not in answer.content.decode()


def test_nor_is_it_among_many(site, begin, browser, admin):
    site.release()
    begin()
    form = {"action": "delete_selected", "_selected_action": [site.source.pk], "post": "yes"}
    answer = browser(admin).post("/operations/playbooksource/", form, follow=True)
    assert "switch the source off instead" in answer.content.decode()
    assert PlaybookSource.objects.exists()


def test_nobody_else_deletes_a_source(site, browser, operator, deletion):
    site.release()
    assert browser(operator).post(deletion, {"post": "yes"}).status_code == 404
    assert PlaybookSource.objects.exists()


def test_a_withdrawn_source_says_so(site, browser, admin, viewer):
    site.release()
    playbook_sources.withdraw(site.source, acting_user=admin)
    assert "withdrawn" in browser(viewer).get("/operations/siteplaybook/").content.decode()
