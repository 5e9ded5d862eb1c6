"""In which order waiting operations have their turn.

By priority; among those of one priority turn by turn among teams, the team first whose last turn
was the longest ago; within a team by how long they wait.  Operations that count for no team are one
line of their own.  For each ``AGEING`` that limits make it wait, an operation counts as one
priority higher: low ones are done late, and are done.  The time until a window opens does not
count, or all would be high when it does.

Whoever may not begin when it is its turn (its cluster is full, say) costs its team no turn: the
next of the team is asked.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heapify, heappop, heappush

from django.contrib.auth.models import Group
from django.db.models import F, OuterRef, Subquery

from operations.kinds import base as kinds
from operations.models import Operation

AGEING = timedelta(hours=6)
RANKS = {Operation.Priority.LOW: 0, Operation.Priority.NORMAL: 1, Operation.Priority.HIGH: 2}
_LOWEST_FIRST = sorted(RANKS.values())
_NEVER = datetime.min.replace(tzinfo=UTC)

Turns = dict[int | None, datetime]


@dataclass(frozen=True)
class Waiting:
    """What is to be known of a waiting operation to give it its turn."""

    key: int
    kind: str
    mutating: bool
    cluster: int
    team: int | None
    priority: str
    queued_at: datetime
    waits: str  # for what, as the column has it
    waits_until: datetime | None = None
    ready_at: datetime | None = None
    glass_broken_at: datetime | None = None
    paused_task: str = ""  # the name of its task, where that is paused

    @property
    def is_known(self) -> bool:
        """Whether this version of the portal has its kind."""
        return self.kind in kinds.KINDS

    @property
    def minds_calendar(self) -> bool:
        """Whether it keeps to windows and freezes; not when somebody broke the glass for it, since
        it was queued the last time."""
        is_broken = self.glass_broken_at is not None and self.glass_broken_at >= self.queued_at
        return self.mutating and not is_broken

    def rank(self, now: datetime) -> int:
        waited = timedelta() if self.ready_at is None else now - self.ready_at
        aged = RANKS[Operation.Priority(self.priority)] + waited // AGEING
        return max(0, min(aged, _LOWEST_FIRST[-1]))


def turns_of(teams: Collection[int | None]) -> Turns:
    """When each of these teams had its last turn; without those that never had one.  Two queries at
    most, however many teams and operations there are."""
    begun = Operation.objects.filter(began_at__isnull=False).order_by("-began_at")
    last = Subquery(begun.filter(team=OuterRef("pk")).values("began_at")[:1])
    named = [team for team in teams if team is not None]
    turns: Turns = {}
    if named:
        rows = Group.objects.filter(pk__in=named).annotate(turn=last).values_list("pk", F("turn"))
        turns |= {team: turn for team, turn in rows if turn is not None}
    if None in teams:
        turn = begun.filter(team=None).values_list("began_at", flat=True).first()
        if turn is not None:
            turns[None] = turn
    return turns


def go_through(
    waiting: Iterable[Waiting], *, turns: Turns, now: datetime, begin: Callable[[Waiting], bool]
) -> None:
    """Offer each of them to ``begin``, in order; it says whether that one has had its turn."""
    ranked: dict[int, list[Waiting]] = {rank: [] for rank in _LOWEST_FIRST}
    for each in waiting:
        ranked[each.rank(now)].append(each)
    last = dict(turns)
    given = 0
    for rank in reversed(_LOWEST_FIRST):
        lines: dict[int | None, deque[Waiting]] = {}
        for each in sorted(ranked[rank], key=lambda one: (one.queued_at, one.key)):
            lines.setdefault(each.team, deque()).append(each)
        # Of two teams that never had a turn, that of the longer wait comes first.
        heads = [
            (last.get(team, _NEVER), line[0].queued_at, line[0].key, team)
            for team, line in lines.items()
        ]
        heapify(heads)
        while heads:
            team = heappop(heads)[-1]
            line = lines[team]
            while line:
                if begin(line.popleft()):
                    given += 1
                    last[team] = now + timedelta(microseconds=given)
                    if line:
                        heappush(heads, (last[team], line[0].queued_at, line[0].key, team))
                    break


def in_order(waiting: Iterable[Waiting], *, turns: Turns, now: datetime) -> list[Waiting]:
    """The order in which they will have their turn, as it is now."""
    found: list[Waiting] = []

    def begin(each: Waiting) -> bool:
        found.append(each)
        return True

    go_through(waiting, turns=turns, now=now, begin=begin)
    return found
