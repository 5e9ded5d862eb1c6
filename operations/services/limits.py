"""How much may run at once: on a cluster, of a team, and in all.

A slot is a number below a limit, unique among what runs by a database constraint, so that two
dispatchers which want the same one cannot both have it.  On its cluster only what changes something
needs one; of its team and in all everything that runs.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from django.conf import settings
from django.db.models import Q

from beidou.base.sentences import Sentence
from operations.models import ClusterSettings, Operation, TeamLimit
from operations.services.order import Waiting

_COLUMNS = ("pk", "kind", "cluster_id", "team_id", "priority", "queued_at", "waiting_for")
_SLOTS = ("slot", "team_slot", "place")
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

    clusters: dict[int, int]
    teams: dict[int, int]
    in_use: InUse

    def of_cluster(self, cluster: int) -> int:
        return self.clusters.get(cluster, settings.OPERATIONS_PER_CLUSTER)

    def of_team(self, team: int) -> int:
        return self.teams.get(team, settings.OPERATIONS_PER_TEAM)

    @property
    def in_all(self) -> int:
        return int(settings.OPERATIONS_AT_ONCE)

    def hindrance(self, each: Waiting) -> Sentence | None:
        """What keeps it from beginning now.  Which operations hold the slots changes all the time,
        so only the rule is said."""
        if each.changes_cluster:
            limit = self.of_cluster(each.cluster)
            if len(self.in_use.clusters.get(each.cluster, ())) >= limit:
                return Sentence(
                    "one of the %(limit)s slots for changes on its cluster", limit=limit
                )
        if each.team is not None:
            limit = self.of_team(each.team)
            if len(self.in_use.teams.get(each.team, ())) >= limit:
                return Sentence("one of the %(limit)s slots of its team", limit=limit)
        if len(self.in_use.places) >= self.in_all:
            return Sentence("one of the %(limit)s slots of the portal", limit=self.in_all)
        return None

    def free_slots(self, each: Waiting) -> Slots:
        """The lowest free numbers; ask for a hindrance first."""
        clusters, teams = self.in_use.clusters, self.in_use.teams
        return {
            "slot": _lowest(clusters.get(each.cluster, set())) if each.changes_cluster else None,
            "team_slot": None if each.team is None else _lowest(teams.get(each.team, set())),
            "place": _lowest(self.in_use.places),
        }

    def take(self, each: Waiting, slots: Slots) -> None:
        self.in_use.add(each.cluster, each.team, slots)


def _lowest(taken: Collection[int]) -> int:
    """Below the limit whenever fewer than that are taken."""
    return next(number for number in range(len(taken) + 1) if number not in taken)


def read() -> tuple[list[Waiting], InUse]:
    """What waits and what is in use, in one query, so that both are of one moment."""
    waiting: list[Waiting] = []
    in_use = InUse()
    active = Operation.objects.filter(Q(status__in=Operation.ACTIVE) | Q(place__isnull=False))
    for status, *row in active.order_by("pk").values_list("status", *_COLUMNS, *_SLOTS):
        key, kind, cluster, team, priority, queued_at, waits = row[: len(_COLUMNS)]
        if status == Operation.Status.WAITING:
            waiting.append(Waiting(key, kind, cluster, team, priority, queued_at, waits))
        in_use.add(cluster, team, dict(zip(_SLOTS, row[len(_COLUMNS) :], strict=True)))
    return waiting, in_use


def of(waiting: Collection[Waiting], in_use: InUse) -> Limits:
    """The limits that concern these."""
    clusters = ClusterSettings.objects.filter(limit__isnull=False)
    teams = {each.team for each in waiting} - {None}
    return Limits(
        clusters=dict(clusters.values_list("cluster_id", "limit")),  # type: ignore[arg-type]
        teams=dict(TeamLimit.objects.filter(team__in=teams).values_list("team_id", "limit"))
        if teams
        else {},
        in_use=in_use,
    )
