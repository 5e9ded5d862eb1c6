"""Sources of playbooks, what was read from them, and what is offered, over HTTP."""

from typing import Any, ClassVar, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions
from beidou.base.api.pages import NewestFirst
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.models import User
from operations.playbooks.api import serializers
from operations.playbooks.models import PlaybookSource, SitePlaybook, SourceRevision
from operations.services import playbook_sources


class PlaybookSourceViewSet(BaseViewSet):
    """Sources of playbooks; for administrators alone."""

    queryset = (
        PlaybookSource.objects.select_related("released")
        .defer("released__archive")
        .prefetch_related("teams")
    )
    serializer_class = serializers.SourceSerializer
    filterset_fields = {"name": ["exact"], "kind": ["exact"], "enabled": ["exact"]}
    search_fields = ["name", "location"]
    ordering_fields = ["name", "read_at"]
    ordering = ["name"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "read": permissions.CHANGE,
        "withdraw": permissions.CHANGE,
    }

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        playbook_sources.require_manager(_user(request))
        return super().create(request, *args, **kwargs)

    def perform_destroy(self, instance: Any) -> None:
        playbook_sources.refuse_deletion(PlaybookSource.objects.filter(pk=instance.pk))
        super().perform_destroy(instance)

    @extend_schema(request=None, responses={202: serializers.SourceSerializer}, filters=False)
    @action(detail=True, methods=["post"])
    def read(self, request: Request, pk: str) -> Response:
        """Have a worker read it; ``read_at`` and ``problem`` say how that went."""
        source = self.get_object()
        playbook_sources.ask(source, acting_user=_user(request))
        return Response(
            self.get_serializer(self.get_object()).data, status=status.HTTP_202_ACCEPTED
        )

    @extend_schema(
        request=serializers.WithdrawSerializer,
        responses=serializers.SourceSerializer,
        filters=False,
    )
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Offer none of its playbooks any more."""
        source = self.get_object()
        given = serializers.WithdrawSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        reason = given.validated_data["reason"]
        playbook_sources.withdraw(source, acting_user=_user(request), reason=reason)
        return Response(self.get_serializer(self.get_object()).data)


class SourceRevisionViewSet(ReadOnlyViewSet):
    """What was read from sources; for administrators alone."""

    queryset = SourceRevision.objects.select_related("source").defer("source__secret")
    serializer_class = serializers.RevisionSerializer
    pagination_class = NewestFirst
    filterset_fields = {"source": ["exact"], "revision": ["exact"], "digest": ["exact"]}
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {"release": permissions.CHANGE}

    def get_queryset(self) -> QuerySet[Any]:
        rows = super().get_queryset()
        return rows if self.action == "retrieve" else rows.defer("archive", "source__secret")

    def get_serializer_class(self) -> type[BaseSerializer[Any]]:
        if self.action == "retrieve":
            return serializers.RevisionDetailSerializer
        return super().get_serializer_class()

    def get_object(self) -> Any:
        revision = super().get_object()
        if self.action == "retrieve":
            revision.changes = playbook_sources.changes(revision)
        return revision

    @extend_schema(
        request=serializers.ReleaseSerializer,
        responses=serializers.RevisionSerializer,
        filters=False,
    )
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """Offer what it declares."""
        revision = self.get_object()
        given = serializers.ReleaseSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        playbook_sources.release(revision, acting_user=_user(request), **given.validated_data)
        return Response(self.get_serializer(self.get_object()).data)


class PlaybookViewSet(ReadOnlyViewSet):
    """The playbooks that were released, for the kind RunPlaybook."""

    queryset = SitePlaybook.objects.select_related("source__released").defer(
        "source__secret", "source__released__archive"
    )
    serializer_class = serializers.PlaybookSerializer
    filterset_fields = {"source__name": ["exact"], "name": ["exact"], "is_offered": ["exact"]}
    search_fields = ["name", "title", "description"]
    ordering = ["source__name", "name"]
    lookup_value_regex = r"\d+"


def _user(request: Request) -> User:
    return cast(User, request.user)
