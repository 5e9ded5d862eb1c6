"""The queue as a person may see it: what is in use of the limits, what runs, what waits in which
order.

The order and what is in use are those of everybody, or no position and no figure would be true;
operations that the reader may not see are counted and not named.  However many wait, it costs the
same number of queries.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth.models import Group
from django.utils import timezone

from beidou.base import permissions
from clusters.models import Cluster
from operations.kinds import base as kinds
from operations.models import Operation
from operations.services import limits, listing, live, order
from operations.services.limits import Limits
from operations.services.order import RANKS, Waiting
from operations.services.times import Hold

PAGE = 50
RUNNING_MAX = 100
_SOMETIME = datetime.max.replace(tzinfo=UTC)
_BY_RANK = {rank: priority for priority, rank in RANKS.items()}


@dataclass(frozen=True)
class Use:
    """How much of one limit is in use; ``waiting`` is how many more want it."""

    key: int
    name: str
    used: int
    limit: int
    waiting: int

    @property
    def is_full(self) -> bool:
        return self.used >= self.limit


@dataclass(frozen=True)
class Place:
    """One waiting operation.

    ``position`` is among all that wait.  ``counts_as`` is the priority that it has by waiting.
    """

    position: int
    operation: Operation
    counts_as: str
    may_operate: bool
    may_approve: bool

    @property
    def has_aged(self) -> bool:
        return self.counts_as != self.operation.priority

    @property
    def counts_as_label(self) -> str:
        return str(Operation.Priority(self.counts_as).label)

    @property
    def priorities(self) -> list[tuple[str, Any]]:
        """Those that the reader may give it."""
        return [
            (value, label)
            for value, label in Operation.Priority.choices
            if self.may_approve or value != Operation.Priority.HIGH
        ]

    @property
    def may_cancel(self) -> bool:
        return self.may_operate and "cancel" in live.actions_of(self.operation.status)


@dataclass(frozen=True)
class Queue:
    """What one person sees of it, on one page of it."""

    at: datetime
    in_all: Use
    teams: list[Use]
    clusters: list[Use]
    running: list[Operation]
    running_visible: int
    running_hidden: int
    places: list[Place]
    waiting_visible: int
    waiting_hidden: int
    page: int
    pages: int

    @property
    def is_empty(self) -> bool:
        return not (self.in_all.used or self.in_all.waiting)


def look(user: Any, *, page: int = 1, page_size: int = PAGE) -> Queue:
    """``page`` counts from 1; one behind the last is the last."""
    waiting, in_use = limits.read()
    known = [each for each in waiting if each.is_known]
    allowed = limits.of(known, in_use)
    now = timezone.now()
    turns = order.turns_of({each.team for each in known})
    line = order.in_order(known, turns=turns, now=now)
    # Whose window is not open yet has no turn before those that could begin now.
    line.sort(key=lambda each: _opens_at(allowed.hold(each), now))
    line += [each for each in waiting if not each.is_known]
    rows = permissions.visible_to(user, Operation.objects.all())
    seen = set(rows.filter(status=Operation.Status.WAITING).order_by().values_list("pk", flat=True))
    mine = [(position, each) for position, each in enumerate(line, start=1) if each.key in seen]
    pages = max(1, -(-len(mine) // page_size))
    page = min(max(page, 1), pages)
    shown = mine[(page - 1) * page_size : page * page_size]
    held = rows.exclude(place=None)
    running = list(listing.with_counts(held).order_by("began_at", "pk")[:RUNNING_MAX])
    visible = len(running) if len(running) < RUNNING_MAX else held.count()
    return Queue(
        at=now,
        in_all=Use(0, "", len(in_use.places), allowed.in_all, len(waiting)),
        teams=_teams(user, waiting, allowed),
        clusters=_clusters(user, known, allowed),
        running=running,
        running_visible=visible,
        running_hidden=max(0, len(in_use.places) - visible),
        places=_places(user, shown, now),
        waiting_visible=len(mine),
        waiting_hidden=len(waiting) - len(mine),
        page=page,
        pages=pages,
    )


def _opens_at(hold: Hold | None, now: datetime) -> datetime:
    return now if hold is None else hold.opens_at or _SOMETIME


def _places(user: Any, shown: list[tuple[int, Waiting]], now: datetime) -> list[Place]:
    keys = [each.key for _position, each in shown]
    rows: dict[int, Any] = {
        row.pk: row for row in listing.with_counts(Operation.objects.filter(pk__in=keys))
    }
    # Of the kinds that are shown few rights are needed, of most the same.
    rights = {kind.permission for each in rows.values() if (kind := kinds.KINDS.get(each.kind))}
    able = {right: _may(user, keys, right) for right in rights | {permissions.APPROVE}}
    return [
        Place(
            position=position,
            operation=rows[each.key],
            counts_as=_BY_RANK[each.rank(now)],
            may_operate=each.is_known and each.key in able[kinds.KINDS[each.kind].permission],
            may_approve=each.key in able[permissions.APPROVE],
        )
        for position, each in shown
        if each.key in rows
    ]


def _may(user: Any, keys: list[int], right: str) -> set[int]:
    rows = permissions.visible_to(user, Operation.objects.filter(pk__in=keys), right)
    return set(rows.order_by().values_list("pk", flat=True))


def _teams(user: Any, waiting: list[Waiting], allowed: Limits) -> list[Use]:
    """The reader's own teams; all of them for whoever sees the whole fleet."""
    wanted = _count(each.team for each in waiting)
    concerned = {team for team in wanted if team is not None} | set(allowed.in_use.teams)
    sees_all = user.is_superuser or permissions.is_auditor(user)
    rows = Group.objects.all() if sees_all else user.groups.all()
    return [
        Use(
            key=key,
            name=name,
            used=len(allowed.in_use.teams.get(key, ())),
            limit=limit or allowed.of_team(key),
            waiting=wanted.get(key, 0),
        )
        for key, name, limit in rows.filter(pk__in=concerned)
        .order_by("name")
        .values_list("pk", "name", "operation_limit__limit")
    ]


def _clusters(user: Any, waiting: list[Waiting], allowed: Limits) -> list[Use]:
    wanted = _count(each.cluster for each in waiting if each.mutating)
    concerned = set(wanted) | set(allowed.in_use.clusters)
    rows = permissions.visible_to(user, Cluster.objects.filter(pk__in=concerned)).order_by("name")
    return [
        Use(
            key=key,
            name=name,
            used=len(allowed.in_use.clusters.get(key, ())),
            limit=allowed.of_cluster(key),
            waiting=wanted.get(key, 0),
        )
        for key, name in rows.values_list("pk", "name")
    ]


def _count(keys: Iterable[Any]) -> dict[Any, int]:
    counted: dict[Any, int] = {}
    for key in keys:
        counted[key] = counted.get(key, 0) + 1
    return counted
