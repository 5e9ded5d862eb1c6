"""The page of site systems."""

from typing import Any, ClassVar

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base import permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin
from clusters.admin.columns import name_of
from clusters.models import Cluster
from operations.outside.forms import SiteSystemForm
from operations.outside.models import SiteSystem


@admin.register(SiteSystem)
class SiteSystemAdmin(ObjectPermissionAdmin):
    form: Any = SiteSystemForm
    list_display = ("cluster_column", "purpose", "url")
    list_display_links = ("cluster_column", "purpose")
    list_filter = ("purpose",)
    list_select_related = ("cluster",)
    search_fields = ("cluster__name", "url")
    fieldsets: ClassVar[Any] = ((None, {"fields": ("cluster", "purpose", "url", "secret")}),)

    @admin.display(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_column(self, system: SiteSystem) -> str:
        return name_of(system.cluster)

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No site system yet. One takes part in tasks: network, tickets, Prometheus.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:operations_sitesystem_add"), _("Add a site system"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, Cluster, permissions.CHANGE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look sees no field of a secret, not even an empty one."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        return [(None, {"fields": ("cluster", "purpose", "url")})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("cluster", "purpose") if obj else ()

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("FormOfUser", (form,), {"user": request.user})
