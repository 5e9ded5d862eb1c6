"""The event centre: a search over the events of all clusters; and one event with all it says."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display as column

from beidou.base import audit, display, exports
from beidou.base.admin import ReadOnlyAdmin
from beidou.base.errors import SAID, InvalidInput
from events.admin import files, shown
from events.admin.address import Address
from events.models import Event
from events.services import asked, search
from events.services.whole import pretty

READING = ("GET", "HEAD")
FIGURES = "figures"
"""In the address: the figures with the rows, for browsers without scripts."""


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    actions = None
    fields = (
        "cluster", "type_shown", "reason", "count", "message", "kind", "namespace", "name",
        "object_uid", "node", "component", "first", "last", "uid", "whole",
    )  # fmt: skip
    readonly_fields = fields

    class Media:
        css = {"all": ["events/events.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("cluster")

    # --- the search -------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("export/<str:kind>/", view(self.export), name="events_event_export"),
            # Not through ``admin_view``: a redirect would put the sign-in form into the page.
            path("figures/", self.figures, name="events_event_figures"),
            path("<int:pk>/whole/", self.whole_now, name="events_event_whole"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Not Django's list: time is bounded, pages go on by cursor, and nothing is counted."""
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        self._refuse_strangers(request)
        given = request.GET
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": capfirst(str(self.opts.verbose_name_plural)),
            "is_fullwidth": "1",
            "address": Address(given),
            "text": given.get("q", ""),
            "may_adopt": request.user.has_perm("clusters.add_cluster"),
        }
        try:
            query = asked.query(request.user, given)
            context |= shown.times(query, given) | shown.rows(request.user, query, given)
            context["chosen"] = shown.chosen(request.user, query, given)
            if FIGURES in given:
                context["figures"] = shown.figures(request.user, query, given)
        except InvalidInput as error:
            context |= shown.times(None, given) | {"refusal": error.message}
            return TemplateResponse(request, "events/search.html", context, status=400)
        return TemplateResponse(request, "events/search.html", context)

    def figures(self, request: HttpRequest) -> HttpResponse:
        """Histogram and filters: counted over all that matches, so that the rows need not wait."""
        if (refused := self._refuse_as_part(request)) is not None:
            return refused
        self._refuse_strangers(request)
        try:
            query = asked.query(request.user, request.GET)
        except InvalidInput as error:
            return HttpResponseBadRequest(error.message, content_type="text/plain; charset=utf-8")
        context = {"figures": shown.figures(request.user, query, request.GET)}
        return self._part(request, "events/figures.html", context)

    def whole_now(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The whole object of one event, when its row is opened."""
        if not self.admin_site.has_permission(request):
            return _sign_in_anew()
        event = self.get_queryset(request).filter(pk=pk).first()
        if event is None:
            raise Http404
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        return self._part(request, "events/whole.html", {"event": event, **_whole(event)})

    def export(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """What the search finds, as a file."""
        if kind not in files.KINDS:
            raise Http404
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        self._refuse_strangers(request)
        try:
            query = asked.query(request.user, request.GET)
        except InvalidInput:  # the page says what is wrong
            page = reverse("admin:events_event_changelist")
            return HttpResponseRedirect(f"{page}?{request.GET.urlencode()}")
        filters = {name: request.GET.getlist(name) for name in asked.NAMES if name in request.GET}
        audit.record("export", name="events", after={"filters": filters})
        lines: Iterator[str] = files.KINDS[kind].write(
            search.every(request.user, query, most=files.ROWS_MAX)
        )
        return exports.answer(
            request,
            lines,
            name=shown.export_name(kind),
            content_type=files.KINDS[kind].content_type,
        )

    def _refuse_strangers(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied(_("Your teams have no role on any cluster."))

    def _refuse_as_part(self, request: HttpRequest) -> HttpResponse | None:
        if not self.admin_site.has_permission(request):
            return _sign_in_anew()
        return None if request.method in READING else HttpResponseNotAllowed(READING)

    def _part(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        response = TemplateResponse(request, template, context)
        response["Cache-Control"] = "no-store"
        return response

    # --- one event --------------------------------------------------------------------------------

    @column(description=_("type"))
    def type_shown(self, event: Event) -> SafeString:
        return shown.type_badge(event)

    @column(description=_("first seen"))
    def first(self, event: Event) -> SafeString:
        return display.exact(event.first_seen)

    @column(description=_("last seen"))
    def last(self, event: Event) -> SafeString:
        return display.exact(event.last_seen)

    @column(description=_("whole object"))
    def whole(self, event: Event) -> SafeString:
        found = _whole(event)
        if found["trouble"]:
            return format_html("<p>{}</p>", found["trouble"])
        return format_html('<pre class="ev-object">{}</pre>', found["text"])


def _whole(event: Event) -> dict[str, str]:
    try:
        return {"text": pretty(event), "trouble": ""}
    except SAID as error:
        return {"text": "", "trouble": error.message}


def _sign_in_anew() -> HttpResponse:
    return HttpResponse(status=401, headers={"HX-Refresh": "true"})
