"""Users, teams and tokens: who may act on those of others, and what the trail says of it."""

from io import StringIO

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command

from beidou.base import second_factor, tokens
from beidou.base.models import AuditEntry, TotpDevice
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
    TotpDevice.objects.create(user=admin, confirmed=True)
    act(browser(auditor), "/base/user/", "remove_second_factor", admin)
    assert second_factor.is_enabled(admin)


def test_an_administrator_removes_a_second_factor(operator, admin, browser):
    TotpDevice.objects.create(user=operator, confirmed=True)
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


def test_the_switches_of_a_user_are_told_in_words_of_the_product(admin, operator, browser):
    text = browser(admin).get(f"/base/user/{operator.pk}/change/").content.decode()
    assert "May open the pages" in text
    assert "taff status" not in text
    assert "admin site" not in text


def test_an_empty_list_of_tokens_leads_to_where_they_are_made(viewer, browser):
    text = browser(viewer).get("/base/apitoken/").content.decode()
    assert "Everybody makes their own on the page My account." in text
    assert 'href="/account/"' in text


def test_changing_the_teams_of_a_user_through_the_api_is_audited(admin, operator, operators, api):
    team = factories.make_team("storage")
    answer = api(admin).patch(f"/api/v1/users/{operator.pk}/", {"teams": [team.pk]}, format="json")
    assert answer.status_code == 200
    entry = AuditEntry.objects.get(verb="change")
    assert (entry.before, entry.after) == ({"groups": ["operators"]}, {"groups": ["storage"]})


def test_a_user_made_with_teams_through_the_api_is_audited_with_them(admin, operators, api):
    given = {"username": "ci", "teams": [operators.pk]}
    assert api(admin).post("/api/v1/users/", given, format="json").status_code == 201
    assert AuditEntry.objects.get(verb="add").after["groups"] == ["operators"]


def test_changing_the_teams_of_a_user_on_the_page_is_audited_once(admin, operator, browser):
    team = factories.make_team("storage")
    page = f"/base/user/{operator.pk}/change/"
    client = browser(admin)
    form = client.get(page).context["adminform"].form
    values = {name: value for name, value in form.initial.items() if value is not None}
    client.post(page, {**values, "groups": [team.pk], "user_permissions": [], "last_login": ""})
    entry = AuditEntry.objects.get(verb="change")
    assert (entry.before, entry.after) == ({"groups": ["operators"]}, {"groups": ["storage"]})


def test_a_teams_page_is_called_so_and_shows_its_members_and_roles(
    admin, viewer, viewers, cluster_a, browser
):
    shown = browser(admin).get(f"/auth/group/{viewers.pk}/change/").content.decode()
    assert f'href="/base/user/{viewer.pk}/change/"' in shown
    assert f"Viewer · {cluster_a}" in shown
    assert "Teams" in shown
    assert "Delete group" not in shown


def test_a_team_is_made_without_asking_for_what_it_cannot_have_yet(admin, browser):
    client = browser(admin)
    assert "Roles on clusters" not in client.get("/auth/group/add/").content.decode()
    client.post("/auth/group/add/", {"name": "storage"})
    assert Group.objects.get().name == "storage"


def test_a_users_page_calls_teams_teams(admin, viewer, browser):
    shown = browser(admin).get(f"/base/user/{viewer.pk}/change/").content.decode()
    assert "Groups" not in shown


@pytest.mark.parametrize("page", ["user", "group"])
def test_permissions_are_named_in_the_language_of_the_reader(page, admin, viewer, viewers, browser):
    admin.language = "zh-hans"
    admin.save()
    address = {
        "user": f"/base/user/{viewer.pk}/change/",
        "group": f"/auth/group/{viewers.pk}/change/",
    }[page]
    text = browser(admin).get(address).content.decode()
    assert "可添加：集群" in text
    assert "可查看整个平台的一切（全局审计员）" in text
    assert "Can add" not in text
    assert "May see" not in text


def test_permissions_one_may_only_look_at_are_named_too(auditor, browser):
    team = factories.make_team("adders")
    factories.give(team, "machines.add_machine")
    text = browser(auditor).get(f"/auth/group/{team.pk}/change/").content.decode()
    assert "May add: machines" in text
    assert "Can add" not in text


def test_changing_the_rights_of_a_team_on_its_page_is_audited(admin, viewers, browser):
    right = Permission.objects.get(codename="add_machine")
    values = {"name": viewers.name, "permissions": [right.pk]}
    browser(admin).post(f"/auth/group/{viewers.pk}/change/", values)
    entry = AuditEntry.objects.get(verb="change")
    assert (entry.object_type, entry.object_id) == ("auth.group", str(viewers.pk))
    assert entry.before == {"permissions": []}
    assert entry.after == {"permissions": [str(right)]}


# --- commands -------------------------------------------------------------------------------------


def test_createsuperuser_leaves_an_entry_without_the_password(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a very long secret")
    call_command("createsuperuser", username="li", email="", interactive=False, stdout=StringIO())
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.actor) == ("add", "manage.py createsuperuser")
    assert (entry.object_name, entry.after["is_superuser"]) == ("li", True)
    assert entry.after["password"].startswith("(not shown)")


def test_createsuperuser_that_makes_nobody_leaves_no_entry(admin):
    with pytest.raises(CommandError, match="already taken"):
        call_command("createsuperuser", username="admin", email="", interactive=False)
    assert not AuditEntry.objects.exists()


def test_users_made_after_the_command_are_not_recorded_by_it(monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "a very long secret")
    call_command("createsuperuser", username="li", email="", interactive=False, stdout=StringIO())
    factories.make_user("wang")
    assert AuditEntry.objects.count() == 1
