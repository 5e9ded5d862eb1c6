"""Grants, and the rights that follow from them."""

import threading

import pytest
from django.db import connection

from beidou.base import tasks
from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from beidou.base.permissions import may
from clusters.models import Cluster, ClusterGroupObjectPermission
from clusters.services import adoption, grants
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def team():
    return factories.make_team("blue")


@pytest.fixture
def member(team):
    return factories.make_user("member", teams=(team,))


def test_a_grant_gives_the_rights_of_its_role(cluster_a, cluster_b, team, member, admin):
    grants.create_grant(team=team, role="operator", cluster=cluster_a, user=admin)
    assert may(member, cluster_a, "operate")
    assert not may(member, cluster_a, "change")
    assert not may(member, cluster_b)


def test_a_label_grant_gives_rights_on_every_cluster_with_the_label(
    cluster_a, cluster_b, team, member, admin
):
    Cluster.objects.filter(pk=cluster_b.pk).update(labels={"tier": "gold"})
    grants.create_grant(team=team, role="viewer", label="tier=gold", user=admin)
    assert not may(member, cluster_a)
    assert may(member, cluster_b)


def test_the_grants_of_a_deleted_team_are_revoked_in_the_audit_trail(
    cluster_a, team, admin, browser
):
    grants.create_grant(team=team, role="operator", cluster=cluster_a, user=admin)
    browser(admin).post(f"/auth/group/{team.pk}/delete/", {"post": "yes"})
    entry = AuditEntry.objects.get(verb="revoke")
    assert (entry.cluster_id, entry.actor) == (cluster_a.pk, admin.username)
    assert entry.reason == "the team was deleted"


def test_taking_one_of_two_overlapping_grants_leaves_the_other(cluster_a, team, member, admin):
    grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=admin)
    owner = grants.create_grant(team=team, role="owner", cluster=cluster_a, user=admin)
    grants.delete_grant(grant=owner, user=admin)
    assert may(member, cluster_a)
    assert not may(member, cluster_a, "change")


def test_deriving_twice_changes_nothing(cluster_a, team, admin):
    grants.create_grant(team=team, role="owner", cluster=cluster_a, user=admin)
    before = set(ClusterGroupObjectPermission.objects.values_list("pk", flat=True))
    grants.derive_all()
    assert set(ClusterGroupObjectPermission.objects.values_list("pk", flat=True)) == before


def test_deriving_removes_rights_that_no_grant_explains(cluster_a, member, team, admin):
    row = grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=admin)
    row.delete()
    grants.derive(cluster_a)
    assert not may(member, cluster_a)


def test_rights_follow_the_stored_labels_and_not_those_of_an_earlier_read(
    cluster_a, team, member, admin
):
    grants.create_grant(team=team, role="viewer", label="tier=gold", user=admin)
    adoption.edit(
        cluster=Cluster.objects.get(pk=cluster_a.pk), changes={"labels": {"tier": "gold"}}
    )
    grants.create_grant(team=factories.make_team(), role="viewer", cluster=cluster_a, user=admin)
    assert may(member, cluster_a)


@pytest.mark.django_db(transaction=True)
def test_a_grant_waits_for_a_change_of_labels_at_the_same_time(cluster_a, team, member, admin):
    over = threading.Event()

    def give():
        try:
            grants.create_grant(team=team, role="viewer", label="tier=gold", user=admin)
        finally:
            connection.close()
            over.set()

    other = threading.Thread(target=give)
    with grants.changing_rights():
        other.start()
        assert not over.wait(0.5)
        adoption.edit(cluster=cluster_a, changes={"labels": {"tier": "gold"}})
    other.join(timeout=30)
    assert may(member, cluster_a)


def test_rights_are_mended_by_the_clock():
    assert "clusters.services.grants.derive_all" in {entry.function for entry in tasks.SCHEDULES}


def test_granting_and_revoking_are_audited(cluster_a, team, admin):
    row = grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=admin)
    grants.delete_grant(grant=row, user=admin, reason="left")
    verbs = list(AuditEntry.objects.order_by("id").values_list("verb", "cluster_id"))
    assert verbs == [("grant", cluster_a.pk), ("revoke", cluster_a.pk)]


def test_the_same_grant_twice_is_a_conflict(cluster_a, team, admin):
    grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=admin)
    with pytest.raises(Conflict, match="already"):
        grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=admin)


@pytest.mark.parametrize("label", ["tier", "=gold", "tier=", "  "])
def test_a_label_must_be_key_and_value(team, admin, label):
    with pytest.raises(InvalidInput):
        grants.create_grant(team=team, role="viewer", label=label, user=admin)


def test_a_grant_is_about_a_cluster_or_a_label_and_not_both(cluster_a, team, admin):
    with pytest.raises(InvalidInput, match="either"):
        grants.create_grant(
            team=team, role="viewer", cluster=cluster_a, label="tier=gold", user=admin
        )


def test_an_unknown_role_is_refused(cluster_a, team, admin):
    with pytest.raises(InvalidInput, match="no role king"):
        grants.create_grant(team=team, role="king", cluster=cluster_a, user=admin)


def test_an_owner_grants_on_the_own_cluster_only(cluster_a, cluster_b, team):
    owners = factories.make_team()
    factories.grant(owners, cluster_a, "owner")
    owner = factories.make_user(teams=(owners,))
    grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=owner)
    with pytest.raises(Forbidden):
        grants.create_grant(team=team, role="viewer", cluster=cluster_b, user=owner)
    with pytest.raises(Forbidden):
        grants.create_grant(team=team, role="viewer", label="a=b", user=owner)


def test_an_operator_grants_nothing(cluster_a, team, operator):
    with pytest.raises(Forbidden, match="owners"):
        grants.create_grant(team=team, role="viewer", cluster=cluster_a, user=operator)
