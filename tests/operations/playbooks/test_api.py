"""Sources, revisions and playbooks over HTTP, and running one."""

import pytest

from beidou.base.models import AuditEntry
from operations.models import Operation, PlaybookSource

pytestmark = pytest.mark.django_db
SOURCES, REVISIONS, PLAYBOOKS = (
    f"/api/v1/{name}/" for name in ("playbook-sources", "playbook-revisions", "playbooks")
)
OPERATIONS = "/api/v1/operations/"
SECRET = "very-secret-1"


@pytest.fixture
def wish(cluster_a, machine):
    def make(**params):
        return {
            "kind": "RunPlaybook",
            "cluster": cluster_a.name,
            "machines": [machine.address],
            "params": {"playbook": "ops/greet", **params},
        }

    return make


def test_the_whole_way(api, admin, operator, wish, tmp_path, settings, site):
    PlaybookSource.objects.all().delete()
    client = api(admin)
    body = {"name": "ops", "kind": "folder", "location": str(site.folder), "secret": SECRET}
    made = client.post(SOURCES, body, format="json")
    assert made.status_code == 201, made.json()
    assert (made.json()["has_secret"], "secret" in made.json()) == (False, False)
    key = made.json()["id"]
    assert client.post(f"{SOURCES}{key}/read/").status_code == 202
    site.source = PlaybookSource.objects.get()
    revision = site.read()
    found = client.get(f"{REVISIONS}{revision.pk}/").json()
    assert found["declaration"]["playbooks"][0]["name"] == "greet"
    assert {change["what"] for change in found["changes"]} == {"added"}
    answer = client.post(f"{REVISIONS}{revision.pk}/release/", {"digest": found["digest"]})
    assert answer.json()["is_released"]
    (playbook,) = api(operator).get(PLAYBOOKS).json()["results"]
    assert (playbook["reference"], playbook["content"]) == ("ops/greet", found["digest"])
    assert playbook["parameters"]["properties"]["token"]["format"] == "password"
    plan = api(operator).post(OPERATIONS, {**wish(), "dry_run": True}, format="json").json()
    again = wish(content=plan["params"]["content"], variables={"token": SECRET})
    begun = api(operator).post(OPERATIONS, again, format="json")
    assert begun.status_code == 202, begun.json()
    detail = api(operator).get(f"{OPERATIONS}{begun.json()['id']}/").json()
    assert detail["params"]["revision"] == revision.revision
    assert SECRET not in str(detail)


def test_a_mistake_names_its_path(api, operator, site, wish):
    site.release()
    answer = api(operator).post(OPERATIONS, wish(variables={"count": 9}), format="json")
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {"params.variables.count"}


def test_the_right_of_the_playbook_is_asked(api, operator, site, wish):
    site.release(permission="approve")
    assert api(operator).post(OPERATIONS, wish(), format="json").status_code == 403
    assert not Operation.objects.exists()


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_sources_are_for_administrators(api, cast, site, who):
    revision = site.read()
    client = api(cast[who])
    assert client.get(SOURCES).json()["results"] == []
    assert client.post(SOURCES, {"name": "x"}, format="json").status_code == 403
    assert client.get(f"{SOURCES}{site.source.pk}/").status_code == 404
    assert client.post(f"{SOURCES}{site.source.pk}/read/").status_code == 404
    url = f"{REVISIONS}{revision.pk}/release/"
    assert client.post(url, {"digest": revision.digest}).status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"location": "/etc"}, "location"),
        ({"kind": "svn"}, "kind"),
        ({"name": "No Name"}, "name"),
        ({"kind": "git", "location": "https://u:p@x/y"}, "location"),
        ({"kind": "git", "location": "https://x/y", "ref": "-x"}, "ref"),
        ({"teams": [999]}, "teams"),
    ],
)
def test_a_wrong_source_is_refused_at_its_field(api, admin, change, field):
    body = {"name": "ops", "kind": "folder", "location": "/srv", **change}
    answer = api(admin).post(SOURCES, body, format="json")
    assert answer.status_code == 400
    assert field in answer.json()["fields"]


def test_a_change_keeps_name_and_secret_and_is_audited(api, admin, site):
    values = {"kind": "git", "location": "https://h/x", "ref": "main", "secret": SECRET}
    url = f"{SOURCES}{site.source.pk}/"
    assert api(admin).patch(url, values, format="json").status_code == 200
    assert api(admin).patch(url, {"ref": "v2", "name": "new"}, format="json").status_code == 200
    site.source.refresh_from_db()
    assert (site.source.name, site.source.ref, site.source.secret) == ("ops", "v2", SECRET)
    entries = AuditEntry.objects.filter(verb="change")
    assert SECRET not in "".join(f"{entry.before}{entry.after}" for entry in entries)
    assert entries.count() == 2


def test_a_source_that_operations_need_is_not_deleted(api, admin, site, begin):
    site.release()
    begin()
    answer = api(admin).delete(f"{SOURCES}{site.source.pk}/")
    assert answer.status_code == 409
    assert "switch the source off" in answer.json()["message"]


def test_one_that_nothing_needs_is(api, admin, site):
    site.release()
    assert api(admin).delete(f"{SOURCES}{site.source.pk}/").status_code == 204


def test_withdrawing_offers_nothing_any_more(api, admin, site):
    site.release()
    answer = api(admin).post(f"{SOURCES}{site.source.pk}/withdraw/", {"reason": "bad"})
    assert answer.json()["released"] is None
    assert site.offered() == []


def test_other_content_than_was_looked_at_is_not_released(api, admin, site):
    revision = site.read()
    answer = api(admin).post(f"{REVISIONS}{revision.pk}/release/", {"digest": "sha256:x"})
    assert answer.status_code == 409
