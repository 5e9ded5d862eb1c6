"""Every page of the admin × the four people; new models are covered as they are registered."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.text import capfirst

from beidou.base import audit, permissions
from beidou.base.fields import EncryptedTextField
from tests import admin_cases, factories, rows
from tests.admin_cases import (
    CASES,
    FOR_ADMINISTRATORS,
    FOR_VIEWERS,
    OF_CLUSTERS,
    QUERIES_LIST_MAX,
    QUERIES_OBJECT_MAX,
)

pytestmark = pytest.mark.django_db
GONE, NO_SUCH_METHOD = 404, 405
REFUSED = 403


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=str)


def status(client, url: str) -> int:
    """The status, with redirects to a page of our own followed (a page may have a better one)."""
    return int(client.get(url, follow=True).status_code)


@each(CASES)
def test_the_administrator_sees_the_list(case, admin, browser, cluster_a):
    rows.make_row(case.model, cluster_a)
    assert status(browser(admin), case.url("changelist")) == 200


@each(CASES)
def test_a_list_is_called_what_it_lists(case, admin, browser, cluster_a):
    """Django's own title would be "Select … to change", or to view."""
    rows.make_row(case.model, cluster_a)
    page = browser(admin).get(case.url("changelist"), follow=True)
    name = capfirst(str(case.model._meta.verbose_name_plural))
    assert page.context["title"] == name
    assert f"<title>{name} |" in " ".join(page.content.decode().split()).replace(
        "<title> ", "<title>"
    )


@each(CASES)
def test_the_administrator_sees_the_object(case, admin, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    assert status(browser(admin), case.url("change", row.pk)) == 200


@each(CASES)
def test_the_administrator_sees_the_history(case, admin, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    assert status(browser(admin), case.url("history", row.pk)) == 200


@each(CASES)
def test_the_administrator_may_add_unless_programs_write_the_rows(case, admin, browser):
    answer = status(browser(admin), case.url("add"))
    assert answer in ({REFUSED} if case.is_read_only else {200, REFUSED})


@each(CASES)
def test_the_administrator_may_delete_unless_programs_write_the_rows(
    case, admin, browser, cluster_a
):
    row = rows.make_row(case.model, cluster_a)
    answer = status(browser(admin), case.url("delete", row.pk))
    assert answer in ({REFUSED} if case.is_read_only else {200, REFUSED})


@each(FOR_VIEWERS)
@pytest.mark.parametrize("who", ["operator", "viewer"])
def test_whoever_has_a_role_on_the_cluster_sees_list_and_object(
    case, who, cast, browser, cluster_a
):
    row = rows.make_row(case.model, cluster_a)
    client = browser(cast[who])
    assert status(client, case.url("changelist")) == 200
    assert status(client, case.url("change", row.pk)) == 200
    assert status(client, case.url("history", row.pk)) == 200


@each(OF_CLUSTERS)
def test_the_auditor_sees_all_of_the_fleet_and_changes_nothing(case, auditor, browser, cluster_b):
    row = rows.make_row(case.model, cluster_b)
    before = audit.snapshot(case.model._default_manager.get(pk=row.pk))
    client = browser(auditor)
    for page, args in (("changelist", []), ("change", [row.pk]), ("history", [row.pk])):
        assert status(client, case.url(page, *args)) == 200
    for page, args in (("add", []), ("change", [row.pk]), ("delete", [row.pk])):
        answer = client.post(case.url(page, *args), {"post": "yes"})
        assert answer.status_code in (REFUSED, NO_SUCH_METHOD)
    assert audit.snapshot(case.model._default_manager.get(pk=row.pk)) == before


@each(OF_CLUSTERS)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_an_object_of_a_foreign_cluster_does_not_exist(case, who, cast, browser, cluster_b):
    row = rows.make_row(case.model, cluster_b)
    assert answers(browser(cast[who]), case, row.pk) == [GONE] * 5
    assert case.model._default_manager.filter(pk=row.pk).exists()


@each(CASES)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_an_object_that_is_not_there_is_answered_like_one_that_may_not_be_seen(
    case, who, cast, browser, cluster_a
):
    rows.make_row(case.model, cluster_a)
    assert answers(browser(cast[who]), case, 999_999) == [GONE] * 5


def answers(client, case, key: int) -> list[int]:
    """Of everything that can be asked of one object."""
    return [
        *(status(client, case.url(page, key)) for page in ("change", "history", "delete")),
        client.post(case.url("change", key), {}).status_code,
        client.post(case.url("delete", key), {"post": "yes"}).status_code,
    ]


# Addresses below an object that pages add to Django's own, with something to fill in.
FILLED_IN = {"action": "maintenance", "decision": "accept", "verdict": "accept", "step": "parse"}
BELOW_OBJECTS = [
    (case, pattern)
    for case in CASES
    for pattern in case.page.get_urls()
    if pattern.name and re.search(r"<int:pk>|<id>", str(pattern.pattern))
]


@pytest.mark.parametrize(
    ("case", "pattern"), BELOW_OBJECTS, ids=lambda part: str(getattr(part, "name", part))
)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_a_page_below_an_object_of_a_foreign_cluster_does_not_exist(
    case, pattern, who, cast, browser, cluster_b
):
    key = rows.make_row(case.model, cluster_b).pk
    places = pattern.pattern.converters
    given = {name: FILLED_IN.get(name, key) for name in places}
    args = {"kwargs": given} if given else {"args": [key]}
    address = reverse(f"admin:{pattern.name}", **args)
    client = browser(cast[who])
    assert client.post(address, {}).status_code == GONE
    assert client.get(address).status_code in {GONE, NO_SUCH_METHOD}


def test_there_are_pages_below_objects():
    assert len(BELOW_OBJECTS) > 5


@each(FOR_ADMINISTRATORS)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_what_is_for_administrators_refuses_everybody_else(case, who, cast, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    client = browser(cast[who])
    assert status(client, case.url("changelist")) == REFUSED
    assert answers(client, case, row.pk) == [GONE] * 5
    assert status(client, case.url("add")) == REFUSED


@each(CASES)
@pytest.mark.parametrize("who", ["viewer", "stranger"])
def test_who_may_only_look_cannot_write(case, who, cast, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    client = browser(cast[who])
    assert client.get(case.url("add"), follow=True).status_code == REFUSED
    assert client.post(case.url("add"), {}).status_code == REFUSED
    before = audit.snapshot(row)
    sees = permissions.may(cast[who], row)
    expected = REFUSED if sees else GONE
    assert client.post(case.url("change", row.pk), {}).status_code == expected
    assert audit.snapshot(case.model._default_manager.get(pk=row.pk)) == before
    assert client.get(case.url("delete", row.pk)).status_code == expected
    assert client.post(case.url("delete", row.pk), {"post": "yes"}).status_code == expected
    assert case.model._default_manager.filter(pk=row.pk).exists()


PLANTED = "planted-0123456789-secret"


def encrypted(model) -> list[str]:
    fields = model._meta.concrete_fields
    return [field.name for field in fields if isinstance(field, EncryptedTextField)]


@each([case for case in CASES if encrypted(case.model)])
@pytest.mark.parametrize("who", ["admin", "owner", "operator", "viewer", "stranger", "auditor"])
def test_a_stored_secret_is_shown_to_nobody(case, who, cast, browser, cluster_a):
    """Neither to who may change it: it goes in and never comes out."""
    owners = factories.make_team("owners")
    factories.grant(owners, cluster_a, "owner")
    people = {**cast, "owner": factories.make_user("owner", teams=(owners,))}
    row = rows.make_row(case.model, cluster_a)
    secrets = dict.fromkeys(encrypted(case.model), PLANTED)
    case.model._default_manager.filter(pk=row.pk).update(**secrets)
    client = browser(people[who])
    for page in ("change", "history", "delete"):
        assert PLANTED not in client.get(case.url(page, row.pk), follow=True).content.decode()
    assert PLANTED not in client.get(case.url("changelist"), follow=True).content.decode()


def test_there_are_pages_of_what_holds_secrets():
    assert len([case for case in CASES if encrypted(case.model)]) > 3


@each(OF_CLUSTERS)
def test_a_stranger_is_refused_the_list(case, stranger, browser, cluster_a):
    rows.make_row(case.model, cluster_a)
    client = browser(stranger)
    assert client.get(case.url("changelist")).status_code == REFUSED


@each([case for case in OF_CLUSTERS if case.access.team is not None])
def test_a_member_of_a_team_sees_the_list_of_what_teams_own(case, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    member = factories.make_user(teams=(factories.make_team(),))
    client = browser(member)
    assert client.get(case.url("changelist")).status_code == 200
    assert answers(client, case, row.pk) == [GONE] * 5


@each(OF_CLUSTERS)
@pytest.mark.parametrize("who", ["viewer", "stranger"])
def test_who_may_only_look_is_offered_no_action_that_changes(case, who, cast, browser, cluster_a):
    rows.make_row(case.model, cluster_a)
    answer = browser(cast[who]).get(case.url("changelist"))
    if answer.status_code == 200:
        assert "delete_selected" not in answer.content.decode()


@each(CASES)
def test_without_signing_in_every_page_leads_to_the_sign_in(case, client, db):
    for page in ("changelist", "add"):
        answer = client.get(case.url(page))
        assert answer.status_code == 302
        assert answer["Location"].startswith("/login/")


def queries(client, url: str) -> int:
    client.get(url, follow=True)  # what is remembered after the first time does not count
    with CaptureQueriesContext(
        connection,
    ) as captured:
        assert client.get(url, follow=True).status_code == 200
    return len(captured)


@each(CASES)
def test_a_list_needs_few_queries_however_many_rows(case, admin, browser, cluster_a):
    client = browser(admin)
    for _number in range(2):
        rows.make_row(case.model, cluster_a)
    few = queries(client, case.url("changelist"))
    for _number in range(8):
        rows.make_row(case.model, cluster_a)
    many = queries(client, case.url("changelist"))
    assert many <= few + 1, "a query per row"
    assert many <= QUERIES_LIST_MAX


@each(CASES)
def test_an_object_page_needs_a_bounded_number_of_queries(case, admin, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    assert queries(browser(admin), case.url("change", row.pk)) <= QUERIES_OBJECT_MAX


def test_the_cases_cover_every_registered_page():
    assert {case.model for case in CASES} == {model for model, _page in admin_cases.PAGES}
