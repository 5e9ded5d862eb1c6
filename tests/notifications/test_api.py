"""Rules, receivers, messages and notices over the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.models import AuditEntry
from notifications.models import Delivery, NotificationRule, Receiver
from tests import factories

pytestmark = pytest.mark.django_db
SECRET = "a secret of the webhook"
RULES, RECEIVERS, DELIVERIES, NOTICES = (
    f"/api/v1/{name}/"
    for name in (
        "notification-rules", "notification-receivers", "notification-deliveries", "notices",
    )
)  # fmt: skip
WEBHOOK = {
    "name": "hook", "channel": "webhook", "webhook_url": "https://example.com/x", "secret": SECRET,
}  # fmt: skip


@pytest.fixture
def owners(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return team


@pytest.fixture
def owner(owners):
    return factories.make_user("owner", teams=(owners,))


def test_a_receiver_is_written_and_its_secret_never_read(api, admin):
    answer = api(admin).post(RECEIVERS, WEBHOOK)
    assert answer.status_code == 201, answer.json()
    assert answer.json()["has"] == ["secret"]
    assert SECRET not in answer.content.decode()
    changed = api(admin).patch(f"{RECEIVERS}{answer.json()['id']}/", {"name": "renamed"})
    assert changed.status_code == 200
    assert Receiver.objects.get().secret == SECRET
    assert set(AuditEntry.objects.values_list("verb", flat=True)) == {"add", "change"}


def test_a_receiver_that_is_saved_has_what_failed_tried_at_once(api, admin):
    receiver = factories.make_receiver()
    failed = factories.make_delivery(
        receiver, status="failed", next_try_at=timezone.now() + timedelta(hours=1)
    )
    assert api(admin).patch(f"{RECEIVERS}{receiver.pk}/", {"language": "en"}).status_code == 200
    failed.refresh_from_db()
    assert failed.next_try_at <= timezone.now()


def test_a_wrong_receiver_says_which_field(api, admin):
    answer = api(admin).post(RECEIVERS, {**WEBHOOK, "webhook_url": "http://example.com/"})
    assert answer.status_code == 400
    assert "https://" in str(answer.json()["fields"]["webhook_url"])


def test_an_owner_writes_a_rule_of_the_team(api, owner, owners, cluster_a):
    receiver = factories.make_receiver(team=owners)
    wish = {
        "name": "ours", "team": owners.pk, "kinds": ["operation.failed"], "severity": "critical",
        "scope": "chosen", "clusters": [cluster_a.pk], "receivers": [receiver.pk],
    }  # fmt: skip
    answer = api(owner).post(RULES, wish)
    assert answer.status_code == 201, answer.json()
    rule = NotificationRule.objects.get()
    assert (list(rule.clusters.all()), list(rule.receivers.all())) == ([cluster_a], [receiver])
    page = f"{RULES}{rule.pk}/"
    assert api(owner).patch(page, {"scope": "all"}).json()["clusters"] == []
    assert api(owner).patch(page, {"team": None}).status_code == 400
    assert api(owner).delete(page).status_code == 204


def test_keys_of_others_are_answered_like_keys_that_do_not_exist(api, owner, owners, cluster_b):
    foreign = factories.make_receiver()
    wish = {"name": "x", "team": owners.pk, "scope": "chosen"}
    for field, key in (("receivers", foreign.pk), ("clusters", cluster_b.pk)):
        answers = []
        for tried in (key, 999_999):
            answer = api(owner).post(RULES, {**wish, "receivers": [], field: [tried]})
            told = str(answer.json()["fields"][field]).replace(str(tried), "KEY")
            answers.append((answer.status_code, told))
        assert answers[0] == answers[1]
        assert answers[0][0] == 400


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_who_owns_no_cluster_writes_nothing(who, cast, api):
    for url, wish in ((RULES, {"name": "x"}), (RECEIVERS, WEBHOOK)):
        assert api(cast[who]).post(url, wish).status_code == 403


def test_members_see_what_is_of_their_team_alone(api, viewer, viewers, operator):
    receiver = factories.make_receiver(team=viewers)
    rule = factories.make_rule(receiver, team=viewers)
    delivery = factories.make_delivery(receiver)
    factories.make_delivery(factories.make_receiver())
    for url, row in ((RULES, rule), (RECEIVERS, receiver), (DELIVERIES, delivery)):
        assert [each["id"] for each in api(viewer).get(url).json()["results"]] == [row.pk]
        assert api(operator).get(url).json()["results"] == []
        assert api(operator).get(f"{url}{row.pk}/").status_code == 404
    assert api(viewer).patch(f"{RULES}{rule.pk}/", {"name": "x"}).status_code == 403
    assert api(viewer).delete(f"{RECEIVERS}{receiver.pk}/").status_code == 403
    assert api(viewer).post(f"{RECEIVERS}{receiver.pk}/test/").status_code == 403
    assert api(viewer).post(f"{DELIVERIES}{delivery.pk}/again/").status_code == 403


def test_a_receiver_is_tested(api, admin, web_receiver):
    receiver = factories.make_receiver(
        channel="webhook", webhook_url=web_receiver.url, secret=SECRET
    )
    answer = api(admin).post(f"{RECEIVERS}{receiver.pk}/test/")
    assert (answer.status_code, answer.json()["status"]) == (200, "sent")
    assert len(web_receiver.requests) == 1


def test_a_message_is_sent_again(api, admin):
    delivery = factories.make_delivery(status="given_up")
    again = f"{DELIVERIES}{delivery.pk}/again/"
    assert api(admin).post(again).json()["status"] == "waiting"
    assert api(admin).post(again).status_code == 409
    assert Delivery.objects.get().status == "waiting"


def test_a_rule_shows_what_it_would_have_told(api, admin, cluster_a):
    rule = factories.make_rule(factories.make_receiver())
    factories.make_notice("the cluster is away", cluster=cluster_a)
    found = api(admin).get(f"{RULES}{rule.pk}/preview/").json()
    assert found["found"] == 1
    assert found["newest"][0]["title"] == "the cluster is away"


def test_notices_are_those_of_visible_clusters(api, viewer, cluster_a, cluster_b):
    own = factories.make_notice(cluster=cluster_a)
    factories.make_notice(cluster=cluster_b)
    assert [row["id"] for row in api(viewer).get(NOTICES).json()["results"]] == [own.pk]
    assert api(viewer).get(f"{NOTICES}?kind=operation.failed").json()["results"] == []
