"""Signing in: password, lock-out, second factor, and what the audit trail says of it."""

import time

import pytest
from axes.models import AccessAttempt
from django.test import Client
from django_otp.oath import totp

from beidou.base import second_factor
from beidou.base.models import AuditEntry, TotpDevice
from tests import factories

pytestmark = pytest.mark.django_db


def sign_in(client: Client, name="li", password="pw", **more):
    return client.post("/login/", {"username": name, "password": password, **more})


def is_signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def code_of(device: TotpDevice, steps_ahead: int = 0) -> str:
    return f"{totp(device.bin_key, t0=-device.STEP_SECONDS * steps_ahead):06d}"


@pytest.fixture
def li(db):
    return factories.make_user("li")


@pytest.fixture
def device(li):
    device = second_factor.begin(li)
    second_factor.confirm(li, code=code_of(device))
    device.refresh_from_db()
    return device


def test_the_right_password_leads_to_the_page_that_was_asked_for(client, li):
    response = sign_in(client, next="/account/")
    assert response.status_code == 302
    assert response["Location"] == "/account/"
    assert is_signed_in(client)


def test_a_name_longer_than_any_account_has_is_a_wrong_one(client):
    response = sign_in(client, name="x" * 300)
    assert response.status_code == 200
    assert "The name or the password is wrong" in response.content.decode()
    # Nothing is kept of it: PostgreSQL could not.
    assert not AccessAttempt.objects.exists()


def test_a_page_of_another_host_is_not_led_to(client, li):
    assert sign_in(client, next="https://evil.example/")["Location"] == "/"


def test_a_sign_in_is_audited_with_the_address(client, li):
    sign_in(client)
    entry = AuditEntry.objects.get(verb="sign in")
    assert (entry.actor, entry.outcome, entry.address) == ("li", "done", "127.0.0.1")


def test_a_sign_out_is_audited(client, li):
    sign_in(client)
    client.post("/logout/")
    assert AuditEntry.objects.filter(verb="sign out", actor="li").count() == 1


def test_a_wrong_password_is_refused_and_audited(client, li):
    response = sign_in(client, password="wrong")
    assert not is_signed_in(client)
    assert response.status_code == 200
    entry = AuditEntry.objects.get(verb="sign in")
    assert (entry.outcome, entry.object_name) == ("failed", "li")
    assert "wrong" not in str(entry.after)


def test_a_user_without_pages_cannot_sign_in(client):
    factories.make_user("robot", is_staff=False)
    sign_in(client, "robot")
    assert not is_signed_in(client)


def test_a_refused_sign_in_speaks_of_no_staff_account(client, li):
    text = sign_in(client, password="wrong").content.decode()
    assert "The name or the password is wrong" in text
    assert "staff" not in text


def lock_out(client: Client, settings, name: str = "li"):
    for _attempt in range(settings.AXES_FAILURE_LIMIT):
        response = sign_in(client, name, "wrong")
    return response


def test_too_many_failures_lock_the_name_out_and_say_for_how_long(client, li, settings):
    response = lock_out(client, settings)
    assert response.status_code == 429
    assert "another 15 minutes" in response.content.decode()


def test_the_right_password_does_not_help_during_a_lock_out(client, li, settings):
    lock_out(client, settings)
    assert sign_in(client).status_code == 429
    assert not is_signed_in(client)


def test_a_lock_out_and_the_attempts_during_it_are_audited(client, li, settings):
    lock_out(client, settings)
    sign_in(client)
    assert AuditEntry.objects.filter(verb="lock out", object_name="li").exists()
    assert AuditEntry.objects.filter(verb="sign in", outcome="refused").exists()


def test_a_lock_out_does_not_hit_other_names(client, li, settings):
    factories.make_user("wang")
    lock_out(client, settings)
    sign_in(client, "wang")
    assert is_signed_in(client)


def test_an_administrator_can_unlock_a_name(client, li, settings, admin, browser):
    lock_out(client, settings)
    browser(admin).post(
        "/base/user/", {"action": "unlock_sign_in", "_selected_action": [str(li.pk)]}
    )
    sign_in(client)
    assert is_signed_in(client)


def test_the_password_alone_is_not_enough_with_a_second_factor(client, li, device):
    response = sign_in(client)
    assert response["Location"] == "/login/code/"
    assert not is_signed_in(client)
    assert client.get("/account/").status_code == 302


def test_the_code_after_the_password_signs_in(client, li, device):
    sign_in(client, next="/account/")
    response = client.post("/login/code/", {"code": code_of(device, steps_ahead=1)})
    assert response["Location"] == "/account/"
    assert is_signed_in(client)
    assert AuditEntry.objects.get(verb="sign in").after == {"second_factor": True}


def test_a_code_works_once(client, li, device):
    sign_in(client)
    response = client.post("/login/code/", {"code": code_of(device)})
    assert response.status_code == 200
    assert not is_signed_in(client)


def test_a_wrong_code_is_refused_and_audited(client, li, device):
    sign_in(client)
    response = client.post("/login/code/", {"code": "000000"})
    assert "not right" in response.content.decode()
    assert AuditEntry.objects.get(verb="sign in").outcome == "failed"


def test_guessing_codes_is_slowed_down(client, li, device):
    sign_in(client)
    client.post("/login/code/", {"code": "000000"})
    response = client.post("/login/code/", {"code": "000001"})
    assert "wait" in response.content.decode()


def test_a_backup_code_works_once(client, li):
    device = second_factor.begin(li)
    backup = second_factor.confirm(li, code=code_of(device))[0]
    sign_in(client)
    client.post("/login/code/", {"code": backup})
    assert is_signed_in(client)
    client.post("/logout/")
    sign_in(client)
    client.post("/login/code/", {"code": backup})
    assert not is_signed_in(client)


def test_the_code_page_without_a_password_leads_back(client, li, device):
    assert client.get("/login/code/")["Location"] == "/login/"


def test_the_code_must_follow_the_password_within_five_minutes(client, li, device):
    sign_in(client)
    session = client.session
    session["pending_sign_in"] = {**session["pending_sign_in"], "at": time.time() - 301}
    session.save()
    response = client.post("/login/code/", {"code": code_of(device, steps_ahead=1)})
    assert response["Location"] == "/login/"
    assert not is_signed_in(client)


def test_a_user_deactivated_between_password_and_code_is_refused(client, li, device):
    sign_in(client)
    li.is_active = False
    li.save()
    client.post("/login/code/", {"code": code_of(device, steps_ahead=1)})
    assert not is_signed_in(client)


def test_a_session_lasts_as_long_as_configured(client, li, settings):
    sign_in(client)
    assert client.session.get_expiry_age() == settings.SESSION_COOKIE_AGE
