"""Users, teams and tokens: who may act on those of others, and what the trail says of it."""

import pytest
from django_otp.plugins.otp_totp.models import TOTPDevice

from beidou.base import second_factor, tokens
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def auditor():
    team = factories.make_team("auditors")
    factories.give(team, "base.audit_fleet")
    return factories.make_user("auditor", teams=(team,))


def act(client, page: str, action: str, row) -> None:
    client.post(page, {"action": action, "_selected_action": [str(row.pk)]})


def test_an_auditor_cannot_remove_a_second_factor(auditor, admin, browser):
    TOTPDevice.objects.create(user=admin, confirmed=True)
    act(browser(auditor), "/base/user/", "remove_second_factor", admin)
    assert second_factor.is_enabled(admin)


def test_an_administrator_removes_a_second_factor(operator, admin, browser):
    TOTPDevice.objects.create(user=operator, confirmed=True)
    act(browser(admin), "/base/user/", "remove_second_factor", operator)
    assert not second_factor.is_enabled(operator)


@pytest.mark.parametrize(
    ("page", "action"), [("/base/user/", "revoke_tokens"), ("/base/apitoken/", "revoke")]
)
def test_an_auditor_cannot_revoke_the_tokens_of_others(page, action, auditor, admin, browser):
    token, _key = tokens.issue(user=admin, name="backup")
    row = admin if page == "/base/user/" else token
    act(browser(auditor), page, action, row)
    token.refresh_from_db()
    assert token.is_valid


def test_everybody_revokes_the_own_token(viewer, browser):
    token, _key = tokens.issue(user=viewer, name="backup")
    act(browser(viewer), "/base/apitoken/", "revoke", token)
    token.refresh_from_db()
    assert not token.is_valid
