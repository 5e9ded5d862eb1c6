"""A file cannot lead a cluster's credential to a machine for whom it was not meant."""

import pytest

from machines.models import Machine
from operations.models import ClusterSettings
from tests import factories
from tests.machines.test_files import mistakes, run

pytestmark = pytest.mark.django_db


@pytest.fixture
def owners(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return team


@pytest.fixture
def owner(owners):
    return factories.make_user("owner", teams=(owners,))


@pytest.fixture
def in_cluster(cluster_a, owners):
    """A machine with a key of its owners, in a cluster whose key belongs to another team."""
    ClusterSettings.objects.create(
        cluster=cluster_a, credential=factories.make_credential("of-the-cluster")
    )
    own = factories.make_credential("own", team=owners)
    return factories.make_machine("10.8.3.1", cluster=cluster_a, owner_team=owners, credential=own)


def test_who_may_not_use_it_cannot_take_the_machines_own_away(in_cluster, owner):
    (found,) = mistakes(owner, "address,credential\n10.8.3.1,\n")
    assert "of-the-cluster" in found[2]
    assert Machine.objects.get().credential == in_cluster.credential


def test_who_may_use_it_can(in_cluster, admin):
    run(admin, "address,credential\n10.8.3.1,\n")
    assert Machine.objects.get().credential is None


def test_other_fields_may_change(in_cluster, owner):
    run(owner, "address,credential,rack\n10.8.3.1,own,r7\n")
    assert Machine.objects.get().rack == "r7"
