"""Which nodes test which others, and who is to blame when pairs fail."""

import pytest

from operations.kinds.health import pairs


def names(count):
    return [f"node-{number:03}" for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 20])
def test_few_nodes_test_all_pairs(count):
    found = pairs.peers_of(names(count))
    assert {(a, b) for a, row in found.items() for b in row} == {
        (a, b) for a in names(count) for b in names(count) if a != b
    }


@pytest.mark.parametrize("count", [21, 22, 23, 24, 25, 40, 100, 257, 2000])
def test_of_many_each_asks_as_many_as_it_is_asked_by(count):
    found = pairs.peers_of(names(count))
    asked_by: dict[str, int] = {}
    for name, peers in found.items():
        assert len(set(peers)) == len(peers) == pairs.PEERS
        assert name not in peers
        for peer in peers:
            asked_by[peer] = asked_by.get(peer, 0) + 1
    assert set(asked_by.values()) == {pairs.PEERS}


def test_the_far_peers_lie_all_around_the_ring():
    (peers,) = [row for name, row in pairs.peers_of(names(120)).items() if name == "node-000"]
    assert peers == [f"node-{at:03}" for at in (1, 2, 3, 20, 40, 60, 80, 100)]


def test_the_order_in_which_nodes_are_named_does_not_matter():
    assert pairs.peers_of(reversed(names(30))) == pairs.peers_of(names(30))


def cut(*lost, size=5):
    """All pairs of ``size`` nodes in which one of ``lost`` takes part."""
    return {(a, b) for a in range(size) for b in range(size) if a != b and (a in lost or b in lost)}


@pytest.mark.parametrize(
    ("failed", "guilty"),
    [
        (set(), set()),
        ({(1, 2)}, {1, 2}),
        ({(1, 2), (2, 1)}, {1, 2}),
        ({(1, 2), (3, 4)}, {1, 2, 3, 4}),
        ({(1, 2), (1, 3)}, {1}),
        ({(2, 1), (3, 1)}, {1}),
        (cut(0), {0}),
        (cut(0, 1), {0, 1}),
        (cut(0, size=2), {0, 1}),
        (cut(0, size=3), {0}),
        (cut(0) | {(3, 4)}, {0, 3, 4}),
        ({(a, b) for a in (0, 1) for b in (2, 3)}, {0, 1, 2, 3}),
    ],
)
def test_those_with_the_most_failed_partners_are_to_blame(failed, guilty):
    assert pairs.to_blame({(str(a), str(b)) for a, b in failed}) == {str(each) for each in guilty}


def test_rows_are_read_as_who_asked_whom():
    rows = {"a": {"b": True, "c": False}, "b": {"c": False}}
    assert pairs.failed(rows) == {("a", "c"), ("b", "c")}
    assert pairs.of("c", pairs.failed(rows)) == ([], ["a", "b"])
    assert pairs.of("a", pairs.failed(rows)) == (["c"], [])
    assert pairs.names_in(rows) == ["a", "b", "c"]
