"""What a store cannot do now."""

from beidou.base.errors import PermanentError, TemporaryError


class StoreAway(TemporaryError):
    """The event store does not answer, or cannot do it now.  Nothing else depends on it."""

    code = "event_store_away"


class SearchTooSlow(StoreAway):
    """One question takes too long; others may not."""


class LabelsSealed(StoreAway):
    """Labels of what was taken from a team lie in indices that take no writes; all else is done."""


class ArchiveAway(TemporaryError):
    """The archive does not answer, or takes nothing now.  What is not in it is not deleted."""

    code = "event_archive_away"


class SegmentLost(PermanentError):
    """An object is not in the archive any more, or is not what was put there."""

    code = "event_segment_lost"
