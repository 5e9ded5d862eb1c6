"""The grant page: who may do what where, as a matrix and as a list."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display as column

from beidou.base import display
from beidou.base.admin import EmptyList, ago_column
from beidou.base.admin.filters import VisibleRowFilter
from beidou.base.permissions import ROLE_LABELS
from clusters.admin.forms import GrantForm
from clusters.admin.granting import GrantsAdmin
from clusters.models import ClusterGrant
from clusters.services import grants

MATRIX_AT_MOST = 2000
_GRANTED = ago_column("created_at", gettext_lazy("granted"))


@admin.register(ClusterGrant)
class ClusterGrantAdmin(GrantsAdmin):
    form = GrantForm
    list_display = ("team", "role_column", "cluster_column", "label", _GRANTED)
    list_filter = (("role", ChoicesCheckboxFilter), ("cluster", VisibleRowFilter))
    search_fields = ("team__name", "cluster__name", "label")
    change_list_template = "admin/clusters/clustergrant/change_list.html"

    class Media:
        css = {"all": ["clusters/clusters.css"]}

    @column(description=gettext_lazy("Role"), ordering="role")
    def role_column(self, grant: ClusterGrant) -> SafeString:
        return display.badge(grant.get_role_display(), display.BUSY, icon="badge")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No team has a role yet. Grant one, on a cluster or on all clusters with a label.")
            if self.has_add_permission(request)
            else _("You see the grants on the clusters that you own.")
        )

    # --- writing: the service derives rights and audits -----------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = grants.create_grant(
            team=obj.team,
            role=obj.role,
            cluster=obj.cluster,
            label=obj.label,
            user=request.user,
        )
        obj.pk = made.pk

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        grants.delete_grant(grant=obj, user=request.user)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for grant in queryset:
            grants.delete_grant(grant=grant, user=request.user)

    # --- the matrix -------------------------------------------------------------------------------

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {"roles": ROLE_LABELS, "matrix": matrix(self.get_queryset(request))}
        response: HttpResponse = super().changelist_view(
            request, {**context, **(extra_context or {})}
        )
        return response


def matrix(rows: QuerySet[ClusterGrant]) -> list[dict[str, Any]]:
    """One line per team: for every role, by its label, where the team has it."""
    lines: dict[int, dict[str, Any]] = {}
    chosen = rows.select_related("team", "cluster").order_by("team__name", "cluster__name", "label")
    for grant in chosen[:MATRIX_AT_MOST]:
        line = lines.setdefault(
            grant.team_id,
            {"team": grant.team, "cells": {role: [] for role, _label in ROLE_LABELS}},
        )
        line["cells"][grant.role].append(grant)
    return [
        {
            "team": line["team"],
            "cells": [(label, line["cells"][role]) for role, label in ROLE_LABELS],
        }
        for line in lines.values()
    ]
