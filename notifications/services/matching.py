"""Which notice is told to whom: rules, and above them what each team may see."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from beidou.base.models import Notice
from clusters.models import Cluster, ClusterGroupObjectPermission
from notifications.models import NotificationRule, Receiver

Sight = dict[int, frozenset[int]]
"""Team -> the clusters that it may see."""


def sight_of(teams: Iterable[int | None]) -> Sight:
    """In one query, whatever the number of teams."""
    wanted = {team for team in teams if team is not None}
    seen: dict[int, set[int]] = {team: set() for team in wanted}
    rows = ClusterGroupObjectPermission.objects.filter(
        group__in=wanted, permission__codename="view_cluster"
    )
    for team, cluster in rows.values_list("group_id", "content_object_id") if wanted else ():
        seen[team].add(cluster)
    return {team: frozenset(clusters) for team, clusters in seen.items()}


def may_hear(
    team: int | None, sight: Sight, *, cluster_id: int | None, team_id: int | None
) -> bool:
    """Whether ``team`` (None: the fleet) may be told of what belongs to these."""
    if team is None:
        return True
    if cluster_id is not None:
        return cluster_id in sight.get(team, frozenset())
    return team_id == team


@dataclass(frozen=True)
class _Compiled:
    """One rule with everything looked up."""

    team: int | None
    kinds: frozenset[str]
    rank: int
    clusters: frozenset[int] | None
    receivers: tuple[tuple[int, int | None], ...]  # with their teams


class Rules:
    """All rules that are in force, or one of them, in a bounded number of queries."""

    def __init__(self, only: NotificationRule | None = None) -> None:
        rows = [only] if only is not None else list(NotificationRule.objects.filter(enabled=True))
        keys = [rule.pk for rule in rows]
        receivers: dict[int, list[tuple[int, int | None]]] = {}
        enabled = Receiver.objects.filter(enabled=True, rules__in=keys)
        for rule, receiver, team in enabled.values_list("rules", "pk", "team_id"):
            receivers.setdefault(rule, []).append((receiver, team))
        chosen: dict[int, set[int]] = {}
        through = NotificationRule.clusters.through.objects.filter(notificationrule__in=keys)
        for rule, cluster in through.values_list("notificationrule_id", "cluster_id"):
            chosen.setdefault(rule, set()).add(cluster)
        labels: dict[int, dict[str, str]] = {}
        if any(rule.scope == NotificationRule.Scope.LABELS for rule in rows):
            labels = dict(Cluster.objects.values_list("pk", "labels"))
        self.rules = [
            _Compiled(
                team=rule.team_id,
                kinds=frozenset(rule.kinds),
                rank=Notice.RANKS[Notice.Severity(rule.severity)],
                clusters=_clusters(rule, chosen, labels),
                receivers=tuple(receivers.get(rule.pk, ())),
            )
            for rule in rows
        ]
        teams = {rule.team for rule in self.rules}
        teams |= {team for rule in self.rules for _key, team in rule.receivers}
        self.sight = sight_of(teams)
        self._answers: dict[tuple[object, ...], tuple[int, ...]] = {}

    def matches(self, notice: Notice) -> bool:
        """Whether any rule is about it, to whomever it tells."""
        return any(self._is_about(rule, notice) for rule in self.rules)

    def receivers_of(self, notice: Notice) -> tuple[int, ...]:
        """Who is told, each once; of thousands alike the first alone is thought about."""
        if notice.receiver:
            return self._named(notice)
        alike = (notice.kind, notice.severity, notice.cluster_id, notice.team_id)
        if alike not in self._answers:
            self._answers[alike] = tuple(
                dict.fromkeys(
                    key
                    for rule in self.rules
                    if self._is_about(rule, notice)
                    for key, team in rule.receivers
                    if self._is_told(rule, team, notice)
                )
            )
        return self._answers[alike]

    def _named(self, notice: Notice) -> tuple[int, ...]:
        """The only one who is told, if it may hear of this; no rule is asked."""
        rows = Receiver.objects.filter(name=notice.receiver, enabled=True)
        return tuple(
            key
            for key, team in rows.values_list("pk", "team_id")
            if may_hear(
                team, sight_of([team]), cluster_id=notice.cluster_id, team_id=notice.team_id
            )
        )

    def _is_about(self, rule: _Compiled, notice: Notice) -> bool:
        if rule.kinds and notice.kind not in rule.kinds:
            return False
        if Notice.RANKS[Notice.Severity(notice.severity)] < rule.rank:
            return False
        if rule.clusters is not None and notice.cluster_id not in rule.clusters:
            return False
        return self._may_hear(rule.team, notice)

    def _is_told(self, rule: _Compiled, team: int | None, notice: Notice) -> bool:
        # A team's rule tells the team's own receivers alone: who else may hear it is unknown.
        if rule.team is not None and team != rule.team:
            return False
        return self._may_hear(team, notice)

    def _may_hear(self, team: int | None, notice: Notice) -> bool:
        return may_hear(team, self.sight, cluster_id=notice.cluster_id, team_id=notice.team_id)


def _clusters(
    rule: NotificationRule, chosen: dict[int, set[int]], labels: dict[int, dict[str, str]]
) -> frozenset[int] | None:
    """The clusters that the rule is about; None for all, and for what belongs to none."""
    if rule.scope == NotificationRule.Scope.CHOSEN:
        return frozenset(chosen.get(rule.pk, ()))
    if rule.scope == NotificationRule.Scope.LABELS:
        wanted = rule.wanted_labels
        return frozenset(
            key
            for key, present in labels.items()
            if all(str(present.get(name)) == value for name, value in wanted.items())
        )
    return None


def told_by(rules: Rules, notices: Sequence[Notice]) -> dict[int, list[Notice]]:
    """Receiver -> what it is told of, in order."""
    told: dict[int, list[Notice]] = {}
    for notice in notices:
        for receiver in rules.receivers_of(notice):
            told.setdefault(receiver, []).append(notice)
    return told
