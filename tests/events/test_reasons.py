"""Which reasons a cluster is known to give."""

from datetime import timedelta

import pytest
from django.utils import timezone

from events import tasks
from events.drivers.errors import StoreAway
from events.models import KnownReason, ReasonsLearned
from events.services import reasons
from events.services.stores import embedded
from tests import factories

pytestmark = pytest.mark.django_db


def ago(**values):
    return timezone.now() - timedelta(**values)


def known(cluster):
    rows = KnownReason.objects.filter(cluster=cluster).order_by("reason")
    return list(rows.values_list("reason", flat=True))


def test_the_first_look_goes_back_some_days(cluster_a):
    factories.make_event(cluster_a, reason="Old", last_seen=ago(days=13))
    factories.make_event(cluster_a, reason="Older", last_seen=ago(days=15))
    factories.make_event(cluster_a, reason="New", last_seen=ago(minutes=5))
    assert tasks.learn_reasons() == 2
    assert known(cluster_a) == ["New", "Old"]


def test_a_reason_is_noted_once_with_when_it_was_first_seen(cluster_a):
    first = ago(minutes=50)
    for moment in (first, ago(minutes=20)):
        factories.make_event(cluster_a, reason="Odd", last_seen=moment)
    assert (reasons.learn(), reasons.learn()) == (1, 0)
    assert KnownReason.objects.get().first_seen == first


def test_the_same_reason_of_two_clusters_is_known_of_each(cluster_a, cluster_b):
    for cluster in (cluster_a, cluster_b):
        factories.make_event(cluster, reason="Odd")
    assert reasons.learn() == 2


def test_an_event_that_was_stored_late_is_learned_from(cluster_a):
    reasons.learn()
    factories.make_event(cluster_a, reason="Late", last_seen=ago(minutes=90))
    assert reasons.learn() == 1


def test_what_the_last_look_has_seen_is_not_looked_at_again(cluster_a):
    reasons.learn()
    factories.make_event(cluster_a, reason="Older", last_seen=ago(days=2))
    assert reasons.learn() == 0


def test_an_event_that_began_before_the_time_looked_at_makes_no_cluster_long_known(cluster_a):
    factories.make_event(
        cluster_a, reason="Ever", first_seen=ago(days=400), last_seen=ago(minutes=1)
    )
    reasons.learn()
    assert KnownReason.objects.get().first_seen > ago(days=1)


def test_a_store_that_is_away_is_asked_again_from_where_it_was_left(cluster_a, monkeypatch):
    factories.make_event(cluster_a, reason="Old", last_seen=ago(days=13))
    factories.make_event(cluster_a, reason="New", last_seen=ago(minutes=5))
    answers = iter(range(10))
    asked = embedded.EmbeddedStore.reasons

    def sometimes(*args):
        if next(answers) == 9:
            raise StoreAway("The event store does not answer.")
        return asked(*args)

    monkeypatch.setattr(embedded.EmbeddedStore, "reasons", sometimes)
    with pytest.raises(StoreAway):
        reasons.learn()
    assert known(cluster_a) == ["Old"]
    assert ReasonsLearned.objects.get().until < ago(days=11)
    monkeypatch.setattr(embedded.EmbeddedStore, "reasons", asked)
    assert reasons.learn() == 1
    assert known(cluster_a) == ["New", "Old"]


def test_a_cluster_that_makes_up_reasons_fills_no_table(cluster_a, cluster_b, monkeypatch):
    monkeypatch.setattr(reasons, "MOST_OF_CLUSTER", 2)
    for number in range(5):
        factories.make_event(cluster_a, reason=f"R{number}")
    factories.make_event(cluster_b, reason="Odd")
    assert reasons.learn() == 3
    assert len(known(cluster_a)) == 2
    assert known(cluster_b) == ["Odd"]


def test_a_cluster_with_many_reasons_hides_none_of_another(cluster_a, cluster_b, monkeypatch):
    cluster_c = factories.make_cluster("cluster-c")
    monkeypatch.setattr(reasons, "MOST", 4)
    monkeypatch.setattr(reasons, "MOST_OF_CLUSTER", 3)
    for cluster in (cluster_a, cluster_b, cluster_c):
        for number in range(3):
            factories.make_event(cluster, reason=f"R{number}")
    for number in range(9):
        factories.make_event(cluster_a, reason=f"A{number}")
    assert reasons.learn() == 9
    assert [len(known(cluster)) for cluster in (cluster_a, cluster_b, cluster_c)] == [3, 3, 3]


def test_reasons_go_with_their_cluster(cluster_a):
    factories.make_event(cluster_a, reason="Odd")
    reasons.learn()
    cluster_a.delete()
    assert not KnownReason.objects.exists()
    assert reasons.learn() == 0


def test_without_a_cluster_there_is_nothing_to_learn(db):
    assert reasons.learn() == 0


def test_new_is_what_was_never_seen_before_the_time_asked_about(viewer, cluster_a, cluster_b):
    for cluster in (cluster_a, cluster_b):
        for reason, days in (("Old", 9), ("Newer", 2), ("New", 0)):
            KnownReason.objects.create(cluster=cluster, reason=reason, first_seen=ago(days=days))
    day, week = (reasons.new(viewer, since=ago(days=days)) for days in (1, 7))
    assert [row.reason for row in day.rows] == ["New"]
    assert [row.reason for row in week.rows] == ["New", "Newer"]
    assert {row.cluster for row in week.rows} == {cluster_a}
    assert reasons.new(viewer, since=ago(days=1), clusters=(cluster_b.pk,)).rows == []


def test_of_a_cluster_without_earlier_reasons_nothing_is_told(viewer, cluster_a):
    KnownReason.objects.create(cluster=cluster_a, reason="Odd", first_seen=ago(hours=3))
    found = reasons.new(viewer, since=ago(days=1))
    assert (found.rows, found.told, found.untold) == ([], 0, 1)


def test_what_is_not_listed_is_counted(viewer, cluster_a, monkeypatch):
    monkeypatch.setattr(reasons, "SHOWN", 2)
    for reason, days in (("Old", 9), ("A", 0), ("B", 0), ("C", 0)):
        KnownReason.objects.create(cluster=cluster_a, reason=reason, first_seen=ago(days=days))
    found = reasons.new(viewer, since=ago(days=1))
    assert ([row.reason for row in found.rows], found.count) == (["C", "B"], 3)


def test_a_cluster_of_which_no_further_reason_is_noticed_is_counted(
    viewer, cluster_a, cluster_b, monkeypatch
):
    monkeypatch.setattr(reasons, "MOST_OF_CLUSTER", 2)
    for cluster in (cluster_a, cluster_b):  # the viewer does not see the other one
        for number in range(2):
            KnownReason.objects.create(cluster=cluster, reason=f"R{number}", first_seen=ago(days=9))
    assert reasons.new(viewer, since=ago(days=1)).full == 1
