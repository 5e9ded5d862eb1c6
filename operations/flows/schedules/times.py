"""When a schedule is due.  Pure: no row is read here.

A cron expression is about the clock on the wall in a time zone.  When the clock goes forward over a
time, it is due as if the clock had not (02:30 becomes 03:30); when an hour comes twice, the first
time.  An interval is counted from a beginning; what was missed is not made up for.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from croniter import croniter
from croniter.croniter import CroniterError

_FIELDS: Final = 5
_LOOKS: Final = 20


def is_cron(text: str) -> bool:
    """Five fields that come true some day, and not more often than every five minutes."""
    if len(text.split()) != _FIELDS or not croniter.is_valid(text):
        return False
    return next_of(text, ZoneInfo("UTC"), datetime(2026, 1, 1, tzinfo=UTC)) is not None


def least_gap(text: str) -> timedelta:
    """Between two times in a row, of the next ones."""
    moment: datetime | None = datetime(2026, 1, 1, tzinfo=UTC)
    gaps = []
    for _look in range(_LOOKS):
        assert moment is not None  # noqa: S101  asked of what is one
        following = next_of(text, ZoneInfo("UTC"), moment)
        if following is None:
            break
        gaps.append(following - moment)
        moment = following
    return min(gaps[1:], default=timedelta.max)


def next_of(cron: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first time after ``after``; None when there is none for decades."""
    wall = after.astimezone(zone).replace(tzinfo=None) - timedelta(hours=2)
    try:
        times = croniter(cron, wall)
        for _look in range(1000):
            found: datetime = times.get_next(datetime).replace(tzinfo=zone, fold=0)
            if (moment := found.astimezone(UTC)) > after:
                return moment
    except (CroniterError, ValueError, OverflowError):
        pass
    return None


def next_every(minutes: int, begin: datetime, after: datetime) -> datetime:
    """``begin`` and every so many minutes from there on; the first of them after ``after``."""
    if begin > after:
        return begin
    step = timedelta(minutes=minutes)
    return begin + step * ((after - begin) // step + 1)
