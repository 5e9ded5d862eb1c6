"""Grants of namespaces over HTTP: many at once, made and taken back."""

from typing import Any, ClassVar

from django.contrib.auth.models import Group
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions
from beidou.base.api.choices import ChosenField
from beidou.base.api.viewsets import ReadOnlyViewSet
from clusters.models import Cluster
from clusters.services import grants
from events.models import NamespaceGrant
from events.services import namespaces


def _visible_clusters(user: Any) -> QuerySet[Cluster]:
    return permissions.visible_to(user, Cluster.objects.all())


class NamespaceGrantSerializer(serializers.ModelSerializer[NamespaceGrant]):
    """That a team sees the events of one namespace of a cluster."""

    team_name = serializers.CharField(source="team.name", read_only=True)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    older_events_follow = serializers.BooleanField(
        source="follow",
        read_only=True,
        help_text="On an event server: those stored before the grant are not seen yet.",
    )

    class Meta:
        model = NamespaceGrant
        fields = (
            "id",
            "url",
            "team",
            "team_name",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "namespace",
            "older_events_follow",
            "created_at",
        )
        read_only_fields = fields


class NamespacesSerializer(serializers.Serializer[Any]):
    """Namespaces of a cluster and a team."""

    team = serializers.PrimaryKeyRelatedField(queryset=Group.objects.all())
    cluster = ChosenField(queryset=Cluster.objects.all(), among=_visible_clusters)
    namespaces = serializers.ListField(
        child=serializers.CharField(max_length=253), max_length=namespaces.AT_ONCE
    )


class TakenNamespacesSerializer(serializers.Serializer[Any]):
    taken = serializers.IntegerField()


class NamespaceGrantViewSet(mixins.DestroyModelMixin, ReadOnlyViewSet):
    """Which teams see the events of which namespaces; made and taken back, never changed."""

    queryset = NamespaceGrant.objects.select_related("team", "cluster")
    serializer_class = NamespaceGrantSerializer
    filterset_fields = {
        "team": ["exact"],
        "team__name": ["exact"],
        "cluster": ["exact"],
        "namespace": ["exact", "in"],
    }
    search_fields = ["team__name", "cluster__name", "namespace"]
    ordering_fields = ["namespace", "created_at"]
    ordering = ["team__name", "cluster__name", "namespace", "id"]
    lookup_value_regex = r"\d+"
    create_permission: ClassVar[str | None] = None
    # Who may give and take is the service's to decide, as it is for the page.
    rights: ClassVar[dict[str, str]] = {"create": permissions.VIEW, "destroy": permissions.VIEW}

    def get_queryset(self) -> QuerySet[Any]:
        return namespaces.with_state(super().get_queryset())

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        return NamespacesSerializer if self.action in ("create", "take") else self.serializer_class

    @extend_schema(
        request=NamespacesSerializer, responses={201: NamespaceGrantSerializer(many=True)}
    )
    def create(self, request: Request) -> Response:
        """Give a team namespaces; those that it has already are left as they are."""
        wish = self._wish(request)
        made = namespaces.give(user=request.user, **wish)
        rows = self.get_queryset().filter(pk__in=[row.pk for row in made])
        context = self.get_serializer_context()
        given = NamespaceGrantSerializer(rows.order_by("pk"), many=True, context=context)
        return Response(given.data, status=201)

    @extend_schema(request=NamespacesSerializer, responses=TakenNamespacesSerializer, filters=False)
    @action(detail=False, methods=["post"], pagination_class=None)
    def take(self, request: Request) -> Response:
        """Take namespaces back from a team; those that it does not have are passed over."""
        wish = self._wish(request)
        grants.require_may_grant(request.user, wish["cluster"])
        taken = namespaces.take(rows=namespaces.given(**wish), user=request.user)
        return Response({"taken": taken})

    def _wish(self, request: Request) -> Any:
        # Before the body is read: whoever may grant nowhere learns no keys of teams from it.
        grants.require_may_grant_somewhere(request.user)
        wish = self.get_serializer(data=request.data)
        wish.is_valid(raise_exception=True)
        return wish.validated_data

    def perform_destroy(self, instance: NamespaceGrant) -> None:
        namespaces.take(rows=[instance], user=self.request.user)
