"""The limits per cluster, per team and in all, and who counts for which team."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import IntegrityError, connection

from operations.models import ClusterSettings, Operation, TeamLimit
from operations.services import control as controls
from operations.services import dispatch, limits, recovery, teams
from tests import factories
from tests.operations.queue.conftest import end, fresh, running
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db


@pytest.fixture
def roomy(cluster_a):
    """The cluster's own limit is out of the way."""
    return ClusterSettings.objects.create(cluster=cluster_a, limit=50)


def dispatched(control) -> list[str]:
    control(dispatch.dispatch)
    return running()


def test_no_more_than_the_limit_of_all_run(toy, queued, roomy, control, settings):
    settings.OPERATIONS_AT_ONCE = 2
    for name in ("a", "b", "c"):
        queued(name)
    assert dispatched(control) == ["a", "b"]
    third = Operation.objects.get(name="c")
    assert third.waiting_for == "one of the 2 slots of the portal"
    assert third.waiting_since is not None


def test_no_more_of_a_team_than_its_limit_run(toy, queued, roomy, control, settings, operators):
    settings.OPERATIONS_PER_TEAM = 1
    queued("a", team=operators)
    queued("b", team=operators)
    queued("c", team=factories.make_team())
    assert dispatched(control) == ["a", "c"]
    assert Operation.objects.get(name="b").waiting_for == "one of the 1 slots of its team"


def test_a_team_may_have_a_limit_of_its_own(toy, queued, roomy, control, settings, operators):
    settings.OPERATIONS_PER_TEAM = 1
    TeamLimit.objects.create(team=operators, limit=2)
    for name in ("a", "b", "c"):
        queued(name, team=operators)
    assert dispatched(control) == ["a", "b"]


def test_what_counts_for_no_team_has_no_limit_of_one(toy, queued, roomy, control, settings):
    settings.OPERATIONS_PER_TEAM = 1
    queued("a")
    queued("b")
    assert dispatched(control) == ["a", "b"]


def test_what_changes_nothing_needs_no_slot_of_the_cluster(cluster_a, queued, control, settings):
    settings.OPERATIONS_PER_CLUSTER = 1
    settings.OPERATIONS_AT_ONCE = 2
    with toy_kind(mutating=False):
        for name in ("a", "b", "c"):
            queued(name)
        assert dispatched(control) == ["a", "b"]


def test_the_next_of_another_team_has_its_turn_when_one_ends(
    toy, queued, roomy, control, settings, operators
):
    settings.OPERATIONS_AT_ONCE = 1
    for name in ("a", "b"):
        queued(name, team=operators)
    dispatched(control)
    queued("late", team=factories.make_team())
    end("a")
    assert dispatched(control) == ["late"]


def test_every_slot_is_given_back_at_the_end(toy, begin, work):
    operation = begin()
    work()
    ended = fresh(operation)
    assert (ended.slot, ended.team_slot, ended.place) == (None, None, None)


def test_every_slot_is_given_back_by_a_cancel(toy, begin, work, control, operator):
    operation = begin()
    work(limit=1)
    control(controls.cancel, fresh(operation), acting_user=operator)
    work()
    ended = fresh(operation)
    assert ended.status == Operation.Status.CANCELED
    assert (ended.slot, ended.team_slot, ended.place) == (None, None, None)


def test_a_lowered_limit_holds_for_what_starts_next(toy, queued, roomy, control, settings):
    settings.OPERATIONS_AT_ONCE = 3
    for name in ("a", "b", "c", "d"):
        queued(name)
    dispatched(control)
    settings.OPERATIONS_AT_ONCE = 2
    end("a")
    assert dispatched(control) == ["b", "c"]
    end("b")
    assert dispatched(control) == ["c", "d"]


@pytest.mark.parametrize("same", [{"place": 0}, {"team_slot": 0}, {"slot": 0}], ids=str)
def test_the_database_gives_each_number_away_once(toy, queued, operators, same):
    queued(team=operators, **same)
    with pytest.raises(IntegrityError):
        queued(team=operators, **same)


def test_what_is_waited_for_is_written_only_when_it_changes(
    toy, queued, roomy, control, settings, django_assert_max_num_queries
):
    settings.OPERATIONS_AT_ONCE = 1
    queued("a")
    waiting = queued("b")
    dispatched(control)
    since = fresh(waiting).waiting_since
    control(dispatch.dispatch)
    assert fresh(waiting).waiting_since == since
    settings.OPERATIONS_AT_ONCE = 2
    roomy.limit = 1
    roomy.save()
    control(dispatch.dispatch)
    changed = fresh(waiting)
    assert changed.waiting_for == "one of the 1 slots for changes on its cluster"
    assert changed.waiting_since > since


def test_two_thousand_that_wait_cost_no_more_queries(
    toy, queued, roomy, control, settings, cluster_a, django_assert_max_num_queries
):
    settings.OPERATIONS_AT_ONCE = 1
    groups = [factories.make_team() for _ in range(20)]
    Operation.objects.bulk_create(
        Operation(name=f"more-{i}", kind="Toy", cluster=cluster_a, team=groups[i % 20])
        for i in range(2000)
    )
    queued("running", place=0, status=Operation.Status.RUNNING)
    dispatched(control)
    with django_assert_max_num_queries(4):
        dispatch.dispatch()


def test_nothing_that_waits_costs_one_query(django_assert_num_queries, db):
    with django_assert_num_queries(1):
        dispatch.dispatch()


def test_a_slot_that_another_took_meanwhile_is_not_taken_twice(
    toy, queued, roomy, control, settings, monkeypatch
):
    """What this dispatcher has read is old by the time it starts something."""
    settings.OPERATIONS_AT_ONCE = 2
    queued("a")
    read = limits.read
    looked: list[bool] = []

    def read_and_be_overtaken():
        found = read()
        if not looked:
            looked.append(True)
            queued("other", place=0, status=Operation.Status.RUNNING)
        return found

    monkeypatch.setattr(limits, "read", read_and_be_overtaken)
    control(dispatch.dispatch)
    assert sorted(Operation.objects.values_list("name", "place")) == [("a", 1), ("other", 0)]


@pytest.mark.django_db(transaction=True)
def test_dispatchers_that_race_exceed_no_limit(queued, roomy, settings, operators):
    settings.OPERATIONS_AT_ONCE = 5
    settings.OPERATIONS_PER_TEAM = 3
    for _number in range(6):
        queued(team=operators)
        queued()
    begin = threading.Barrier(4)

    def race(_number: int) -> int:
        begin.wait(timeout=10)
        try:
            return dispatch.dispatch()
        finally:
            connection.close()

    with toy_kind(), ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(race, range(4), timeout=60)) == 5
        # Whoever lost a race has left nothing that could run: one more look starts no more.
        dispatch.dispatch()
    rows = Operation.objects.filter(status=Operation.Status.RUNNING)
    assert sorted(rows.values_list("place", flat=True)) == [0, 1, 2, 3, 4]
    assert rows.filter(team=operators).count() <= 3


# --- teams ---------------------------------------------------------------------------------


def test_an_operation_counts_for_the_team_that_gives_the_right(toy, begin, operators):
    assert begin().team == operators


def test_a_team_that_may_only_look_is_not_the_one(toy, begin, operator, operators, viewers):
    viewers.name = "aaa"
    viewers.save()
    operator.groups.add(viewers)
    assert begin().team == operators


def test_the_owner_team_of_the_cluster_goes_before_the_first_by_name(cluster_a, operator):
    owners = factories.make_team("zzz")
    factories.grant(owners, cluster_a, "owner")
    operator.groups.add(owners)
    assert teams.counted_for(operator, cluster_a, "operate").name == "operators"
    cluster_a.team = owners
    cluster_a.save()
    assert teams.counted_for(operator, cluster_a, "operate") == owners


def test_an_administrator_of_no_team_works_for_none(toy, begin, admin):
    assert begin(acting_user=admin).team is None


def test_a_deleted_team_takes_no_operation_with_it(toy, begin, operators):
    operation = begin()
    operators.delete()
    assert fresh(operation).team is None


def test_the_clock_starts_what_waits(toy, queued, control):
    operation = queued()
    control(recovery.maintain)
    assert fresh(operation).status != Operation.Status.WAITING


# --- when all is full ----------------------------------------------------------------------


@pytest.fixture
def all_full(toy, queued, roomy, control, settings):
    """Everything that may run does, and what waits has been told."""
    settings.OPERATIONS_AT_ONCE = 1
    queued("running", place=0, status=Operation.Status.RUNNING)
    waiting = queued("waiting")
    control(dispatch.dispatch)
    return waiting


def test_while_all_is_full_and_told_an_end_elsewhere_costs_two_queries(
    all_full, django_assert_num_queries
):
    with django_assert_num_queries(2):
        assert dispatch.fill() == 0


def test_whoever_comes_while_all_is_full_is_told_for_what_it_waits(all_full, queued, control):
    late = queued("late")
    control(dispatch.fill)
    assert fresh(late).waiting_for == "one of the 1 slots of the portal"


def test_a_place_that_becomes_free_is_filled(all_full, control):
    end("running")
    assert control(dispatch.fill) == 1
    assert running() == ["waiting"]
