"""What operations need to know about a cluster, addressed by the cluster."""

from typing import Any, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.models import User
from clusters.models import Cluster
from operations.api import serializers
from operations.api.serializers import ClusterSettingsSerializer, TeamLimitSerializer
from operations.models import Freeze, MaintenanceWindow, TeamLimit
from operations.services import calendars, cluster_settings


class ClusterSettingsViewSet(ReadOnlyViewSet):
    """One row per cluster; the key in the address is the cluster's."""

    queryset = Cluster.objects.order_by("name")
    serializer_class = ClusterSettingsSerializer
    rights = {"partial_update": permissions.CHANGE}
    lookup_value_regex = r"\d+"

    def get_queryset(self) -> QuerySet[Any]:
        return super().get_queryset().select_related("operation_settings__credential")

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        rows = [_settings(cluster) for cluster in page or []]
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The cluster's settings; the defaults when none were made yet."""
        return Response(self.get_serializer(_settings(self.get_object())).data)

    @extend_schema(request=ClusterSettingsSerializer, responses=ClusterSettingsSerializer)
    def partial_update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change what is named; the rest stays."""
        cluster = self.get_object()
        wish = self.get_serializer(_settings(cluster), data=request.data, partial=True)
        wish.is_valid(raise_exception=True)
        values = dict(wish.validated_data)
        row = cluster_settings.save_settings(
            cluster=cluster,
            reason=values.pop("reason", ""),
            values=values,
            acting_user=request.user,  # type: ignore[arg-type]
        )
        return Response(self.get_serializer(row).data)


class _CalendarViewSet(BaseViewSet):
    """Written by the service, which asks for the right on the cluster."""

    lookup_value_regex = r"\d+"

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        model: Any = self.get_queryset().model
        row = model(**serializer.validated_data)
        calendars.store(row, acting_user=self._user)
        serializer.instance = row

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        row: Any = serializer.instance
        if "cluster" in serializer.validated_data:
            calendars.require_may_edit(self._user, serializer.validated_data["cluster"])
        for name, value in serializer.validated_data.items():
            setattr(row, name, value)
        calendars.store(row, acting_user=self._user)

    def perform_destroy(self, instance: Any) -> None:
        calendars.remove(instance, acting_user=self._user)

    @property
    def _user(self) -> User:
        """The permission class lets nobody else through."""
        return cast(User, self.request.user)


class MaintenanceWindowViewSet(_CalendarViewSet):
    """Maintenance windows of clusters; owners edit them."""

    queryset = MaintenanceWindow.objects.select_related("cluster__operation_settings").order_by(
        "cluster__name", "pk"
    )
    serializer_class = serializers.MaintenanceWindowSerializer
    filterset_fields = {"cluster": ["exact", "in"]}
    rights = {"create": permissions.VIEW}


class FreezeViewSet(_CalendarViewSet):
    """Freezes; owners edit those of their clusters, administrators those of labels and of all."""

    queryset = Freeze.objects.select_related("cluster").order_by("-begins_at", "-pk")
    serializer_class = serializers.FreezeSerializer
    filterset_fields = {"cluster": ["exact", "in", "isnull"]}
    rights = {"create": permissions.VIEW}


class TeamLimitViewSet(BaseViewSet):
    """Limits of teams; administrators alone."""

    queryset = TeamLimit.objects.select_related("team").order_by("team__name")
    serializer_class = TeamLimitSerializer
    create_permission = "operations.change_teamlimit"  # which nobody is given
    lookup_value_regex = r"\d+"


def _settings(cluster: Cluster) -> Any:
    """Without a query when the row was joined already."""
    try:
        return cluster.operation_settings
    except Cluster.operation_settings.RelatedObjectDoesNotExist:
        return cluster_settings.settings_of(cluster)
