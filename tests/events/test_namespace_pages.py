"""Grants of namespaces on their page and in the API, and the portal as it is for whoever has no
more than that."""

import csv
import io
from html import unescape

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse

from beidou.base.models import AuditEntry, User
from events.models import NamespaceGrant, SavedSearch
from tests import factories

pytestmark = pytest.mark.django_db
GRANTS = "/api/v1/namespace-grants/"
EVENTS = "/api/v1/events/"
ADD = "/events/namespacegrant/add/"
LIST = "/events/namespacegrant/"


@pytest.fixture
def shop(db) -> Group:
    return factories.make_team("shop")


@pytest.fixture
def owner(cluster_a) -> User:
    owners = factories.make_team("owners")
    factories.grant(owners, cluster_a, "owner")
    return factories.make_user("owner", teams=(owners,))


@pytest.fixture
def limited(shop, cluster_a) -> User:
    NamespaceGrant.objects.create(team=shop, cluster=cluster_a, namespace="shop")
    return factories.make_user("limited", teams=(shop,))


@pytest.fixture
def events(cluster_a, cluster_b):
    return {
        "mine": factories.make_event(cluster_a, "it is mine", name="web-mine", node="n1"),
        "other": factories.make_event(cluster_a, name="web-other", namespace="pay"),
        "node": factories.make_event(cluster_a, name="n1", namespace="", kind="Node"),
        "foreign": factories.make_event(cluster_b, name="web-foreign"),
    }


def text_of(answer, status=200):
    assert answer.status_code == status
    return unescape(" ".join(answer.content.decode().split()))


def granted():
    rows = NamespaceGrant.objects.order_by("namespace")
    return [(row.team.name, row.cluster.name, row.namespace) for row in rows]


# --- the page of grants ---------------------------------------------------------------------------


def test_an_owner_gives_many_on_the_page(owner, browser, shop, cluster_a):
    given = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": "shop\r\n\r\n pay \r\nshop"}
    client = browser(owner)
    answer = client.post(ADD, given)
    assert (answer.status_code, answer["Location"]) == (302, LIST)
    assert granted() == [("shop", "cluster-a", "pay"), ("shop", "cluster-a", "shop")]
    entries = AuditEntry.objects.filter(verb="grant", object_type="events.namespacegrant")
    assert {entry.actor for entry in entries} == {"owner"}
    assert entries.count() == 2
    page = text_of(client.get(LIST))
    assert "shop now sees the events of 2 namespaces of cluster-a." in page


def test_one_after_the_other_can_be_given(owner, browser, shop, cluster_a):
    given = {"team": shop.pk, "cluster": cluster_a.pk, "_addanother": "1"}
    for names in ("one", "two\nthree"):
        answer = browser(owner).post(ADD, given | {"namespaces": names})
        assert (answer.status_code, answer["Location"]) == (302, ADD)
    assert len(granted()) == 3


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("shop\nSHOP", "“SHOP” is no name of a namespace."),
        (" \n ", "This field is required."),
    ],
)
def test_a_mistake_is_said_at_the_field(names, sentence, owner, browser, shop, cluster_a):
    given = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": names}
    page = text_of(browser(owner).post(ADD, given))
    assert sentence in page
    assert granted() == []


def test_what_was_given_already_is_said(owner, browser, limited, shop, cluster_a):
    given = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": "shop"}
    assert "was granted all of this already" in text_of(browser(owner).post(ADD, given))


def test_an_owner_cannot_give_on_a_foreign_cluster(owner, browser, shop, cluster_b):
    given = {"team": shop.pk, "cluster": cluster_b.pk, "namespaces": "shop"}
    browser(owner).post(ADD, given)
    assert granted() == []


def test_the_list_names_them_and_an_owner_takes_them_back(owner, browser, limited, cluster_a):
    client = browser(owner)
    page = text_of(client.get(LIST))
    assert "cluster-a" in page
    assert "seen" in page
    row = NamespaceGrant.objects.get()
    client.post(reverse("admin:events_namespacegrant_delete", args=[row.pk]), {"post": "yes"})
    assert granted() == []
    assert AuditEntry.objects.filter(verb="revoke").count() == 1


def test_many_are_taken_back_at_once(owner, browser, shop, cluster_a):
    for name in ("a", "b", "c"):
        NamespaceGrant.objects.create(team=shop, cluster=cluster_a, namespace=name)
    chosen = list(NamespaceGrant.objects.exclude(namespace="b").values_list("pk", flat=True))
    given = {"action": "delete_selected", "_selected_action": chosen, "post": "yes"}
    browser(owner).post(LIST, given)
    assert granted() == [("shop", "cluster-a", "b")]
    assert AuditEntry.objects.filter(verb="revoke").count() == 2


def test_a_viewer_sees_the_list_and_gives_nothing(viewer, browser, shop, limited, cluster_a):
    client = browser(viewer)
    assert "shop" in text_of(client.get(LIST))
    given = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": "pay"}
    assert client.post(ADD, given).status_code == 403
    assert len(granted()) == 1


# --- the API --------------------------------------------------------------------------------------


def test_an_owner_gives_many_in_the_api(owner, api, shop, cluster_a):
    body = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": ["shop", "pay"]}
    answer = api(owner).post(GRANTS, body, format="json")
    assert answer.status_code == 201
    rows = answer.json()
    assert [row["namespace"] for row in rows] == ["shop", "pay"]
    assert rows[0] | {"id": 0, "url": "", "created_at": ""} == {
        "id": 0,
        "url": "",
        "team": shop.pk,
        "team_name": "shop",
        "cluster": cluster_a.pk,
        "cluster_name": "cluster-a",
        "cluster_insecure_tls": False,
        "namespace": "shop",
        "older_events_follow": False,
        "created_at": "",
    }
    assert len(granted()) == 2


def test_an_owner_takes_many_back_in_the_api(owner, api, limited, shop, cluster_a):
    body = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": ["shop", "never"]}
    answer = api(owner).post(f"{GRANTS}take/", body, format="json")
    assert (answer.status_code, answer.json()) == (200, {"taken": 1})
    assert granted() == []


def test_an_owner_takes_one_back_in_the_api(owner, api, limited):
    answer = api(owner).delete(f"{GRANTS}{NamespaceGrant.objects.get().pk}/")
    assert answer.status_code == 204
    assert granted() == []


@pytest.mark.parametrize("address", [GRANTS, f"{GRANTS}take/"])
@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"namespaces": []}, 400, "namespaces"),
        ({"namespaces": ["Shop"]}, 400, "namespaces"),
        ({"namespaces": "shop"}, 400, "namespaces"),
        ({"team": 999_999}, 400, "team"),
        ({"cluster": 999_999}, 400, "cluster"),
        ({"namespace": "shop"}, 400, "namespace"),
    ],
)
def test_what_cannot_be_is_refused_at_its_name(
    address, change, status, field, owner, api, limited, shop, cluster_a
):
    body = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": ["pay"], **change}
    answer = api(owner).post(address, body, format="json")
    assert answer.status_code == status
    assert field in answer.json()["fields"]
    assert len(granted()) == 1


@pytest.mark.parametrize("address", [GRANTS, f"{GRANTS}take/"])
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger", "auditor"])
def test_others_neither_give_nor_take(address, who, cast, api, limited, shop, cluster_a):
    body = {"team": shop.pk, "cluster": cluster_a.pk, "namespaces": ["shop", "pay"]}
    assert api(cast[who]).post(address, body, format="json").status_code == 403
    assert len(granted()) == 1


def test_an_owner_finds_no_foreign_cluster(owner, api, shop, cluster_b):
    body = {"team": shop.pk, "cluster": cluster_b.pk, "namespaces": ["shop"]}
    answer = api(owner).post(GRANTS, body, format="json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["cluster"])


def test_the_list_is_narrowed_by_team_cluster_and_namespace(admin, api, limited, shop, cluster_b):
    NamespaceGrant.objects.create(team=shop, cluster=cluster_b, namespace="pay")
    for given, wanted in (
        ({"cluster": cluster_b.pk}, ["pay"]),
        ({"namespace": "shop"}, ["shop"]),
        ({"team__name": "none"}, []),
    ):
        rows = api(admin).get(GRANTS, given).json()["results"]
        assert [row["namespace"] for row in rows] == wanted


# --- the portal of somebody who has namespaces alone ----------------------------------------------


def test_the_way_leads_to_the_event_centre_key_events_and_saved_searches(limited, browser, events):
    page = text_of(browser(limited).get(reverse("admin:index")))
    for seen in ("/events/event/", "/events/event/key/", "/events/savedsearch/"):
        assert f'href="{seen}"' in page
    for hidden in (
        "/clusters/cluster/",
        "/clusters/node/",
        "/operations/operation/",
        "/events/eventstream/",
        "/events/alertrule/",
        "/events/eventalert/",
        LIST,
    ):
        assert f'href="{hidden}"' not in page


def test_the_home_page_leads_to_the_event_centre_only_whom_it_shows_something(
    limited, stranger, browser, events
):
    told = "Events of the namespaces that your teams were granted"
    assert told in text_of(browser(limited).get(reverse("admin:index")))
    assert told not in text_of(browser(stranger).get(reverse("admin:index")))


def test_the_event_centre_shows_what_is_granted_and_links_no_page_beyond(limited, browser, events):
    factories.make_node(events["mine"].cluster, "n1")
    page = text_of(browser(limited).get("/events/event/"))
    assert "it is mine" in page
    assert "cluster-a" in page
    for hidden in ("web-other", "web-foreign", "/clusters/", "Node n1", "/events/eventretention/"):
        assert hidden not in page


def test_with_nothing_to_see_the_page_does_not_say_that_there_is_no_cluster(limited, browser):
    page = text_of(browser(limited).get("/events/event/"))
    assert "No event in this time range is what you look for." in page
    assert "No cluster is adopted yet" not in page


@pytest.mark.parametrize("given", [{"cluster": "cluster-a"}, {"cluster": "cluster-b"}])
def test_a_cluster_can_be_chosen(given, limited, browser, events):
    page = text_of(browser(limited).get("/events/event/", given))
    assert ("web-mine" in page) == (given["cluster"] == "cluster-a")


def test_figures_count_what_is_granted(limited, browser, events):
    page = text_of(browser(limited).get("/events/event/figures/"))
    assert "1 event, 0 warnings" in page
    assert "cluster-a" in page
    assert "pay" not in page


def test_key_events_count_what_is_granted(limited, browser, events):
    page = text_of(browser(limited).get("/events/event/key/?figures=1"))
    assert "cluster-a</option>" in page
    assert "cluster-b" not in page
    assert "New reasons" not in page


@pytest.mark.parametrize(("key", "status"), [("mine", 200), ("other", 404), ("node", 404)])
def test_the_page_of_an_event_is_there_where_it_is_granted(key, status, limited, browser, events):
    client, event = browser(limited), events[key]
    page = client.get(f"/events/event/{event.pk}/change/")
    assert page.status_code == status
    assert "/clusters/cluster/" not in page.content.decode()
    whole = client.get(f"/events/event/{event.pk}/whole/")
    assert whole.status_code == status


def test_an_export_holds_what_is_granted(limited, browser, events):
    answer = browser(limited).get("/events/event/export/csv/")
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    assert [row["name"] for row in csv.DictReader(io.StringIO(text))] == ["web-mine"]


def test_the_api_gives_what_is_granted(limited, api, events):
    client = api(limited)
    assert [row["name"] for row in client.get(EVENTS).json()["results"]] == ["web-mine"]
    counted = client.get(f"{EVENTS}counts/", {"field": "cluster"}).json()["values"]
    assert [(value["name"], value["count"]) for value in counted] == [("cluster-a", 1)]
    buckets = client.get(f"{EVENTS}histogram/").json()["buckets"]
    assert sum(bucket["others"] for bucket in buckets) == 1
    assert client.get(f"{EVENTS}{events['mine'].pk}/").status_code == 200
    assert client.get(f"{EVENTS}{events['other'].pk}/").status_code == 404


def test_after_it_was_taken_there_is_nothing(limited, api, browser, events):
    NamespaceGrant.objects.all().delete()
    assert api(limited).get(EVENTS).json()["results"] == []
    assert api(limited).get(f"{EVENTS}{events['mine'].pk}/").status_code == 404
    assert browser(limited).get("/events/event/").status_code == 403


@pytest.mark.parametrize(
    "page",
    [
        "/clusters/cluster/",
        "/clusters/node/",
        "/events/eventstream/",
        "/events/alertrule/",
        "/events/eventalert/",
        "/events/eventretention/",
        LIST,
    ],
)
def test_other_pages_stay_closed(page, limited, browser, events):
    assert browser(limited).get(page).status_code == 403


def test_the_cluster_itself_is_not_there(limited, api, browser, events):
    key = events["mine"].cluster_id
    assert browser(limited).get(f"/clusters/cluster/{key}/change/").status_code == 404
    assert api(limited).get(f"/api/v1/clusters/{key}/").status_code == 404
    assert api(limited).get(GRANTS).json()["results"] == []


def test_searches_are_saved_and_shared_ones_are_offered(limited, viewer, browser, api, events):
    SavedSearch.objects.create(name="of viewer", owner=viewer, search="", shared=True)
    client = browser(limited)
    client.post("/events/event/", {"save_search": "1", "name": "own", "search": "reason=BackOff"})
    page = text_of(client.get("/events/event/"))
    assert "own" in page
    assert "of viewer" in page
    found = api(limited).get("/api/v1/saved-event-searches/").json()["results"]
    assert {row["name"] for row in found} == {"own", "of viewer"}


def test_an_alert_rule_cannot_be_written(limited, api, events):
    body = {"name": "x", "search": "", "threshold": 1, "window_minutes": 5, "group_by": ""}
    assert api(limited).post("/api/v1/event-alert-rules/", body).status_code == 403
