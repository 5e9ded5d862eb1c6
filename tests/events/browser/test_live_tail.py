"""The event centre goes live in a real browser, without a reload."""

import re

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import expect

from beidou.base import streaming
from events.admin import live
from events.models import Event
from events.services import tail
from tests import factories

PAGE = "/events/event/"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(tail, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(streaming, "RECHECK_SECONDS", 0.5)
    monkeypatch.setattr(streaming, "HEARTBEAT_SECONDS", 0.5)


def now(cluster, name, **values):
    return factories.make_event(cluster, name=name, last_seen=timezone.now(), **values)


def rows(page):
    return page.locator(".ev-row .ev-object-name")


def said(page):
    return page.locator("#ev-live [role=status]")


def switch(page):
    return page.get_by_role("button", name="Live")


def go_live(page):
    switch(page).click()
    expect(said(page)).to_have_text("New events come on top as they are stored.")


def shows(page, *names):
    expect(rows(page)).to_have_text([re.compile(rf"shop/{name}$") for name in names])


def hide(page, is_hidden):
    page.evaluate(
        """(isHidden) => {
            Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def test_new_rows_come_on_top_and_a_repeated_one_moves(open_page, viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(live, "ROWS_MAX", 3)
    for name in ("old", "again"):
        event = now(cluster_a, name, reason="Failed")
    page = open_page(viewer, f"{PAGE}?reason=Failed")
    shows(page, "again", "old")
    go_live(page)
    now(cluster_a, "other", reason="Pulled")
    now(cluster_a, "new", reason="Failed", message="<b>bold</b>")
    shows(page, "new", "again", "old")
    expect(page.locator(".ev-message").first).to_have_text("<b>bold</b>")
    page.locator(".ev-row", has_text="shop/again").locator("summary").click()
    changes = {"last_seen": timezone.now(), "version": event.version + 999, "count": 7}
    Event.objects.filter(pk=event.pk).update(**changes)
    shows(page, "again", "new", "old")
    expect(page.locator(".ev-row").first).to_contain_text("×7")
    expect(page.locator(".ev-row").first.locator(".ev-object")).to_be_visible()
    now(cluster_a, "newest", reason="Failed")
    shows(page, "newest", "again", "new")
    expect(page.locator("#ev-live-note")).to_contain_text("Only the newest 3 rows stay here.")
    switch(page).click()
    expect(switch(page)).to_have_attribute("aria-pressed", "false")
    expect(said(page)).to_have_text("")


def test_it_pauses_and_goes_on_without_gaps(open_page, viewer, cluster_a, portal):
    page = open_page(viewer, f"{PAGE}#live")
    expect(said(page)).to_have_text("New events come on top as they are stored.")
    expect(page.get_by_text("No event in this time range")).to_be_visible()
    now(cluster_a, "one")
    shows(page, "one")
    expect(page.get_by_text("No event in this time range")).to_have_count(0)
    hide(page, True)
    expect(said(page)).to_have_text("Paused while this tab is hidden.")
    now(cluster_a, "two")
    hide(page, False)
    shows(page, "two", "one")
    portal.stop()
    expect(said(page)).to_contain_text("The portal does not answer")
    now(cluster_a, "three")
    portal.start()
    shows(page, "three", "two", "one")
    expect(said(page)).to_have_text("New events come on top as they are stored.")
    Session.objects.all().delete()
    expect(said(page)).to_have_text("You have been signed out. Sign in")
