"""The pages of events: the event centre, one event, how each cluster's events flow, for how long
they are kept, and the archive; saved searches; alert rules and what they found; which teams see
which namespaces."""

from events.admin.alert import EventAlertAdmin
from events.admin.alert_rule import AlertRuleAdmin
from events.admin.archive import EventRestoreAdmin, EventSegmentAdmin
from events.admin.event import EventAdmin
from events.admin.namespace_grant import NamespaceGrantAdmin
from events.admin.retention import EventRetentionAdmin
from events.admin.saved import SavedSearchAdmin
from events.admin.stream import EventStreamAdmin

__all__ = [
    "AlertRuleAdmin",
    "EventAdmin",
    "EventAlertAdmin",
    "EventRestoreAdmin",
    "EventRetentionAdmin",
    "EventSegmentAdmin",
    "EventStreamAdmin",
    "NamespaceGrantAdmin",
    "SavedSearchAdmin",
]
