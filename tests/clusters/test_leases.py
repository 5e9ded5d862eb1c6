"""How collectors share clusters."""

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from clusters.collector.follow import Rhythm
from clusters.models import Cluster, Collector, CollectorLease
from clusters.services import inventory, leases
from tests import factories

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def ids(held):
    return {item.cluster_id for item in held}


def at(seconds):
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def four(db):
    return {factories.make_cluster().pk for _ in range(4)}


def test_the_only_collector_takes_everything(four):
    assert ids(leases.beat("a", now=NOW)) == four


def test_a_second_collector_gets_its_share(four):
    leases.beat("a", now=NOW)
    assert leases.beat("b", now=at(1)) == []
    assert len(leases.beat("a", now=at(2))) == 2
    assert len(leases.beat("b", now=at(3))) == 2


def test_nobody_watches_a_cluster_that_another_holds(four):
    leases.beat("a", now=NOW)
    leases.beat("b", now=at(1))
    first, second = ids(leases.beat("a", now=at(2))), ids(leases.beat("b", now=at(3)))
    assert not first & second
    assert first | second == four


def test_clusters_of_a_killed_collector_are_taken_when_its_leases_end(four):
    leases.beat("a", now=NOW)
    assert leases.beat("b", now=at(leases.LEASE_SECONDS - 1)) == []
    assert ids(leases.beat("b", now=at(leases.LEASE_SECONDS + 1))) == four


@pytest.mark.parametrize("offset", [0.1, 0.5, 1.0, 1.5, 1.9])
def test_the_next_takes_over_within_15_seconds_of_the_death_whenever_it_beats(four, offset):
    leases.beat("dying", now=NOW)
    beats = [offset + number * Rhythm().beat for number in range(20)]
    taken = (after for after in beats if ids(leases.beat("next", now=at(after))) == four)
    assert next(taken) < 15


def test_a_collector_that_slept_too_long_gets_nothing_back_that_was_taken(four):
    leases.beat("a", now=NOW)
    leases.beat("b", now=at(leases.LEASE_SECONDS + 1))
    assert leases.beat("a", now=at(leases.LEASE_SECONDS + 2)) == []


def test_a_stopped_collector_frees_its_clusters_at_once(four):
    leases.beat("a", now=NOW)
    leases.release("a")
    assert ids(leases.beat("b", now=at(1))) == four
    assert [row.name for row in Collector.objects.all()] == ["b"]


def test_a_new_cluster_is_taken_at_the_next_beat_and_a_removed_one_is_gone(four):
    leases.beat("a", now=NOW)
    new = factories.make_cluster()
    assert new.pk in ids(leases.beat("a", now=at(1)))
    new.delete()
    assert ids(leases.beat("a", now=at(2))) == four


def test_who_lost_the_lease_can_no_longer_write(four):
    pk = min(four)
    leases.beat("a", now=timezone.now() - timedelta(seconds=60))
    leases.beat("b")
    with pytest.raises(inventory.LeaseLost):
        inventory.write_figures(holder="a", cluster_id=pk, figures={"nodes_total": 7})
    inventory.write_figures(holder="b", cluster_id=pk, figures={"nodes_total": 3})
    assert Cluster.objects.get(pk=pk).nodes_total == 3


@pytest.mark.django_db(transaction=True)
def test_a_lease_is_not_taken_over_in_the_middle_of_a_write():
    cluster = factories.make_cluster()
    leases.beat("a")
    over = threading.Event()

    def take_over():
        try:
            leases.beat("b", now=timezone.now() + timedelta(seconds=60))
        finally:
            connection.close()
            over.set()

    other = threading.Thread(target=take_over)
    with transaction.atomic():
        inventory.fence("a", cluster.pk)
        other.start()
        assert not over.wait(0.5)
        assert CollectorLease.objects.get().holder == "a"
    other.join(timeout=30)
    assert CollectorLease.objects.get().holder == "b"


def test_a_removed_cluster_cannot_be_written_about(four):
    leases.beat("a")
    pk = min(four)
    Cluster.objects.filter(pk=pk).delete()
    with pytest.raises(inventory.LeaseLost):
        inventory.write_nodes(holder="a", cluster_id=pk, all_names=[])


def test_living_collectors_are_known(four):
    leases.beat("a", now=NOW - timedelta(days=1))
    leases.beat("b")
    assert [row.name for row in leases.living_collectors()] == ["b"]


def test_every_cluster_has_one_lease(four):
    leases.beat("a")
    leases.beat("b")
    assert CollectorLease.objects.count() == 4
