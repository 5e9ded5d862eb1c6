"""The pages of events: the event centre, one event, and how each cluster's events flow; saved
searches."""

from events.admin.event import EventAdmin
from events.admin.saved import SavedSearchAdmin
from events.admin.stream import EventStreamAdmin

__all__ = [
    "EventAdmin",
    "EventStreamAdmin",
    "SavedSearchAdmin",
]
