"""The event centre as people see it."""

import csv
import io
import json
import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from beidou.base.models import AuditEntry
from clusters.models import Cluster
from events.admin import files, shown
from events.models import Event
from events.services import search
from tests import factories

pytestmark = pytest.mark.django_db
PAGE = "/events/event/"
FIGURES = "/events/event/figures/"
QUERIES_MAX = 20


def text_of(answer, status=200) -> str:
    assert answer.status_code == status
    return unescape(" ".join(answer.content.decode().split()))


def look(client, **given) -> str:
    return text_of(client.get(PAGE, given))


def figures(client, **given) -> str:
    return text_of(client.get(FIGURES, given))


def names(page: str) -> list[str]:
    return re.findall(r"Pod shop/(\S+?)</span>", page)


def older_of(page: str) -> str:
    return PAGE + re.search(rf'rel="next" href="{PAGE}([^"]+)"', page)[1]


def ago(**values):
    return timezone.now() - timedelta(**values)


# --- rows -----------------------------------------------------------------------------------------


def test_a_row_says_what_happened_where(viewer, browser, cluster_a):
    factories.make_event(
        cluster_a, "Back-off pulling image", type="Warning", reason="BackOff", count=37,
        name="web-1", node="n1",
    )  # fmt: skip
    page = look(browser(viewer))
    assert names(page) == ["web-1"]
    for text in ("Warning", "BackOff", "×37", "n1", "cluster-a", "Back-off pulling image"):
        assert text in page
    assert "First seen" in page


def test_a_node_that_is_known_is_linked(viewer, browser, cluster_a):
    node = factories.make_node(cluster_a, "n1")
    factories.make_event(cluster_a, node="n1")
    factories.make_event(cluster_a, node="gone")
    page = look(browser(viewer))
    assert page.count(f'<a href="/clusters/node/{node.pk}/change/">n1</a>') == 1
    assert "gone" in page


def test_the_last_24_hours_are_shown_newest_first(viewer, browser, cluster_a):
    for name, hours in (("two", 2), ("one", 1), ("yesterday", 25)):
        factories.make_event(cluster_a, name=name, last_seen=ago(hours=hours))
    assert names(look(browser(viewer))) == ["one", "two"]
    assert names(look(browser(viewer), range="7d")) == ["one", "two", "yesterday"]


def test_text_and_filters_narrow_together(viewer, browser, cluster_a):
    factories.make_event(cluster_a, "image pulled", name="a", reason="Pulled")
    factories.make_event(cluster_a, "image missing", name="b", reason="Failed")
    factories.make_event(cluster_a, "volume missing", name="c", reason="Failed")
    client = browser(viewer)
    assert names(look(client, q="image", reason="Failed")) == ["b"]
    assert names(look(client, q='image -"missing"')) == ["a"]
    assert sorted(names(look(client, reason=["Pulled", "Failed"]))) == ["a", "b", "c"]


def test_times_without_a_zone_are_those_of_the_portal(viewer, browser, cluster_a, settings):
    settings.TIME_ZONE = "Asia/Shanghai"
    moment = ago(hours=2)
    factories.make_event(cluster_a, name="then", last_seen=moment)
    with timezone.override("Asia/Shanghai"):
        local = timezone.localtime(moment)
    since, until = (f"{local + timedelta(minutes=minutes):%Y-%m-%dT%H:%M}" for minutes in (-2, 2))
    page = look(browser(viewer), since=since, until=until)
    assert names(page) == ["then"]
    assert f'name="since" value="{since}:00"' in page


def test_older_events_are_reached_by_cursor_without_gap_or_double(
    viewer, browser, cluster_a, monkeypatch
):
    monkeypatch.setattr(shown, "ROWS", 2)
    moment = ago(minutes=5)
    for number in range(5):
        factories.make_event(cluster_a, name=f"e{number}", last_seen=moment)
    client = browser(viewer)
    page, seen = look(client, type="Normal"), []
    while True:
        seen += names(page)
        if 'rel="next"' not in page:
            break
        assert "type=Normal" in older_of(page)
        page = text_of(client.get(older_of(page)))
    assert seen == ["e4", "e3", "e2", "e1", "e0"]
    assert "That is all in this time range" in page


def test_what_is_chosen_is_in_the_address_and_can_be_taken_back(viewer, browser, cluster_a):
    page = look(browser(viewer), reason=["Pulled", "Failed"], q="x", cursor="1-1", other="y")
    assert f'href="{PAGE}?q=x&reason=Failed"' in page
    assert f'href="{PAGE}?q=x&reason=Pulled"' in page


def test_a_form_carries_the_filters_along(viewer, browser, cluster_a):
    page = look(browser(viewer), reason="Pulled", range="7d")
    assert '<input type="hidden" name="reason" value="Pulled">' in page
    assert '<input type="hidden" name="range" value="7d">' in page


def test_what_clusters_say_is_text_and_no_markup(viewer, browser, cluster_a):
    factories.make_event(
        cluster_a, "<script>1</script>", reason="<b>", name='"><i>', node="<u>", kind="<s>"
    )
    client = browser(viewer)
    answers = [client.get(PAGE), client.get(FIGURES), client.get(PAGE, {"q": "<script>2"})]
    for answer in answers:
        raw = answer.content.decode()
        for markup in ("<script>1", "<script>2", "<b>", "<i>", "<u>", "<s>"):
            assert markup not in raw


def test_the_page_costs_the_same_however_many_events(viewer, browser, cluster_a):
    client = browser(viewer)

    def queries(address) -> int:
        client.get(address)
        with CaptureQueriesContext(connection) as captured:
            assert client.get(address, {"cluster": cluster_a.pk}).status_code == 200
        return len(captured)

    addresses = (PAGE, FIGURES, f"{PAGE}?figures=1")
    factories.make_event(cluster_a, node="n0")
    few = [queries(address) for address in addresses]
    for number in range(12):
        factories.make_event(cluster_a, node=f"n{number}", reason=f"R{number}")
    assert [queries(address) for address in addresses] == few
    assert max(few) <= QUERIES_MAX


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"since": "soon"}, "“soon” is no moment"),
        ({"until": "0001-01-01"}, "“0001-01-01” is no moment"),
        ({"since": "2026-11-20T10:00", "until": "2026-11-20T09:00"}, "ends before it begins"),
        ({"range": "1y"}, "“1y” is no range"),
        ({"q": "x" * 501}, "longer than 500 characters"),
        ({"q": "a " * 21}, "more than 20 terms"),
        ({"cursor": "nonsense"}, "no place in a list"),
        ({"node": [f"n{number}" for number in range(51)]}, "At most 50 values"),
    ],
)
def test_what_is_no_search_is_refused_in_a_sentence(given, sentence, viewer, browser, cluster_a):
    page = text_of(browser(viewer).get(PAGE, given), 400)
    assert sentence in page
    assert 'name="q"' in page


def test_figures_of_what_is_no_search_are_refused(viewer, browser, cluster_a):
    answer = browser(viewer).get(FIGURES, {"since": "soon"})
    assert "no moment" in text_of(answer, 400)


def test_an_export_of_what_is_no_search_leads_to_the_page_that_says_so(viewer, browser, cluster_a):
    answer = browser(viewer).get(f"{PAGE}export/csv/", {"since": "soon"})
    assert answer["Location"] == f"{PAGE}?since=soon"
    assert not AuditEntry.objects.filter(verb="export").exists()


@pytest.mark.parametrize("address", [PAGE, FIGURES, f"{PAGE}export/csv/"])
def test_a_stranger_is_refused(address, stranger, browser, cluster_a):
    assert browser(stranger).get(address).status_code == 403


@pytest.mark.parametrize("address", [PAGE, FIGURES, f"{PAGE}export/csv/"])
def test_nothing_can_be_posted(address, admin, browser):
    assert browser(admin).post(address, {"action": "delete_selected"}).status_code == 405


@pytest.mark.parametrize("address", [FIGURES, f"{PAGE}1/whole/"])
def test_a_part_of_the_page_never_holds_the_sign_in_form(address, client, db):
    answer = client.get(address)
    assert (answer.status_code, answer["HX-Refresh"]) == (401, "true")


def test_events_of_a_foreign_cluster_are_neither_shown_nor_counted(
    viewer, browser, cluster_a, cluster_b
):
    factories.make_event(cluster_b, name="secret", reason="Secret")
    for given in ({}, {"cluster": cluster_b.pk}, {"cluster": "cluster-b"}, {"q": "secret"}):
        assert names(look(browser(viewer), **given)) == []
        assert "cluster-b</span>" not in figures(browser(viewer), **given)
        assert "0 events" in figures(browser(viewer), **given)


# --- figures --------------------------------------------------------------------------------------


def test_bars_stack_warnings_on_others_and_lead_to_their_time(viewer, browser, cluster_a):
    for kind in ("Normal", "Normal", "Normal", "Warning"):
        factories.make_event(cluster_a, type=kind, last_seen=ago(hours=3))
    client = browser(viewer)
    page = figures(client)
    assert "4 events, 1 warning " in page
    assert re.search(r'ev-bar-others" x="\d+" y="0" width="9" height="75"', page)
    assert re.search(r'ev-bar-warnings" x="\d+" y="75" width="9" height="25"', page)
    (bar,) = re.findall(rf'<a href="{PAGE}(\?since=[^"]+)" aria-label', page)
    assert len(names(text_of(client.get(PAGE + bar)))) == 4


def test_a_filter_gives_the_commonest_values_and_chooses_them(viewer, browser, cluster_a):
    for reason in ("Pulled", "Pulled", "Failed"):
        factories.make_event(cluster_a, reason=reason)
    page = figures(browser(viewer), reason="Failed")
    assert re.search(r'\?reason=Failed&reason=Pulled">.{0,60}Pulled</span> .{0,30}>2<', page)
    assert re.search(r'\?" aria-current="true">.{0,60}Failed</span> .{0,30}>1<', page)


def test_a_cluster_is_chosen_by_its_name(viewer, browser, cluster_a):
    factories.make_event(cluster_a)
    assert f'?cluster={cluster_a.pk}"' in figures(browser(viewer))
    page = look(browser(viewer), cluster=cluster_a.pk)
    assert "cluster-a <span class" in page
    assert len(names(page)) == 1


def test_no_node_is_no_value_to_choose(viewer, browser, cluster_a):
    factories.make_event(cluster_a, node="")
    assert "?node=" not in figures(browser(viewer))


def test_without_scripts_the_figures_come_with_the_page(viewer, browser, cluster_a):
    factories.make_event(cluster_a)
    assert "1 event," not in look(browser(viewer))
    assert "figures=1" in look(browser(viewer))
    assert "1 event," in look(browser(viewer), figures="1")


def test_who_reads_on_is_not_told_the_figures_again(viewer, browser, cluster_a, monkeypatch):
    monkeypatch.setattr(shown, "ROWS", 1)
    for _number in range(2):
        factories.make_event(cluster_a)
    client = browser(viewer)
    page = look(client)
    assert "ev-figures" in page
    assert "To the newest" not in page
    older = text_of(client.get(older_of(page)))
    assert "ev-figures" not in older
    assert f'<a href="{PAGE}?">To the newest</a>' in older


# --- nothing to show ------------------------------------------------------------------------------


def test_without_a_cluster_the_page_says_how_to_begin(admin, browser):
    page = look(browser(admin))
    assert "No cluster is adopted yet" in page
    assert reverse("admin:clusters_cluster_add") in page


def test_without_an_event_the_page_offers_a_wider_search(viewer, browser, cluster_a):
    page = look(browser(viewer), reason="Nothing", range="1h")
    assert "No event in this time range is what you look for." in page
    assert f'href="{PAGE}?range=1h"' in page
    assert f'href="{PAGE}?reason=Nothing&range=30d"' in page


def test_a_stream_with_a_problem_is_told(viewer, browser, cluster_a, cluster_b):
    for cluster in (cluster_a, cluster_b):
        factories.make_event_stream(
            cluster, problem=f"{cluster} may not be read.", problem_since=ago(hours=3),
            updated_at=timezone.now(), contact_at=ago(hours=3),
        )  # fmt: skip
    page = look(browser(viewer))
    assert "cluster-a may not be read." in page
    assert "for 3 hours" in page
    assert "cluster-b" not in page


def test_a_cluster_that_was_never_heard_of_is_told(viewer, browser, cluster_a):
    assert "cluster-a: its events were never heard of yet." in look(browser(viewer))


def test_a_cluster_without_a_collector_is_told(viewer, browser, cluster_a):
    factories.make_event_stream(cluster_a, updated_at=ago(minutes=5), contact_at=ago(minutes=5))
    assert "cluster-a: no collector takes its events." in look(browser(viewer))


def test_events_that_wait_are_told_with_their_lag(viewer, browser, cluster_a):
    factories.make_event_stream(
        cluster_a, updated_at=timezone.now(), contact_at=timezone.now(), waiting=7, lag_seconds=42
    )
    page = look(browser(viewer))
    assert (
        "7 events have been heard and are not stored yet; the oldest has waited for 42 s." in page
    )


def test_what_flows_is_not_mentioned(viewer, browser, cluster_a):
    factories.make_event_stream(
        cluster_a, updated_at=timezone.now(), contact_at=timezone.now(), waiting=7, lag_seconds=1
    )
    assert "ev-flow" not in look(browser(viewer))


def test_clusters_that_are_not_watched_are_no_trouble(viewer, browser, cluster_a):
    Cluster.objects.filter(pk=cluster_a.pk).update(phase=Cluster.Phase.DELETED)
    assert "ev-flow" not in look(browser(viewer))


# --- one event ------------------------------------------------------------------------------------


def test_the_whole_object_is_loaded_when_a_row_is_opened(viewer, browser, cluster_a):
    event = factories.make_event(cluster_a, object={"metadata": {"labels": {"app": "网"}}})
    client = browser(viewer)
    page = look(client)
    assert "labels" not in page
    assert f'hx-get="{PAGE}{event.pk}/whole/"' in page
    part = client.get(f"{PAGE}{event.pk}/whole/").content.decode()
    assert '"app": "网"' in unescape(part)
    assert '"app": "网"' in text_of(client.get(f"{PAGE}{event.pk}/change/"))


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [(b"no zlib", "is damaged in the event store"), (b"", "is larger than 8 MiB")],
    ids=["damaged", "huge"],
)
def test_a_whole_object_that_cannot_be_shown_is_explained(
    raw, sentence, viewer, browser, cluster_a, huge
):
    event = factories.make_event(cluster_a, raw=raw or huge)
    client = browser(viewer)
    assert sentence in text_of(client.get(f"{PAGE}{event.pk}/whole/"))
    assert sentence in text_of(client.get(f"{PAGE}{event.pk}/change/"))


@pytest.mark.parametrize(
    "content",
    [b'{"note": "broken \xff"}', b'{"note": "half \\ud800"}', b"no JSON \x00", b"[" * 5000],
    ids=["utf-8", "surrogate", "text", "deep"],
)
def test_odd_objects_are_shown_as_far_as_they_can(content, viewer, browser, cluster_a, packed):
    event = factories.make_event(cluster_a, raw=packed(content))
    assert "ev-object" in text_of(browser(viewer).get(f"{PAGE}{event.pk}/whole/"))


# --- export ---------------------------------------------------------------------------------------


def exported(client, kind, **given) -> str:
    answer = client.get(f"{PAGE}export/{kind}/", given)
    assert answer.status_code == 200
    assert answer.streaming
    return b"".join(answer.streaming_content).decode()


def test_csv_holds_what_the_search_finds(viewer, browser, cluster_a, cluster_b):
    factories.make_event(cluster_a, "=cmd()", name="a", reason="Pulled", count=3)
    factories.make_event(cluster_a, name="b", reason="Failed")
    factories.make_event(cluster_b, name="c", reason="Pulled")
    found = list(csv.DictReader(io.StringIO(exported(browser(viewer), "csv", reason="Pulled"))))
    assert [(row["name"], row["cluster"], row["count"]) for row in found] == [
        ("a", "cluster-a", "3")
    ]
    assert found[0]["message"] == "'=cmd()"


def test_json_is_one_array(viewer, browser, cluster_a):
    assert json.loads(exported(browser(viewer), "json")) == []
    moment = ago(minutes=3)
    for name in ("a", "b"):
        factories.make_event(cluster_a, "网", name=name, last_seen=moment)
    found = json.loads(exported(browser(viewer), "json"))
    assert [row["name"] for row in found] == ["b", "a"]
    assert found[0]["cluster"] == "cluster-a"
    assert found[0]["last_seen"] == moment.isoformat()


def test_an_export_is_read_in_portions_and_ends_at_its_limit(
    viewer, browser, cluster_a, monkeypatch
):
    monkeypatch.setattr(search, "MOST_AT_ONCE", 2)
    monkeypatch.setattr(files, "ROWS_MAX", 5)
    for number in range(7):
        factories.make_event(cluster_a, name=f"e{number}", last_seen=ago(minutes=number + 1))
    with CaptureQueriesContext(connection) as captured:
        found = json.loads(exported(browser(viewer), "json"))
    assert [row["name"] for row in found[:-1]] == [f"e{number}" for number in range(5)]
    portions = [each for each in captured if 'FROM "events_event"' in each["sql"]]
    assert len(portions) == 3
    assert not any('"raw"' in each["sql"] for each in portions)


@pytest.mark.parametrize(("kind", "place"), [("csv", "message"), ("json", "cut_off")])
def test_an_export_that_leaves_something_out_says_so_in_its_last_line(
    viewer, browser, cluster_a, monkeypatch, kind, place
):
    monkeypatch.setattr(files, "ROWS_MAX", 2)
    for number in range(3):
        factories.make_event(cluster_a, name=f"e{number}", last_seen=ago(minutes=number + 1))
    text = exported(browser(viewer), kind)
    rows = json.loads(text) if kind == "json" else list(csv.DictReader(io.StringIO(text)))
    assert [row.get("name", "") for row in rows] == ["e0", "e1", ""]
    assert rows[-1][place] == "There are more than 2 events; these are the newest."


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_an_export_of_just_the_limit_has_no_such_line(
    viewer, browser, cluster_a, monkeypatch, kind
):
    monkeypatch.setattr(files, "ROWS_MAX", 2)
    for number in range(2):
        factories.make_event(cluster_a, name=f"e{number}", last_seen=ago(minutes=number + 1))
    assert "There are more" not in exported(browser(viewer), kind)


def test_an_export_is_audited_with_its_search(viewer, browser, cluster_a):
    exported(browser(viewer), "csv", q="oom", reason=["A", "B"], cursor="1-1")
    entry = AuditEntry.objects.get(verb="export")
    assert (entry.actor, entry.object_name) == ("viewer", "events")
    assert entry.after == {"filters": {"q": ["oom"], "reason": ["A", "B"]}}


def test_there_is_no_other_kind_of_export(viewer, browser, cluster_a):
    assert browser(viewer).get(f"{PAGE}export/xml/").status_code == 404


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "Never heard of"),
        ({"updated_at": 0}, "Never heard of"),
        ({"updated_at": 0, "contact_at": 0}, "Flowing"),
        ({"updated_at": 0, "contact_at": 0, "waiting": 9, "lag_seconds": 60}, "9 wait"),
        ({"updated_at": 300, "contact_at": 300}, "No collector"),
        ({"updated_at": 0, "problem": "It is full.", "problem_since": 3600}, "It is full."),
    ],
)
def test_the_list_of_streams_says_how_each_flows(values, text, viewer, browser, cluster_a):
    moments = ("updated_at", "contact_at", "problem_since")
    given = {
        name: ago(seconds=value) if name in moments else value for name, value in values.items()
    }
    stream = factories.make_event_stream(cluster_a, **given)
    assert text in text_of(browser(viewer).get("/events/eventstream/"))
    assert text in text_of(browser(viewer).get(f"/events/eventstream/{stream.pk}/change/"))


def test_streams_of_foreign_clusters_are_not_listed(viewer, browser, cluster_a, cluster_b):
    factories.make_event_stream(cluster_b)
    assert "cluster-b" not in text_of(browser(viewer).get("/events/eventstream/"))


def test_events_that_were_refused_are_told_beside_the_state(viewer, browser, cluster_a):
    now = timezone.now()
    values = {"contact_at": now, "updated_at": now}
    stream = factories.make_event_stream(cluster_a, refused=3, **values)
    for page in ("", f"{stream.pk}/change/"):
        told = text_of(browser(viewer).get(f"/events/eventstream/{page}"))
        assert "Flowing" in told
        assert "3 refused" in told


# --- from other pages -----------------------------------------------------------------------------


def test_pages_of_cluster_node_and_machine_lead_to_their_events(viewer, browser, cluster_a):
    node = factories.make_node(cluster_a, "n1")
    machine = factories.make_machine(cluster=cluster_a, node=node, state="in_service")
    factories.make_event(cluster_a, node="n1", name="here")
    client = browser(viewer)
    of_node = f"{PAGE}?cluster={cluster_a.pk}&node=n1"
    for address, link in (
        (f"/clusters/cluster/{cluster_a.pk}/change/", f"{PAGE}?cluster={cluster_a.pk}"),
        (f"/clusters/node/{node.pk}/change/", of_node),
        (f"/machines/machine/{machine.pk}/change/", of_node),
    ):
        assert f'Events <a href="{link}">' in text_of(client.get(address))
    assert names(text_of(client.get(of_node))) == ["here"]


def test_a_machine_without_a_node_has_no_events(viewer, browser, cluster_a):
    machine = factories.make_machine(cluster=cluster_a, state="in_service")
    page = text_of(browser(viewer).get(f"/machines/machine/{machine.pk}/change/"))
    assert f'"{PAGE}?' not in page


def test_events_of_a_cluster_that_was_unadopted_are_not_shown(admin, browser, cluster_a, cluster_b):
    factories.make_event(cluster_a, name="stays")
    event = factories.make_event(cluster_b, name="goes")
    Event.objects.filter(pk=event.pk).update(cluster_id=999_999)
    client = browser(admin)
    assert names(look(client)) == ["stays"]
    assert "999999" not in figures(client)
    assert client.get(f"{PAGE}{event.pk}/change/").status_code == 404
