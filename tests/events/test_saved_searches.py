"""Searches under a name: saved on the event centre, shared or not, opened with one's own rights."""

import threading
from html import unescape

import pytest
from django.db import connection

from beidou.base.models import AuditEntry
from events.models import SavedSearch
from events.services import searches
from tests import factories

pytestmark = pytest.mark.django_db
PAGE = "/events/event/"
LIST = "/events/savedsearch/"
API = "/api/v1/saved-event-searches/"


def text_of(answer, status=200) -> str:
    assert answer.status_code == status
    return unescape(" ".join(answer.content.decode().split()))


def saved(owner, name="Back-offs", search="reason=BackOff&range=7d", **values) -> SavedSearch:
    return SavedSearch.objects.create(owner=owner, name=name, search=search, **values)


def save(client, **values):
    body = {"save_search": "1", "name": "Back-offs", "search": "?reason=BackOff", **values}
    return client.post(PAGE, body)


def by_page(client):
    """What one is told who saves a search there."""
    page = text_of(client.get(save(client)["Location"]))
    assert ("is saved." in page) != ("of this name already" in page)
    return "saved" if "is saved." in page else "refused"


def by_api(client):
    answer = client.post(API, {"name": "Back-offs", "search": "reason=BackOff"}, format="json")
    assert answer.status_code in (201, 400)
    if answer.status_code == 400:
        assert "of this name already" in answer.json()["fields"]["name"]
    return "saved" if answer.status_code == 201 else "refused"


@pytest.fixture
def colleague(viewers):
    return factories.make_user("colleague", teams=(viewers,))


# --- on the event centre --------------------------------------------------------------------------


def test_the_present_search_is_saved_and_leads_back_to_it(viewer, browser, cluster_a):
    client = browser(viewer)
    page = text_of(client.get(PAGE, {"reason": ["BackOff", "Failed"], "cursor": "1-1"}))
    assert '<input type="hidden" name="search" value="?reason=BackOff&reason=Failed">' in page
    answer = save(client, search="?reason=BackOff&reason=Failed", shared="1")
    assert answer["Location"] == f"{PAGE}?reason=BackOff&reason=Failed"
    row = SavedSearch.objects.get()
    assert (row.name, row.owner, row.search, row.shared) == (
        "Back-offs", viewer, "reason=BackOff&reason=Failed", True,
    )  # fmt: skip
    assert AuditEntry.objects.get(verb="add").object_name == "Back-offs"


def test_the_menu_offers_ones_own_and_what_others_share(viewer, colleague, browser, cluster_a):
    saved(viewer, "Mine", "q=mine")
    saved(colleague, "Theirs", "q=theirs", shared=True)
    saved(colleague, "Nobody's business", "q=secret")
    page = text_of(browser(viewer).get(PAGE))
    assert f'<a href="{PAGE}?q=mine">Mine</a>' in page
    assert f'<a href="{PAGE}?q=theirs">Theirs</a> <span class="bd-subtle">colleague' in page
    assert "Nobody's business" not in page


def test_an_administrator_is_not_offered_what_others_keep_to_themselves(
    admin, viewer, browser, cluster_a
):
    saved(viewer, "Private")
    assert "Private" not in text_of(browser(admin).get(PAGE))
    assert "Private" in text_of(browser(admin).get(LIST))


def test_a_shared_search_shows_its_opener_only_what_he_may_see(
    viewer, admin, browser, cluster_a, cluster_b
):
    factories.make_event(cluster_a, name="seen")
    factories.make_event(cluster_b, name="hidden")
    row = saved(admin, search="cluster=cluster-a&cluster=cluster-b", shared=True)
    page = text_of(browser(viewer).get(f"{PAGE}?{row.search}"))
    assert "shop/seen" in page
    assert "shop/hidden" not in page


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": " "}, "Give the search a name"),
        ({"name": "x" * 101}, "Give the search a name"),
        ({"search": "since=soon"}, "“soon” is no moment"),
        ({"search": "colour=red"}, "“colour” is no part of a search here"),
        ({"search": "q=" + "x" * 4000}, "longer than 4000 characters"),
        ({"search": "q&" * 1500}, "too many parts"),
        ({"search": "reason=%00"}, "This cannot be stored"),
    ],
)
def test_what_cannot_be_saved_is_refused_in_a_sentence(given, sentence, viewer, browser, cluster_a):
    client = browser(viewer)
    answer = save(client, **given)
    assert answer.status_code == 302
    assert sentence in text_of(client.get(PAGE))
    assert not SavedSearch.objects.exists()


def test_a_name_is_given_once_by_each_person(viewer, colleague, browser, cluster_a):
    saved(viewer)
    client = browser(viewer)
    save(client)
    assert "There is a saved search of this name already" in text_of(client.get(PAGE))
    save(browser(colleague))
    assert SavedSearch.objects.count() == 2


def test_one_person_cannot_save_without_end(viewer, browser, cluster_a, monkeypatch):
    monkeypatch.setattr(searches, "OWN_MAX", 1)
    saved(viewer, "First")
    client = browser(viewer)
    save(client)
    assert "One person can save 1 search; delete one first." in text_of(client.get(PAGE))


def test_a_stranger_saves_and_sees_nothing(stranger, viewer, browser, cluster_a):
    row = saved(viewer, shared=True)
    client = browser(stranger)
    assert save(client).status_code == 403
    assert client.get(LIST).status_code == 403
    assert client.get(f"{LIST}{row.pk}/change/").status_code == 404


def test_whoever_lost_every_role_sees_no_saved_search_any_more(viewer, browser, cluster_a):
    row = saved(viewer)
    viewer.groups.clear()
    assert browser(viewer).get(f"{LIST}{row.pk}/change/").status_code == 404


# --- the list -------------------------------------------------------------------------------------


def test_the_owner_renames_shares_and_deletes(viewer, browser, cluster_a):
    row = saved(viewer)
    client = browser(viewer)
    page = f"{LIST}{row.pk}/change/"
    body = {"name": "Pods that crash", "search": "?type=Warning&range=1h", "shared": "on"}
    assert client.post(page, body).status_code == 302
    row.refresh_from_db()
    assert (row.name, row.search, row.shared) == (
        "Pods that crash", "range=1h&type=Warning", True,
    )  # fmt: skip
    assert client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not SavedSearch.objects.exists()
    assert set(AuditEntry.objects.values_list("verb", flat=True)) >= {"change", "delete"}


def test_a_mistake_stands_at_its_field(viewer, browser, cluster_a):
    row = saved(viewer)
    body = {"name": "x", "search": "range=1y"}
    page = text_of(browser(viewer).post(f"{LIST}{row.pk}/change/", body))
    assert "“1y” is no range" in page


def test_what_others_share_is_only_looked_at(viewer, colleague, browser, cluster_a):
    row = saved(colleague, shared=True)
    client = browser(viewer)
    page = text_of(client.get(f"{LIST}{row.pk}/change/"))
    assert "Open the search" in page
    assert client.post(f"{LIST}{row.pk}/change/", {"name": "mine"}).status_code == 403
    assert client.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403


def test_what_others_keep_to_themselves_does_not_exist(viewer, colleague, browser, cluster_a):
    row = saved(colleague)
    assert browser(viewer).get(f"{LIST}{row.pk}/change/").status_code == 404


# --- the API --------------------------------------------------------------------------------------


def test_the_api_saves_changes_and_deletes(viewer, api, cluster_a):
    client = api(viewer)
    body = {"name": "Back-offs", "search": "?reason=BackOff", "shared": True}
    made = client.post(API, body)
    assert made.status_code == 201
    assert made.json()["search"] == "reason=BackOff"
    assert made.json()["owner_name"] == "viewer"
    page = f"{API}{made.json()['id']}/"
    assert client.patch(page, {"shared": False}).json()["search"] == "reason=BackOff"
    assert client.delete(page).status_code == 204


def test_the_api_lists_ones_own_and_what_is_shared(viewer, colleague, api, cluster_a):
    saved(viewer, "mine")
    saved(colleague, "theirs", shared=True)
    saved(colleague, "secret")
    found = api(viewer).get(API).json()["results"]
    assert [row["name"] for row in found] == ["mine", "theirs"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "a", "search": "since=soon"}, "search"),
        ({"name": "a", "search": "colour=red"}, "search"),
        ({"name": "taken", "search": ""}, "name"),
        ({"search": "q=x"}, "name"),
        ({"name": "a", "search": "", "owner_name": "admin", "nonsense": 1}, "nonsense"),
    ],
)
def test_the_api_refuses_with_the_field(body, field, viewer, api, cluster_a):
    saved(viewer, "taken")
    answer = api(viewer).post(API, body)
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {field})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", [by_api, by_page])
def test_of_two_who_give_the_same_name_at_the_same_moment_one_is_refused(
    way, viewer, cluster_a, api, browser
):
    start = threading.Barrier(2)
    told = []

    def race():
        client = api(viewer) if way is by_api else browser(viewer)
        start.wait(timeout=10)
        try:
            told.append(way(client))
        finally:
            connection.close()

    threads = [threading.Thread(target=race) for _number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(told) == ["refused", "saved"]
    assert SavedSearch.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_the_same_name_for_two_searches_one_is_refused(viewer, cluster_a, api):
    keys = [saved(viewer, name).pk for name in ("a", "b")]
    start = threading.Barrier(2)
    told = []

    def race(key):
        client = api(viewer)
        start.wait(timeout=10)
        try:
            told.append(client.patch(f"{API}{key}/", {"name": "c"}, format="json").status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(told) == [200, 400]


def test_the_api_lets_nobody_change_what_others_share(viewer, colleague, api, cluster_a):
    row = saved(colleague, shared=True)
    client = api(viewer)
    assert client.patch(f"{API}{row.pk}/", {"name": "mine"}).status_code == 403
    assert client.delete(f"{API}{row.pk}/").status_code == 403
    row = saved(colleague, "secret")
    assert client.patch(f"{API}{row.pk}/", {"name": "mine"}).status_code == 404


def test_the_api_refuses_a_stranger(stranger, api, cluster_a):
    assert api(stranger).post(API, {"name": "a", "search": ""}).status_code == 403
    assert api(stranger).get(API).json()["results"] == []
