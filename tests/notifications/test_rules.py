"""Rules and receivers: what is refused when they are saved, and the preview."""

from datetime import timedelta

import pytest
from django.utils import timezone

from beidou.base.errors import InvalidInput
from notifications.models import NotificationRule, Receiver
from notifications.services import belonging, receivers, rules
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


def refused_rule(user, *, clusters=(), to=None, stored=None, **values) -> dict[str, str]:
    rule = NotificationRule(**{"name": "r", "severity": "info", "scope": "all", **values})
    to = [factories.make_receiver(team=rule.team)] if to is None else to
    with pytest.raises(InvalidInput) as caught:
        rules.validate(rule, user, clusters=clusters, receivers=to, stored=stored)
    return caught.value.fields


def refused_receiver(user, stored=None, **values) -> dict[str, str]:
    receiver = Receiver(**{"name": "r", "channel": "email", **values})
    with pytest.raises(InvalidInput) as caught:
        receivers.validate(receiver, user, stored=stored)
    return caught.value.fields


def test_owners_write_for_their_teams_alone(owner, owners, operator, operators, admin):
    assert set(belonging.teams_led_by(owner)) == {owners}
    assert not belonging.may_add(operator)
    assert belonging.may_add(admin)
    assert "Choose one of your teams" in refused_rule(owner)["team"]
    assert "not an owner" in refused_rule(owner, team=operators)["team"]
    assert "not an owner" in refused_receiver(operator, team=operators)["team"]
    rules.validate(
        NotificationRule(name="r", team=owners, severity="info", scope="all"),
        owner,
        clusters=[],
        receivers=[factories.make_receiver(team=owners)],
    )


def test_an_owner_of_one_team_leads_no_other_of_theirs(owner, viewers):
    owner.groups.add(viewers)
    assert "not an owner" in refused_rule(owner, team=viewers)["team"]


def test_a_rule_names_clusters_that_the_writer_owns_and_the_team_sees(
    owner, owners, admin, cluster_a, cluster_b
):
    chosen = {"team": owners, "scope": "chosen"}
    assert "at least one" in refused_rule(owner, **chosen)["clusters"]
    assert "not an owner" in refused_rule(owner, clusters=[cluster_b], **chosen)["clusters"]
    sentence = refused_rule(admin, clusters=[cluster_b], **chosen)["clusters"]
    assert sentence == "The team owners may not see the cluster cluster-b."


def test_a_rule_needs_receivers_of_its_own_team(owner, owners, admin):
    assert "at least one" in refused_rule(owner, team=owners, to=[])["receivers"]
    foreign = factories.make_receiver("theirs")
    sentence = refused_rule(owner, team=owners, to=[foreign])["receivers"]
    assert sentence == "The receiver theirs does not belong to the team of the rule."


def test_kinds_and_labels_must_be_such(admin):
    assert "no kind made.up" in refused_rule(admin, kinds=["made.up"])["kinds"]
    for labels in ("", "tier", "tier=", "=gold"):
        wrong = refused_rule(admin, scope="labels", labels=labels)
        assert wrong["labels"] == "Write the label as key=value."


def test_labels_are_written_in_one_way(admin):
    rule = NotificationRule(name="r", severity="info", scope="labels", labels=" a = b ,c=d,")
    rules.validate(rule, admin, clusters=[], receivers=[factories.make_receiver()])
    assert rule.labels == "a=b, c=d"
    assert rule.wanted_labels == {"a": "b", "c": "d"}


def test_mailboxes_are_checked(admin):
    assert "at least one address" in refused_receiver(admin)["addresses"]
    assert "eve" in refused_receiver(admin, addresses="a@example.com, eve")["addresses"]
    many = "\n".join(f"a{number}@example.com" for number in range(51))
    assert "mailing list" in refused_receiver(admin, addresses=many)["addresses"]
    good = Receiver(
        name="r", channel="email", addresses="a@example.com; b@example.com a@example.com"
    )
    receivers.validate(good, admin)
    assert good.addresses == "a@example.com\nb@example.com"


def test_a_webhook_needs_an_address_and_a_long_secret(admin):
    hook = {"channel": "webhook", "webhook_url": "https://example.com/hook"}
    assert "16 characters" in refused_receiver(admin, **hook, secret="short")["secret"]
    hook["webhook_url"] = "https://169.254.169.254/"
    assert "own machine" in refused_receiver(admin, **hook, secret=SECRET)["webhook_url"]
    hook["webhook_url"] = "http://example.com/"
    assert "https://" in refused_receiver(admin, **hook, secret=SECRET)["webhook_url"]


def test_another_host_needs_another_secret(admin):
    stored = factories.make_receiver(
        channel="webhook", webhook_url="https://example.com/a", secret=SECRET
    )
    receiver = Receiver.objects.get(pk=stored.pk)
    receiver.webhook_url = "https://example.com/b"
    receivers.validate(receiver, admin, stored=stored)
    receiver.webhook_url = "https://evil.example.org/b"
    with pytest.raises(InvalidInput) as caught:
        receivers.validate(receiver, admin, stored=stored)
    assert "new secret" in caught.value.fields["secret"]


def test_a_chat_needs_its_own_address(admin):
    wrong = refused_receiver(admin, channel="slack", service_url="json://localhost/")
    assert wrong["service_url"] == "The address must begin with slack://."


def test_what_another_channel_used_is_forgotten(admin):
    receiver = Receiver(
        name="r", channel="email", addresses="a@example.com", secret=SECRET, service_url="slack://x"
    )
    receivers.validate(receiver, admin)
    assert (receiver.secret, receiver.service_url) == ("", "")


def test_a_receiver_that_another_teams_rule_tells_keeps_its_team(admin, owners, viewers):
    receiver = factories.make_receiver(team=owners)
    factories.make_rule(receiver, team=owners, name="theirs")
    stored = Receiver.objects.get(pk=receiver.pk)
    receiver.team = viewers
    with pytest.raises(InvalidInput, match="The rule theirs of another team"):
        receivers.validate(receiver, admin, stored=stored)


def test_a_team_that_is_deleted_takes_its_rules_and_receivers_along(owners):
    factories.make_rule(factories.make_receiver(team=owners), team=owners)
    owners.delete()
    assert not Receiver.objects.exists()
    assert not NotificationRule.objects.exists()


def test_the_preview_shows_what_would_have_been_told(viewers, cluster_a, cluster_b):
    rule = factories.make_rule(team=viewers, severity="warning", enabled=False)
    factories.make_notice("seen", cluster=cluster_a)
    factories.make_notice("mild", cluster=cluster_a, severity="info")
    factories.make_notice("hidden", cluster=cluster_b)
    factories.make_notice("old", cluster=cluster_a, at=timezone.now() - timedelta(hours=25))
    found = rules.preview(rule)
    assert (found.found, found.is_part) == (1, False)
    assert [notice.title for notice in found.newest] == ["seen"]
