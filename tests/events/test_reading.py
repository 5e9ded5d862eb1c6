"""That reading in the portal's own database ends in time."""

import time
from types import SimpleNamespace

import pytest
from django.db import DatabaseError, connection, transaction
from django.urls import reverse

from events.drivers import patience, reading
from events.drivers.errors import StoreAway
from events.services import search
from tests.events.stores import ALL_TIMES

pytestmark = pytest.mark.django_db
ENDLESS = (
    "WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers)"
    " SELECT count(*) FROM numbers WHERE i <> %s"
)


def ask(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def read(*questions):
    """In a transaction of its own, as whoever reads outside of one has it."""
    with transaction.atomic(), reading.in_time():
        for question in questions:
            ask(*question)


def stopped():
    with pytest.raises(StoreAway, match="too slowly"), patience.of(0.1):
        read((ENDLESS, 0))


def test_what_takes_longer_than_there_is_patience_for_is_stopped():
    began = time.monotonic()
    stopped()
    assert time.monotonic() - began < 10


def test_what_is_asked_afterwards_takes_as_long_as_it_takes():
    stopped()
    with patience.of(5), reading.in_time():
        assert ask("SELECT %s", 1) == [(1,)]
    count = ENDLESS.replace("FROM numbers)", "FROM numbers WHERE i < 500000)")
    assert ask(count, 0) == [(500_000,)]
    if connection.vendor == "postgresql":
        assert ask("SHOW statement_timeout") == [("0",)]


def test_all_that_is_read_together_has_one_time(monkeypatch):
    now = time.monotonic()
    clock = iter([now, now, now + 3600])  # for what begins, and for each question on PostgreSQL
    monkeypatch.setattr(reading, "time", SimpleNamespace(monotonic=lambda: next(clock, now + 3600)))
    with pytest.raises(StoreAway, match="too slowly"):
        read(("SELECT %s", 1), (ENDLESS, 0))


def test_the_limit_costs_no_question(django_assert_num_queries):
    with reading.in_time(), django_assert_num_queries(1):
        assert ask("SELECT %s", "100%") == [("100%",)]


def test_what_else_the_database_refuses_is_not_called_slow():
    with pytest.raises(DatabaseError), transaction.atomic(), reading.in_time():
        ask("SELECT nothing FROM nowhere")


def test_a_search_for_which_no_time_is_left_is_not_begun(admin, cluster_a):
    query = search.Query.of(**ALL_TIMES)
    with patience.of(0), pytest.raises(StoreAway, match="too slowly"):
        search.page(admin, query)


@pytest.mark.parametrize("part", ["changelist", "figures"])
def test_the_pages_say_that_the_search_was_stopped(admin, cluster_a, client, monkeypatch, part):
    client.force_login(admin)
    monkeypatch.setattr(patience, "READ_SECONDS", 0.0)
    response = client.get(reverse(f"admin:events_event_{part}"))
    assert response.status_code == 503
    assert "too slowly" in response.content.decode()


def test_all_figures_of_a_page_have_the_time_of_one_question(admin, cluster_a, client, monkeypatch):
    client.force_login(admin)
    left, counts = [], search.counts

    def slow(*args, **kwargs):
        left.append(patience.left(3600))
        return counts(*args, **kwargs)

    monkeypatch.setattr(search, "counts", slow)
    assert client.get(reverse("admin:events_event_figures")).status_code == 200
    assert len(left) > 1
    assert left == sorted(left, reverse=True)
    assert left[0] <= patience.READ_SECONDS
