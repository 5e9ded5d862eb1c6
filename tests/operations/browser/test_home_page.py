"""The home page in Chromium: it follows what runs without a reload, for the keyboard too."""

from django.utils import timezone
from playwright.sync_api import expect

from clusters.models import Cluster
from tests import factories
from tests.overview import rows

SIZE = "[document.querySelectorAll('*').length, document.body.scrollHeight]"


def test_it_follows_the_fleet_without_growing_or_losing_the_focus(
    open_page, operator, cluster_a
) -> None:
    Cluster.objects.update(health="healthy", checked_at=timezone.now())
    rows.make_operation(cluster_a, status="running", machines=2)
    factories.make_node(cluster_a)
    page = open_page(operator, "/")
    number = page.locator("#figure-nodes-ready .bd-figure-number")
    expect(number).to_have_text("1")
    page.focus("#figure-nodes-ready")
    before = page.evaluate(SIZE)
    factories.make_node(cluster_a)
    expect(number).to_have_text("2")  # by the refresh, within its ten seconds
    assert page.evaluate(SIZE) == before
    assert page.evaluate("document.activeElement.id") == "figure-nodes-ready"


def test_a_page_whose_session_ended_leads_to_the_sign_in(open_page, viewer, cluster_a) -> None:
    page = open_page(viewer, "/")
    expect(page.locator("#needs-title")).to_be_visible()
    page.context.clear_cookies()
    page.wait_for_url("**/login/**", timeout=15_000)


def test_a_portal_that_is_gone_is_said_and_comes_back(open_page, portal, viewer, cluster_a) -> None:
    page = open_page(viewer, "/")
    trouble = page.locator("#overview-trouble")
    expect(trouble).to_be_hidden()
    portal.stop()
    expect(trouble).to_be_visible()
    portal.start()
    expect(trouble).to_be_hidden()


def test_the_keyboard_alone_changes_the_language(open_page, viewer, cluster_a) -> None:
    page = open_page(viewer, "/")
    page.keyboard.press("Tab")
    expect(page.locator(".bd-skip")).to_be_focused()
    page.focus('[aria-label="My account and settings"]')
    page.keyboard.press("Enter")
    page.get_by_role("button", name="简体中文").press("Enter")
    expect(page.locator("#needs-title")).to_contain_text("需要您处理")
    assert page.evaluate("document.documentElement.lang") == "zh-hans"


def test_the_palette_opens_by_its_keys_and_leads_to_the_object(
    open_page, viewer, cluster_a
) -> None:
    page = open_page(viewer, "/")
    expect(page.locator("#needs-title")).to_be_visible()
    page.keyboard.press("Control+k")
    expect(page.locator("#search-input-command")).to_be_focused()  # 20 ms after it opens
    page.keyboard.type("cluster-a")
    expect(page.locator("#command-results-list a").first).to_contain_text("cluster-a")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/clusters/cluster/{cluster_a.pk}/change/")


def test_a_phone_never_scrolls_sideways(open_page, admin, cluster_a) -> None:
    factories.make_node(cluster_a, "a-node-with-a-name-that-is-rather-long.example.internal")
    page = open_page(admin, "/", viewport={"width": 390, "height": 844})
    expect(page.locator("#needs-title")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
