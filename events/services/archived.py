"""The archive that the settings name, and whether it can be used, for pages."""

from dataclasses import dataclass
from datetime import datetime
from functools import cache

from django.conf import settings

from beidou.base.config import EventArchive
from beidou.base.sentences import Sentence
from events.drivers.archive import Archive
from events.drivers.errors import ArchiveAway
from events.models import EventArchiving


def archive() -> Archive:
    """ArchiveAway where none is named."""
    if settings.EVENT_ARCHIVE is None:
        raise ArchiveAway(
            Sentence("There is no archive of events: BEIDOU_EVENT_ARCHIVE_URL is not set.")
        )
    return _of(settings.EVENT_ARCHIVE)


@cache
def _of(address: EventArchive) -> Archive:
    return Archive(address, settings.DATA_DIR)


@dataclass(frozen=True)
class Health:
    """How archiving goes."""

    is_set: bool
    ran_at: datetime | None
    problem: str
    problem_since: datetime | None


def health() -> Health:
    row = EventArchiving.objects.filter(pk=1).first() or EventArchiving()
    is_set = settings.EVENT_ARCHIVE is not None
    return Health(is_set, row.ran_at, row.problem if is_set else "", row.problem_since)
