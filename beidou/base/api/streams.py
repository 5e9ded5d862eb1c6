"""Renderers for answers that are no JSON: plain text and event streams.

Errors of such an endpoint still have the one shape, as JSON.
"""

from rest_framework.renderers import JSONRenderer


class EventStreamRenderer(JSONRenderer):
    """Lets ``Accept: text/event-stream`` through; the stream itself is no DRF answer."""

    media_type = "text/event-stream"
    format = "events"


class PlainTextRenderer(JSONRenderer):
    media_type = "text/plain"
    format = "text"
