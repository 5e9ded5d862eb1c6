"""The sidebar, the command palette, the label and the languages: as the reader's rights are."""

import json
import re
from pathlib import Path

import django
import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from beidou.base.models import User
from beidou.overview import navigation
from clusters.models import Cluster, ClusterGrant, ClusterGroupObjectPermission
from tests import factories
from tests.overview import rows

pytestmark = pytest.mark.django_db


def titles(user: User) -> set[str]:
    request = RequestFactory().get("/")
    request.user = User.objects.get(pk=user.pk)
    return {item["title"] for group in navigation.sidebar(request) for item in group["items"]}


def search(client, text: str) -> str:
    response = client.get(reverse("admin:search"), {"s": text, "extended": 1})
    assert response.status_code == 200
    return str(response.content.decode())


def test_an_administrator_is_led_to_every_page_there_is(admin: User) -> None:
    assert titles(admin) == {"Operations centre"} | {
        entry.title for section in navigation.SECTIONS for entry in section.entries
    }


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("/events/event/", "Event centre"),
        ("/events/event/7/change/", "Event centre"),
        ("/events/event/key/", "Key events"),
        ("/operations/queue/", "Queue"),
        ("/account/", None),
    ],
)
def test_the_sidebar_marks_the_entry_of_the_page(admin: User, path: str, entry: str | None) -> None:
    request = RequestFactory().get(path)
    request.user = admin
    items = [item for group in navigation.sidebar(request) for item in group["items"]]
    marked = [item["title"] for item in items if item.get("active")]
    assert marked == ([entry] if entry else [])


def test_a_viewer_is_not_led_to_users_and_teams(viewer: User) -> None:
    seen = titles(viewer)
    assert {"Clusters", "Nodes", "Machines", "Operations"} <= seen
    assert not {"Users", "Teams"} & seen


def test_a_stranger_is_not_led_to_clusters(stranger: User) -> None:
    assert not {"Clusters", "Nodes", "Operations", "Audit trail"} & titles(stranger)


def test_the_sidebar_costs_a_handful_of_queries(operator: User) -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.get(pk=operator.pk)
    with CaptureQueriesContext(connection) as captured:
        navigation.sidebar(request)
    assert len(captured) <= 10


def test_the_palette_finds_objects_of_every_kind(admin: User, cluster_a: Cluster, browser) -> None:
    factories.make_node(cluster_a, "node-of-a")
    factories.make_machine(hostname="rack-machine")
    rows.make_operation(cluster_a, status="succeeded", name="spring-cleaning")
    client = browser(admin)
    for text in ("cluster-a", "node-of-a", "rack-mach", "spring-cl", "audit tr"):
        assert "href=" in search(client, text), text


@pytest.mark.parametrize("text", ["cluster-a", "node-of-a", "spring-cl"])
def test_the_palette_marks_clusters_whose_certificate_is_not_verified(
    text: str, admin: User, cluster_a: Cluster, browser
) -> None:
    factories.make_node(cluster_a, "node-of-a")
    rows.make_operation(cluster_a, status="succeeded", name="spring-cleaning")
    assert "TLS not verified" not in search(browser(admin), text)
    Cluster.objects.filter(pk=cluster_a.pk).update(insecure_tls=True)
    assert "TLS not verified" in search(browser(admin), text)


def test_the_palette_shows_nothing_one_may_not_see(
    viewer: User, cluster_a: Cluster, cluster_b: Cluster, browser
) -> None:
    factories.make_node(cluster_b, "cluster-node-of-b")
    page = search(browser(viewer), "cluster-")
    assert "cluster-a" in page
    assert "cluster-b" not in page
    assert "cluster-node-of-b" not in page


def test_what_the_palette_found_is_gone_at_once_when_the_right_is(
    viewer: User, cluster_a: Cluster, browser
) -> None:
    client = browser(viewer)
    assert "cluster-a" in search(client, "cluster-a")
    ClusterGrant.objects.all().delete()
    ClusterGroupObjectPermission.objects.all().delete()
    assert "cluster-a" not in search(client, "cluster-a")


def test_the_palette_is_short_in_a_large_fleet(admin: User, cluster_a: Cluster, browser) -> None:
    for number in range(30):
        factories.make_node(cluster_a, f"worker-{number:02}")
    assert search(browser(admin), "worker-").count("data-title") == 8


def test_nothing_asked_finds_nothing(admin: User, browser) -> None:
    assert "data-title" not in search(browser(admin), "   ")


def test_the_palette_is_for_the_signed_in(client) -> None:
    response = client.get(reverse("admin:search"), {"s": "a", "extended": 1})
    assert response.status_code == 302
    assert response["Location"].startswith("/login/")


def test_the_label_of_the_portal_stands_on_every_page(admin: User, browser, settings) -> None:
    settings.LABEL = "training"
    assert "training" in browser(admin).get(reverse("account")).content.decode()


@pytest.mark.parametrize(
    ("address", "leads_to"),
    [
        ("/account/?a=1", "/account/?a=1"),
        ("https://elsewhere.test/", "/account/"),
        ("", "/account/"),
    ],
)
def test_choosing_a_language_leads_back_but_never_away(
    address: str, leads_to: str, viewer: User, browser
) -> None:
    values = {"language": "zh-hans", "next": address}
    response = browser(viewer).post(reverse("account_language"), values)
    assert response["Location"] == leads_to
    viewer.refresh_from_db()
    assert viewer.language == "zh-hans"


def test_the_scripts_of_the_forms_speak_chinese_too(admin: User, browser) -> None:
    """Django's own catalogue lacks some of what its scripts say."""
    client = browser(admin)
    client.post(reverse("account_language"), {"language": "zh-hans", "next": ""})
    english = Path(django.__file__).parent / "contrib/admin/locale/en/LC_MESSAGES/djangojs.po"
    asked = set(re.findall(r'(?<!")\nmsgid "(.+)"', english.read_text()))  # those without a context
    script = client.get("/jsi18n/").content.decode()
    found = re.search(r"newcatalog = ({.*?});\n", script, re.S)
    assert found is not None
    assert asked - json.loads(found[1]).keys() == set()


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("/", ["navigation: Menu", "filters: Filters"]),
        ("/machines/machine/", ["navigation: Menu", "list: Machines"]),
        ("/auth/group/", ["list: Teams"]),
    ],
)
def test_a_page_says_how_its_parts_that_scroll_are_called(admin, browser, page, words) -> None:
    text = browser(admin).get(page).content.decode()
    assert "A part of the page that can be scrolled" in text
    for name, word in (each.split(": ") for each in words):
        assert f'data-words-{name}="{word}"' in text
    assert ("data-words-list" in text) == any(each.startswith("list") for each in words)


def test_the_theme_makes_regions_where_the_portal_names_them() -> None:
    """Else app.js would look for them in vain after an upgrade of the theme."""
    path = finders.find("unfold/js/simplebar/simplebar.js")
    script = Path(str(path)).read_text()
    assert 'contentWrapper:"simplebar-content-wrapper"' in script
    assert 'setAttribute("aria-label",this.options.ariaLabel)' in script
