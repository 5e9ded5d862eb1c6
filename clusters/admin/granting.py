"""What pages of grants have in common: whoever may grant on the cluster gives and takes."""

from typing import Any

from django.http import HttpRequest
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column

from beidou.base import permissions
from beidou.base.admin import ObjectPermissionAdmin
from clusters.admin.columns import name_of
from clusters.models import Cluster


class GrantsAdmin(ObjectPermissionAdmin):
    """Of rows with a ``cluster``; its form is told who asks (``user``)."""

    list_select_related = ("team", "cluster")
    autocomplete_fields = ()

    @column(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_column(self, grant: Any) -> str:
        return name_of(grant.cluster)

    # --- rights -----------------------------------------------------------------------------------

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(
            request.user.has_perm("clusters.add_clustergrant")
            or permissions.may_anywhere(request.user, Cluster, permissions.CHANGE)
        )

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # taken back and granted anew, so that the trail says what was when

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if request.user.has_perm("clusters.add_clustergrant"):
            return True
        if obj is None:
            return permissions.may_anywhere(request.user, Cluster, permissions.CHANGE)
        return obj.cluster is not None and permissions.may(
            request.user, obj.cluster, permissions.CHANGE
        )

    # --- forms ------------------------------------------------------------------------------------

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.user = request.user
        return form

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "cluster" and not request.user.has_perm("clusters.add_clustergrant"):
            kwargs["queryset"] = permissions.visible_to(
                request.user, Cluster.objects.only("name"), permissions.CHANGE
            )
        return super().formfield_for_foreignkey(db_field, request, **kwargs)
