"""What operations need to know about a cluster, addressed by the cluster."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from beidou.base import permissions
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from clusters.models import Cluster
from operations.api.serializers import ClusterSettingsSerializer, TeamLimitSerializer
from operations.models import TeamLimit
from operations.services import cluster_settings


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
