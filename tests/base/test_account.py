"""My account: language, password, second factor, tokens."""

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django_otp.oath import totp

from beidou.base import second_factor, tokens
from beidou.base.errors import Conflict, InvalidInput
from beidou.base.models import ApiToken, AuditEntry
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def li(db):
    return factories.make_user("li")


def code_for(user) -> str:
    return f"{totp(second_factor.begin(user).bin_key):06d}"


def test_the_account_needs_a_sign_in(client):
    assert client.get("/account/")["Location"] == "/login/?next=/account/"


def test_the_account_shows_the_teams(viewer, browser):
    assert "viewers" in browser(viewer).get("/account/").content.decode()


def test_the_chosen_language_is_used_from_then_on(li, browser):
    client = browser(li)
    client.post("/account/language/", {"language": "zh-hans"})
    assert client.get("/account/")["Content-Language"] == "zh-hans"


def test_an_unknown_language_is_refused(li, browser):
    browser(li).post("/account/language/", {"language": "tlh"})
    li.refresh_from_db()
    assert li.language == ""


def test_the_password_is_changed_with_the_old_one_and_audited(li, browser):
    new = "a-long-new-secret-7"
    client = browser(li)
    response = client.post(
        "/password_change/",
        {"old_password": "pw", "new_password1": new, "new_password2": new},
    )
    assert response["Location"] == "/account/"
    li.refresh_from_db()
    assert li.check_password(new)
    assert AuditEntry.objects.get(verb="set password").actor == "li"


def test_a_wrong_old_password_changes_nothing_and_is_audited(li, browser):
    new = "a-long-new-secret-7"
    answer = browser(li).post(
        "/password_change/",
        {"old_password": "wrong", "new_password1": new, "new_password2": new},
    )
    assert "This is not your password." in answer.content.decode()
    li.refresh_from_db()
    assert li.check_password("pw")
    entry = AuditEntry.objects.get(verb="confirm password")
    assert (entry.actor, entry.object_name, entry.outcome) == ("li", "li", "failed")


@pytest.mark.parametrize(
    ("address", "field"),
    [("/password_change/", "old_password"), ("/account/second-factor/off/", "password")],
)
def test_guessing_the_own_password_locks_out(address, field, li, browser, settings):
    client = browser(li)
    second_factor.confirm(li, code=code_for(li))
    new = "a-long-new-secret-7"
    values = {"new_password1": new, "new_password2": new}
    for _attempt in range(settings.AXES_FAILURE_LIMIT):
        client.post(address, {field: "wrong", **values})
    assert client.post(address, {field: "pw", **values}).status_code == 429
    li.refresh_from_db()
    assert li.check_password("pw")
    assert second_factor.is_enabled(li)
    assert AuditEntry.objects.filter(verb="lock out", object_name="li").exists()


def test_a_password_changed_by_command_is_audited(li, monkeypatch):
    monkeypatch.setattr("getpass.getpass", lambda *args, **kwargs: "a-long-new-secret-7")
    call_command("changepassword", "li", stdout=StringIO())
    entry = AuditEntry.objects.get(verb="set password")
    assert (entry.actor, entry.object_name) == ("manage.py changepassword", "li")


def test_a_better_hash_of_the_same_password_is_no_new_password(li, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2PasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    before = li.password
    assert li.check_password("pw")
    assert li.password != before
    assert not AuditEntry.objects.exists()


def test_the_page_for_new_people_speaks_of_sign_ins_that_there_are(admin, browser):
    page = browser(admin).get("/base/user/add/").content.decode()
    assert "a program uses it with API tokens" in page
    assert "LDAP" not in page


def test_a_new_person_with_a_password_has_one_entry(admin, browser):
    new = "a-long-new-secret-7"
    values = {"username": "wang", "usable_password": "true", "password1": new, "password2": new}
    browser(admin).post("/base/user/add/", values)
    assert [entry.verb for entry in AuditEntry.objects.filter(object_name="wang")] == ["add"]


def test_switching_the_sign_in_by_password_off_is_audited_once(li, admin, browser):
    values = {"usable_password": "false", "unset-password": "1"}
    browser(admin).post(f"/base/user/{li.pk}/password/", values)
    li.refresh_from_db()
    assert not li.has_usable_password()
    assert AuditEntry.objects.filter(verb="set password").count() == 1


def test_every_page_about_a_password_says_that_tokens_stay_valid(li, admin, browser):
    for address in ("/account/", "/password_change/", f"/base/user/{li.pk}/password/"):
        page = browser(admin).get(address).content.decode()
        assert "API tokens stay valid when the password changes" in page, address


def test_a_short_password_is_refused(li, browser):
    response = browser(li).post(
        "/password_change/",
        {"old_password": "pw", "new_password1": "short7x", "new_password2": "short7x"},
    )
    assert "at least 10" in response.content.decode()
    li.refresh_from_db()
    assert li.check_password("pw")


def test_a_token_is_shown_once_and_opens_the_api(li, browser, client):
    page = browser(li).post("/account/tokens/", {"name": "robot", "days": "30"})
    [key] = re.findall(r'id="new-token-key"[^>]*>([^<]+)<', page.content.decode())
    assert page["Cache-Control"] == "no-store"
    answer = client.get("/api/v1/tokens/", headers={"Authorization": f"Token {key}"})
    assert answer.status_code == 200
    assert key not in browser(li).get("/account/").content.decode()


def test_a_token_without_a_purpose_is_refused(li, browser):
    assert browser(li).post("/account/tokens/", {"name": "", "days": "30"}).status_code == 400
    assert not ApiToken.objects.exists()


def test_a_revoked_token_opens_nothing(li, browser, client):
    token, key = tokens.issue(user=li, name="robot")
    browser(li).post(f"/account/tokens/{token.pk}/revoke/")
    answer = client.get("/api/v1/tokens/", headers={"Authorization": f"Token {key}"})
    assert answer.status_code == 401


def test_an_expired_token_opens_nothing(li, client):
    token, key = tokens.issue(user=li, name="robot", days=1)
    token.expires_at = token.created_at
    token.save()
    answer = client.get("/api/v1/tokens/", headers={"Authorization": f"Token {key}"})
    assert answer.status_code == 401


def test_somebody_elses_token_cannot_be_revoked(li, stranger, browser):
    token, _key = tokens.issue(user=li, name="robot")
    assert browser(stranger).post(f"/account/tokens/{token.pk}/revoke/").status_code == 404
    token.refresh_from_db()
    assert token.is_valid


def test_revoking_twice_is_audited_once(li):
    token, _key = tokens.issue(user=li, name="robot")
    tokens.revoke(token)
    tokens.revoke(token)
    assert AuditEntry.objects.filter(verb="revoke token").count() == 1


def test_no_key_is_in_the_database_or_the_audit_trail(li):
    token, key = tokens.issue(user=li, name="robot")
    assert key not in str(ApiToken.objects.values().get())
    assert key not in str(AuditEntry.objects.values().get())


@pytest.mark.parametrize("days", [0, -1, 4000])
def test_a_token_of_impossible_length_is_refused(li, days):
    with pytest.raises(InvalidInput, match="1 to 3650 days"):
        tokens.issue(user=li, name="robot", days=days)


def test_the_command_makes_a_token_that_works(li, client):
    out = StringIO()
    call_command("create_token", "li", "--name", "robot", "--days", "7", stdout=out)
    key = out.getvalue().strip()
    answer = client.get("/api/v1/tokens/", headers={"Authorization": f"Token {key}"})
    assert answer.json()["results"][0]["name"] == "robot"


def test_the_command_refuses_an_unknown_user():
    with pytest.raises(CommandError, match="There is no user nobody"):
        call_command("create_token", "nobody")


def test_the_command_refuses_an_inactive_user():
    factories.make_user("gone", is_active=False)
    with pytest.raises(CommandError, match="not active"):
        call_command("create_token", "gone")


def test_switching_the_second_factor_on_gives_ten_backup_codes(li, browser):
    client = browser(li)
    page = client.get("/account/second-factor/").content.decode()
    assert "<svg" in page
    page = client.post("/account/second-factor/", {"code": code_for(li)}).content.decode()
    assert len(re.findall(r'<li class="select-all">', page)) == 10
    assert second_factor.is_enabled(li)


def test_a_wrong_first_code_leaves_the_second_factor_off(li, browser):
    response = browser(li).post("/account/second-factor/", {"code": "000000"})
    assert response.status_code == 400
    assert not second_factor.is_enabled(li)


def test_a_second_device_is_not_begun(li):
    second_factor.confirm(li, code=code_for(li))
    with pytest.raises(Conflict, match="switched on already"):
        second_factor.begin(li)


def test_switching_off_asks_for_the_password(li, browser):
    second_factor.confirm(li, code=code_for(li))
    client = browser(li)
    assert client.post("/account/second-factor/off/", {"password": "wrong"}).status_code == 400
    assert second_factor.is_enabled(li)
    client.post("/account/second-factor/off/", {"password": "pw"})
    assert not second_factor.is_enabled(li)
    assert AuditEntry.objects.filter(verb="switch second factor off", actor="li").exists()


def test_new_backup_codes_void_the_old_ones(li):
    old = second_factor.confirm(li, code=code_for(li))
    new = second_factor.renew_backup_codes(li)
    assert second_factor.verify(li, code=new[0])
    with pytest.raises(InvalidInput):
        second_factor.verify(li, code=old[0])


def test_an_administrator_removes_the_second_factor_of_a_lost_phone(li, admin, browser):
    second_factor.confirm(li, code=code_for(li))
    browser(admin).post(
        "/base/user/", {"action": "remove_second_factor", "_selected_action": [str(li.pk)]}
    )
    assert not second_factor.is_enabled(li)


def test_a_change_of_teams_is_audited_by_name(li, admin, browser):
    team = factories.make_team("gz")
    client = browser(admin)
    response = client.post(
        f"/base/user/{li.pk}/change/",
        {"username": "li", "is_active": "on", "is_staff": "on", "groups": [str(team.pk)]},
    )
    assert response.status_code == 302
    entry = AuditEntry.objects.get(verb="change")
    assert (entry.before, entry.after) == ({"groups": []}, {"groups": ["gz"]})


def test_a_password_set_by_an_administrator_is_audited_without_it(li, admin, browser):
    new = "a-long-new-secret-7"
    response = browser(admin).post(
        f"/base/user/{li.pk}/password/",
        {"usable_password": "true", "password1": new, "password2": new},
    )
    assert response.status_code == 302
    entry = AuditEntry.objects.get(verb="set password")
    assert entry.actor == "admin"
    assert new not in str(AuditEntry.objects.values().get(pk=entry.pk))


def test_whoever_is_in_no_team_is_told_whether_that_matters(admin, stranger, browser):
    assert "none; an administrator needs none" in browser(admin).get("/account/").content.decode()
    assert "none; ask an administrator" in browser(stranger).get("/account/").content.decode()
