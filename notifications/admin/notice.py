"""Notices: what happened that rules may tell of."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import OuterRef, Subquery
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display as column

from beidou.base import display, links, notices
from beidou.base.admin import EmptyList, ReadOnlyAdmin
from beidou.base.admin.trail import MomentFilter
from beidou.base.models import Notice
from clusters.models import Cluster
from notifications.admin.rule import severity_badge


class KindFilter(admin.SimpleListFilter):
    title = gettext_lazy("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind.name, str(kind.label)) for kind in notices.KINDS.values()]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Notice)
class NoticeAdmin(ReadOnlyAdmin):
    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(_("No news yet. What rules can tell of is kept here for a while."))

    list_display = ("at_shown", "severity_shown", "kind_shown", "title", "cluster", "page")
    list_display_links = ("title",)
    list_filter = (KindFilter, ("severity", ChoicesCheckboxFilter), ("at", MomentFilter))
    search_fields = ("title", "details")
    fields: ClassVar[Any] = (
        "at_shown",
        "severity_shown",
        "kind_shown",
        "title",
        "details",
        "cluster",
        "page",
        "routed_at",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> Any:
        names = Cluster.objects.filter(pk=OuterRef("cluster_id")).values("name")
        return super().get_queryset(request).annotate(cluster_name=Subquery(names[:1]))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        shown = super().get_changelist_instance(request)
        shown.result_list = links.with_pages(request.user, shown.result_list)
        return shown

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        notice: Any = super().get_object(request, *args, **kwargs)
        return notice and links.with_pages(request.user, [notice])[0]

    @column(description=gettext_lazy("at"), ordering="at")
    def at_shown(self, notice: Notice) -> SafeString:
        return display.ago(notice.at)

    @column(description=gettext_lazy("severity"), ordering="severity")
    def severity_shown(self, notice: Notice) -> SafeString:
        return severity_badge(notice.severity)

    @column(description=gettext_lazy("kind"), ordering="kind")
    def kind_shown(self, notice: Notice) -> str:
        return notices.label_of(notice.kind)

    @column(description=gettext_lazy("cluster"))
    def cluster(self, notice: Any) -> str:
        return notice.cluster_name or ""

    @column(description=gettext_lazy("page"))
    def page(self, notice: Any) -> SafeString | str:
        if not notice.object_page:
            return ""
        return format_html('<a href="{}">{}</a>', notice.object_page, gettext_lazy("Open"))
