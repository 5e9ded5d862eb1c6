"""A one-click task, interrupted at every boundary of its engine: nothing lost, nothing done twice,
and the state tells the truth."""

from collections.abc import Sequence

import pytest

from tests.operations.durability.fragile import FragilePortal, Story
from tests.operations.durability.looks import LOOKS

pytestmark = pytest.mark.lab

SECONDS = 180  # words that are lost are found by the sweeps, one a minute
# A dead process is the same to the database whichever it is: each moment comes once.
WITH_PORTAL = (
    "seen.asked",
    "written.ScaleUpPreCheck",
    "committed.ScaleUpWorkprocess",
    "unheard.ScaleUp",
)


def stories_of(portal: FragilePortal, points: Sequence[str], victim: str) -> list[Story]:
    """What became of a task for each of the points, in their order."""
    keys = portal.ask("begin tasks", points, victim)
    portal.wait_for("tasks ended", keys, SECONDS)
    return list(portal.ask("tell tasks", keys).values())


@pytest.fixture(scope="module")
def undisturbed_task(portal) -> Story:
    """What becomes of a task when nothing is killed."""
    (story,) = stories_of(portal, ["seen.asked"], "nobody")
    assert story["status"] == "succeeded"
    assert [each["status"] for each in story["operations"]] == ["succeeded", "succeeded"]
    assert story["told"] == ["task.asks", "task.says", "task.succeeded"]
    return story


def test_a_task_survives_the_death_of_the_process_that_goes_on_with_it(portal, undisturbed_task):
    stories = stories_of(portal, LOOKS, "child")
    for point, story in zip(LOOKS, stories, strict=True):
        assert_as_if_undisturbed(portal, point, "child", story, undisturbed_task)
    portal.wait_for_strays()


@pytest.mark.parametrize("point", WITH_PORTAL)
def test_a_task_survives_the_death_of_the_whole_portal(portal, undisturbed_task, point):
    (story,) = stories_of(portal, [point], "portal")
    assert_as_if_undisturbed(portal, point, "portal", story, undisturbed_task)
    portal.wait_for_strays()


def assert_as_if_undisturbed(portal, point, victim, story, undisturbed) -> None:
    """No step of its operations was under way, so no machine was touched twice."""
    assert portal.interrupted(point, victim, "Task"), point
    assert story == undisturbed, point
    deeds = portal.deeds(point, victim)
    steps = sum(len(each["steps"]) for each in story["operations"])
    assert list(deeds.values()) == [1] * (2 * 2 * steps), (point, deeds)
