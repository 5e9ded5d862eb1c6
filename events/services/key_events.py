"""The figures of the page of key events: how many there were, and how many there usually are.

The usual is the mean of the same hours of earlier days (of the week before, for a week), counted
among what went on then: an event that has been repeated ever since is one record, and was last
seen today.  Days of which there is no event at all, and those before the first one, are no days
without trouble: they do not count, and where none is left nothing is said.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base.errors import InvalidInput, shorten
from events.drivers import patience
from events.services import asked, reasons, retention, search
from events.services.measures import ALL, MEASURES, Measure
from events.services.search import WARNING, Query, Span
from events.services.stores.base import DEFAULT_SPAN

RANGES = {"1h": timedelta(hours=1), "24h": DEFAULT_SPAN, "7d": timedelta(days=7)}
DAYS_BACK = 7
TOP = 10
SECONDS = 10.0
"""For all that the store is asked together."""
_MORE_FACTOR, _MORE_AT_LEAST = 2, 5


@dataclass(frozen=True)
class Wanted:
    """What a page, or a program, asks."""

    range: str
    since: datetime
    until: datetime
    clusters: tuple[int, ...] = ()
    of: Measure | None = None
    """Whose objects and nodes are counted; those of all warnings without it."""

    def query(self, measure: Measure | None) -> Query:
        limits: dict[str, Any] = {
            "since": self.since,
            "until": self.until,
            "clusters": self.clusters,
        }
        return measure.query(**limits) if measure else Query.of(type=(WARNING,), **limits)


@dataclass(frozen=True)
class Figure:
    measure: Measure
    count: int
    usual: float | None
    """None where there is nothing to compare with."""
    parts: tuple["Figure", ...] = ()

    @property
    def is_more(self) -> bool:
        """Clearly more than usual; one or two more are chance."""
        if self.usual is None:
            return False
        more = self.count - self.usual
        return more >= _MORE_AT_LEAST and self.count >= _MORE_FACTOR * self.usual


@dataclass(frozen=True)
class Top:
    value: str
    count: int


@dataclass(frozen=True)
class KeyEvents:
    wanted: Wanted
    figures: list[Figure]
    compared: int
    """With how many earlier days (or weeks, for a week)."""
    objects: list["Top"]
    nodes: list["Top"]
    new: reasons.New


def wanted(user: Any, given: QueryDict) -> Wanted:
    """InvalidInput where the address says something else."""
    name = given.get("range") or asked.DEFAULT_RANGE
    if name not in RANGES:
        raise asked.no_range(name, RANGES)
    of = given.get("of", "")
    if of and of not in ALL:
        sentence = _("“%(name)s” is none of the key events; there are %(known)s.") % {
            "name": shorten(of, 60),
            "known": ", ".join(ALL),
        }
        raise InvalidInput(sentence, fields={"of": sentence})
    until = timezone.now()
    return Wanted(
        range=name,
        since=until - RANGES[name],
        until=until,
        clusters=asked.clusters(user, given),
        of=ALL.get(of),
    )


def look(user: Any, wanted: Wanted) -> KeyEvents:
    """Four questions to the store, whatever is found."""
    with patience.of(SECONDS):
        figures, compared = _figures(user, wanted)
        query = wanted.query(wanted.of)
        objects, nodes = (
            [Top(*each) for each in search.counts(user, query, field, most=TOP)]
            for field in ("name", "node")
        )
    new = reasons.new(user, since=wanted.since, clusters=wanted.clusters)
    return KeyEvents(wanted, figures, compared, objects, nodes, new)


def _figures(user: Any, wanted: Wanted) -> tuple[list[Figure], int]:
    spans = [Span(wanted.since, wanted.until), *_earlier(wanted, _shortest(user, wanted))]
    limits: dict[str, Any] = {
        "since": spans[-1].since,
        "until": wanted.until,
        "clusters": wanted.clusters,
    }
    queries = {name: measure.query(**limits) for name, measure in ALL.items()}
    kept = Span(wanted.until - timedelta(days=settings.EVENT_WARNING_DAYS), wanted.until)
    begin, *firsts = search.firsts(user, wanted.clusters, [kept, *spans[1:]])
    counted = search.tallies(user, queries, wanted.clusters, spans)
    known = [
        number
        for number, first in enumerate(firsts, 1)
        if begin is not None and first is not None and begin < spans[number].since
    ]

    def figure(measure: Measure) -> Figure:
        counts = counted[measure.name]
        usual = sum(counts[number] for number in known) / len(known) if known else None
        return Figure(measure, counts[0], usual, tuple(figure(part) for part in measure.parts))

    return [figure(measure) for measure in MEASURES], len(known)


def _shortest(user: Any, wanted: Wanted) -> int:
    """Days for which events of every type and cluster are kept."""
    usual, own = retention.kept(user, wanted.clusters)
    return min(
        min(each.days, each.warning_days) for each in (usual, *(each for _name, each in own))
    )


def _earlier(wanted: Wanted, kept: int) -> Iterator[Span]:
    """The same hours of earlier days, as long as events are kept."""
    step = max(RANGES[wanted.range], timedelta(days=1))
    for number in range(1, DAYS_BACK * timedelta(days=1) // step + 1):
        back = number * step
        since = wanted.since - back
        if wanted.until - since <= timedelta(days=kept):
            yield Span(since, wanted.until - back)
