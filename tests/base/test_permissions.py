"""Who may see and do what."""

import pytest
from django.utils.functional import Promise

from beidou.base.models import User
from beidou.base.permissions import (
    ACTION_LABELS,
    ACTIONS,
    CHANGE,
    ROLES,
    is_auditor,
    may,
    may_anywhere,
    visible_to,
)
from clusters.models import Cluster
from events.models import SavedSearch
from machines.models import Machine
from tests import factories

pytestmark = pytest.mark.django_db


def test_a_stranger_sees_no_cluster(stranger, cluster_a):
    assert not visible_to(stranger, Cluster.objects.all()).exists()


def test_a_viewer_sees_the_granted_cluster_only(viewer, cluster_a, cluster_b):
    assert list(visible_to(viewer, Cluster.objects.all())) == [cluster_a]


def test_a_superuser_sees_every_cluster(admin, cluster_a, cluster_b):
    assert visible_to(admin, Cluster.objects.all()).count() == 2


def test_an_inactive_user_sees_nothing(viewer, cluster_a):
    viewer.is_active = False
    assert not visible_to(viewer, Cluster.objects.all()).exists()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_role_allows_its_actions_and_no_other(role, action, cluster_a):
    team = factories.make_team()
    factories.grant(team, cluster_a, role)
    user = factories.make_user(teams=(team,))
    assert may(user, cluster_a, action) is (action in ROLES[role])


def test_a_machine_in_a_cluster_follows_the_cluster(viewer, cluster_a):
    machine = factories.make_machine(cluster=cluster_a)
    assert list(visible_to(viewer, Machine.objects.all())) == [machine]


def test_a_machine_in_a_foreign_cluster_does_not_follow_its_owner_team(viewer, viewers, cluster_b):
    factories.make_machine(cluster=cluster_b, owner_team=viewers)
    assert not visible_to(viewer, Machine.objects.all()).exists()


def test_an_unassigned_machine_is_seen_by_its_owner_team(viewer, viewers, operator):
    machine = factories.make_machine(owner_team=viewers)
    assert may(viewer, machine)
    assert not may(operator, machine)


def test_an_unassigned_machine_is_operated_by_a_team_that_operates_a_cluster(
    operator, operators, viewer, viewers
):
    assert may(operator, factories.make_machine(owner_team=operators), "operate")
    assert not may(viewer, factories.make_machine(owner_team=viewers), "operate")


def test_an_auditor_sees_the_whole_fleet_and_operates_none(cluster_a):
    team = factories.make_team("auditors")
    factories.give(team, "base.audit_fleet")
    auditor = factories.make_user(teams=(team,))
    assert may(auditor, cluster_a)
    assert not may(auditor, cluster_a, "operate")


def test_every_right_has_a_name_for_people():
    assert ACTION_LABELS.keys() == set(ACTIONS)
    assert all(isinstance(label, Promise) for label in ACTION_LABELS.values())


def test_what_is_granted_anywhere_is_asked_once_for_all_rights(
    operator, cluster_a, django_assert_num_queries
):
    is_auditor(operator)  # Django keeps what it asks for this
    with django_assert_num_queries(1):
        found = {each for each in ACTIONS if may_anywhere(operator, Cluster, each)}
    assert found == set(ROLES["operator"])


def test_whoever_was_removed_meanwhile_may_nothing(operator, cluster_a):
    User.objects.filter(pk=operator.pk).delete()
    assert not may_anywhere(operator, Cluster, "view")


# --- what people keep for themselves, or share ----------------------------------------------------


def saved(owner, **values):
    return SavedSearch.objects.create(owner=owner, name="x", **values)


def test_a_private_row_is_seen_and_changed_by_its_owner_alone(viewer, operator):
    row = saved(viewer)
    assert may(viewer, row)
    assert may(viewer, row, CHANGE)
    assert not may(operator, row)


def test_a_shared_row_is_seen_by_others_and_changed_by_its_owner_alone(viewer, operator):
    row = saved(viewer, shared=True)
    assert may(operator, row)
    assert not may(operator, row, CHANGE)


def test_whoever_has_no_right_on_any_cluster_owns_and_sees_nothing(viewer, stranger):
    saved(viewer, shared=True)
    own = saved(stranger)
    assert not visible_to(stranger, SavedSearch.objects.all()).exists()
    assert not may(stranger, own, CHANGE)
    assert not may_anywhere(stranger, SavedSearch)


def test_an_auditor_sees_all_and_changes_what_is_his_own(auditor, viewer):
    own, foreign = saved(auditor), saved(viewer)
    assert may(auditor, foreign)
    assert may(auditor, own, CHANGE)
    assert not may(auditor, foreign, CHANGE)
    assert may_anywhere(auditor, SavedSearch, CHANGE)
