"""What only Elasticsearch and OpenSearch do, and every way in which they may not answer."""

import json
import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from django.http import QueryDict
from django.utils import timezone

from beidou.base import config
from clusters.models import Cluster
from events import neighbours
from events.drivers import patience
from events.drivers.elastic import writing
from events.drivers.elastic.server import Server
from events.drivers.errors import StoreAway
from events.models import EventRestore
from events.services import key_events, search
from events.services.stores import elastic
from events.services.stores.base import Keeper, Limit, Limits, Query, Scope
from events.services.stores.elastic import ElasticStore
from machines import timeline
from operations.models import Operation
from tests import factories
from tests.events.conftest import STORES
from tests.events.stores import ALL_TIMES
from tests.events.test_stores import made, of_day
from tests.fakes.http_server import serving

pytestmark = pytest.mark.django_db
KEEPER = Keeper(1, "uid-of-cluster", "prod")


# --- a real server --------------------------------------------------------------------------------

on_servers = pytest.mark.parametrize("store", STORES[1:], indirect=True)


@on_servers
def test_each_day_has_an_index_of_its_own(store, cluster_a):
    store.keep(cluster_a, made())
    (name,) = store.names()
    assert name.endswith("-events-1-2026.11.20")


@on_servers
def test_reasons_are_read_in_portions(store, cluster_a, monkeypatch):
    monkeypatch.setattr(elastic, "REASONS_AT_ONCE", 2)
    store.keep(cluster_a, *(made(f"e{each}", reason=f"R{each}") for each in range(5)))
    found = store.store.reasons(Query.of(**ALL_TIMES), Scope({cluster_a.pk: cluster_a}), 100)
    assert [each.reason for each in found] == [f"R{each}" for each in range(5)]


@on_servers
def test_no_event_makes_a_new_field(store, cluster_a):
    store.keep(cluster_a, made())
    (name,) = store.names()

    def fields():
        return store.server.ask("GET", f"/{name}/_mapping")[name]["mappings"]

    before = fields()
    store.keep(cluster_a, made("odd", metadata__annotations={f"k{n}": "v" for n in range(2000)}))
    assert fields() == before


@on_servers
def test_a_day_that_is_over_goes_as_a_whole(store, cluster_a, settings):
    settings.EVENT_DAYS = settings.EVENT_WARNING_DAYS = 5
    old = timezone.now().date() - timedelta(days=20)
    store.keep(cluster_a, of_day(old), made("young", metadata__creationTimestamp=soon()))
    limit = Limit(old + timedelta(days=15), old + timedelta(days=15))
    assert store.store.forget(Limits(limit)) == 1
    assert len(store.names()) == 1


def soon():
    return timezone.now().isoformat().replace("+00:00", "Z")


@on_servers
def test_a_disk_that_is_full_holds_up_and_loses_nothing(store, cluster_a):
    store.keep(cluster_a, made())
    (name,) = store.names()
    block = {"index.blocks.read_only_allow_delete": True}
    store.server.ask("PUT", f"/{name}/_settings", body=block)
    with pytest.raises(StoreAway, match="takes nothing .* when its disk is full"):
        store.keep(cluster_a, made("b"))
    store.server.ask("PUT", f"/{name}/_settings", body=dict.fromkeys(block))
    store.keep(cluster_a, made("b"))
    assert store.uids() == ["b", "web.1"]


@on_servers
def test_an_index_of_somebody_else_holds_up_and_is_named(store, cluster_a):
    name = store.store.indices.of(made().day)
    other = {"mappings": {"properties": {"@timestamp": {"type": "keyword"}}}}
    store.server.ask("PUT", f"/{name}", body=other)
    with pytest.raises(StoreAway, match=f"{name}” was not made by the portal"):
        store.keep(cluster_a, made())
    store.server.ask("DELETE", f"/{name}")
    assert store.keep(cluster_a, made()) == []


@on_servers
def test_an_index_that_was_deleted_meanwhile_is_made_again(store, cluster_a):
    store.keep(cluster_a, made())
    (name,) = store.names()
    store.server.ask("DELETE", f"/{name}")
    store.keep(cluster_a, made())
    assert store.uids() == ["web.1"]


@on_servers
def test_two_portals_cannot_share_the_same_indices(store, cluster_a):
    store.keep(cluster_a, made())
    other = ElasticStore(store.store.address, owner="another portal")
    with pytest.raises(StoreAway, match="belong to another portal"):
        other.write(KEEPER, [made("b")])
    assert store.uids() == ["web.1"]


@on_servers
def test_another_portal_deletes_nothing_of_indices_that_are_not_its_own(store, cluster_a, settings):
    store.keep(cluster_a, made())
    other = ElasticStore(store.store.address, owner="another portal")
    later = Limit(timezone.now().date(), timezone.now().date())
    Cluster.objects.all().delete()
    for deleting in (
        lambda: other.forget(Limits(later)),
        other.forget_clusters,
        lambda: other.forget_empty_days(timezone.now().date()),
        lambda: other.remove(KEEPER, [made()]),
    ):
        with pytest.raises(StoreAway, match="belong to another portal"):
            deleting()
    store.settle()
    (name,) = store.names()
    assert store.server.ask("GET", f"/{name}/_count")["count"] == 1


@pytest.mark.parametrize(
    ("changes", "dropped"),
    [
        ({}, ["05"]),
        ({"finished_at": timezone.now()}, ["03", "05"]),
        ({"kept_until": date(2026, 10, 5)}, ["03", "05"]),
    ],
)
def test_no_index_goes_while_what_began_on_its_day_is_brought_back(
    cluster_a, monkeypatch, changes, dropped
):
    day, later = date(2026, 10, 4), timezone.now().date() + timedelta(days=7)
    values = {"cluster": cluster_a, "since": day, "until": day, "kept_until": later, **changes}
    EventRestore.objects.create(**values)
    store = ElasticStore(address_of("http://127.0.0.1:1"), owner="me")
    names = [f"test-events-1-2026.10.{number}" for number in ("03", "05")]
    gone: list[str] = []
    monkeypatch.setattr(store.indices, "are_ours", lambda: True)
    monkeypatch.setattr(store.indices, "names", lambda: names)
    monkeypatch.setattr(store.indices, "drop", gone.append)
    monkeypatch.setattr(store, "_is_needed", lambda name, is_past: False)
    store.forget_empty_days(date(2026, 11, 1))
    assert [name[-2:] for name in gone] == dropped


@on_servers
def test_an_index_that_is_closed_holds_up_and_loses_nothing(store, cluster_a):
    store.keep(cluster_a, made())
    (name,) = store.names()
    store.server.ask("POST", f"/{name}/_close")
    with pytest.raises(StoreAway):
        store.keep(cluster_a, made(version=200))
    store.server.ask("POST", f"/{name}/_open", wait_for_active_shards="1")
    assert store.keep(cluster_a, made(version=200)) == []
    assert [event.version for event in store.all()] == [200]


@on_servers
def test_what_is_more_than_a_server_takes_at_once_goes_in_portions(store, cluster_a, monkeypatch):
    monkeypatch.setattr(writing, "BULK_BYTES", 2000)
    store.keep(cluster_a, *(made(f"e{number:02}") for number in range(20)), made("e00"))
    assert len(store.uids()) == 20


@on_servers
def test_two_portals_with_prefixes_of_their_own_do_not_see_each_other(store, cluster_a, admin):
    mine = store.store.address
    other = ElasticStore(replace(mine, prefix=f"{mine.prefix}-2"), owner="another portal")
    store.keep(cluster_a, made())
    other.write(Keeper(cluster_a.pk, cluster_a.uid, "theirs"), [made("b")])
    assert store.uids() == ["web.1"]
    for name in other.indices.names():
        other.indices.drop(name)


@on_servers
def test_paging_goes_on_exactly_where_many_were_seen_in_the_same_moment(store, cluster_a, admin):
    store.keep(cluster_a, *(made(f"e{number:03}") for number in range(250)))
    asked = search.Query.of(since=made().last_seen - timedelta(days=1), until=timezone.now())
    asked = replace(asked, until=max(asked.until, made().last_seen + timedelta(days=1)))
    seen, after = [], None
    while True:
        page = search.page(admin, asked, after=after, limit=40)
        seen += [event.uid for event in page.rows]
        if page.next is None:
            break
        after = search.Cursor.parse(str(page.next))
    assert len(seen) == len(set(seen)) == 250


# --- one that does not answer as it should --------------------------------------------------------


def answering(status, content, kind="application/json", headers=()):
    """A server that says the same to whatever it is asked; gives its address."""
    return serving(lambda *_asked: (status, content), kind=kind, headers=headers)


def address_of(url, product="elasticsearch"):
    return config.parse_event_store_url(f"{product}+{url}/test")


def error(kind, reason):
    return json.dumps({"error": {"type": kind, "reason": reason, "root_cause": []}, "status": 0})


@pytest.mark.parametrize("product", ["elasticsearch", "opensearch"])
@pytest.mark.parametrize(
    ("status", "content", "sentence"),
    [
        (401, error("security_exception", "token expired"), "refuses .* credential .token expired"),
        (403, error("security_exception", "not allowed"), "refuses the portal's credential"),
        (429, error("es_rejected_execution_exception", "queue is full"), "too much to do"),
        (429, error("cluster_block_exception", "flood stage"), "takes nothing .flood stage"),
        (403, error("cluster_block_exception", "read-only"), "takes nothing .read-only"),
        (503, error("", "no master"), "answered 503 .no master"),
        (500, "[]", "answered 500"),
        (404, error("index_not_found_exception", "no such index"), "answered 404"),
    ],
)
def test_what_a_server_refuses_is_a_sentence(product, status, content, sentence):
    with answering(status, content) as url, pytest.raises(StoreAway, match=sentence):
        Server(address_of(url, product), 5).ask("POST", "/_bulk", lines=b"{}\n")


def test_a_page_of_a_proxy_is_no_answer():
    page = answering(502, "<h1>Bad Gateway</h1>", kind="text/html")
    with page as url, pytest.raises(StoreAway, match="502"):
        Server(address_of(url), 5).ask("GET", "/")


def test_json_that_is_none_is_no_answer():
    with answering(200, "{") as url, pytest.raises(StoreAway, match="does not answer"):
        Server(address_of(url), 5).ask("GET", "/")


def test_a_server_that_is_not_there_is_told_with_its_address():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StoreAway, match=f"127.0.0.1:{port}.* does not answer"):
            Server(address_of(f"http://127.0.0.1:{port}"), 5).ask("GET", "/")


def test_a_server_that_says_nothing_is_waited_for_as_long_as_was_said():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreAway, match="does not answer: .*timed out"):
            Server(address_of(url), 0.2).ask("GET", "/")


def test_who_would_not_wait_so_long_waits_as_long_as_he_would():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        server = Server(address_of(f"http://127.0.0.1:{silent.getsockname()[1]}"), 60)
        began = time.monotonic()
        with patience.of(0.2), pytest.raises(StoreAway, match="does not answer: .*timed out"):
            server.ask("GET", "/")
        assert time.monotonic() - began < 10


def test_all_questions_together_have_the_time_of_one():
    with answering(200, "{}") as url:
        server = Server(address_of(url), 60)
        with patience.of(60):
            server.ask("GET", "/")
            with patience.of(0), pytest.raises(StoreAway, match="its time was up"):
                server.ask("GET", "/")
            server.ask("GET", "/")
        server.ask("GET", "/")


def test_within_a_short_time_there_is_no_longer_one():
    with patience.of(1), patience.of(60):
        assert patience.left(30) <= 1
    assert patience.left(30) == 30


def test_another_node_is_asked_where_the_first_is_down():
    with socket.socket() as down, answering(200, "{}") as url:
        down.bind(("127.0.0.1", 0))
        nodes = (f"http://127.0.0.1:{down.getsockname()[1]}", url)
        server = Server(replace(address_of(url), nodes=nodes), 5)
        assert [server.ask("GET", "/").status for _number in range(4)] == [200] * 4


def test_no_secret_is_in_what_is_said_of_an_address():
    address = config.parse_event_store_url("elasticsearch+https://me:secret@es.example.com/x")
    assert "secret" not in repr(replace(address, api_key="secret"))


# --- single events that are refused ---------------------------------------------------------------


@contextmanager
def answering_bulk(*errors):
    """A store whose server answers one bulk request so: with a status for each line."""
    items = [
        {"index": {"status": 201} if each is None else {"status": 400, "error": each}}
        for each in errors
    ]
    with answering(200, json.dumps({"items": items})) as url:
        store = ElasticStore(address_of(url), owner="me")
        store.indices.prepare = lambda names: None  # type: ignore[method-assign]
        yield store


IMMENSE = {
    "type": "illegal_argument_exception",
    "reason": 'Document contains at least one immense term in field="x"',
}
UNREADABLE = {"type": "document_parsing_exception", "reason": "failed to parse field [x]"}


@pytest.mark.parametrize("fault", [IMMENSE, UNREADABLE])
def test_an_event_that_can_never_be_stored_holds_up_no_other(fault):
    with answering_bulk(None, fault, None) as store:
        ((refused, why),) = store.write(KEEPER, [made(name) for name in "abc"])
    assert (refused.uid, why) == ("uid-b", fault["reason"])


@pytest.mark.parametrize(
    "reason",
    [
        "pipeline with id [site] does not exist",
        "number of documents in the index cannot exceed 2147483519",
        "Limit of total fields [1000] has been exceeded",
    ],
)
def test_what_is_no_fault_of_the_event_holds_up_and_loses_nothing(reason):
    fault = {"type": "illegal_argument_exception", "reason": reason}
    with answering_bulk(None, fault) as store, pytest.raises(StoreAway) as away:
        store.write(KEEPER, [made("a"), made("b")])
    assert reason in away.value.message


@pytest.mark.parametrize("number", [3, 4])
def test_where_all_of_many_are_refused_the_events_are_not_to_blame(number, monkeypatch):
    monkeypatch.setattr(writing, "MOST_REFUSED", 3)
    records = [made(f"e{each}") for each in range(number)]
    with answering_bulk(*[UNREADABLE] * number) as store:
        if number > 3:
            with pytest.raises(StoreAway, match="failed to parse"):
                store.write(KEEPER, records)
        else:
            assert len(store.write(KEEPER, records)) == number


# --- the portal beside it -------------------------------------------------------------------------


@pytest.fixture
def away(settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        settings.EVENT_STORE = address_of(f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


@pytest.mark.parametrize(
    "address",
    [
        "/events/event/",
        "/events/event/figures/",
        f"/events/event/{'ab' * 16}/change/",
        f"/events/event/{'ab' * 16}/history/",
        f"/events/event/{'ab' * 16}/delete/",
        "/events/event/key/figures/",
        "/events/event/key/?figures=1",
        "/events/event/newest/",
        "/events/event/warnings/",
        "/api/v1/events/",
        "/api/v1/events/key/",
        "/api/v1/events/counts/?field=reason",
        "/api/v1/events/histogram/",
        f"/api/v1/events/{'ab' * 16}/",
    ],
)
def test_while_the_store_is_away_its_pages_say_so(address, away, browser, api, viewer, cluster_a):
    client = api(viewer) if address.startswith("/api/") else browser(viewer)
    answer = client.get(address)
    assert answer.status_code == 503
    assert "does not answer" in answer.content.decode()


def test_a_search_can_be_tried_again_while_the_store_is_away(away, browser, viewer, cluster_a):
    page = browser(viewer).get("/events/event/", {"q": "oom"}).content.decode()
    assert 'value="oom"' in page
    assert 'role="alert"' in page


def test_a_whole_object_that_cannot_be_had_now_is_explained(away, browser, viewer, cluster_a):
    answer = browser(viewer).get(f"/events/event/{'ab' * 16}/whole/")
    assert "does not answer" in answer.content.decode()


@pytest.mark.parametrize(
    "address",
    ["/", "/clusters/cluster/", "/events/eventstream/", "/events/event/key/", "/readyz"],
)
def test_no_other_page_needs_the_store(address, away, browser, viewer, cluster_a):
    assert browser(viewer).get(address).status_code == 200


def test_pages_with_a_part_about_events_do_not_wait_for_the_store(away, browser, viewer, cluster_a):
    node = factories.make_node(cluster_a, "n1")
    operation = Operation.objects.create(
        name="up-1", kind="ScaleUp", cluster=cluster_a, started_at=timezone.now()
    )
    client = browser(viewer)
    for address in (
        f"/clusters/cluster/{cluster_a.pk}/change/",
        f"/clusters/node/{node.pk}/change/",
        f"/operations/operation/{operation.pk}/change/",
    ):
        page = client.get(address)
        assert page.status_code == 200
        assert "/events/event/" in page.content.decode()


def test_a_timeline_says_that_events_are_missing_and_shows_the_rest(
    away, browser, viewer, cluster_a
):
    node = factories.make_node(cluster_a, "n1")
    machine = factories.make_machine(cluster=cluster_a, node=node, state="in_service")
    missing, *rest = timeline.entries(machine, viewer)
    assert missing.title == "The events of its node are missing here"
    assert "does not answer" in missing.reason
    assert "edit" in {entry.kind for entry in rest}
    page = browser(viewer).get(f"/machines/machine/{machine.pk}/change/")
    assert page.status_code == 200
    assert missing.title in page.content.decode()


def test_a_timeline_waits_for_a_silent_store_a_moment_only(
    settings, viewer, cluster_a, monkeypatch
):
    monkeypatch.setattr(neighbours, "TIMELINE_SECONDS", 0.2)
    node = factories.make_node(cluster_a, "n1")
    machine = factories.make_machine(cluster=cluster_a, node=node, state="in_service")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        settings.EVENT_STORE = address_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        (entry,) = timeline.entries(machine, viewer, only=["event"])
    assert "timed out" in entry.reason


@pytest.fixture
def requests(monkeypatch):
    """What the servers are asked."""
    asked = []
    ask = Server.ask

    def noted(self, method, path, **values):
        asked.append(f"{method} {path}")
        return ask(self, method, path, **values)

    monkeypatch.setattr(Server, "ask", noted)
    return asked


def test_key_events_are_four_questions_to_the_server(settings, requests, viewer, cluster_a):
    empty: dict[str, Any] = {"hits": {"hits": []}}
    bundle = {"responses": [empty] * 8, **empty}
    with answering(200, json.dumps(bundle)) as url:
        settings.EVENT_STORE = address_of(url)
        found = key_events.look(viewer, key_events.wanted(viewer, QueryDict("")))
    assert len(requests) == 4
    assert {each.count for each in found.figures} == {0}


def test_one_search_that_fails_in_a_bundle_is_no_answer(settings, viewer, cluster_a):
    failed = {"responses": [{"status": 503, "error": {"type": "x", "reason": "no shard"}}]}
    with answering(200, json.dumps(failed)) as url:
        settings.EVENT_STORE = address_of(url)
        with pytest.raises(StoreAway, match="no shard"):
            key_events.look(viewer, key_events.wanted(viewer, QueryDict("")))
