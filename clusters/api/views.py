"""Viewsets of clusters, nodes and grants."""

from typing import Any, ClassVar, cast

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.errors import Forbidden
from beidou.base.models import User
from clusters.api import serializers
from clusters.api.filters import ClusterFilter, GrantFilter, NodeFilter
from clusters.models import Cluster, ClusterGrant, Node
from clusters.services import adoption, grants, listing, nodes, removal

HISTORY_AT_MOST = 200


class ClusterViewSet(BaseViewSet):
    """Clusters; creating one adopts it, deleting one un-adopts it and touches nothing there."""

    queryset = Cluster.objects.all()
    serializer_class = serializers.ClusterDetailSerializer
    filterset_class = ClusterFilter
    search_fields = ["name", "description", "region", "server", "contact"]
    ordering_fields = ["name", "health", "version", "nodes_total", "observed_at", "created_at"]
    ordering = ["name"]
    lookup_value_regex = r"\d+"
    create_permission = "clusters.add_cluster"
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "capabilities": permissions.VIEW,
        "refresh": permissions.OPERATE,
        "credential": permissions.CHANGE,
        "health": permissions.VIEW,
    }

    def get_queryset(self) -> QuerySet[Any]:
        return listing.with_credential(listing.with_running_operations(super().get_queryset()))

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "list":
            return serializers.ClusterSerializer
        return super().get_serializer_class()

    @extend_schema(
        request=serializers.AdoptSerializer,
        responses={
            201: serializers.AdoptedSerializer,
            200: OpenApiResponse(serializers.ReportSerializer, description="With `dry_run`."),
        },
    )
    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Adopt a cluster (201 with the capability report), or only check it (``dry_run``)."""
        given = serializers.AdoptSerializer(data=request.data, context={"request": request})
        given.is_valid(raise_exception=True)
        if given.validated_data.get("dry_run"):
            found = serializers.report(adoption.check(given.to_source()))
            return Response(serializers.ReportSerializer(found).data)
        cluster = adoption.adopt(
            source=given.to_source(), details=given.to_details(), user=cast("User", request.user)
        )
        cluster = listing.with_credential(
            listing.with_running_operations(Cluster.objects.filter(pk=cluster.pk))
        ).get()
        answer = serializers.AdoptedSerializer(
            {"cluster": cluster, "report": cluster.capabilities},
            context=self.get_serializer_context(),
        )
        headers = {"Location": answer.data["cluster"]["url"]}
        return Response(answer.data, status=status.HTTP_201_CREATED, headers=headers)

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        serializer.instance = adoption.edit(
            cluster=self.get_object(), changes=serializer.validated_data
        )

    @extend_schema(
        parameters=[
            OpenApiParameter("confirm", str, required=True, description="The cluster's name."),
            OpenApiParameter("reason", str, description="Kept in the audit trail."),
        ]
    )
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Un-adopt: the cluster leaves the portal; its audit entries stay."""
        cluster = self.get_object()
        if not request.user.has_perm("clusters.delete_cluster"):
            raise Forbidden(_("Un-adopting needs the permission to delete clusters."))
        removal.unadopt(
            cluster=cluster,
            confirmation=request.query_params.get("confirm", ""),
            reason=request.query_params.get("reason", ""),
        )
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(responses=serializers.CapabilitySerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def capabilities(self, request: Request, pk: str) -> Response:
        """What will work with the stored credential, and why not, as it was last asked."""
        rows = self.get_object().capabilities
        return Response(serializers.CapabilitySerializer(rows, many=True).data)

    @extend_schema(
        request=None, responses=serializers.CapabilitySerializer(many=True), filters=False
    )
    @action(detail=True, methods=["post"], url_path="capabilities/refresh", pagination_class=None)
    def refresh(self, request: Request, pk: str) -> Response:
        """Ask the cluster again what we may do there."""
        rows = adoption.refresh_capabilities(cluster=self.get_object())
        return Response(serializers.CapabilitySerializer(rows, many=True).data)

    @extend_schema(
        request=serializers.ReplaceCredentialSerializer, responses=serializers.ReportSerializer
    )
    @action(detail=True, methods=["post"])
    def credential(self, request: Request, pk: str) -> Response:
        """Replace the credential; it must lead to the same cluster."""
        cluster = self.get_object()
        given = serializers.ReplaceCredentialSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        findings = adoption.replace_credential(
            cluster=cluster,
            source=given.to_source(),
            reason=given.validated_data.get("reason", ""),
        )
        return Response(serializers.ReportSerializer(serializers.report(findings)).data)

    @extend_schema(responses=serializers.HealthChangeSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=None)
    def health(self, request: Request, pk: str) -> Response:
        """The last changes of health, newest first."""
        rows = self.get_object().health_changes.order_by("-at", "-id")[:HISTORY_AT_MOST]
        return Response(serializers.HealthChangeSerializer(rows, many=True).data)


class NodeViewSet(ReadOnlyViewSet):
    """Nodes as Kubernetes reports them."""

    queryset = Node.objects.select_related("machine")
    serializer_class = serializers.NodeDetailSerializer
    filterset_class = NodeFilter
    search_fields = ["name", "internal_ip", "system_uuid", "cluster__name"]
    ordering_fields = ["name", "cluster__name", "cpu_requested", "memory_requested", "pods_count"]
    ordering = ["cluster__name", "name"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {
        "cordon": permissions.OPERATE,
        "uncordon": permissions.OPERATE,
    }

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        return listing.slim_nodes(rows) if self.action == "list" else rows.select_related("cluster")

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "list":
            return serializers.NodeSerializer
        return super().get_serializer_class()

    @extend_schema(request=serializers.CordonSerializer, responses=serializers.NodeDetailSerializer)
    @action(detail=True, methods=["post"])
    def cordon(self, request: Request, pk: str) -> Response:
        """Close the node for new pods; 409 while changes of the cluster have to wait."""
        return self._set_cordoned(request, cordoned=True)

    @extend_schema(request=serializers.CordonSerializer, responses=serializers.NodeDetailSerializer)
    @action(detail=True, methods=["post"])
    def uncordon(self, request: Request, pk: str) -> Response:
        """Open the node for new pods again; 409 likewise."""
        return self._set_cordoned(request, cordoned=False)

    def _set_cordoned(self, request: Request, *, cordoned: bool) -> Response:
        node = self.get_object()
        given = serializers.CordonSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        user = cast("User", request.user)
        nodes.set_cordoned(node=node, cordoned=cordoned, acting_user=user, **given.validated_data)
        return Response(self.get_serializer(node).data)


class GrantViewSet(mixins.CreateModelMixin, mixins.DestroyModelMixin, ReadOnlyViewSet):
    """Roles of teams; made and taken back, never changed."""

    queryset = ClusterGrant.objects.select_related("team", "cluster")
    serializer_class = serializers.GrantSerializer
    filterset_class = GrantFilter
    search_fields = ["team__name", "cluster__name", "label"]
    ordering = ["team__name", "id"]
    lookup_value_regex = r"\d+"
    create_permission: ClassVar[str | None] = None
    # Who may grant and take back is the service's to decide, as it is for the page.
    rights: ClassVar[dict[str, str]] = {"create": permissions.VIEW, "destroy": permissions.VIEW}

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        # Before the body is read: whoever may grant nowhere learns no keys of teams from it.
        grants.require_may_grant_somewhere(request.user)
        return super().create(request, *args, **kwargs)

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        serializer.instance = grants.create_grant(
            user=self.request.user, **serializer.validated_data
        )

    def perform_destroy(self, instance: ClusterGrant) -> None:
        grants.delete_grant(grant=instance, user=self.request.user)
