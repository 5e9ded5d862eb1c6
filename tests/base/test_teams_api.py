"""Whoever adds a machine by the API names a team by its key: members find their own there."""

import pytest

from beidou.base.models import AuditEntry
from tests import factories

pytestmark = pytest.mark.django_db
URL = "/api/v1/teams/"


def names(answer):
    assert answer.status_code == 200
    return [each["name"] for each in answer.json()["results"]]


@pytest.fixture(autouse=True)
def others(operators, viewers):
    return factories.make_team("others")


def test_a_member_sees_the_own_teams_and_no_other(operator, operators, others, api):
    assert names(api(operator).get(URL)) == ["operators"]
    assert api(operator).get(f"{URL}{operators.pk}/").json() == {
        "id": operators.pk,
        "name": "operators",
    }
    assert api(operator).get(f"{URL}{others.pk}/").status_code == 404


def test_a_member_of_two_teams_sees_both_by_name(operator, others, api):
    operator.groups.add(others)
    assert names(api(operator).get(URL)) == ["operators", "others"]


def test_who_is_in_no_team_sees_none(stranger, api):
    assert names(api(stranger).get(URL)) == []


@pytest.mark.parametrize("who", ["admin", "auditor"])
def test_administrators_and_auditors_see_all(who, request, api):
    user = request.getfixturevalue(who)
    assert {"operators", "viewers", "others"} <= set(names(api(user).get(URL)))


@pytest.mark.parametrize("method", ["patch", "delete"])
@pytest.mark.parametrize("role", ["viewer", "owner"])
def test_a_member_changes_no_team_and_the_attempt_is_noted(role, method, cluster_a, api):
    team = factories.make_team("own")
    factories.grant(team, cluster_a, role)
    member = factories.make_user("member", teams=(team,))
    answer = getattr(api(member), method)(f"{URL}{team.pk}/", {"name": "x"})
    assert answer.status_code == 403
    assert AuditEntry.objects.filter(outcome="refused", object_id=str(team.pk)).exists()
    assert names(api(member).get(URL)) == ["own"]


def test_a_member_adds_no_team(operator, api):
    assert api(operator).post(URL, {"name": "more"}).status_code == 403


def test_the_pages_of_teams_stay_with_administrators(operator, operators, browser):
    assert browser(operator).get("/auth/group/").status_code == 403
    assert browser(operator).get(f"/auth/group/{operators.pk}/change/").status_code != 200


def test_a_member_gives_a_machine_the_team_that_the_list_names(operator, operators, api):
    factories.give(operators, "machines.add_machine")
    key = api(operator).get(URL).json()["results"][0]["id"]
    answer = api(operator).post(
        "/api/v1/machines/", {"address": "10.8.3.11", "owner_team": key}, format="json"
    )
    assert (answer.status_code, answer.json()["owner_team"]) == (201, operators.pk)
