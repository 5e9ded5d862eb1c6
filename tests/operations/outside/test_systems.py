"""Who may name a system of the site, and what is refused."""

import pytest

from beidou.base.models import AuditEntry
from operations.outside.models import SiteSystem
from tests import factories
from tests.operations.outside.conftest import SECRET

pytestmark = pytest.mark.django_db
URL = "/api/v1/site-systems/"


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


@pytest.fixture
def wish(cluster_a):
    return {
        "cluster": cluster_a.pk,
        "purpose": "network",
        "url": "https://net.example/hook",
        "secret": SECRET,
    }


def test_an_owner_names_a_system_whose_secret_is_never_shown(api, owner, wish):
    answer = api(owner).post(URL, wish)
    assert answer.status_code == 201, answer.json()
    assert answer.json()["has_secret"] is True
    assert SECRET not in answer.content.decode()
    assert SiteSystem.objects.get().secret == SECRET
    entry = AuditEntry.objects.get(verb="add")
    assert SECRET not in str(entry.after)


def test_an_operator_may_not(api, operator, wish):
    assert api(operator).post(URL, wish).status_code == 403


def test_not_for_a_foreign_cluster(api, owner, wish, cluster_b):
    answer = api(owner).post(URL, {**wish, "cluster": cluster_b.pk})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["cluster"])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"url": "http://net.example/hook"}, "url"),
        ({"url": "https://127.0.0.1/hook"}, "url"),
        ({"url": "https://user:word@net.example/"}, "url"),
        ({"secret": "short"}, "secret"),
        ({"secret": ""}, "secret"),
        ({"secret": "sixteen letters\nat least"}, "secret"),
        ({"purpose": "weather"}, "purpose"),
    ],
)
def test_what_could_not_be_asked_is_refused_at_its_field(change, field, api, owner, wish):
    answer = api(owner).post(URL, {**wish, **change})
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [field]


def test_prometheus_needs_no_token(api, owner, wish):
    answer = api(owner).post(URL, {**wish, "purpose": "prometheus", "secret": ""})
    assert answer.status_code == 201


def test_a_cluster_has_one_system_for_each_purpose(api, owner, wish):
    api(owner).post(URL, wish)
    answer = api(owner).post(URL, wish)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["purpose"])


def test_an_empty_secret_keeps_what_is_stored(api, owner, wish):
    key = api(owner).post(URL, wish).json()["id"]
    answer = api(owner).patch(f"{URL}{key}/", {"url": "https://net.example/other", "secret": ""})
    assert answer.status_code == 200, answer.json()
    assert SiteSystem.objects.get().secret == SECRET


def test_a_stored_secret_is_not_taken_to_another_host(api, owner, wish):
    key = api(owner).post(URL, wish).json()["id"]
    answer = api(owner).patch(f"{URL}{key}/", {"url": "https://elsewhere.example/hook"})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["secret"])


def test_what_is_no_address_is_refused_beside_a_stored_secret(api, owner, wish):
    key = api(owner).post(URL, wish).json()["id"]
    answer = api(owner).patch(f"{URL}{key}/", {"url": "https://[::1/x"})
    assert answer.status_code == 400
    assert "url" in answer.json()["fields"]


def test_the_page_stores_it_as_the_api_does(browser, owner, wish):
    page = "/operations/sitesystem/add/"
    assert browser(owner).get(page).status_code == 200
    answer = browser(owner).post(page, wish)
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert SiteSystem.objects.get().secret == SECRET


def test_the_page_of_a_system_shows_no_secret(browser, owner, cluster_a):
    row = SiteSystem.objects.create(
        cluster=cluster_a, purpose="tickets", url="https://t.example/", secret=SECRET
    )
    page = browser(owner).get(f"/operations/sitesystem/{row.pk}/change/")
    assert page.status_code == 200
    assert SECRET not in page.content.decode()


def test_whoever_may_only_look_sees_no_field_of_a_secret(browser, viewer, cluster_a):
    row = SiteSystem.objects.create(
        cluster=cluster_a, purpose="tickets", url="https://t.example/", secret=SECRET
    )
    page = browser(viewer).get(f"/operations/sitesystem/{row.pk}/change/")
    assert page.status_code == 200
    assert 'name="secret"' not in page.content.decode()
