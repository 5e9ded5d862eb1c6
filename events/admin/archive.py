"""What is in the archive of events, and what was brought back from it."""

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.decorators import display as column

from beidou.base import display
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ReadOnlyAdmin, ago_column
from beidou.base.admin.trail import ClusterFilter
from beidou.base.models import User
from clusters.admin.columns import name_of
from events.admin.retention import is_owner, own_clusters
from events.models import EventRestore, EventSegment
from events.services import archived, restoring

if TYPE_CHECKING:
    _RestoreForm = forms.ModelForm[EventRestore]
else:
    _RestoreForm = forms.ModelForm

_ARCHIVED = ago_column("archived_at", gettext_lazy("archived"))
_ASKED = ago_column("asked_at", gettext_lazy("asked"))


@admin.register(EventSegment)
class EventSegmentAdmin(ReadOnlyAdmin):
    counted = (gettext_lazy("segment"), gettext_lazy("segments"))
    list_before_template = "events/archive.html"
    list_display = (
        "cluster_column", "day", "part", "events", "size", _ARCHIVED, "state", "back",
    )  # fmt: skip
    list_display_links = ("cluster_column", "day")
    list_select_related = ("cluster",)
    list_filter = (ClusterFilter, ("day", RangeDateFilter), "part")
    search_fields = ("cluster_name", "object_name")
    fields = (
        "cluster_column", "day", "part", "number", "events", "size", "first", "last", "object_name",
        "sha256", "archived_at", "state", "removed_at", "problem", "back",
    )  # fmt: skip
    readonly_fields = fields

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(
            request, {**(extra_context or {}), "archive": archived.health()}
        )

    def empty_list(self, request: HttpRequest) -> EmptyList:
        if settings.EVENT_ARCHIVE is None:
            return EmptyList(
                _("Events are deleted without being archived: BEIDOU_EVENT_ARCHIVE_URL is not set.")
            )
        return EmptyList(_("No event was past its time yet."))

    @column(description=gettext_lazy("cluster"), ordering="cluster_name")
    def cluster_column(self, segment: EventSegment) -> str:
        if segment.cluster is not None:
            return name_of(segment.cluster)
        return _("%(name)s (un-adopted)") % {"name": segment.cluster_name}

    @column(description=gettext_lazy("size"), ordering="bytes")
    def size(self, segment: EventSegment) -> str:
        return display.byte_size(segment.bytes)

    @column(description=gettext_lazy("first seen"))
    def first(self, segment: EventSegment) -> SafeString:
        return display.exact(segment.first_seen)

    @column(description=gettext_lazy("last seen"))
    def last(self, segment: EventSegment) -> SafeString:
        return display.exact(segment.last_seen)

    @column(description=gettext_lazy("state"))
    def state(self, segment: EventSegment) -> SafeString:
        if segment.problem:
            return display.badge(_("lost"), display.BAD, title=segment.problem)
        if segment.removed_at is None:
            return display.badge(_("in the event store, too"), display.BUSY, icon="database")
        return display.badge(_("archived"), display.GOOD, icon="inventory_2")

    @column(description=gettext_lazy("back into the event store"))
    def back(self, segment: EventSegment) -> SafeString | str:
        if segment.cluster_id is None or settings.EVENT_ARCHIVE is None:
            return display.NOTHING
        day = segment.day.isoformat()
        asked = urlencode({"cluster": segment.cluster_id, "since": day, "until": day})
        url = reverse("admin:events_eventrestore_add")
        return format_html('<a href="{}?{}">{}</a>', url, asked, _("Bring back"))


class EventRestoreForm(_RestoreForm):
    """Checked by the service that stores it."""

    class Meta:
        model = EventRestore
        fields = ["cluster", "since", "until", "kept_until"]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors or "cluster" not in self.fields:
            return
        for name, sentence in restoring.find_problems(self.instance).items():
            self.add_error(name, sentence)


@admin.register(EventRestore)
class EventRestoreAdmin(ObjectPermissionAdmin):
    counted = (gettext_lazy("restore"), gettext_lazy("restores"))
    form: Any = EventRestoreForm
    list_display = [
        "cluster_column", "since", "until", "kept_until", "state", "events", _ASKED, "asked_by",
    ]  # fmt: skip
    list_display_links = ["cluster_column", "since"]
    list_select_related = ["cluster"]
    list_filter = [ClusterFilter]
    search_fields = ["cluster__name", "asked_by"]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        asked = ["cluster", "since", "until", "kept_until"]
        if obj is None:
            return [(None, {"fields": asked})]
        became = ["state", "events", "refused", "asked_by", "asked_at", "finished_at", "found"]
        return [(None, {"fields": [*asked, *became]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [] if obj is None else self.get_fieldsets(request, obj)[0][1]["fields"]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        given = super().get_changeform_initial_data(request)
        return {"kept_until": restoring.usual_end(), **given}

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(
            db_field, request, **{**kwargs, "queryset": own_clusters(request)}
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return settings.EVENT_ARCHIVE is not None and is_owner(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj)

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("Nothing was brought back from the archive of events.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:events_eventrestore_add"), _("Bring events back"))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        restoring.ask(obj, acting_user=cast("User", request.user))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        restoring.let_go(obj, acting_user=cast("User", request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            self.delete_model(request, row)

    @column(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_column(self, row: EventRestore) -> str:
        return name_of(row.cluster)

    @column(description=gettext_lazy("state"))
    def state(self, row: EventRestore) -> SafeString:
        if row.problem:
            return format_html("{} {}", display.badge(_("failed"), display.BAD), row.problem)
        if row.finished_at is None:
            return display.badge(_("running"), display.BUSY)
        if row.is_over:
            return display.badge(_("over"))
        return display.badge(_("done"), display.GOOD)

    @column(description=gettext_lazy("search"))
    def found(self, row: EventRestore) -> SafeString:
        until = f"{row.until}T23:59:59.999999Z"
        asked = urlencode(
            {"cluster": row.cluster_id, "since": f"{row.since}T00:00:00Z", "until": until}
        )
        url = reverse("admin:events_event_changelist")
        return format_html('<a href="{}?{}">{}</a>', url, asked, _("Events of these days"))
