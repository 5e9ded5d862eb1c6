"""Alert rules, previews and alerts over HTTP."""

import pytest

from beidou.base.errors import TemporaryError
from beidou.base.sentences import Sentence
from events.models import AlertRule, EventAlert
from events.services import alerting, search
from tests import factories

pytestmark = pytest.mark.django_db
RULES, ALERTS = "/api/v1/event-alert-rules/", "/api/v1/event-alerts/"
BODY = {"name": "Crashes", "search": "reason=BackOff", "threshold": 3, "window_minutes": 10}


def burst(cluster, number=3, **values):
    for _number in range(number):
        factories.make_event(cluster, **{"reason": "BackOff", **values})


def test_a_rule_is_made_changed_and_deleted(operator, api, cluster_a):
    client = api(operator)
    made = client.post(RULES, {**BODY, "quiet_from": "22:00", "quiet_to": "06:00"})
    assert made.status_code == 201
    row = made.json()
    assert (row["owner"], row["owner_name"]) == (operator.pk, "operator")
    assert (row["group_by"], row["severity"], row["enabled"]) == ("cluster", "warning", True)
    page = f"{RULES}{row['id']}/"
    changed = client.patch(page, {"threshold": 5}).json()
    assert (changed["threshold"], changed["search"]) == (5, "reason=BackOff")
    assert client.delete(page).status_code == 204


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"search": "since=2026-11-20"}, "search"),
        ({"search": "q=" + "x" * 501}, "search"),
        ({"search": "reason=%00"}, "search"),
        ({"search": "q&" * 1500}, "search"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1_000_001}, "threshold"),
        ({"window_minutes": 1441}, "window_minutes"),
        ({"group_by": "colour"}, "group_by"),
        ({"quiet_from": "22:00"}, "quiet_to"),
        ({"quiet_from": "22:00", "quiet_to": "22:00"}, "quiet_to"),
        ({"severity": "none"}, "severity"),
    ],
)
@pytest.mark.parametrize("place", ["", "preview/"])
def test_what_is_no_rule_is_refused_with_the_field(body, field, place, operator, api, cluster_a):
    known = {**BODY} if not place else {k: v for k, v in BODY.items() if k != "name"}
    answer = api(operator).post(f"{RULES}{place}", {**known, **body})
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {field})
    assert not AlertRule.objects.exists()


def test_quiet_hours_are_taken_back_together(operator, api, cluster_a):
    client = api(operator)
    made = client.post(RULES, {**BODY, "quiet_from": "22:00", "quiet_to": "06:00"}).json()
    page = f"{RULES}{made['id']}/"
    assert client.patch(page, {"quiet_from": None}).status_code == 400
    answer = client.patch(page, {"quiet_from": None, "quiet_to": None})
    assert (answer.status_code, answer.json()["quiet_from"]) == (200, None)


@pytest.mark.parametrize("who", ["viewer", "stranger"])
@pytest.mark.parametrize("place", ["", "preview/"])
def test_who_may_only_look_writes_and_previews_nothing(who, place, cast, api, cluster_a):
    assert api(cast[who]).post(f"{RULES}{place}", BODY).status_code == 403


def test_who_lost_the_right_to_write_rules_can_only_delete_their_own(viewer, api, cluster_a):
    rule = factories.make_alert_rule(viewer)
    client, page = api(viewer), f"{RULES}{rule.pk}/"
    answer = client.patch(page, {"threshold": 1})
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert client.get(page).json()["threshold"] == 3
    assert client.delete(page).status_code == 204


def test_a_rule_of_somebody_else_does_not_exist(operator, viewer, api, cluster_a):
    rule = factories.make_alert_rule(operator)
    for place in ("", "preview/"):
        assert api(viewer).get(f"{RULES}{rule.pk}/{place}").status_code == 404
    assert api(viewer).get(RULES).json()["results"] == []


def test_a_rule_is_previewed_before_and_after_it_is_saved(operator, api, cluster_a):
    burst(cluster_a)
    client = api(operator)
    unsaved = {name: value for name, value in BODY.items() if name != "name"}
    before = client.post(f"{RULES}preview/", unsaved)
    assert before.status_code == 200
    (firing,) = before.json()["firings"]
    assert (firing["cluster"], firing["peak"], firing["ended"]) == (cluster_a.pk, 3, None)
    assert (before.json()["found"], before.json()["is_late"]) == (1, False)
    rule = client.post(RULES, BODY).json()
    after = client.get(f"{RULES}{rule['id']}/preview/").json()
    assert after["found"] == 1


def test_a_preview_while_the_store_is_away_is_a_503(operator, api, cluster_a, monkeypatch):
    def away(*_args, **_values):
        raise TemporaryError(Sentence("The event store is away."))

    rule = factories.make_alert_rule(operator)
    monkeypatch.setattr(search, "counts", away)
    answer = api(operator).get(f"{RULES}{rule.pk}/preview/")
    assert (answer.status_code, answer.json()["message"]) == (503, "The event store is away.")


def test_an_administrator_takes_over_a_rule(operator, admin, auditor, api, cluster_a):
    rule = factories.make_alert_rule(operator)
    page = f"{RULES}{rule.pk}/take_over/"
    assert api(auditor).post(page).status_code == 403
    answer = api(admin).post(page)
    assert (answer.status_code, answer.json()["owner_name"]) == (200, "admin")


def test_alerts_are_listed_newest_first_with_their_search(operator, viewer, api, cluster_a):
    rule = factories.make_alert_rule(operator, name="Crashes", group_by="name")
    burst(cluster_a, name="web")
    alerting.look_at_all()
    assert api(operator).get(f"{RULES}{rule.pk}/").json()["firing"] == 1
    (row,) = api(viewer).get(ALERTS).json()["results"]
    assert (row["rule_name"], row["value"], row["state"]) == ("Crashes", "web", "firing")
    assert (row["cluster_name"], row["count"], row["told"]) == ("cluster-a", 3, 1)
    found = api(viewer).get(f"/api/v1/events/?{row['search']}").json()["results"]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("query", "number"),
    [("state=firing", 1), ("state=over", 0), ("value=web", 1), ("value=x", 0), ("rule=999999", 0)],
)
def test_alerts_are_filtered(query, number, operator, api, cluster_a):
    factories.make_alert_rule(operator, group_by="name")
    burst(cluster_a, name="web")
    alerting.look_at_all()
    assert len(api(operator).get(f"{ALERTS}?{query}").json()["results"]) == number


def test_alerts_of_a_foreign_cluster_do_not_exist(admin, viewer, api, cluster_a, cluster_b):
    factories.make_alert_rule(admin)
    burst(cluster_b)
    alerting.look_at_all()
    alert = EventAlert.objects.get()
    assert api(viewer).get(ALERTS).json()["results"] == []
    assert api(viewer).get(f"{ALERTS}{alert.pk}/").status_code == 404


def test_nobody_writes_alerts(admin, api, cluster_a):
    assert api(admin).post(ALERTS, {}).status_code == 405
