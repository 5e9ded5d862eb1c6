"""What a clean-up may empty for a cluster that is being created: what its creation has begun."""

from typing import Any

import pytest

from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import clean_up
from operations.models import MachineStep
from operations.services import create_cluster

pytestmark = pytest.mark.django_db


@pytest.fixture
def creation(wish, maker, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks():
        return create_cluster.create(wish=wish(), acting_user=maker)


@pytest.fixture
def told(creation):
    """What the role that resets is told of the first machine."""

    class Run:
        cluster: Cluster = creation.cluster
        targets = (creation.machines.first(),)

    run: Any = Run()

    def ask():
        run.targets[0].machine.refresh_from_db()
        (own,) = clean_up.own_without_api(run).values()
        return own["is_control_plane"], own["any_cluster"]

    return ask


def pass_pre_check(creation, status="succeeded"):
    MachineStep.objects.filter(step__operation=creation, step__name="preCheck").update(
        status=status, started_at=creation.created_at
    )


def begin(creation):
    MachineStep.objects.filter(step__operation=creation, step__name="createControlPlane").update(
        status="failed", started_at=creation.created_at
    )
    Machine.objects.update(cluster=creation.cluster, state=Machine.State.FAULTY)


def test_a_control_plane_that_was_begun_is_emptied_whoever_s_it_is_by_now(creation, told):
    pass_pre_check(creation)
    begin(creation)
    assert told() == (True, True)


def test_a_machine_that_failed_the_pre_check_may_be_somebody_else_s(creation, told):
    """A control plane of production at a wrong address, say."""
    pass_pre_check(creation, "failed")
    assert told() == (False, False)


def test_a_machine_with_which_nothing_was_begun_may_be_somebody_else_s(creation, told):
    pass_pre_check(creation)
    assert told() == (False, False)


def test_a_pre_check_that_was_skipped_has_proven_nothing(creation, told):
    pass_pre_check(creation, "skipped")
    begin(creation)
    assert told() == (False, False)


def test_a_machine_that_was_cleaned_may_have_gone_elsewhere_since(creation, told):
    pass_pre_check(creation)
    begin(creation)
    Machine.objects.update(cluster=None, state=Machine.State.AVAILABLE)
    assert told() == (False, False)


def test_a_machine_of_no_part_of_it_may_be_somebody_else_s(creation, told):
    pass_pre_check(creation)
    begin(creation)
    MachineStep.objects.filter(machine=creation.machines.first()).delete()
    assert told() == (False, False)
