"""For how long the events of single clusters are kept."""

from typing import Any, cast

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column

from beidou.base import permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin
from beidou.base.admin.trail import ClusterFilter
from beidou.base.models import User
from clusters.admin.columns import name_of
from clusters.models import Cluster
from events.models import EventRetention
from events.services import retention
from events.services.retention import Kept


def own_clusters(request: HttpRequest) -> Any:
    """Those of which the person may say something."""
    return permissions.visible_to(
        request.user, Cluster.objects.order_by("name"), permissions.CHANGE
    )


def is_owner(request: HttpRequest) -> bool:
    return permissions.may_anywhere(request.user, Cluster, permissions.CHANGE)


@admin.register(EventRetention)
class EventRetentionAdmin(ObjectPermissionAdmin):
    counted = (
        gettext_lazy("cluster with days of its own"),
        gettext_lazy("clusters with days of their own"),
    )
    list_display = ["cluster_column", "kept", "warnings_kept"]
    list_display_links = ["cluster_column"]
    list_select_related = ["cluster"]
    list_filter = [ClusterFilter]
    search_fields = ["cluster__name"]
    fields = ["cluster", "days", "warning_days"]

    @column(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_column(self, row: EventRetention) -> str:
        return name_of(row.cluster)

    @column(description=gettext_lazy("days"), ordering="days")
    def kept(self, row: EventRetention) -> int:
        return Kept.of(row.days, row.warning_days).days

    @column(description=gettext_lazy("days for warnings"), ordering="warning_days")
    def warnings_kept(self, row: EventRetention) -> int:
        return Kept.of(row.days, row.warning_days).warning_days

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["cluster"] if obj else []

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_foreignkey(
            db_field, request, **{**kwargs, "queryset": own_clusters(request)}
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_owner(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _(
            "Events of every cluster are kept for %(days)d days, warnings for %(warning_days)d. "
            "Here a cluster gets days of its own."
        ) % {"days": settings.EVENT_DAYS, "warning_days": settings.EVENT_WARNING_DAYS}
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(
            text, reverse("admin:events_eventretention_add"), _("Set the days of a cluster")
        )

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """By the service, which writes the audit entry."""
        row = retention.save(
            cluster=obj.cluster,
            values={name: getattr(obj, name) for name in retention.FIELDS},
            acting_user=cast("User", request.user),
        )
        obj.pk = row.pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        retention.remove(obj, acting_user=cast("User", request.user))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for row in queryset:
            self.delete_model(request, row)
