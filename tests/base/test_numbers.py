"""Numbers that people and programs write into addresses."""

import pytest
from django.db import connection
from django.urls import reverse

from beidou.base.numbers import NUMBER_MAX, as_key, as_number
from events.services import asked
from tests import factories, rows
from tests.admin_cases import CASES

ODD = ["²", "٣", "-1", "1.5", "1e3", "x", "9" * 25, "9" * 5000]


@pytest.mark.parametrize("text", ["", " 1", *ODD])
def test_what_no_row_can_have_is_no_key(text):
    assert as_key(text) is None


def test_digits_and_numbers_are_keys():
    assert (as_key("17"), as_key(17)) == (17, 17)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("9" * 5000, NUMBER_MAX), ("²", None)])
def test_a_number_is_bounded(text, number):
    assert as_number(text) == number


@pytest.mark.django_db
@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_filter_of_a_list_stumbles_over_an_odd_number(case, admin, browser, cluster_a):
    rows.make_row(case.model, cluster_a)
    client = browser(admin)
    page = client.get(case.url("changelist"), follow=True)
    parameters = set(asked.NAMES)  # of the events, which are no such list
    if "cl" in page.context:
        parameters = {name for spec in page.context["cl"].filter_specs for name in _names(spec)}
    for name in {"p", "o", *parameters}:
        for odd in ODD:
            answer = client.get(case.url("changelist"), {name: odd})
            assert answer.status_code < 500, (name, odd)


def _names(spec):
    return [name for name in spec.expected_parameters() if name]


@pytest.mark.django_db
@pytest.mark.parametrize("odd", ODD)
def test_nodes_of_no_cluster_are_not_found(odd, admin, browser):
    page = browser(admin).get(reverse("admin:machines_machine_register"), {"cluster": odd})
    assert page.status_code == 404


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["node", "clustergrant"])
def test_a_filter_does_not_tell_the_name_of_a_cluster_that_one_may_not_see(
    model, viewer, browser, cluster_b
):
    address = reverse(f"admin:clusters_{model}_changelist")
    page = browser(viewer).get(address, {"cluster__id__exact": cluster_b.pk}, follow=True)
    assert cluster_b.name not in page.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["404", *ODD])
def test_the_list_of_an_unknown_cluster_is_empty(key, admin, browser, cluster_a):
    factories.make_node(cluster_a)
    page = browser(admin).get(
        reverse("admin:clusters_node_changelist"), {"cluster__id__exact": key}
    )
    assert list(page.context["cl"].result_list) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query",
    [
        "/machines/machine/?cluster=" + "9" * 20,
        "/machines/machine/?owner_team=" + "9" * 20,
        "/base/auditentry/?at__gte=0001-01-01T00:00:00%2B14:00",
        "/operations/operation/?finished_at__gte=9999-12-31T23:59:59-14:00",
        "/base/auditentry/export/?at__gte=0001-01-01T00:00:00%2B14:00",
        "/base/auditentry/export/?at__gte=x",
    ],
)
def test_a_list_narrowed_by_what_a_database_does_not_know_is_no_error(query, admin, browser):
    """It leads to the whole list; PostgreSQL knows such numbers and moments, and finds nothing."""
    page = browser(admin).get(query)
    is_known = connection.vendor == "postgresql" and not query.endswith("=x")
    assert page.status_code == (200 if is_known else 302)


@pytest.mark.django_db
@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("audit", "since"),
        ("audit", "until"),
        ("operations", "created_after"),
        ("operations", "created_before"),
    ],
)
def test_the_api_refuses_a_moment_that_no_database_knows(path, name, moment, admin, api):
    answer = api(admin).get(f"/api/v1/{path}/", {name: moment})
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [name])


@pytest.mark.django_db
@pytest.mark.parametrize("odd", ODD)
def test_the_api_refuses_a_team_that_is_no_key(odd, admin, api):
    assert api(admin).get("/api/v1/users/", {"groups": odd}).status_code == 400


@pytest.mark.django_db
def test_the_api_finds_the_users_of_some_teams(admin, api):
    one, other = factories.make_team(), factories.make_team()
    names = {factories.make_user(teams=(team,)).username for team in (one, other)}
    answer = api(admin).get("/api/v1/users/", {"groups": [one.pk, other.pk]})
    assert {row["username"] for row in answer.json()["results"]} == names
