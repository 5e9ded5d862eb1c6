"""Every kind of operation, killed at every boundary of a step: nothing lost, nothing done twice, no
process left, and the state tells the truth.

That a step may be done again is each kind's own word; what it then does to real hosts is proved by
the kinds' own tests in the lab, where ansible is killed as well.
"""

import pytest

from tests.operations.durability.fragile import assert_done_once, whose_turn
from tests.operations.durability.points import POINTS

pytestmark = pytest.mark.lab

# The portal last: one that was started anew does not wait long before it starts its programs again.
EACH_KIND, IN_TURN = ("child", "readers"), ("main", "portal")


@pytest.mark.parametrize("victim", EACH_KIND + IN_TURN)
@pytest.mark.parametrize("point", POINTS)
def test_a_death_costs_nothing_but_time(portal, undisturbed, point, victim):
    """With a worker, the main process of the workers, and the whole portal, everything is lost that
    a process had in its hands; with web and collector nothing.

    Where only one process of many dies, all kinds come to the point side by side.
    """
    turns = [undisturbed.keys()]
    if victim in IN_TURN:
        kinds = whose_turn(undisturbed, point, shift=IN_TURN.index(victim))
        turns = [{kind} for kind in kinds]
    for kinds in turns:
        stories = portal.wait_for_each(portal.begin_each(point, victim, *sorted(kinds)))
        assert stories == {kind: undisturbed[kind] for kind in kinds}
        assert_done_once(portal, point, victim, stories)
        portal.wait_for_strays()
    if victim == "readers":
        for program in ("web", "collect"):
            portal.wait_for_program(program, other_than=0)
