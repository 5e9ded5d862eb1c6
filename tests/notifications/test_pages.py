"""The pages of rules, receivers and messages, for the four people and an owner."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from beidou.base.models import AuditEntry
from notifications.models import Delivery, NotificationRule, Receiver
from tests import factories

pytestmark = pytest.mark.django_db
SECRET = "a secret of the webhook"


@pytest.fixture
def owners(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return team


@pytest.fixture
def owner(owners):
    return factories.make_user("owner", teams=(owners,))


def place(name: str, page: str = "changelist", *args) -> str:
    return reverse(f"admin:notifications_{name}_{page}", args=args)


def post(client, url, **values):
    return client.post(url, values, follow=True)


def receiver_values(**values):
    return {
        "name": "on call", "team": "", "channel": "email", "addresses": "oncall@example.com",
        "webhook_url": "", "secret": "", "service_url": "", "language": "zh-hans", "enabled": "on",
        **values,
    }  # fmt: skip


def rule_values(receiver, **values):
    return {
        "name": "the worst", "team": "", "kinds": ["cluster.unreachable"], "severity": "critical",
        "scope": "all", "labels": "", "clusters": [], "receivers": [receiver.pk], "enabled": "on",
        **values,
    }  # fmt: skip


def test_an_administrator_writes_receiver_and_rule_of_the_fleet(admin, browser):
    client = browser(admin)
    answer = post(client, place("receiver", "add"), **receiver_values())
    receiver = Receiver.objects.get()
    assert (answer.status_code, receiver.team, receiver.language) == (200, None, "zh-hans")
    post(client, place("notificationrule", "add"), **rule_values(receiver))
    rule = NotificationRule.objects.get()
    assert (rule.kinds, list(rule.receivers.all())) == (["cluster.unreachable"], [receiver])
    entry = AuditEntry.objects.get(verb="add", object_type="notifications.notificationrule")
    assert entry.object_name == "the worst"


def test_an_owner_writes_for_the_team_and_not_for_the_fleet(owner, owners, browser):
    client = browser(owner)
    post(client, place("receiver", "add"), **receiver_values())
    assert not Receiver.objects.exists()
    post(client, place("receiver", "add"), **receiver_values(team=owners.pk))
    receiver = Receiver.objects.get()
    assert receiver.team == owners
    values = rule_values(receiver, team=owners.pk)
    post(client, place("notificationrule", "add"), **values)
    rule = NotificationRule.objects.get()
    change = place("notificationrule", "change", rule.pk)
    post(client, change, **{**values, "name": "renamed"})
    rule.refresh_from_db()
    assert rule.name == "renamed"
    post(client, place("notificationrule", "delete", rule.pk), post="yes")
    assert not NotificationRule.objects.exists()


def test_members_of_the_team_see_and_do_not_write(viewer, viewers, browser):
    receiver = factories.make_receiver("theirs", team=viewers)
    rule = factories.make_rule(receiver, team=viewers)
    client = browser(viewer)
    assert "theirs" in client.get(place("receiver")).content.decode()
    page = client.get(place("receiver", "change", receiver.pk)).content.decode()
    assert 'name="service_url"' not in page
    assert client.get(place("receiver", "add")).status_code == 403
    for name, row in (("receiver", receiver), ("notificationrule", rule)):
        assert client.post(place(name, "delete", row.pk), {"post": "yes"}).status_code == 403


def test_what_is_of_another_team_does_not_exist(owner, viewers, browser):
    receiver = factories.make_receiver("theirs", team=viewers)
    delivery = factories.make_delivery(receiver)
    client = browser(owner)
    assert client.get(place("receiver", "change", receiver.pk)).status_code == 404
    assert client.get(place("delivery", "change", delivery.pk)).status_code == 404
    assert "theirs" not in client.get(place("receiver")).content.decode()


def test_a_stored_secret_is_never_shown_and_an_empty_field_keeps_it(admin, browser):
    receiver = factories.make_receiver(
        channel="webhook", webhook_url="https://example.com/hook", secret=SECRET
    )
    client, change = browser(admin), place("receiver", "change", receiver.pk)
    assert SECRET not in client.get(change).content.decode()
    values = receiver_values(
        name="renamed", channel="webhook", addresses="", webhook_url="https://example.com/hook"
    )
    post(client, change, **values)
    receiver.refresh_from_db()
    assert (receiver.name, receiver.secret) == ("renamed", SECRET)
    entry = AuditEntry.objects.get(verb="change")
    assert SECRET not in str(entry.before) + str(entry.after)


def test_a_receiver_that_is_saved_has_what_failed_tried_at_once(admin, browser):
    receiver = factories.make_receiver()
    failed = factories.make_delivery(
        receiver, status="failed", next_try_at=timezone.now() + timedelta(hours=1)
    )
    post(browser(admin), place("receiver", "change", receiver.pk), **receiver_values())
    failed.refresh_from_db()
    assert failed.next_try_at <= timezone.now()


def test_the_form_says_at_the_field_what_is_wrong(admin, browser):
    values = receiver_values(channel="webhook", webhook_url="https://127.0.0.1/", secret=SECRET)
    answer = browser(admin).post(place("receiver", "add"), values)
    errors = answer.context["adminform"].form.errors
    assert "own machine" in errors["webhook_url"][0]


@pytest.mark.django_db(transaction=True)
def test_save_and_test_sends_a_message_and_says_so(admin, browser, mail_server):
    answer = post(
        browser(admin),
        place("receiver", "add"),
        **receiver_values(notifications_receiver_save_and_test="1"),
    )
    assert "The test message to on call was sent." in answer.content.decode()
    assert len(mail_server.mails) == 1
    assert Receiver.objects.get().test_result == "sent"


@pytest.mark.django_db(transaction=True)
def test_a_test_that_fails_is_said_on_the_page(admin, browser, web_receiver):
    web_receiver.status = 404
    receiver = factories.make_receiver(
        channel="webhook", webhook_url=web_receiver.url, secret=SECRET
    )
    values = {"action": "test", "_selected_action": [receiver.pk]}
    answer = post(browser(admin), place("receiver"), **values)
    assert "answered 404" in answer.content.decode()


def test_the_log_shows_what_was_sent_and_sends_again(admin, browser):
    delivery = factories.make_delivery(
        status="given_up", tries=8, last_error="The mail server is away."
    )
    client = browser(admin)
    page = client.get(place("delivery")).content.decode()
    assert "The mail server is away." in page
    assert delivery.first_line in page
    assert (
        delivery.first_line in client.get(place("delivery", "change", delivery.pk)).content.decode()
    )
    post(client, place("delivery"), action="send_again", _selected_action=[delivery.pk])
    delivery.refresh_from_db()
    assert delivery.status == "waiting"


def test_who_may_only_look_sends_nothing_again(viewer, viewers, browser):
    delivery = factories.make_delivery(factories.make_receiver(team=viewers), status="given_up")
    post(browser(viewer), place("delivery"), action="send_again", _selected_action=[delivery.pk])
    assert Delivery.objects.get().status == "given_up"


def test_the_page_of_a_rule_shows_the_last_day(admin, browser, cluster_a):
    rule = factories.make_rule(factories.make_receiver())
    factories.make_notice("the cluster is away", cluster=cluster_a)
    page = browser(admin).get(place("notificationrule", "change", rule.pk)).content.decode()
    assert "1 notice of the last 24 hours would have been told." in page
    assert "the cluster is away" in page


@pytest.mark.parametrize("page", ["changelist", "change"])
def test_a_notice_leads_to_its_object_while_there_is_one(page, admin, browser, cluster_a):
    machine = factories.make_machine()
    about = {"object_type": "machines.machine", "object_id": str(machine.pk)}
    notice = factories.make_notice(cluster=cluster_a, **about)
    url = reverse(f"admin:base_notice_{page}", args=[notice.pk] if page == "change" else [])
    link = f'href="{reverse("admin:machines_machine_change", args=[machine.pk])}"'
    assert link in browser(admin).get(url).content.decode()
    machine.delete()
    assert link not in browser(admin).get(url).content.decode()
