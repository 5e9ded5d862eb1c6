"""The audit page: search, filters, what changed from what to what, and export."""

from collections.abc import Iterable, Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.template.loader import render_to_string
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import FieldTextFilter, RangeDateTimeFilter
from unfold.decorators import display

from beidou.base import attempts, audit, exports, links, permissions, verbs
from beidou.base import display as moments
from beidou.base.admin.bases import EmptyList, ReadOnlyAdmin
from beidou.base.models import AuditEntry
from beidou.base.numbers import as_key

COLUMNS = (
    "id", "at", "actor", "address", "verb", "object_type", "object_id", "object_name", "cluster_id",
    "outcome", "reason", "before", "after", "request_id", "digest",
)  # fmt: skip
_BATCH = 2000


class MomentFilter(RangeDateTimeFilter):
    """unfold's two moments, in the time zone of the pages; a date alone means the whole day."""

    def queryset(self, request: HttpRequest, queryset: models.QuerySet[Any]) -> Any:
        for end, lookup, default in (("from", "gte", "00:00:00"), ("to", "lte", "23:59:59")):
            name = f"{self.parameter_name}_{end}"
            date = self.used_parameters.get(f"{name}_0")
            clock = self.used_parameters.get(f"{name}_1") or default
            try:
                moment = parse_datetime(f"{date}T{clock}")
            except ValueError:
                moment = None
            if moment is not None:
                aware = timezone.make_aware(moment)
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": aware})
        return queryset


class VerbFilter(admin.SimpleListFilter):
    title = _("action")
    parameter_name = "verb"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = permissions.visible_to(request.user, AuditEntry.objects.order_by("verb"))
        return [
            (verb, verbs.shown(verb))
            for verb in rows.values_list("verb", flat=True).distinct()[:200]
        ]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        return queryset.filter(verb=self.value()) if self.value() else queryset


class ObjectTypeFilter(admin.SimpleListFilter):
    title = _("kind of object")
    parameter_name = "object_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        models_ = [model for model in apps.get_models() if not model._meta.auto_created]
        return sorted(
            (model._meta.label_lower, str(model._meta.verbose_name))
            for model in models_
            if model in admin.site._registry
        )

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        return queryset.filter(object_type=self.value()) if self.value() else queryset


class ClusterFilter(admin.SimpleListFilter):
    title = _("cluster")
    parameter_name = "cluster"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        model = apps.get_model("clusters", "Cluster")
        rows = permissions.visible_to(request.user, model._default_manager.order_by("name"))
        return [(str(pk), name) for pk, name in rows.values_list("pk", "name")]

    def queryset(
        self, request: HttpRequest, queryset: models.QuerySet[Any]
    ) -> models.QuerySet[Any]:
        key = as_key(self.value() or "")
        return queryset if key is None else queryset.filter(cluster_id=key)


@admin.register(AuditEntry)
class AuditAdmin(ReadOnlyAdmin):
    """Auditors and administrators see all entries, owners of a cluster those of their cluster."""

    counted = (_("audit entry"), _("audit entries"))
    change_list_template = "admin/base/auditentry/change_list.html"
    list_display = ("when", "who", "action", "object_link", "result", "reason", "address")
    list_display_links = ("when",)
    list_filter = (
        ("at", MomentFilter),
        ("actor", FieldTextFilter),
        VerbFilter,
        ObjectTypeFilter,
        "outcome",
        ClusterFilter,
    )
    search_fields = ("actor", "object_name", "verb", "words__text", "=request_id", "=address")
    search_help_text = _("Actor, object, action, reason, request or address")
    list_per_page = 50
    fields = (
        "when", "who", "address", "action", "object_link", "outcome", "reason", "changes",
        "same_request", "digest", "previous",
    )  # fmt: skip
    readonly_fields = fields

    @display(description=_("at"), ordering="id")
    def when(self, obj: AuditEntry) -> SafeString:
        return moments.exact(obj.at)

    @display(description=_("actor"), ordering="actor")
    def who(self, obj: AuditEntry) -> str:
        return verbs.actor(obj.actor)

    @display(description=_("action"), ordering="verb")
    def action(self, obj: AuditEntry) -> str:
        return attempts.told(obj)

    @display(
        description=_("outcome"),
        label={"done": "success", "refused": "warning", "failed": "danger"},
    )
    def result(self, obj: AuditEntry) -> tuple[str, str]:
        return obj.outcome, str(AuditEntry.Outcome(obj.outcome).label)

    @display(description=_("object"))
    def object_link(self, obj: AuditEntry) -> str:
        name = obj.object_name or obj.object_id or "–"
        address = getattr(obj, "object_page", "")
        return format_html('<a href="{}">{}</a>', address, name) if address else name

    @display(description=_("before and after"))
    def changes(self, obj: AuditEntry) -> SafeString:
        return render_to_string("admin/base/auditentry/changes.html", {"rows": obj.changes})

    @display(description=_("request"))
    def same_request(self, obj: AuditEntry) -> str:
        if not obj.request_id:
            return "–"
        address = reverse("admin:base_auditentry_changelist")
        return format_html('<a href="{}?q={}">{}</a>', address, obj.request_id, obj.request_id)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        shown = super().get_changelist_instance(request)
        shown.result_list = links.with_pages(request.user, shown.result_list)
        return shown

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        entry: Any = super().get_object(request, *args, **kwargs)
        return entry and links.with_pages(request.user, [entry])[0]

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _(
                "Nothing has happened yet. What people do is written here, for auditors and "
                "owners to read."
            )
        )

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        query = request.GET.urlencode()
        context = {"export_query": f"?{query}" if query else "", **(extra_context or {})}
        return super().changelist_view(request, context)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.export)
        return [path("export/", view, name="base_auditentry_export"), *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """The entries that the list shows, with its search and filters, as CSV."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            rows = self.get_changelist_instance(request).get_queryset(request)
        except IncorrectLookupParameters:
            return redirect("admin:base_auditentry_changelist")
        audit.record("export", name="audit trail", after={"filters": dict(request.GET.items())})
        return exports.answer(
            request,
            csv_lines(batches(rows)),
            name="audit.csv",
            content_type="text/csv; charset=utf-8",
        )


def batches(rows: models.QuerySet[Any]) -> Iterator[AuditEntry]:
    """All entries, newest first, in short queries: no transaction stays open for the whole file."""
    last: int | None = None
    while True:
        page = rows if last is None else rows.filter(id__lt=last)
        entries = list(page.order_by("-id")[:_BATCH])
        yield from entries
        if len(entries) < _BATCH:
            return
        last = entries[-1].id


def csv_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    yield exports.csv_line(COLUMNS)
    for entry in entries:
        yield exports.csv_line(exports.csv_cell(getattr(entry, name)) for name in COLUMNS)
