"""Rules, receivers, messages and notices over the API."""

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from beidou.base import permissions
from beidou.base.api.pages import NewestFirst
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from beidou.base.models import Notice
from notifications.api import serializers
from notifications.models import Delivery, NotificationRule, Receiver
from notifications.services import belonging, rules, sending


class _OfTeams(BaseViewSet):
    """What owners of clusters write for their teams."""

    lookup_value_regex = r"\d+"

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        # Before the body is read: whoever may add nothing learns no keys from it.
        belonging.require_may_add(request.user)
        return super().create(request, *args, **kwargs)


class NotificationRuleViewSet(_OfTeams):
    """Notification rules: which news are told to which receivers."""

    queryset = NotificationRule.objects.select_related("team").prefetch_related(
        "clusters", "receivers"
    )
    serializer_class = serializers.RuleSerializer
    filterset_fields = {
        "name": ["exact", "in"],
        "team": ["exact", "isnull"],
        "enabled": ["exact"],
    }
    search_fields = ["name"]
    ordering_fields = ["name", "created_at"]
    ordering = ["name"]
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "preview": permissions.VIEW,
    }

    @extend_schema(responses=serializers.PreviewSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def preview(self, request: Request, pk: str) -> Response:
        """What this rule would have told within the last 24 hours."""
        found = rules.preview(self.get_object())
        return Response(serializers.PreviewSerializer(found).data)


class ReceiverViewSet(_OfTeams):
    """Receivers of notifications; secrets are write-only."""

    queryset = Receiver.objects.select_related("team")
    serializer_class = serializers.ReceiverSerializer
    filterset_fields = {
        "name": ["exact", "in"],
        "team": ["exact", "isnull"],
        "channel": ["exact", "in"],
        "enabled": ["exact"],
    }
    search_fields = ["name"]
    ordering_fields = ["name", "created_at", "tested_at"]
    ordering = ["name"]
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "test": permissions.CHANGE,
    }

    @extend_schema(request=None, responses=serializers.DeliverySerializer, filters=False)
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a test message now; its status says how that went."""
        delivery = sending.send_test(receiver=self.get_object(), acting_user=request.user)
        context = self.get_serializer_context()
        return Response(serializers.DeliverySerializer(delivery, context=context).data)


class DeliveryViewSet(ReadOnlyViewSet):
    """Messages that were sent, wait to be sent, or were given up; newest first."""

    queryset = Delivery.objects.select_related("receiver").defer(
        "receiver__secret", "receiver__service_url"
    )
    serializer_class = serializers.DeliverySerializer
    pagination_class = NewestFirst
    filterset_fields = {
        "receiver": ["exact"],
        "status": ["exact", "in"],
        "severity": ["exact", "in"],
        "is_test": ["exact"],
        "created_at": ["gte", "lte"],
    }
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {"again": permissions.CHANGE}

    @extend_schema(request=None, responses=serializers.DeliverySerializer, filters=False)
    @action(detail=True, methods=["post"])
    def again(self, request: Request, pk: str) -> Response:
        """Send an ended message again."""
        delivery = self.get_object()
        sending.send_again(delivery=delivery, acting_user=request.user)
        return Response(self.get_serializer(delivery).data)


class NoticeViewSet(ReadOnlyViewSet):
    """What happened that rules may tell of; newest first."""

    queryset = Notice.objects.all()
    serializer_class = serializers.NoticeSerializer
    pagination_class = NewestFirst
    filterset_fields = {
        "kind": ["exact", "in"],
        "severity": ["exact", "in"],
        "cluster_id": ["exact"],
        "at": ["gte", "lte"],
    }
    lookup_value_regex = r"\d+"
