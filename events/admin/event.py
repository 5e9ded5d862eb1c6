"""The event centre: a search over the events of all clusters; and one event with all it says."""

from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBadRequest,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    QueryDict,
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
from events.admin import files, key, live, parts, saved, shown
from events.admin.address import Address
from events.models import Event
from events.services import alert_rules, asked, search, searches, tail
from events.services.search import FoundEvent, StoreAway
from events.services.whole import pretty

READING = ("GET", "HEAD")
PLAIN = "text/plain; charset=utf-8"
SAVE = "save_search"
"""The button of the form that saves a search."""
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

    # --- the search -------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view
        return [
            path("export/<str:kind>/", view(self.export), name="events_event_export"),
            # Not through ``admin_view``: a redirect would put the sign-in form into the page.
            path("figures/", self.figures, name="events_event_figures"),
            path("tail/", self.tail, name="events_event_tail"),
            path("key/", view(self.key_events), name="events_event_key"),
            path("key/figures/", self.key_figures, name="events_event_key_figures"),
            path("newest/", self.newest, name="events_event_newest"),
            path("warnings/", self.warnings, name="events_event_warnings"),
            path("<str:key>/whole/", self.whole_now, name="events_event_whole"),
            *super().get_urls(),
        ]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Not Django's list: time is bounded, pages go on by cursor, and nothing is counted."""
        if request.method == "POST" and SAVE in request.POST:
            return self._save_search(request)
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        self._refuse_strangers(request)
        given = request.GET
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": capfirst(str(self.opts.verbose_name_plural)),
            "is_fullwidth": "1",
            "address": Address(given),
            "key_events": Address(given).clusters(),
            "text": given.get("q", ""),
            "may_adopt": request.user.has_perm("clusters.add_cluster"),
            "saved": saved.menu(request.user),
            "may_add_rule": alert_rules.may_add(request.user),
        }
        try:
            query = asked.query(request.user, given)
            context |= shown.times(query, given) | shown.rows(request.user, query, given)
            context["live"] = live.switch(given, context["found"])
            context["chosen"] = shown.chosen(request.user, query, given)
            if FIGURES in given:
                context["figures"] = shown.figures(request.user, query, given)
        except (InvalidInput, StoreAway) as error:
            context |= shown.times(None, given) | {"refusal": error.message}
            status = 400 if isinstance(error, InvalidInput) else 503
            return TemplateResponse(request, "events/search.html", context, status=status)
        return TemplateResponse(request, "events/search.html", context)

    def _save_search(self, request: HttpRequest) -> HttpResponse:
        """The search that was looked at, under a name; leads back to it."""
        given = request.POST
        search = given.get("search", "").removeprefix("?")
        try:
            row = searches.save(
                name=given.get("name", ""),
                search=search,
                shared="shared" in given,
                acting_user=request.user,
            )
        except InvalidInput as error:
            messages.error(request, error.message)
        else:
            search = row.search
            messages.success(request, _("The search “%(name)s” is saved.") % {"name": row})
        return HttpResponseRedirect(f"{request.path}?{search}")

    def figures(self, request: HttpRequest) -> HttpResponse:
        """Histogram and filters: counted over all that matches, so that the rows need not wait."""

        def count(user: Any, given: QueryDict) -> dict[str, Any]:
            return shown.figures(user, asked.query(user, given), given)

        return self._counted(request, "events/figures.html", count)

    # --- key events, and parts of other pages -----------------------------------------------------

    def key_events(self, request: HttpRequest) -> HttpResponse:
        """What goes wrong in clusters, in numbers, against what is usual."""
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        self._refuse_strangers(request)
        context = {**self.admin_site.each_context(request), "title": _("Key events")}
        try:
            context |= key.page(request.user, request.GET)
            if FIGURES in request.GET:
                context["figures"] = key.figures(request.user, request.GET)
        except (InvalidInput, StoreAway) as error:
            context |= {"refusal": error.message}
            status = 400 if isinstance(error, InvalidInput) else 503
            return TemplateResponse(request, "events/key.html", context, status=status)
        return TemplateResponse(request, "events/key.html", context)

    def key_figures(self, request: HttpRequest) -> HttpResponse:
        return self._counted(request, "events/key_figures.html", key.figures)

    def newest(self, request: HttpRequest) -> HttpResponse:
        """The newest of a search, for the page of something else."""
        return self._counted(request, "events/newest.html", parts.newest)

    def warnings(self, request: HttpRequest) -> HttpResponse:
        """How many warnings a search finds, for the head of the page of something else."""
        return self._counted(request, "events/warnings.html", parts.warnings)

    def _counted(
        self,
        request: HttpRequest,
        template: str,
        count: Callable[[Any, QueryDict], dict[str, Any]],
    ) -> HttpResponse:
        """A part that comes after its page, or why it does not, in plain text."""
        if (refused := self._refuse_as_part(request)) is not None:
            return refused
        self._refuse_strangers(request)
        try:
            context = {"figures": count(request.user, request.GET)}
        except InvalidInput as error:
            return HttpResponseBadRequest(error.message, content_type=PLAIN)
        except StoreAway as error:
            return HttpResponse(error.message, content_type=PLAIN, status=503)
        return self._part(request, template, context)

    def tail(self, request: HttpRequest) -> HttpResponseBase:
        """New rows as they are stored (server-sent events)."""
        if (refused := self._refuse_as_part(request)) is not None:
            return refused
        self._refuse_strangers(request)
        try:
            return tail.answer(
                request, user=request.user, auth=None, given=request.GET, shape=live.ROWS
            )
        except InvalidInput as error:
            return HttpResponseBadRequest(error.message, content_type=PLAIN)

    def whole_now(self, request: HttpRequest, key: str) -> HttpResponse:
        """The whole object of one event, when its row is opened."""
        if not self.admin_site.has_permission(request):
            return _sign_in_anew()
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        try:
            event = search.one(request.user, key)
            if event is None:
                raise Http404
            context = {"text": pretty(event), "trouble": ""}
        except SAID as error:
            context = {"text": "", "trouble": error.message}
        return self._part(request, "events/whole.html", {"key": key, **context})

    def export(self, request: HttpRequest, kind: str) -> HttpResponseBase:
        """What the search finds, as a file."""
        if kind not in files.KINDS:
            raise Http404
        if request.method not in READING:
            return HttpResponseNotAllowed(READING)
        self._refuse_strangers(request)
        try:
            query = asked.query(request.user, request.GET)
            rows = search.begun(search.every(request.user, query, most=files.ROWS_MAX + 1))
        except (InvalidInput, StoreAway):  # the page says what is wrong
            page = reverse("admin:events_event_changelist")
            return HttpResponseRedirect(f"{page}?{request.GET.urlencode()}")
        filters = {name: request.GET.getlist(name) for name in asked.NAMES if name in request.GET}
        audit.record("export", name="events", after={"filters": filters})
        lines: Iterator[str] = files.KINDS[kind].write(rows)
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

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        try:
            return super().change_view(request, object_id, form_url, extra_context)
        except StoreAway as error:
            return self._away(request, error)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        try:
            shown: HttpResponse = super().history_view(request, object_id, extra_context)
        except StoreAway as error:
            return self._away(request, error)
        return shown

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Nobody may; whether there is one at all, the store has to say."""
        try:
            refused: HttpResponse = super().delete_view(request, object_id, extra_context)
        except StoreAway as error:
            return self._away(request, error)
        return refused

    def _away(self, request: HttpRequest, error: StoreAway) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "trouble": error.message}
        return TemplateResponse(request, "events/away.html", context, status=503)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Event | None:
        """A row as the store has it, which need not be the database."""
        found = search.one(request.user, object_id)
        return None if found is None else _as_row(found)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None:
            return super().has_view_permission(request)
        return search.sees(request.user, obj)

    @column(description=_("type"))
    def type_shown(self, event: Event) -> SafeString:
        return shown.type_badge(event.type)

    @column(description=_("first seen"))
    def first(self, event: Event) -> SafeString:
        return display.exact(event.first_seen)

    @column(description=_("last seen"))
    def last(self, event: Event) -> SafeString:
        return display.exact(event.last_seen)

    @column(description=_("whole object"))
    def whole(self, event: Event) -> SafeString:
        return format_html('<pre class="ev-object">{}</pre>', bytes(event.raw).decode())


def _as_row(found: FoundEvent) -> Event:
    """For the page of one event; its whole object is text already, or says why there is none."""
    names = {field.attname for field in Event._meta.concrete_fields} - {"id"}
    row = Event(pk=found.key, **{name: getattr(found, name) for name in names})
    row.cluster = found.cluster
    row.raw = (found.trouble or pretty(found)).encode()
    return row


def _sign_in_anew() -> HttpResponse:
    return HttpResponse(status=401, headers={"HX-Refresh": "true"})
