"""Alert rules and alerts as people see them: written, previewed, taken over, looked at."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.utils import timezone

from beidou.base.errors import TemporaryError
from beidou.base.models import AuditEntry, Notice
from beidou.base.sentences import Sentence
from events.models import AlertRule, EventAlert
from events.services import alert_preview, alert_rules, alerting, search
from notifications.services import content
from tests import factories

pytestmark = pytest.mark.django_db
RULES, ALERTS = "/events/alertrule/", "/events/eventalert/"
PREVIEW = f"{RULES}preview/"
FORM = {
    "name": "Crashes", "search": "?reason=BackOff", "threshold": "3", "window_minutes": "10",
    "group_by": "cluster", "severity": "critical", "enabled": "on",
}  # fmt: skip


def text_of(answer, status=200) -> str:
    assert answer.status_code == status
    return unescape(" ".join(answer.content.decode().split()))


def burst(cluster, number=3, **values):
    for _number in range(number):
        factories.make_event(cluster, **values)


def fire(rule) -> EventAlert:
    alerting.look_at_all()
    return EventAlert.objects.get(rule=rule)


# --- writing rules --------------------------------------------------------------------------------


def test_an_operator_writes_a_rule_and_is_its_owner(operator, browser, cluster_a):
    answer = browser(operator).post(f"{RULES}add/", FORM)
    assert answer.status_code == 302
    rule = AlertRule.objects.get()
    assert (rule.owner, rule.owner_name, rule.search) == (operator, "operator", "reason=BackOff")
    assert AuditEntry.objects.get(verb="add").object_name == "Crashes"


def test_the_event_centre_leads_to_a_rule_with_its_search(operator, viewer, browser, cluster_a):
    given = {"reason": "BackOff", "q": "a&b", "range": "7d"}
    page = text_of(browser(operator).get("/events/event/", given))
    address = re.search(r'href="(/events/alertrule/add/\?[^"]+)"', page)[1]
    form = text_of(browser(operator).get(address))
    assert ">q=a%26b&reason=BackOff</textarea>" in form
    assert (
        RULES not in text_of(browser(viewer).get("/events/event/", given)).partition("ev-saved")[2]
    )


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"search": "since=2026-11-20"}, "“since” is no part of a search here"),
        ({"search": "range=7d"}, "“range” is no part of a search here"),
        ({"search": "q=" + "x" * 501}, "longer than 500 characters"),
        ({"threshold": "0"}, "greater than or equal to 1"),
        ({"window_minutes": "1441"}, "less than or equal to 1440"),
        ({"quiet_from": "22:00"}, "Quiet hours need a beginning and an end."),
        ({"quiet_from": "22:00", "quiet_to": "22:00"}, "another time than the beginning"),
    ],
)
def test_a_mistake_stands_in_the_form(given, sentence, operator, browser, cluster_a):
    page = text_of(browser(operator).post(f"{RULES}add/", {**FORM, **given}))
    assert sentence in page
    assert not AlertRule.objects.exists()


def test_one_person_cannot_have_rules_without_end(operator, browser, cluster_a, monkeypatch):
    monkeypatch.setattr(alert_rules, "OWN_MAX", 1)
    rule = factories.make_alert_rule(operator)
    page = text_of(browser(operator).post(f"{RULES}add/", FORM))
    assert "One person can have 1 alert rule; delete one first." in page
    assert browser(operator).post(f"{RULES}{rule.pk}/change/", FORM).status_code == 302


@pytest.mark.parametrize("who", ["viewer", "stranger", "auditor"])
def test_who_may_only_look_writes_no_rule(who, cast, browser, cluster_a):
    assert browser(cast[who]).post(f"{RULES}add/", FORM).status_code == 403


def test_a_rule_is_seen_by_its_owner_administrators_and_auditors(
    operator, admin, auditor, viewer, browser, cluster_a
):
    rule = factories.make_alert_rule(operator)
    pages = [
        browser(user).get(f"{RULES}{rule.pk}/change/").status_code
        for user in (operator, admin, auditor, viewer)
    ]
    assert pages == [200, 200, 200, 404]


def test_whoever_else_changes_a_rule_leaves_it_to_its_owner(operator, admin, browser, cluster_a):
    rule = factories.make_alert_rule(operator)
    assert browser(admin).post(f"{RULES}{rule.pk}/change/", FORM).status_code == 302
    rule.refresh_from_db()
    assert (rule.name, rule.owner) == ("Crashes", operator)


def test_an_administrator_takes_over_the_rule_of_somebody_who_has_left(
    operator, admin, browser, cluster_a
):
    rule = factories.make_alert_rule(operator)
    operator.delete()
    wish = {"action": "take_over", "_selected_action": [rule.pk]}
    page = text_of(browser(admin).post(RULES, wish, follow=True))
    assert "1 rule is yours now: it sees what you may see." in page
    rule.refresh_from_db()
    assert (rule.owner, rule.owner_name) == (admin, "admin")
    assert AuditEntry.objects.get(verb="take over").before == {"owner": "operator"}


def test_a_rule_with_a_problem_says_so_and_since_when(operator, browser, cluster_a):
    factories.make_alert_rule(
        operator,
        problem=Sentence("The event store is away."),
        problem_since=timezone.now() - timedelta(hours=3),
    )
    page = text_of(browser(operator).get(RULES))
    assert "The event store is away." in page
    assert "for 3 hours" in page


def test_the_list_says_what_is_counted_and_what_fires(operator, browser, cluster_a):
    rule = factories.make_alert_rule(operator, search="reason=BackOff&node=n1")
    burst(cluster_a, reason="BackOff", node="n1")
    fire(rule)
    page = text_of(browser(operator).get(RULES))
    assert "reason=BackOff, node=n1" in page
    assert "≥ 3 in 10 min, cluster" in page
    assert f'{ALERTS}?rule__id__exact={rule.pk}&state=firing" class="text-link">1<' in page


def test_without_a_rule_the_list_says_how_to_begin(operator, browser, cluster_a):
    assert "No alert rule yet." in text_of(browser(operator).get(RULES))


# --- the preview ----------------------------------------------------------------------------------


def test_the_form_is_previewed_before_it_is_saved(operator, browser, cluster_a):
    burst(cluster_a, reason="BackOff", last_seen=timezone.now() - timedelta(hours=30))
    page = text_of(browser(operator).post(PREVIEW, {**FORM, "name": ""}))
    assert "1 alert would have fired." in page
    assert "cluster-a" in page
    (link,) = re.findall(r'<a href="(/events/event/\?[^"]+)"', page)
    assert "reason=BackOff&cluster=" in link
    assert text_of(browser(operator).get(link)).count("BackOff</strong>") == 3
    assert not AlertRule.objects.exists()


def test_the_form_of_a_stored_rule_is_previewed_under_its_own_name(operator, browser, cluster_a):
    factories.make_alert_rule(operator, name=FORM["name"])
    page = text_of(browser(operator).post(PREVIEW, FORM))
    assert "0 alerts would have fired." in page


def test_a_preview_of_what_is_no_rule_says_what_is_wrong(operator, browser, cluster_a):
    page = text_of(browser(operator).post(PREVIEW, {**FORM, "search": "range=7d"}))
    assert "Search: “range” is no part of a search here" in page


def test_a_preview_tells_what_it_left_out(operator, browser, cluster_a, monkeypatch):
    monkeypatch.setattr(alert_preview, "READ_MAX", 0)
    monkeypatch.setattr(alert_preview, "GROUPS_MAX", 1)
    monkeypatch.setattr(alert_preview, "SHOWN_MAX", 1)
    old = timezone.now() - timedelta(hours=30)
    for name in "ab":
        burst(cluster_a, name=name, reason="BackOff", last_seen=old)
        burst(cluster_a, name=name, reason="BackOff")
    page = text_of(browser(operator).post(PREVIEW, {**FORM, "group_by": "name"}))
    assert "There are more groups than are looked at here" in page
    assert "Only the newest are listed." in page


def test_a_preview_while_the_store_is_away_says_so(operator, browser, cluster_a, monkeypatch):
    def away(*_args, **_values):
        raise TemporaryError(Sentence("The event store is away."))

    monkeypatch.setattr(search, "counts", away)
    page = text_of(browser(operator).post(PREVIEW, FORM))
    assert "The event store is away." in page


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("stranger", 403)])
def test_a_preview_is_for_who_may_write_rules(who, status, cast, browser, cluster_a):
    assert browser(cast[who]).post(PREVIEW, FORM).status_code == status


def test_a_preview_never_holds_the_sign_in_form(client, db):
    answer = client.post(PREVIEW, FORM)
    assert (answer.status_code, answer["HX-Refresh"]) == (401, "true")


# --- alerts ---------------------------------------------------------------------------------------


def test_all_mistakes_of_a_rule_are_said_at_once(operator, browser, cluster_a):
    given = {
        "name": "x", "search": "since=2026", "threshold": "0", "window_minutes": "10",
        "group_by": "cluster", "severity": "warning", "quiet_from": "nonsense", "quiet_to": "06:00",
    }  # fmt: skip
    page = browser(operator).post("/events/alertrule/add/", given).content.decode()
    for sentence in ("is no part of a search here", "greater than or equal to 1", "valid time"):
        assert sentence in page
    assert "Quiet hours need" not in page


def test_who_lost_the_right_to_write_rules_sees_their_own_without_a_form(
    viewer, browser, cluster_a
):
    rule = factories.make_alert_rule(viewer)
    client, page = browser(viewer), f"/events/alertrule/{rule.pk}/change/"
    assert 'name="threshold"' not in client.get(page).content.decode()
    client.post(page, {"name": "other", "threshold": 1, "window_minutes": 1, "severity": "info"})
    rule.refresh_from_db()
    assert rule.threshold == 3
    client.post(f"/events/alertrule/{rule.pk}/delete/", {"post": "yes"})
    assert not AlertRule.objects.filter(pk=rule.pk).exists()


def test_an_alert_leads_to_the_events_behind_it(operator, viewer, browser, cluster_a):
    rule = factories.make_alert_rule(operator, name="Crashes", search="reason=BackOff")
    burst(cluster_a, reason="BackOff", name="web")
    burst(cluster_a, reason="Pulled", name="other")
    fire(rule)
    page = text_of(browser(viewer).get(ALERTS))
    assert "Crashes" in page
    (link,) = re.findall(r'<a href="(/events/event/\?[^"]+)"', page)
    events = text_of(browser(viewer).get(link))
    assert events.count("shop/web<") == 3
    assert "shop/other<" not in events


def test_alerts_follow_their_cluster(operator, admin, viewer, browser, cluster_a, cluster_b):
    burst(cluster_b, name="secret")
    alert = fire(factories.make_alert_rule(admin, group_by="name"))
    assert "secret" not in text_of(browser(viewer).get(ALERTS))
    assert browser(viewer).get(f"{ALERTS}{alert.pk}/change/").status_code == 404


def test_an_alert_over_several_clusters_is_for_its_owner(
    operator, viewer, browser, cluster_a, cluster_b
):
    factories.grant(operator.groups.get(), cluster_b, "viewer")
    burst(cluster_a, 2)
    burst(cluster_b, 2)
    alert = fire(factories.make_alert_rule(operator, group_by="", threshold=4))
    assert Notice.objects.get().cluster_id is None
    page = f"{ALERTS}{alert.pk}/change/"
    assert "all of them together" in text_of(browser(operator).get(page))
    assert browser(viewer).get(page).status_code == 404


def test_a_rule_that_one_may_not_see_is_named_and_not_linked(operator, viewer, browser, cluster_a):
    burst(cluster_a)
    rule = factories.make_alert_rule(operator, name="Crashes")
    alert = fire(rule)
    page = f"{ALERTS}{alert.pk}/change/"
    link = f"{RULES}{rule.pk}/change/"
    assert link in text_of(browser(operator).get(page))
    seen = text_of(browser(viewer).get(page))
    assert "Crashes" in seen
    assert link not in seen


def test_alerts_are_filtered_by_state(operator, browser, cluster_a):
    burst(cluster_a)
    rule = factories.make_alert_rule(operator, name="Crashes")
    fire(rule)
    client = browser(operator)
    assert "Look at them" in text_of(client.get(ALERTS, {"state": "firing"}))
    assert "Look at them" not in text_of(client.get(ALERTS, {"state": "over"}))


def test_a_message_about_an_alert_leads_to_its_page(operator, cluster_a, settings):
    settings.PUBLIC_URL = "https://portal.example"
    burst(cluster_a)
    alert = fire(factories.make_alert_rule(operator, name="Crashes", search="namespace=shop"))
    notice = Notice.objects.get()
    assert notice.details == "namespace=shop"
    link = content.link(notice.object_type, notice.object_id)
    assert link == f"https://portal.example{ALERTS}{alert.pk}/change/"
