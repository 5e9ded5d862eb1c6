"""The pages of operations and tasks that are no lists and no forms of rows: everybody is asked for
rights there as well; a new address is covered as it is added."""

import pytest
from django.urls import reverse

from beidou.base import attempts
from beidou.base.models import AuditEntry
from operations import urls
from operations.flows.models import AutoOperationTask
from operations.models import Operation
from tests import factories, rows

pytestmark = pytest.mark.django_db
PAGES = [each for each in urls.urlpatterns if "<int:pk>" not in str(each.pattern)]
OF_ROWS = [each for each in urls.urlpatterns if each not in PAGES]
EVERYBODY = ("admin", "operator", "viewer", "stranger", "auditor")


def each(patterns):
    return pytest.mark.parametrize("pattern", patterns, ids=lambda pattern: pattern.name)


def make_row(pattern, cluster):
    model = AutoOperationTask if str(pattern.pattern).startswith("tasks/") else Operation
    return rows.make_row(model, cluster)


def address_of(pattern, row=None) -> str:
    of_template = "<str:name>" in str(pattern.pattern)
    of_which = factories.make_task_template().name if of_template else row and row.pk
    return reverse(f"operations:{pattern.name}", args=[of_which] if of_which else [])


def asked(client, address: str):
    return client.get(address), client.post(address, {"reason": "x"})


@each(OF_ROWS)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_what_is_of_a_foreign_cluster_does_not_exist(pattern, who, cast, browser, cluster_b):
    row = make_row(pattern, cluster_b)
    read, written = asked(browser(cast[who]), address_of(pattern, row))
    assert read.status_code == 404
    assert written.status_code in (404, 405)
    assert row.name not in read.content.decode()


@each([each for each in OF_ROWS if each.name != "results"])  # health checks alone have results
@pytest.mark.parametrize("who", ["admin", "operator", "viewer", "auditor"])
def test_whoever_sees_the_row_reads_it(pattern, who, cast, browser, cluster_a):
    row = make_row(pattern, cluster_a)
    answer = browser(cast[who]).get(address_of(pattern, row), follow=True)
    assert answer.status_code == 200


@each(urls.urlpatterns)
def test_who_is_not_signed_in_is_shown_nothing(pattern, client, cluster_a):
    row = make_row(pattern, cluster_a) if pattern in OF_ROWS else None
    for answer in asked(client, address_of(pattern, row)):
        assert answer.status_code in (302, 401, 405)
        assert answer.status_code != 302 or "/login/" in answer["Location"]
        assert cluster_a.name not in answer.content.decode()


@each(PAGES)
@pytest.mark.parametrize("who", EVERYBODY)
def test_no_page_tells_of_a_foreign_row(pattern, who, cast, browser, cluster_b):
    row = rows.make_row(Operation, cluster_b)
    for answer in asked(browser(cast[who]), address_of(pattern)):
        assert answer.status_code < 500
        if who not in ("admin", "auditor"):
            assert row.name not in answer.content.decode()
            assert cluster_b.name not in answer.content.decode()


@each(PAGES)
@pytest.mark.parametrize("who", EVERYBODY)
def test_a_refusal_of_a_page_is_noted_and_nothing_else_is(pattern, who, cast, browser, cluster_a):
    rows.make_row(Operation, cluster_a)
    answers = asked(browser(cast[who]), address_of(pattern))
    noted = AuditEntry.objects.filter(verb=attempts.REFUSED)
    assert noted.count() == [answer.status_code for answer in answers].count(403)


@pytest.mark.parametrize("do", ["cancel", "priority"])
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_a_foreign_operation_of_the_queue_does_not_exist(do, who, cast, browser, cluster_b):
    row = rows.make_row(Operation, cluster_b)
    values = {"operation": row.pk, "do": do, "priority": "low"}
    answer = browser(cast[who]).post(reverse("operations:queue"), values)
    assert answer.status_code == 404
    row.refresh_from_db()
    assert (row.status, row.priority) == (Operation.Status.WAITING, Operation.Priority.NORMAL)


@pytest.mark.parametrize("name", ["start", "start_task", "create_cluster"])
@pytest.mark.parametrize("who", ["viewer", "stranger", "auditor"])
def test_who_begins_nothing_does_not_come_to_a_page_that_begins(name, who, cast, browser):
    for answer in asked(browser(cast[who]), reverse(f"operations:{name}")):
        assert answer.status_code == 403
