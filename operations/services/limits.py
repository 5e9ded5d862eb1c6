"""How much may run at once: on a cluster, of a team, and in all; and when, by windows and freezes.

A slot is a number below a limit, unique among what runs by a database constraint, so that two
dispatchers which want the same one cannot both have it.  On its cluster only what changes something
needs one; of its team and in all everything that runs.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache

from django.conf import settings
from django.db.models import Case, F, Q, TextField, Value, When
from django.db.models.functions import Cast
from django.utils import timezone
from django.utils.translation import get_language

from beidou.base.sentences import Sentence
from operations.flows.models import AutoOperationTask
from operations.models import Operation, TeamLimit
from operations.services import calendars
from operations.services.calendars import Site
from operations.services.order import Waiting
from operations.services.times import Hold

_COLUMNS = (
    "pk",
    "kind",
    "mutating",
    "cluster_id",
    "team_id",
    "priority",
    "queued_at",
    "said",
    "waiting_until",
    "ready_at",
    "glass_broken_at",
    "paused_task",
)
_SLOTS = ("slot", "team_slot", "place")
# A pause is handed down, so that of the tasks above none need be asked.
_PAUSED_TASK = Case(
    When(
        task_part__step__task__status=AutoOperationTask.Status.PAUSED,
        then=F("task_part__step__task__name"),
    ),
    default=Value(""),
)
Taken = dict[int, set[int]]
Slots = dict[str, int | None]


@dataclass
class InUse:
    """The slots that are taken now, by cluster, by team, and in all."""

    clusters: Taken = field(default_factory=dict)
    teams: Taken = field(default_factory=dict)
    places: set[int] = field(default_factory=set)

    def add(self, cluster: int, team: int | None, slots: Slots) -> None:
        if (slot := slots["slot"]) is not None:
            self.clusters.setdefault(cluster, set()).add(slot)
        if team is not None and (slot := slots["team_slot"]) is not None:
            self.teams.setdefault(team, set()).add(slot)
        if (slot := slots["place"]) is not None:
            self.places.add(slot)


@dataclass
class Limits:
    """The limits, and what is in use of them; ``take`` keeps that true while things are begun."""

    sites: dict[int, Site]
    teams: dict[int, int]
    in_use: InUse
    now: datetime
    _holds: dict[int, Hold | None] = field(default_factory=dict)

    def of_cluster(self, cluster: int) -> int:
        site = self.sites.get(cluster)
        return (site and site.limit) or int(settings.OPERATIONS_PER_CLUSTER)

    def of_team(self, team: int) -> int:
        return self.teams.get(team, settings.OPERATIONS_PER_TEAM)

    @property
    def in_all(self) -> int:
        return int(settings.OPERATIONS_AT_ONCE)

    def hold(self, each: Waiting) -> Hold | None:
        """The window or the freeze that keeps it from beginning now; looked up once per cluster."""
        if not each.minds_calendar or each.cluster not in self.sites:
            return None
        if each.cluster not in self._holds:
            self._holds[each.cluster] = self.sites[each.cluster].calendar.hold(self.now)
        return self._holds[each.cluster]

    def hindrance(self, each: Waiting) -> Hold | None:
        """What keeps it from beginning now.  Which operations hold the slots changes all the time,
        so only the rule is said."""
        return self.hold(each) or _task_of(each) or self._full(each)

    def _full(self, each: Waiting) -> Hold | None:
        if each.mutating:
            limit = self.of_cluster(each.cluster)
            if len(self.in_use.clusters.get(each.cluster, ())) >= limit:
                return _slot_of_cluster(limit)
        if each.team is not None:
            limit = self.of_team(each.team)
            if len(self.in_use.teams.get(each.team, ())) >= limit:
                return _slot_of_team(limit)
        if len(self.in_use.places) >= self.in_all:
            return _slot_of_all(self.in_all)
        return None

    def free_slots(self, each: Waiting) -> Slots:
        """The lowest free numbers; ask for a hindrance first."""
        clusters, teams = self.in_use.clusters, self.in_use.teams
        return {
            "slot": _lowest(clusters.get(each.cluster, set())) if each.mutating else None,
            "team_slot": None if each.team is None else _lowest(teams.get(each.team, set())),
            "place": _lowest(self.in_use.places),
        }

    def take(self, each: Waiting, slots: Slots) -> None:
        self.in_use.add(each.cluster, each.team, slots)


def _task_of(each: Waiting) -> Hold | None:
    if not each.paused_task:
        return None
    sentence = Sentence("the task %(name)s, which is paused", name=each.paused_task)
    return Hold(sentence, opens_at=None, is_calendar=False)


def _in_one_language(make: Callable[[int], Sentence]) -> Callable[[int], Hold]:
    """Thousands may wait for the same: the sentence is made once for each limit and language.
    Nobody knows when a slot will be free."""

    @cache
    def made(limit: int, _language: str | None) -> Hold:
        return Hold(make(limit), opens_at=None, is_calendar=False)

    return lambda limit: made(limit, get_language())


@_in_one_language
def _slot_of_cluster(limit: int) -> Sentence:
    return Sentence("one of the %(limit)s slots for changes on its cluster", limit=limit)


@_in_one_language
def _slot_of_team(limit: int) -> Sentence:
    return Sentence("one of the %(limit)s slots of its team", limit=limit)


@_in_one_language
def _slot_of_all(limit: int) -> Sentence:
    return Sentence("one of the %(limit)s slots of the portal", limit=limit)


def _lowest(taken: Collection[int]) -> int:
    """Below the limit whenever fewer than that are taken."""
    return next(number for number in range(len(taken) + 1) if number not in taken)


def read() -> tuple[list[Waiting], InUse]:
    """What waits and what is in use, in one query, so that both are of one moment."""
    waiting: list[Waiting] = []
    in_use = InUse()
    active = Operation.objects.filter(Q(status__in=Operation.ACTIVE) | Q(place__isnull=False))
    # As the column has it: to read thousands of sentences takes longer than all else here.
    active = active.annotate(said=Cast("waiting_for", TextField()), paused_task=_PAUSED_TASK)
    for status, *row in active.order_by("pk").values_list("status", *_COLUMNS, *_SLOTS):
        if status == Operation.Status.WAITING:
            waiting.append(Waiting(*row[: len(_COLUMNS)]))
        _key, _kind, _mutating, cluster, team = row[:5]
        in_use.add(cluster, team, dict(zip(_SLOTS, row[len(_COLUMNS) :], strict=True)))
    return waiting, in_use


def of(waiting: Collection[Waiting], in_use: InUse) -> Limits:
    """The limits and the calendars that concern these."""
    now = timezone.now()
    teams = {each.team for each in waiting} - {None}
    changed = {each.cluster for each in waiting if each.mutating} | set(in_use.clusters)
    return Limits(
        now=now,
        sites=calendars.sites(changed, now),
        teams=dict(TeamLimit.objects.filter(team__in=teams).values_list("team_id", "limit"))
        if teams
        else {},
        in_use=in_use,
    )
