"""The queue as people and programs see it: the real order, true figures, no names of others."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from beidou.base.models import AuditEntry
from operations.models import ClusterSettings, Operation
from operations.services import dispatch, queue
from operations.services.order import AGEING
from tests import factories
from tests.operations.queue.conftest import fresh

pytestmark = pytest.mark.django_db
API = "/api/v1/operations/queue/"


@pytest.fixture
def address():
    return reverse("operations:queue")


@pytest.fixture
def full(toy, queued, cluster_a, operators, control):
    """One runs on the one slot of cluster A, for the operators; nothing else can begin there."""
    ClusterSettings.objects.create(cluster=cluster_a, limit=1)
    queued("running", team=operators)
    control(dispatch.dispatch)


def names(found) -> list[str]:
    return [place.operation.name for place in found.places]


def text_of(answer) -> str:
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_it_shows_the_order_in_which_turns_are_given(full, queued, viewer, operators):
    queued("low", priority="low")
    queued("second", team=operators, ago=timedelta(minutes=9))
    queued("third", team=operators, ago=timedelta(minutes=8))
    queued("first", team=factories.make_team())
    queued("urgent", priority="high")
    found = queue.look(viewer)
    assert names(found) == ["urgent", "first", "second", "third", "low"]
    assert [place.position for place in found.places] == [1, 2, 3, 4, 5]


def test_the_order_is_the_one_in_which_they_begin(full, queued, control, viewer, operators):
    for number in range(6):
        queued(team=operators if number % 3 else None, priority=("low", "normal")[number % 2])
    promised = names(queue.look(viewer))
    begun = []
    for _number in promised:
        running = Operation.objects.filter(status=Operation.Status.RUNNING)
        running.update(status=Operation.Status.SUCCEEDED, **Operation.NO_SLOTS)
        control(dispatch.dispatch)
        begun.append(running.get().name)
    assert begun == promised


def test_it_tells_how_much_of_each_limit_is_in_use(full, queued, operator, operators, cluster_a):
    queued(team=operators)
    found = queue.look(operator)
    assert (found.in_all.used, found.in_all.limit, found.in_all.waiting) == (1, 20, 1)
    assert [(use.name, use.used, use.limit, use.waiting) for use in found.teams] == [
        ("operators", 1, 10, 1)
    ]
    assert [(use.name, use.used, use.limit, use.waiting) for use in found.clusters] == [
        ("cluster-a", 1, 1, 1)
    ]


def test_others_are_counted_and_not_named(full, queued, viewer, cluster_b, control):
    queued("their-secret", cluster=cluster_b)
    control(dispatch.dispatch)
    queued("their-plan", cluster=cluster_b, priority="high")
    queued("ours")
    found = queue.look(viewer)
    assert (names(found), found.places[0].position) == (["ours"], 2)
    assert (found.waiting_hidden, found.running_hidden, found.in_all.used) == (1, 1, 2)
    assert [each.name for each in found.running] == ["running"]
    assert [use.name for use in found.clusters] == ["cluster-a"]


def test_the_page_names_nothing_of_others(full, queued, browser, viewer, cluster_b, address):
    queued("their-plan", cluster=cluster_b, requested_by_name="their-boss")
    text = text_of(browser(viewer).get(address))
    assert "Another team&#x27;s operation waits, too" in text or (
        "Another team's operation waits, too" in text
    )
    for secret in ("their-plan", "their-boss", "cluster-b"):
        assert secret not in text


def test_teams_of_others_are_shown_to_whoever_sees_the_fleet(full, viewer, admin):
    assert queue.look(viewer).teams == []
    assert [use.name for use in queue.look(admin).teams] == ["operators"]


def test_it_tells_for_what_and_since_when_each_waits(
    full, queued, control, browser, viewer, address
):
    queued()
    control(dispatch.dispatch)
    text = text_of(browser(viewer).get(address))
    assert "one of the 1 slots for changes on its cluster" in text
    assert "for less than a minute" in text


def test_it_tells_as_what_an_old_one_counts(full, queued, viewer, browser, address):
    queued("old", priority="low", ago=AGEING)
    place = queue.look(viewer).places[0]
    assert (place.has_aged, place.counts_as) == (True, "normal")
    assert "counts as “Normal” by now" in text_of(browser(viewer).get(address))


def test_an_operation_of_an_unknown_kind_comes_last(full, queued, admin):
    queued("unknown", kind="Later", priority="high")
    queued("known")
    found = queue.look(admin)
    assert names(found) == ["known", "unknown"]
    assert not found.places[1].may_operate


def test_an_empty_queue_says_so(browser, viewer, address):
    assert "Nothing runs and nothing waits." in text_of(browser(viewer).get(address))


def test_it_has_pages(full, queued, viewer):
    wanted = [queued(ago=timedelta(minutes=60 - number)).name for number in range(5)]
    pages = [queue.look(viewer, page=page, page_size=2) for page in (1, 2, 3, 4)]
    assert [names(page) for page in pages] == [wanted[:2], wanted[2:4], wanted[4:], wanted[4:]]
    assert {page.pages for page in pages} == {3}


def test_two_thousand_cost_as_many_queries_as_two(full, cluster_a, operator, operators, queued):
    queued(team=operators)
    queued()
    queue.look(operator)  # rights are remembered with the user
    with CaptureQueriesContext(connection) as few:
        queue.look(operator)
    Operation.objects.bulk_create(
        Operation(name=f"more-{i}", kind="Toy", cluster=cluster_a, team=operators)
        for i in range(2000)
    )
    with CaptureQueriesContext(connection) as many:
        assert queue.look(operator).waiting_visible == 2002
    assert len(many) == len(few) <= 14


# --- what can be done -----------------------------------------------------------------------


def post(browser, user, address, operation, **values):
    return browser(user).post(address, {"operation": operation.pk, **values}, follow=True)


def test_the_priority_is_changed_from_the_page(full, queued, browser, operator, address):
    waiting = queued()
    answer = post(browser, operator, address, waiting, do="priority", priority="low", reason="late")
    assert "The priority of" in text_of(answer)
    assert fresh(waiting).priority == "low"
    assert AuditEntry.objects.get(verb="change priority").reason == "late"


def test_an_operation_is_canceled_from_the_page(full, queued, browser, operator, address):
    waiting = queued()
    assert "is canceled" in text_of(post(browser, operator, address, waiting, do="cancel"))
    assert fresh(waiting).status == Operation.Status.CANCELED


def test_high_is_offered_to_whoever_may_give_it(full, queued, browser, operator, admin, address):
    queued()
    assert 'value="high"' not in text_of(browser(operator).get(address))
    assert 'value="high"' in text_of(browser(admin).get(address))


def test_whoever_may_only_look_is_offered_nothing_and_refused(
    full, queued, browser, viewer, address
):
    waiting = queued()
    assert "<form" not in text_of(browser(viewer).get(f"{address}now/"))
    for deed in ("priority", "cancel"):
        answer = post(browser, viewer, address, waiting, do=deed, priority="low")
        assert answer.status_code == 403
        assert "your roles do not include" in answer.content.decode()
    assert (fresh(waiting).priority, fresh(waiting).status) == ("normal", "waiting")


def test_what_one_may_not_see_cannot_be_touched(
    full, queued, browser, operator, cluster_b, address
):
    theirs = queued(cluster=cluster_b)
    answer = browser(operator).post(address, {"operation": theirs.pk, "do": "cancel"})
    assert answer.status_code == 404
    assert fresh(theirs).status == Operation.Status.WAITING


@pytest.mark.parametrize("key", ["", "x", "999999", "9" * 30])
def test_an_operation_that_is_not_there_is_not_found(browser, operator, address, key):
    assert browser(operator).post(address, {"operation": key, "do": "cancel"}).status_code == 404


def test_an_unknown_deed_does_nothing(full, queued, browser, admin, address):
    waiting = queued()
    assert "There is nothing to do." in text_of(post(browser, admin, address, waiting, do="?"))
    assert fresh(waiting).status == Operation.Status.WAITING


def test_a_stranger_sees_no_queue(browser, stranger, address):
    assert browser(stranger).get(address).status_code == 403
    assert browser(stranger).get(f"{address}now/").status_code == 403


def test_who_is_not_signed_in_is_sent_to_sign_in(client, db, address):
    assert client.get(address)["Location"].startswith("/login/")
    refresh = client.get(f"{address}now/")
    assert (refresh.status_code, refresh["HX-Refresh"]) == (401, "true")


def test_the_refresh_brings_the_inner_part_alone(full, browser, viewer, address):
    answer = browser(viewer).get(f"{address}now/")
    assert answer["Cache-Control"] == "no-store"
    assert "<html" not in text_of(answer)


# --- for programs ---------------------------------------------------------------------------


def test_the_api_tells_the_same(full, queued, api, viewer, cluster_b):
    queued("theirs", cluster=cluster_b)
    queued("ours", priority="high")
    told = api(viewer).get(API).json()
    assert [(row["position"], row["operation"]["name"]) for row in told["waiting"]] == [(1, "ours")]
    assert (told["waiting_visible"], told["waiting_hidden"]) == (1, 1)
    assert told["in_all"] == {"key": 0, "name": "", "used": 1, "limit": 20, "waiting": 2}
    assert [row["name"] for row in told["running"]] == ["running"]


def test_the_api_shows_a_stranger_nothing_but_numbers(full, queued, api, stranger):
    queued("ours")
    told = api(stranger).get(API).json()
    assert (told["waiting"], told["running"], told["teams"], told["clusters"]) == ([], [], [], [])


def test_the_api_has_pages_of_any_size(full, queued, api, viewer):
    for _number in range(3):
        queued()
    told = api(viewer).get(API, {"page": 2, "page_size": 2}).json()
    assert (len(told["waiting"]), told["page"], told["pages"]) == (1, 2, 2)


@pytest.mark.parametrize("query", [{"page": "x"}, {"page_size": "-1"}], ids=str)
def test_the_api_refuses_what_is_no_page(api, viewer, query):
    answer = api(viewer).get(API, query)
    assert (answer.status_code, set(answer.json()["fields"])) == (400, set(query))
