"""What a store cannot do now."""

from beidou.base.errors import TemporaryError


class StoreAway(TemporaryError):
    """The event store does not answer, or cannot do it now.  Nothing else depends on it."""

    code = "event_store_away"
