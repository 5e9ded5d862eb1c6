"""When changes of a cluster may begin: within one of its weekly windows, if it has any, and outside
every freeze.  Pure: no row is read here.

A window begins at a time of the clock in the cluster's time zone and lasts so many minutes of real
time.  When the clock goes forward over its beginning, it begins as if the clock had not (02:30
becomes 03:30); when the hour comes twice, it begins the first time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from beidou.base.sentences import Sentence

WEEK_MINUTES: Final = 7 * 24 * 60
_LOOKS: Final = 200  # at freezes and windows, for a moment that both leave open


@dataclass(frozen=True)
class Window:
    """``weekdays`` from 0, Monday."""

    weekdays: frozenset[int]
    start: time
    minutes: int

    def spans(self, zone: ZoneInfo, around: datetime) -> Iterator["Span"]:
        """Those of the week before and the two weeks after."""
        today = around.astimezone(zone).date()
        for days in range(-8, 16):
            day = today + timedelta(days=days)
            if day.weekday() in self.weekdays:
                begins = datetime.combine(day, self.start, tzinfo=zone).astimezone(UTC)
                yield Span(begins, begins + timedelta(minutes=self.minutes))


@dataclass(frozen=True, order=True)
class Span:
    begins: datetime
    ends: datetime

    def holds(self, moment: datetime) -> bool:
        return self.begins <= moment < self.ends


@dataclass(frozen=True)
class Frozen:
    """From ``begins`` on; ``ends`` None: until somebody ends it."""

    begins: datetime
    ends: datetime | None
    reason: str

    def holds(self, moment: datetime) -> bool:
        return self.begins <= moment and (self.ends is None or moment < self.ends)


@dataclass(frozen=True)
class Hold:
    """What something has to wait for; ``opens_at`` is when that comes, None when nobody knows."""

    sentence: Sentence
    opens_at: datetime | None
    is_calendar: bool = True


@dataclass(frozen=True)
class Calendar:
    """Of one cluster.  Without windows every moment is within one."""

    zone: ZoneInfo
    windows: Sequence[Window] = ()
    freezes: Sequence[Frozen] = ()

    def hold(self, now: datetime) -> Hold | None:
        """What keeps a change from beginning now."""
        opens_at = self.opens_at(now)
        if opens_at == now:
            return None
        if (freeze := self.frozen(now)) is not None:
            return Hold(self._freeze_sentence(freeze), opens_at)
        span = self._span(opens_at) if opens_at is not None else None
        return Hold(self._window_sentence(span or self._next(now)), opens_at)

    def opens_at(self, now: datetime) -> datetime | None:
        """The first moment from now on in which a change may begin."""
        moment = now
        for _look in range(_LOOKS):
            if (freeze := self.frozen(moment)) is not None:
                if freeze.ends is None:
                    return None
                moment = freeze.ends
            elif self.windows and self._span(moment) is None:
                moment = self._next(moment).begins
            else:
                return moment
        return None

    def closes_at(self, now: datetime) -> datetime | None:
        """When what may begin now may no more: the end of the window, or the next freeze; None when
        neither comes."""
        ends = []
        if self.windows and (span := self._span(now)) is not None:
            ends.append(span.ends)
        ends += [freeze.begins for freeze in self.freezes if freeze.begins > now]
        return min(ends, default=None)

    def next_window(self, now: datetime) -> Span | None:
        """The one that is open, else the next; None without windows."""
        if not self.windows:
            return None
        return self._span(now) or self._next(now)

    def shown(self, span: Span) -> Sentence:
        """Sat 22:00–02:00 (Europe/Berlin)"""
        begins, ends = span.begins.astimezone(self.zone), span.ends.astimezone(self.zone)
        values = {
            "day": weekday(begins.weekday()),
            "begin": f"{begins:%H:%M}",
            "end": f"{ends:%H:%M}",
            "zone": self.zone.key,
        }
        if span.ends - span.begins < timedelta(days=1):
            return Sentence("%(day)s %(begin)s–%(end)s (%(zone)s)", **values)
        last = weekday(ends.weekday())
        return Sentence("%(day)s %(begin)s – %(last)s %(end)s (%(zone)s)", last=last, **values)

    def moment(self, moment: datetime) -> str:
        return f"{moment.astimezone(self.zone):%Y-%m-%d %H:%M} ({self.zone.key})"

    def _spans(self, around: datetime) -> list[Span]:
        """With those that overlap or follow each other at once made one."""
        merged: list[Span] = []
        for span in sorted(span for each in self.windows for span in each.spans(self.zone, around)):
            if merged and span.begins <= merged[-1].ends:
                merged[-1] = Span(merged[-1].begins, max(merged[-1].ends, span.ends))
            else:
                merged.append(span)
        return merged

    def _span(self, moment: datetime) -> Span | None:
        return next((span for span in self._spans(moment) if span.holds(moment)), None)

    def _next(self, moment: datetime) -> Span:
        """There is one: windows have weekdays, and two weeks are looked at."""
        return next(span for span in self._spans(moment) if span.begins > moment)

    def frozen(self, moment: datetime) -> Frozen | None:
        """Of several that hold, the one that ends last."""
        holding = [freeze for freeze in self.freezes if freeze.holds(moment)]
        for freeze in holding:
            if freeze.ends is None:
                return freeze
        return max(holding, key=lambda freeze: freeze.ends or moment, default=None)

    def _freeze_sentence(self, freeze: Frozen) -> Sentence:
        if freeze.ends is None:
            return Sentence("the end of the freeze “%(reason)s”", reason=freeze.reason)
        return Sentence(
            "the end of the freeze “%(reason)s”, %(until)s",
            reason=freeze.reason,
            until=self.moment(freeze.ends),
        )

    def _window_sentence(self, span: Span) -> Sentence:
        return Sentence("the window %(window)s", window=self.shown(span))


def weekday(number: int) -> Sentence:
    return (
        Sentence("Mon"),
        Sentence("Tue"),
        Sentence("Wed"),
        Sentence("Thu"),
        Sentence("Fri"),
        Sentence("Sat"),
        Sentence("Sun"),
    )[number]
