"""What becomes of operations when nothing is killed."""

import pytest

from tests.operations.durability.fragile import FragilePortal, Stories


@pytest.fixture(scope="module")
def portal(tmp_path_factory):
    with FragilePortal(tmp_path_factory.mktemp("fragile")) as portal:
        yield portal


@pytest.fixture(scope="module")
def undisturbed(portal) -> Stories:
    """An operation of each kind."""
    stories = portal.wait_for_each(portal.begin_each("starting", "nobody"))
    assert {story["status"] for story in stories.values()} == {"succeeded"}
    assert {story["ends"] for story in stories.values()} == {1}
    return stories
