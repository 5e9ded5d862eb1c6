"""The figures that alert rules need, on top of the functions of ``search`` alone.

They are bounded in time: the clock is looked at between questions to the store, each of which has
the store's own time limit.  What is missing then is told.
"""

import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from events.services import search
from events.services.search import Query

CLUSTERS_MAX: Final = 2000
ASKED_MAX: Final = 50
"""So many clusters (those with the most events), or chosen values, are asked for their groups."""


class Clock:
    """How long the questions together may take."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self._end


@dataclass(frozen=True)
class Group:
    """So many events of one cluster (of all together without), with one value in common."""

    cluster: int | None
    value: str
    count: int


@dataclass(frozen=True)
class Steps:
    """``steps``: number -> count; ``is_late``: the time was over before all were counted."""

    steps: dict[int, int]
    is_late: bool = False


@dataclass(frozen=True)
class Groups:
    """``is_part``: there are more, or others may be larger.  ``is_late``: the time was over before
    all were counted."""

    found: tuple[Group, ...]
    is_part: bool = False
    is_late: bool = False


def groups(user: Any, query: Query, by: str, *, least: int, most: int, clock: Clock) -> Groups:
    """The largest groups of at least ``least`` events, the largest first.

    ``by``: empty for all together, ``cluster``, or one of ``search.FIELDS`` within a cluster.
    """
    clusters = _of_clusters(user, query)
    if not by:
        count = sum(count for _cluster, count in clusters)
        return Groups((Group(_only(query), "", count),) if count >= least else ())
    if by == "cluster":
        found = [Group(cluster, "", count) for cluster, count in clusters]
        return _largest(found, least, most)
    if getattr(query, by):
        return _of_chosen(user, query, by, least, most, clock)
    large = [cluster for cluster, count in clusters if count >= least]
    found = []
    for cluster in large[:ASKED_MAX]:
        if clock.is_over:
            return _largest(found, least, most, is_late=True)
        counted = search.counts(user, replace(query, clusters=(cluster,)), by, most=most + 1)
        found += [Group(cluster, value, count) for value, count in counted]
    return _largest(found, least, most, is_part=len(large) > ASKED_MAX)


def total(user: Any, query: Query) -> int:
    return sum(count for _cluster, count in _of_clusters(user, query))


def _only(query: Query) -> int | None:
    """All together are of a cluster where one alone was chosen."""
    return query.clusters[0] if len(query.clusters) == 1 else None


def of_group(query: Query, by: str, group: Group) -> Query:
    """What one group counts."""
    if group.cluster is not None:
        query = replace(query, clusters=(group.cluster,))
    return narrowed(query, by, group.value) if group.value else query


def narrowed(query: Query, field: str, value: str) -> Query:
    """With this value chosen alone."""
    chosen: Any = (value,)
    return replace(query, **{field: chosen})


def _largest(
    found: list[Group], least: int, most: int, *, is_part: bool = False, is_late: bool = False
) -> Groups:
    large = [each for each in found if each.count >= least]
    large.sort(key=lambda each: (-each.count, each.cluster or 0, each.value))
    return Groups(tuple(large[:most]), is_part or len(large) > most, is_late)


def _of_clusters(user: Any, query: Query) -> list[tuple[int, int]]:
    """``counts`` gives the clusters that were not chosen, too."""
    counted = search.counts(user, query, "cluster", most=CLUSTERS_MAX)
    return [pair for pair in counted if not query.clusters or pair[0] in query.clusters]


def _of_chosen(user: Any, query: Query, field: str, least: int, most: int, clock: Clock) -> Groups:
    """Each chosen value is asked for by itself: ``counts`` would give the others, too."""
    found: list[Group] = []
    for value in getattr(query, field)[:ASKED_MAX]:
        if clock.is_over:
            return _largest(found, least, most, is_late=True)
        counted = _of_clusters(user, narrowed(query, field, value))
        found += [Group(cluster, value, count) for cluster, count in counted]
    return _largest(found, least, most)


def steps_of_groups(
    user: Any, query: Query, by: str, width: timedelta, *, most: int
) -> dict[tuple[int | None, str], dict[int, int]]:
    """Of every group how many events were last seen in which step of ``width`` since
    ``query.since``: the events themselves are read, the newest ``most``."""
    found: dict[tuple[int | None, str], dict[int, int]] = {}
    for event in search.every(user, query, most=most):
        value = getattr(event, by) if by and by != "cluster" else ""
        if not value and by not in ("", "cluster"):
            continue
        steps_of_group = found.setdefault((event.cluster_id if by else _only(query), value), {})
        number = (event.last_seen - query.since) // width
        steps_of_group[number] = steps_of_group.get(number, 0) + 1
    return found


def steps(user: Any, query: Query, width: timedelta, *, clock: Clock) -> Steps:
    """How many events were last seen in which step of ``width`` since ``query.since``; empty ones
    are left out."""
    if clock.is_over:
        return Steps({}, is_late=True)
    found = search.parts(user, query, width // timedelta(seconds=1))
    return Steps({number: part.warnings + part.others for number, part in found.items()})
