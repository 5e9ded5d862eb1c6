"""What is kept of an event, whoever wrote it."""

from datetime import UTC, date, datetime, timedelta

import msgspec
import pytest

from events.drivers.kube_events import EVENTS, KubeEvent, record
from tests.events.made import core, kube, modern

NOW = datetime(2026, 11, 20, 8, 6, tzinfo=UTC)


def test_both_names_of_the_same_event_say_the_same():
    new, old = record(kube(modern()), NOW), record(kube(core()), NOW)
    assert msgspec.structs.replace(new, raw=b"") == msgspec.structs.replace(old, raw=b"")


def test_an_event_is_taken_apart():
    found = record(kube(modern()), NOW)
    assert (found.uid, found.version, found.day) == ("uid-web.1", 100, date(2026, 11, 20))
    assert found.first_seen == datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
    assert found.last_seen == datetime(2026, 11, 20, 8, 5, tzinfo=UTC)
    assert (found.count, found.type, found.reason) == (3, "Warning", "BackOff")
    assert (found.kind, found.namespace, found.name) == ("Pod", "shop", "web-6f9c-x2")
    assert (found.node, found.component) == ("n1", "kubelet")
    assert found.message == "Back-off restarting failed container web"


def test_a_series_gives_count_and_last_time():
    series = {"count": 12, "lastObservedTime": "2026-11-20T08:05:30.123456Z"}
    found = record(
        kube(
            modern(
                eventTime="2026-11-20T08:01:00.000001Z",
                series=series,
                deprecatedCount=None,
                deprecatedFirstTimestamp=None,
                deprecatedLastTimestamp=None,
            )
        ),
        NOW,
    )
    assert found.count == 12
    assert found.last_seen == datetime(2026, 11, 20, 8, 5, 30, 123456, tzinfo=UTC)


@pytest.mark.parametrize("time", [None, "", "0001-01-01T00:00:00Z", "yesterday", 7])
def test_times_that_are_none_are_passed_over(time):
    found = record(
        kube(modern(eventTime=time, deprecatedFirstTimestamp=time, deprecatedLastTimestamp=time)),
        NOW,
    )
    if time == 7:
        assert found.message.startswith("(unreadable: ")
    else:
        assert found.first_seen == found.last_seen == datetime(2026, 11, 20, 8, tzinfo=UTC)


def test_a_clock_in_the_future_puts_nothing_on_top_of_the_list_for_a_year():
    found = record(kube(modern(deprecatedLastTimestamp="2030-01-01T00:00:00Z")), NOW)
    assert NOW <= found.last_seen <= NOW + timedelta(minutes=5)


def test_a_node_is_where_its_event_is():
    found = record(
        kube(
            modern(
                regarding={"kind": "Node", "name": "n7"},
                deprecatedSource={},
                reportingController="node-controller",
            )
        ),
        NOW,
    )
    assert found.node == "n7"


def test_an_event_of_a_program_that_is_no_kubelet_is_on_no_node():
    event = modern(
        reportingController="default-scheduler", reportingInstance="cp-1", deprecatedSource={}
    )
    assert record(kube(event), NOW).node == ""


def test_a_huge_message_is_cut_for_the_list_and_kept_whole_in_the_object():
    found = record(kube(modern(note="x" * 100_000)), NOW)
    assert len(found.message) < 20_000
    assert len(found.raw) > 100_000


def test_an_event_that_is_not_understood_is_kept_with_the_reason():
    found = record(kube(modern(reason={"not": "a text"})), NOW)
    assert found.uid == "uid-web.1"
    assert "unreadable" in found.message
    assert b'"not"' in found.raw


def test_an_event_without_an_identity_is_left_out_and_hides_no_other(caplog):
    page, metadata = EVENTS.decode_page(
        b'{"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {}},'
        b'{"metadata": {"uid": "u", "resourceVersion": "7"}}]}'
    )
    assert [(event.uid, event.resource_version) for event in page] == [("u", "7")]
    assert metadata.resource_version == "9"
    assert "it has no uid" in caplog.text


@pytest.mark.parametrize(
    ("text", "version"), [("12", 12), ("", 0), ("abc", 0), ("9" * 30, 0), ("-3", 0), ("٣", 0)]
)
def test_a_version_that_does_not_count_is_nought(text, version):
    assert record(KubeEvent("u", text, b'{"metadata": {"uid": "u"}}'), NOW).version == version


def test_counts_no_column_takes_are_cut():
    assert record(kube(modern(deprecatedCount=2**40)), NOW).count == 2**31 - 1
    assert record(kube(modern(deprecatedCount=-4)), NOW).count == 1


@pytest.mark.parametrize(
    "time", ["2026-11-20T08:00:00", "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"]
)
def test_no_time_that_an_api_server_may_give_stops_anything(time):
    found = record(
        kube(modern(metadata__creationTimestamp=time, deprecatedFirstTimestamp=time)), NOW
    )
    assert found.reason == "BackOff" or "unreadable" in found.message
    assert found.last_seen <= NOW + timedelta(minutes=5)


def test_bytes_that_are_no_utf_8_cost_their_letters_alone():
    raw = kube(modern(note="NOTE")).raw.replace(b"NOTE", b"pulled \xff image")
    found = record(KubeEvent("u", "7", raw), NOW)
    assert found.message == "pulled \ufffd image"
    assert found.name == "web-6f9c-x2"
    assert found.raw.decode()


def test_what_is_not_understood_is_the_same_event_on_another_day():
    event = kube(modern(reason={"not": "a text"}))
    assert record(event, NOW).day == record(event, NOW + timedelta(days=1)).day
