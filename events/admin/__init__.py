"""The pages of events: the event centre, one event, and how each cluster's events flow; saved
searches; alert rules and what they found."""

from events.admin.alert import EventAlertAdmin
from events.admin.alert_rule import AlertRuleAdmin
from events.admin.event import EventAdmin
from events.admin.saved import SavedSearchAdmin
from events.admin.stream import EventStreamAdmin

__all__ = [
    "AlertRuleAdmin",
    "EventAdmin",
    "EventAlertAdmin",
    "EventStreamAdmin",
    "SavedSearchAdmin",
]
