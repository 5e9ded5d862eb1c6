"""The event centre over HTTP."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from tests import factories

pytestmark = pytest.mark.django_db
EVENTS = "/api/v1/events/"
STREAMS = "/api/v1/event-streams/"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ago(**values):
    return timezone.now() - timedelta(**values)


def got(client, address=EVENTS, **given):
    answer = client.get(address, given)
    assert answer.status_code == 200, answer.content
    return answer.json()


def names(client, **given):
    return [row["name"] for row in got(client, **given)["results"]]


def test_a_row_holds_what_the_page_shows(viewer, api, cluster_a):
    event = factories.make_event(
        cluster_a, "Back-off", type="Warning", reason="BackOff", count=3, name="web", node="n1"
    )
    (row,) = got(api(viewer))["results"]
    assert row["last_seen"] == event.last_seen.isoformat().replace("+00:00", "Z")
    wanted = {
        "id": str(event.pk), "cluster": cluster_a.pk, "cluster_name": "cluster-a",
        "type": "Warning", "reason": "BackOff", "count": 3, "name": "web", "node": "n1",
        "message": "Back-off",
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted
    assert "object" not in row


def test_the_whole_object_is_that_of_the_cluster(viewer, api, cluster_a):
    whole = {"metadata": {"uid": "x"}, "series": {"count": 2}}
    event = factories.make_event(cluster_a, object=whole)
    assert got(api(viewer), f"{EVENTS}{event.pk}/")["object"] == whole


def test_an_object_with_half_a_character_is_given_with_a_sign_for_it(
    viewer, api, cluster_a, packed
):
    event = factories.make_event(cluster_a, raw=packed(b'{"note": "half \\ud800"}'))
    assert got(api(viewer), f"{EVENTS}{event.pk}/")["object"] == {"note": "half \ufffd"}


def test_an_object_that_is_damaged_is_502(viewer, api, cluster_a):
    event = factories.make_event(cluster_a, raw=b"no zlib")
    answer = api(viewer).get(f"{EVENTS}{event.pk}/")
    assert answer.status_code == 502
    assert "damaged" in answer.json()["message"]


def test_an_object_that_would_fill_the_memory_is_502(viewer, api, cluster_a, huge):
    event = factories.make_event(cluster_a, raw=huge)
    answer = api(viewer).get(f"{EVENTS}{event.pk}/")
    assert answer.status_code == 502
    assert "larger than 8 MiB" in answer.json()["message"]


def test_the_last_24_hours_are_meant_unless_a_time_is_given(viewer, api, cluster_a):
    factories.make_event(cluster_a, name="new", last_seen=ago(hours=23))
    factories.make_event(cluster_a, name="old", last_seen=ago(hours=25))
    client = api(viewer)
    assert names(client) == ["new"]
    assert names(client, range="7d") == ["new", "old"]
    assert names(client, since=ago(hours=26).isoformat(), until=ago(hours=24).isoformat()) == [
        "old"
    ]
    assert names(client, until=ago(hours=24).isoformat()) == ["old"]


def test_the_beginning_belongs_to_the_time_and_the_end_does_not(viewer, api, cluster_a):
    for minutes in (0, 1, 2):
        seen = NOON + timedelta(minutes=minutes)
        factories.make_event(cluster_a, name=f"e{minutes}", last_seen=seen)
    found = names(api(viewer), since="2026-11-20T12:00:00Z", until="2026-11-20T12:02:00Z")
    assert found == ["e1", "e0"]


def test_repeated_filters_mean_any_and_different_ones_all(viewer, api, cluster_a):
    for name, reason, kind in (("a", "A", "Pod"), ("b", "B", "Pod"), ("c", "B", "Node")):
        factories.make_event(cluster_a, name=name, reason=reason, kind=kind)
    client = api(viewer)
    assert sorted(names(client, reason=["A", "B"])) == ["a", "b", "c"]
    assert names(client, reason=["A", "B"], kind="Node") == ["c"]
    assert names(client, name="a") == ["a"]
    assert names(client, q="-pod") == ["c"]


def test_a_cluster_is_named_by_key_or_name(admin, api, cluster_a, cluster_b):
    factories.make_event(cluster_a, name="a")
    factories.make_event(cluster_b, name="b")
    client = api(admin)
    assert names(client, cluster=cluster_a.pk) == names(client, cluster="cluster-a") == ["a"]
    assert sorted(names(client, cluster=[cluster_a.pk, "cluster-b"])) == ["a", "b"]


def test_a_cluster_that_is_hidden_is_answered_like_one_that_is_not_there(
    viewer, api, cluster_a, cluster_b
):
    factories.make_event(cluster_b)
    answers = [
        api(viewer).get(EVENTS, {"cluster": each}) for each in (cluster_b.pk, "cluster-b", 999_999)
    ]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (200, answers[0].content)
    }
    assert answers[0].json() == {"next": None, "results": []}


def test_next_leads_through_all_events_once(viewer, api, cluster_a):
    moment = ago(minutes=1)
    made = [str(factories.make_event(cluster_a, last_seen=moment).pk) for _number in range(5)]
    client, seen, address = api(viewer), [], f"{EVENTS}?page_size=2&type=Normal"
    while address:
        answer = client.get(address).json()
        assert len(answer["results"]) <= 2
        seen += [row["id"] for row in answer["results"]]
        address = answer["next"]
    assert seen == made[::-1]


def test_a_page_costs_one_query_beside_three_for_rights_and_clusters(
    viewer, api, cluster_a, django_assert_max_num_queries
):
    for _number in range(10):
        factories.make_event(cluster_a)
    with django_assert_max_num_queries(4):
        assert len(got(api(viewer))["results"]) == 10


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01T00:00:00Z"}, "until"),
        ({"until": "9999-12-31T23:59:59Z"}, "until"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"since": "2026-11-20T10:00:00Z", "until": "2026-11-20T10:00:00Z"}, "since"),
        ({"range": "99d"}, "range"),
        ({"cursor": "x"}, "cursor"),
        ({"cursor": "9" * 20 + "-1"}, "cursor"),
        ({"page_size": "0"}, "page_size"),
        ({"page_size": "501"}, "page_size"),
        ({"page_size": "many"}, "page_size"),
        ({"q": "x" * 501}, "q"),
        ({"reason": [str(number) for number in range(51)]}, "reason"),
        ({"ordering": "name"}, "ordering"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_its_name(given, field, viewer, api, cluster_a):
    answer = api(viewer).get(EVENTS, given)
    assert answer.status_code == 400
    assert set(answer.json()["fields"]) == {field}


def test_an_unknown_parameter_is_ignored_as_everywhere(viewer, api, cluster_a):
    factories.make_event(cluster_a, name="a")
    assert names(api(viewer), reasons="x") == ["a"]


def test_a_stranger_finds_and_counts_nothing(stranger, api, cluster_a):
    event = factories.make_event(cluster_a)
    factories.make_event_stream(cluster_a)
    client = api(stranger)
    assert got(client) == {"next": None, "results": []}
    assert got(client, f"{EVENTS}counts/", field="reason")["values"] == []
    buckets = got(client, f"{EVENTS}histogram/")["buckets"]
    assert sum(each["others"] for each in buckets) == 0
    assert got(client, STREAMS)["results"] == []
    for address in (f"{EVENTS}{event.pk}/", f"{STREAMS}{cluster_a.pk}/"):
        assert client.get(address).status_code == 404


def test_nothing_can_be_written(admin, api, cluster_a):
    event = factories.make_event(cluster_a)
    client = api(admin)
    for address in (EVENTS, f"{EVENTS}{event.pk}/", STREAMS):
        for method in ("post", "put", "patch", "delete"):
            assert getattr(client, method)(address, {}).status_code == 405


def test_counts_give_the_commonest_first(viewer, api, cluster_a):
    for reason in ("Pulled", "Failed", "Failed", "Killing"):
        factories.make_event(cluster_a, reason=reason)
    found = got(api(viewer), f"{EVENTS}counts/", field="reason", most=2)
    assert found == {
        "field": "reason",
        "values": [
            {"value": "Failed", "name": "Failed", "count": 2},
            {"value": "Killing", "name": "Killing", "count": 1},
        ],
    }


def test_clusters_are_counted_by_key_and_called_by_name(admin, api, cluster_a, cluster_b):
    for cluster in (cluster_a, cluster_b, cluster_b):
        factories.make_event(cluster)
    values = got(api(admin), f"{EVENTS}counts/", field="cluster", cluster="cluster-b")["values"]
    assert values == [
        {"value": str(cluster_b.pk), "name": "cluster-b", "count": 2},
        {"value": str(cluster_a.pk), "name": "cluster-a", "count": 1},
    ]


@pytest.mark.parametrize("field", ["", "message", "raw", "uid"])
def test_only_named_fields_are_counted(field, viewer, api):
    answer = api(viewer).get(f"{EVENTS}counts/", {"field": field})
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"field"})


@pytest.mark.parametrize("most", ["0", "101", "all"])
def test_how_many_values_are_counted_has_a_limit(most, viewer, api):
    answer = api(viewer).get(f"{EVENTS}counts/", {"field": "kind", "most": most})
    assert (answer.status_code, set(answer.json()["fields"])) == (400, {"most"})


def test_the_histogram_has_warnings_and_others(viewer, api, cluster_a):
    for minute, kind in ((0, "Normal"), (0, "Warning"), (59, "Warning")):
        seen = NOON + timedelta(minutes=minute)
        factories.make_event(cluster_a, type=kind, last_seen=seen)
    times = {"since": "2026-11-20T12:00:00Z", "until": "2026-11-20T13:00:00Z"}
    found = got(api(viewer), f"{EVENTS}histogram/", **times)
    buckets = found["buckets"]
    assert {"since": found["since"], "until": found["until"]} == times
    assert len(buckets) == 60
    assert buckets[0] == {
        "since": "2026-11-20T12:00:00Z", "until": "2026-11-20T12:01:00Z", "warnings": 1,
        "others": 1,
    }  # fmt: skip
    assert (buckets[59]["until"], buckets[59]["warnings"]) == ("2026-11-20T13:00:00Z", 1)


@pytest.mark.parametrize("span", [1, 59, 61, 119, 3601])
def test_parts_of_a_histogram_lie_side_by_side_and_hold_every_event(span, viewer, api, cluster_a):
    begin = NOON + timedelta(milliseconds=900)
    end = begin + timedelta(seconds=span)
    for seen in (begin, begin + (end - begin) / 2, end - timedelta(microseconds=1)):
        factories.make_event(cluster_a, last_seen=seen)
    times = {"since": begin.isoformat(), "until": end.isoformat()}
    buckets = got(api(viewer), f"{EVENTS}histogram/", **times)["buckets"]
    assert len(buckets) <= 61
    assert [each["until"] for each in buckets[:-1]] == [each["since"] for each in buckets[1:]]
    assert sum(each["others"] for each in buckets) == 3


def test_a_stream_says_how_it_flows(viewer, api, cluster_a, cluster_b):
    factories.make_event_stream(
        cluster_a, updated_at=timezone.now(), contact_at=timezone.now(), heard=9, stored=7,
        waiting=2, lag_seconds=61.5,
    )  # fmt: skip
    factories.make_event_stream(cluster_b)
    (row,) = got(api(viewer), STREAMS)["results"]
    assert row == got(api(viewer), f"{STREAMS}{cluster_a.pk}/")
    wanted = {
        "cluster": cluster_a.pk, "cluster_name": "cluster-a", "state": "waiting", "problem": "",
        "heard": 9, "stored": 7, "waiting": 2, "lag_seconds": 61.5,
    }  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


def test_streams_can_be_narrowed_to_a_cluster(admin, api, cluster_a, cluster_b):
    for cluster in (cluster_a, cluster_b):
        factories.make_event_stream(cluster)
    found = got(api(admin), STREAMS, cluster=cluster_b.pk)["results"]
    assert [row["cluster"] for row in found] == [cluster_b.pk]


def test_events_of_a_clock_that_is_ahead_are_found_and_counted(viewer, api, browser, cluster_a):
    ahead = timezone.now() + timedelta(minutes=3)
    factories.make_event(cluster_a, last_seen=ahead, reason="FromAhead")
    client = api(viewer)
    for given in ({}, {"range": "1h"}, {"since": "2026-01-01T00:00:00Z"}):
        (found,) = got(client, **given)["results"]
        assert found["reason"] == "FromAhead"
    counted = got(client, f"{EVENTS}counts/", field="reason")
    assert [each["value"] for each in counted["values"]] == ["FromAhead"]
    assert "FromAhead" in browser(viewer).get("/events/event/").content.decode()


def test_the_last_hour_is_drawn_by_minutes(viewer, api, cluster_a):
    buckets = got(api(viewer), f"{EVENTS}histogram/", range="1h")["buckets"]
    first, second = (datetime.fromisoformat(each["since"]) for each in buckets[1:3])
    assert second - first == timedelta(minutes=1)


def test_an_end_that_is_given_is_the_end(viewer, api, cluster_a):
    now = timezone.now()
    factories.make_event(cluster_a, last_seen=now + timedelta(minutes=3))
    assert got(api(viewer), until=f"{now:%Y-%m-%dT%H:%M:%SZ}")["results"] == []
