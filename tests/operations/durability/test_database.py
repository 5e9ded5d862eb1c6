"""The database is started again at every boundary of a step: nothing lost, nothing done twice."""

import os

import pytest

from lab import Lab
from tests.operations.durability.fragile import (
    SECONDS,
    FragilePortal,
    assert_done_once,
    whose_turn,
)
from tests.operations.durability.points import POINTS
from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab():
    with Lab.start(f"durability-{os.getpid()}") as lab:
        yield lab


@pytest.fixture(scope="module")
def portal(lab, tmp_path_factory):
    """On a PostgreSQL of its own, which the tests stop and start."""
    folder = tmp_path_factory.mktemp("on-postgres")
    with FragilePortal(folder, BEIDOU_DATABASE_URL=lab.postgres()) as portal:
        yield portal


@pytest.mark.parametrize("point", POINTS)
def test_a_database_that_is_started_again_in_the_middle_costs_nothing_but_time(
    lab, portal, undisturbed, point
):
    """Of one kind after the other, because a process that waits for it may be everybody's.

    A word to the queue that was lost is found within a minute: those points come with one kind.
    """
    for kind in whose_turn(undisturbed, point, shift=3):
        keys = portal.begin_each(point, "database", kind)
        (name,) = wait_until(
            lambda: portal.interrupted(point, "database", kind),  # noqa: B023
            "the operation at the point",
            SECONDS,
        )
        lab.restart_postgres()
        (portal.folder / f"{name}.back").touch()
        stories = portal.wait_for_each(keys)
        assert stories == {kind: undisturbed[kind]}
        assert_done_once(portal, point, "database", stories)
        portal.wait_for_strays()
