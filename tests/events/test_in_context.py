"""Events on the pages of what they are about: clusters, nodes, machines, operations."""

from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from beidou.base.page_head import lines, parts
from events import neighbours
from machines import timeline
from operations.models import Operation, OperationMachine
from tests import factories

pytestmark = pytest.mark.django_db
PAGE = "/events/event/"
WARNINGS = "/events/event/warnings/"
NEWEST = "/events/event/newest/"


def ago(**values):
    return timezone.now() - timedelta(**values)


def text_of(answer, status=200) -> str:
    assert answer.status_code == status
    return unescape(" ".join(answer.content.decode().split()))


@pytest.fixture
def machine(cluster_a):
    node = factories.make_node(cluster_a, "n1")
    return factories.make_machine(cluster=cluster_a, node=node, state="in_service")


def warn(cluster, message="", **values):
    return factories.make_event(
        cluster, message, **{"type": "Warning", "reason": "BackOff", "node": "n1", **values}
    )


# --- clusters and nodes ---------------------------------------------------------------------------


def test_pages_of_cluster_and_node_ask_for_their_warnings_afterwards(viewer, browser, machine):
    node = machine.node
    for address, given in (
        (f"/clusters/cluster/{node.cluster_id}/change/", f"?cluster={node.cluster_id}"),
        (f"/clusters/node/{node.pk}/change/", f"?cluster={node.cluster_id}&node=n1"),
    ):
        with CaptureQueriesContext(connection) as captured:
            page = text_of(browser(viewer).get(address))
        assert f'hx-get="{WARNINGS}{given}"' in page
        assert not any('FROM "events_event"' in each["sql"] for each in captured)


def test_the_warnings_of_the_last_24_hours_are_counted_with_the_way_to_them(
    viewer, browser, cluster_a
):
    for node, hours in (("n1", 1), ("n1", 23), ("n2", 1), ("n1", 25)):
        warn(cluster_a, node=node, last_seen=ago(hours=hours))
    factories.make_event(cluster_a, node="n1")
    client = browser(viewer)
    for given, count in (({}, 3), ({"node": "n1"}, 2)):
        page = text_of(client.get(WARNINGS, {"cluster": cluster_a.pk, **given}))
        assert f">{count} warnings</a>" in page
        address = page.split('href="')[1].split('"')[0]
        assert "type=Warning" in address
        assert text_of(client.get(address)).count('class="ev-row"') == count


def test_that_there_is_no_warning_is_said(viewer, browser, cluster_a):
    factories.make_event(cluster_a)
    assert ">no warnings</a>" in text_of(browser(viewer).get(WARNINGS, {"cluster": cluster_a.pk}))


def test_warnings_of_a_foreign_cluster_are_not_counted(viewer, browser, cluster_a, cluster_b):
    warn(cluster_b)
    assert ">no warnings</a>" in text_of(browser(viewer).get(WARNINGS, {"cluster": cluster_b.pk}))


@pytest.mark.parametrize("address", [WARNINGS, NEWEST])
def test_parts_refuse_strangers_and_what_is_no_search(address, stranger, viewer, browser, client):
    assert browser(stranger).get(address).status_code == 403
    assert "no moment" in text_of(browser(viewer).get(address, {"since": "soon"}), 400)
    assert browser(viewer).post(address).status_code == 405
    assert client.get(address)["HX-Refresh"] == "true"


def test_a_cluster_that_is_not_watched_has_no_line_of_events(admin, cluster_a):
    cluster_a.phase = cluster_a.Phase.DELETED
    assert "Events" not in [line.label for line in lines.of(cluster_a, admin)]


# --- the timeline of a machine --------------------------------------------------------------------


def entries(machine, user):
    return timeline.entries(machine, user, only=["event"])


def test_the_timeline_has_the_warnings_of_the_machines_node(viewer, machine, cluster_a, cluster_b):
    event = warn(cluster_a, "Back-off restarting", name="web", count=7, last_seen=ago(hours=1))
    warn(cluster_a, node="n2")
    warn(cluster_b)
    factories.make_event(cluster_a, node="n1")
    (entry,) = entries(machine, viewer)
    assert (entry.at, entry.title) == (event.last_seen, "BackOff Pod web ×7")
    assert (entry.reason, entry.url) == ("Back-off restarting", f"{PAGE}{event.pk}/change/")


def test_the_timeline_page_shows_events_among_the_rest(viewer, browser, machine, cluster_a):
    warn(cluster_a, "Back-off restarting", name="web")
    page = text_of(browser(viewer).get(f"/machines/machine/{machine.pk}/change/"))
    assert "BackOff Pod web" in page
    assert '<input type="checkbox" name="show" value="event"' in page


def test_what_is_alike_is_one_entry_with_how_often_it_was_said(viewer, machine, cluster_a):
    for minutes, count in ((1, 2), (5, 1), (9, 4)):
        warn(cluster_a, f"pid {minutes}", name="web", count=count, last_seen=ago(minutes=minutes))
    warn(cluster_a, name="other", last_seen=ago(minutes=3))
    assert [(each.title, each.reason) for each in entries(machine, viewer)] == [
        ("BackOff Pod web ×7", "pid 1"),
        ("BackOff Pod other", ""),
    ]


def test_events_do_not_drown_what_people_did(viewer, machine, cluster_a):
    for number in range(neighbours.TIMELINE_MOST + 5):
        warn(cluster_a, last_seen=ago(minutes=number))
    assert len(entries(machine, viewer)) == neighbours.TIMELINE_MOST


def test_a_machine_without_a_node_has_no_events(viewer, cluster_a):
    warn(cluster_a)
    machine = factories.make_machine(cluster=cluster_a, state="in_service")
    assert entries(machine, viewer) == []


def test_who_does_not_see_the_cluster_sees_no_event_of_it(stranger, machine, cluster_a):
    warn(cluster_a)
    assert entries(machine, stranger) == []


# --- operations -----------------------------------------------------------------------------------


def begin(cluster, *machines, **values):
    operation = Operation.objects.create(
        **{
            "name": "up-1",
            "kind": "ScaleUp",
            "cluster": cluster,
            "status": "succeeded",
            "started_at": ago(hours=2),
            "finished_at": ago(hours=1),
            **values,
        }
    )
    for each in machines:
        OperationMachine.objects.create(
            operation=operation, machine=each, address=each.address, hostname=each.hostname
        )
    return operation


def part_of(operation, user):
    (part,) = parts.of(operation, user)
    return part


def test_an_operation_leads_to_the_events_of_its_nodes_while_it_ran(
    viewer, browser, machine, cluster_a
):
    operation = begin(cluster_a, machine)
    for name, hours, node in (("in", 1.5, "n1"), ("before", 3, "n1"), ("after", 0, "n1")):
        factories.make_event(cluster_a, name=name, node=node, last_seen=ago(hours=hours))
    factories.make_event(cluster_a, name="elsewhere", node="n2", last_seen=ago(hours=1.5))
    lasts = {"first_seen": ago(hours=1.5), "last_seen": ago(hours=0)}
    factories.make_event(cluster_a, name="goes-on", node="n1", **lasts)
    client = browser(viewer)
    part = part_of(operation, viewer)
    assert part.title == "Events of its nodes while it ran"
    page = text_of(client.get(part.url))
    assert "shop/in" in page
    assert "shop/goes-on" in page
    assert not [name for name in ("before", "after", "elsewhere") if f"shop/{name}" in page]
    there = text_of(client.get(part.link))
    assert "shop/in" in there
    assert "shop/goes-on" in there
    assert part.every_seconds == 0


def test_the_page_of_an_operation_does_not_wait_for_them(viewer, browser, machine, cluster_a):
    operation = begin(cluster_a, machine)
    with CaptureQueriesContext(connection) as captured:
        page = text_of(browser(viewer).get(f"/operations/operation/{operation.pk}/change/"))
    assert not any('FROM "events_event"' in each["sql"] for each in captured)
    assert f'hx-get="{NEWEST}?cluster={cluster_a.pk}&node=n1&since=' in page


def test_while_it_runs_they_are_looked_at_again(viewer, machine, cluster_a):
    part = part_of(begin(cluster_a, machine, status="running", finished_at=None), viewer)
    assert part.every_seconds > 0
    assert "until" not in part.url


def test_an_operation_that_has_not_begun_has_no_events(viewer, machine, cluster_a):
    assert parts.of(begin(cluster_a, machine, status="waiting", started_at=None), viewer) == []


def test_a_machine_that_is_no_node_any_more_is_known_by_its_name(viewer, machine, cluster_a):
    gone = factories.make_machine(hostname="Host-X")
    elsewhere = factories.make_machine(hostname="", address="10.9.9.9")
    assert neighbours._nodes(begin(cluster_a, machine, gone, elsewhere)) == [
        "10.9.9.9",
        "host-x",
        "n1",
    ]


def test_of_very_many_nodes_it_is_the_events_of_the_cluster(
    viewer, machine, cluster_a, monkeypatch
):
    monkeypatch.setattr(neighbours.asked, "VALUES_MAX", 1)
    part = part_of(begin(cluster_a, machine, factories.make_machine()), viewer)
    assert part.title == "Events of the cluster while it ran"
    assert "node=" not in part.link


def test_the_newest_few_are_shown_and_the_way_to_all(viewer, browser, cluster_a):
    for number in range(12):
        factories.make_event(cluster_a, f"<b>{number}</b>", last_seen=ago(minutes=number + 1))
    client = browser(viewer)
    raw = client.get(NEWEST, {"cluster": cluster_a.pk}).content.decode()
    assert raw.count("<tr>") == 11
    assert "<b>" not in raw
    assert "All of them in the event centre" in raw
    page = text_of(client.get(NEWEST, {"cluster": cluster_a.pk, "reason": "None"}))
    assert "No event is known of this time." in page
