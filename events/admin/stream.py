"""How the events of each cluster flow."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import formats
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import display as column

from beidou.base import display
from beidou.base.admin import EmptyList, ReadOnlyAdmin, ago_column
from clusters.admin.columns import name_of
from events.models import EventStream
from events.services import archived, flow, retention
from events.services.flow import State
from events.services.retention import Kept

_TONES = {
    State.NEVER: (display.NEUTRAL, "help"),
    State.PROBLEM: (display.BAD, ""),
    State.SILENT: (display.BAD, "cloud_off"),
    State.WAITING: (display.WARNING, "hourglass_top"),
    State.FLOWING: (display.GOOD, ""),
}
_LAST = ago_column("last_event_at", gettext_lazy("last event"))
_AS_OF = ago_column("updated_at", gettext_lazy("as of"))


@admin.register(EventStream)
class EventStreamAdmin(ReadOnlyAdmin):
    list_before_template = "events/streams.html"
    list_display = (
        "cluster_shown", "state", "rate", "waits", "size", "lag", _LAST, "holder", _AS_OF,
    )  # fmt: skip
    list_display_links = ("cluster_shown",)
    search_fields = ("cluster__name", "holder")
    fields = (
        "cluster", "state", "problem_shown", "rate", "heard", "stored", "refused", "waits", "size",
        "spool_percent", "lag", "last_event_at", "contact_at", "position", "position_at", "holder",
        "updated_at", "kept", "found",
    )  # fmt: skip
    readonly_fields = fields

    class Media:
        css = {"all": ["events/events.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("cluster")

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        kept, otherwise = retention.kept(request.user)
        context = {
            "archive": archived.health(),
            "behind_since": retention.behind_since(),
            "kept": kept,
            "kept_otherwise": otherwise,
            "named_at_most": flow.NAMED_AT_MOST,
        }
        return super().changelist_view(request, {**(extra_context or {}), **context})

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(_("No stream yet: a collector begins one for each cluster it watches."))

    @column(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_shown(self, stream: EventStream) -> str:
        return name_of(stream.cluster)

    @column(description=gettext_lazy("state"))
    def state(self, stream: EventStream) -> SafeString:
        if not stream.refused:
            return badge(stream)
        text = ngettext("%(count)d refused", "%(count)d refused", stream.refused)
        why = _("The event store does not take them; they are in the collector's log.")
        refused = display.badge(text % {"count": stream.refused}, display.BAD, title=why)
        return format_html("{} {}", badge(stream), refused)

    @column(description=gettext_lazy("problem"))
    def problem_shown(self, stream: EventStream) -> str:
        if not stream.problem:
            return display.NOTHING
        return format_html("{} {}", stream.problem, display.lasting(stream.problem_since))

    @column(description=gettext_lazy("per minute"), ordering="per_minute")
    def rate(self, stream: EventStream) -> str:
        return formats.number_format(stream.per_minute, decimal_pos=1)

    @column(description=gettext_lazy("waiting"), ordering="waiting")
    def waits(self, stream: EventStream) -> str:
        return formats.number_format(stream.waiting, force_grouping=True)

    @column(description=gettext_lazy("size of the spool"), ordering="waiting_bytes")
    def size(self, stream: EventStream) -> str:
        return display.byte_size(stream.waiting_bytes)

    @column(description=gettext_lazy("lag"), ordering="lag_seconds")
    def lag(self, stream: EventStream) -> str:
        return _("%(count)s s") % {
            "count": formats.number_format(stream.lag_seconds, decimal_pos=1)
        }

    @column(description=gettext_lazy("kept for"))
    def kept(self, stream: EventStream) -> SafeString:
        row = retention.retention_of(stream.cluster)
        own = Kept.of(row.days, row.warning_days)
        said = _("%(days)d days, warnings %(warning_days)d") % {
            "days": own.days,
            "warning_days": own.warning_days,
        }
        if row.pk:
            url = reverse("admin:events_eventretention_change", args=[row.pk])
        else:
            url = f"{reverse('admin:events_eventretention_add')}?cluster={stream.cluster_id}"
        return format_html('{} <a href="{}">{}</a>', said, url, _("How long events are kept"))

    @column(description=gettext_lazy("events"))
    def found(self, stream: EventStream) -> SafeString:
        url = reverse("admin:events_event_changelist")
        return format_html(
            '<a href="{}?cluster={}">{}</a>', url, stream.cluster_id, _("Last 24 hours")
        )


def badge(stream: EventStream) -> SafeString:
    """Its state in a word, with how much waits, or since when it is so."""
    state = flow.state_of(stream)
    tone, icon = _TONES[state]
    if state is State.WAITING:
        text = ngettext("%(count)d waits", "%(count)d wait", stream.waiting)
        return display.badge(text % {"count": stream.waiting}, tone, icon=icon)
    shown = display.badge(state.label, tone, icon=icon, title=stream.problem)
    since = {State.PROBLEM: stream.problem_since, State.SILENT: stream.updated_at}.get(state)
    return format_html("{} {}", shown, display.lasting(since)) if since else shown
