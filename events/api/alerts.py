"""Alert rules, what they would have told, and what they found, over HTTP."""

from typing import Any, ClassVar

from django.db.models import Count, Q
from drf_spectacular.utils import extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions
from beidou.base.api.pages import NewestFirst
from beidou.base.api.viewsets import BaseViewSet, ReadOnlyViewSet
from events.api import alert_serializers as serializers
from events.models import AlertRule, EventAlert
from events.services import alert_preview, alert_rules


class AlertRuleViewSet(BaseViewSet):
    """Alert rules on events; each sees what its owner may see."""

    queryset = AlertRule.objects.annotate(
        number_firing=Count("alerts", filter=Q(alerts__ended_at=None))
    ).order_by("name")
    serializer_class = serializers.AlertRuleSerializer
    filterset_fields = {
        "name": ["exact", "in"],
        "owner": ["exact"],
        "severity": ["exact", "in"],
        "enabled": ["exact"],
    }
    search_fields = ["name", "search"]
    ordering_fields = ["name", "created_at", "looked_at"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "preview": permissions.VIEW,
        "try_out": permissions.VIEW,
        "take_over": permissions.CHANGE,
    }

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        # Before the body is read: whoever may add nothing learns nothing from it.
        alert_rules.require_may_add(request.user)
        return super().create(request, *args, **kwargs)

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        """Its owner may have lost the right to write rules; deleting them needs none."""
        alert_rules.require_may_add(self.request.user)
        super().perform_update(serializer)

    @extend_schema(responses=serializers.AlertPreviewSerializer, filters=False)
    @action(detail=True, pagination_class=None)
    def preview(self, request: Request, pk: str) -> Response:
        """What this rule would have told in the last 7 days, as you may see it."""
        found = alert_preview.preview(self.get_object(), request.user)
        return Response(serializers.AlertPreviewSerializer(found).data)

    @extend_schema(
        request=serializers.UnsavedRuleSerializer,
        responses=serializers.AlertPreviewSerializer,
        filters=False,
    )
    @action(detail=False, methods=["post"], url_path="preview", pagination_class=None)
    def try_out(self, request: Request) -> Response:
        """The same for a rule that is not saved."""
        alert_rules.require_may_add(request.user)
        serializer = serializers.UnsavedRuleSerializer(
            data=request.data, context=self.get_serializer_context()
        )
        serializer.is_valid(raise_exception=True)
        found = alert_preview.preview(AlertRule(**serializer.validated_data), request.user)
        return Response(serializers.AlertPreviewSerializer(found).data)

    @extend_schema(
        request=serializers.NothingSerializer,
        responses=serializers.AlertRuleSerializer,
        filters=False,
    )
    @action(detail=True, methods=["post"])
    def take_over(self, request: Request, pk: str) -> Response:
        """Become its owner: from then on it sees what you may see."""
        rule = self.get_object()
        body = serializers.NothingSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        alert_rules.take_over(rule, acting_user=request.user)
        return Response(self.get_serializer(rule).data)


class EventAlertViewSet(ReadOnlyViewSet):
    """What alert rules found; newest first."""

    queryset = EventAlert.objects.select_related("rule", "cluster")
    serializer_class = serializers.EventAlertSerializer
    pagination_class = NewestFirst
    filterset_class = serializers.EventAlertFilter
    lookup_value_regex = r"\d+"
