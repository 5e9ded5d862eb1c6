"""Older rows come as one scrolls to the end of the list."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from events.admin import shown
from tests import factories

PAGE = "/events/event/"


@pytest.fixture
def many(cluster_a):
    """Names from the newest on."""
    now = timezone.now()
    for number in range(130):
        factories.make_event(
            cluster_a, name=f"web-{number}", last_seen=now - timedelta(seconds=number)
        )


def names(page):
    return page.locator(".ev-row .ev-object-name")


def to_the_end(page):
    page.locator(".ev-row").last.scroll_into_view_if_needed()


def test_all_rows_come_once_and_in_their_order(open_page, viewer, many, monkeypatch):
    monkeypatch.setattr(shown, "ROWS", 50)
    page = open_page(viewer, PAGE)
    expect(names(page)).to_have_count(50)
    for count in (100, 130):
        to_the_end(page)
        expect(names(page)).to_have_count(count)
    found = [text.strip() for text in names(page).all_text_contents()]
    assert found == [f"Pod shop/web-{number}" for number in range(130)]
    expect(page.get_by_text("That is all in this time range.")).to_be_visible()
    row = page.locator(".ev-row").last
    row.locator("summary").click()
    expect(row.locator(".ev-object")).to_be_visible()


def test_the_link_stays_where_the_portal_does_not_answer(
    open_page, viewer, many, portal, monkeypatch
):
    monkeypatch.setattr(shown, "ROWS", 50)
    page = open_page(viewer, PAGE)
    expect(names(page)).to_have_count(50)
    portal.stop()
    to_the_end(page)
    link = page.get_by_role("link", name="Older")
    expect(link).to_be_visible()
    expect(names(page)).to_have_count(50)
    portal.start()
    link.click()
    expect(names(page).first).to_have_text("Pod shop/web-50")


def test_a_live_list_is_left_as_it_is(open_page, viewer, many, monkeypatch):
    monkeypatch.setattr(shown, "ROWS", 50)
    page = open_page(viewer, PAGE)
    page.get_by_role("button", name="Live").click()
    expect(page.locator("#ev-live [role=status]")).to_have_text(
        "New events come on top as they are stored."
    )
    to_the_end(page)
    expect(page.get_by_role("link", name="Older")).to_be_visible()
    expect(names(page)).to_have_count(50)
