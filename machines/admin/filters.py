"""Filters of the machine list that offer only what a person may see, from small tables."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import TextFilter

from beidou.base import permissions
from beidou.base.numbers import as_key
from clusters.models import Cluster
from machines.models import Machine

VIEWS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "cluster": (_("In cluster"), lambda rows: rows.in_cluster()),
    "free": (_("Free"), lambda rows: rows.free()),
    "faulty": (_("Faulty"), lambda rows: rows.faulty()),
    "drift": (_("Drift"), lambda rows: rows.drifting()),
    "host_key": (_("Host key changed"), lambda rows: rows.exclude(offered_host_key="")),
}


class ViewFilter(admin.SimpleListFilter):
    """The saved views, which the list shows as tabs."""

    title = _("view")
    parameter_name = "view"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        return [(key, label) for key, (label, _narrow) in VIEWS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Machine]) -> QuerySet[Machine]:
        chosen = VIEWS.get(self.value() or "")
        return chosen[1](queryset) if chosen else queryset


class ClusterFilter(admin.SimpleListFilter):
    title = _("cluster")
    parameter_name = "cluster__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        visible = permissions.visible_to(request.user, Cluster.objects.all())
        return [(str(key), name) for key, name in visible.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Machine]) -> QuerySet[Machine]:
        key = as_key(self.value() or "")
        return queryset if key is None else queryset.filter(cluster=key)


class TeamFilter(admin.SimpleListFilter):
    title = _("owner team")
    parameter_name = "owner_team__id__exact"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, Any]]:
        teams = permissions.teams_of(request.user).order_by("name")
        return [(str(key), name) for key, name in teams.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Machine]) -> QuerySet[Machine]:
        key = as_key(self.value() or "")
        return queryset if key is None else queryset.filter(owner_team=key)


class RoleFilter(TextFilter):
    title = _("role")
    parameter_name = "role"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Machine]) -> QuerySet[Machine]:
        return queryset.filter(role=self.value()) if self.value() else queryset
