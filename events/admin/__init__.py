"""The pages of events: the event centre, one event, and how each cluster's events flow."""

from events.admin.event import EventAdmin
from events.admin.stream import EventStreamAdmin

__all__ = ["EventAdmin", "EventStreamAdmin"]
