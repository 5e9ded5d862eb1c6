"""Which nodes test which others, and which of them is to blame when pairs fail.

Up to ``ALL_PAIRS_UP_TO`` nodes each tests every other one.  With more, each tests ``PEERS``: its
next neighbours in a ring by name, and others spread evenly around it, so that the cost grows with
the nodes and each is still asked by as many.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

ALL_PAIRS_UP_TO: Final = 20
PEERS: Final = 8
_NEXT: Final = 3

Pair = tuple[str, str]
Rows = Mapping[str, Mapping[str, bool]]


def peers_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Name → the nodes it is to reach."""
    ring = sorted(set(names))
    size = len(ring)
    if size <= ALL_PAIRS_UP_TO:
        return {name: [other for other in ring if other != name] for name in ring}
    steps = _steps(size)
    return {
        name: [ring[(place + step) % size] for step in steps] for place, name in enumerate(ring)
    }


def _steps(size: int) -> list[int]:
    """How far around the ring the peers are."""
    spread = PEERS - _NEXT
    far = [size * part // (spread + 1) for part in range(1, spread + 1)]
    near = range(1, size)
    return list(dict.fromkeys([*range(1, _NEXT + 1), *far, *near]))[:PEERS]


def failed(rows: Rows) -> set[Pair]:
    """The pairs (who asked, who was not reached)."""
    return {
        (asking, asked)
        for asking, row in rows.items()
        for asked, is_reached in row.items()
        if not is_reached
    }


def to_blame(pairs: Collection[Pair]) -> set[str]:
    """The nodes that explain all failed pairs: those with the most failed partners, then those of
    what is left.

    One node that is cut off fails with everybody, and everybody with it alone; between two that
    fail only with each other nothing can be told, and both are named.
    """
    guilty: set[str] = set()
    left = {frozenset(pair) for pair in pairs}
    while left:
        partners: dict[str, int] = {}
        for pair in left:
            for name in pair:
                partners[name] = partners.get(name, 0) + 1
        most = max(partners.values())
        worst = {name for name, count in partners.items() if count == most}
        guilty |= worst
        left = {pair for pair in left if not pair & worst}
    return guilty


def of(name: str, pairs: Collection[Pair]) -> tuple[list[str], list[str]]:
    """Whom it does not reach, and by whom it is not reached."""
    return (
        sorted(asked for asking, asked in pairs if asking == name),
        sorted(asking for asking, asked in pairs if asked == name),
    )


def names_in(rows: Rows) -> Sequence[str]:
    """Everybody who asks or is asked, by name: the sides of the grid."""
    return sorted({*rows, *(asked for row in rows.values() for asked in row)})
