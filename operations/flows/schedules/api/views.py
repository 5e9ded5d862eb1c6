"""Schedules over HTTP."""

from datetime import datetime
from typing import Any, ClassVar, cast

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from beidou.base import permissions
from beidou.base.api.choices import ChosenField
from beidou.base.api.viewsets import BaseViewSet
from beidou.base.models import User
from clusters.models import Cluster
from operations.api.serializers import ReasonSerializer
from operations.flows.schedules import storing
from operations.flows.schedules.models import TaskSchedule


def _operated(user: Any) -> QuerySet[Cluster]:
    return permissions.visible_to(user, Cluster.objects.all(), permissions.OPERATE)


class ScheduleSerializer(serializers.ModelSerializer[TaskSchedule]):
    """``message`` says why the last time was passed over, or why it was switched off."""

    url = serializers.HyperlinkedIdentityField(view_name="taskschedule-detail")
    display = serializers.CharField(source="__str__", read_only=True)
    cluster = ChosenField(queryset=Cluster.objects.all(), among=_operated)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    params = serializers.DictField(required=False)
    message = serializers.CharField(read_only=True)
    upcoming = serializers.SerializerMethodField()

    class Meta:
        model = TaskSchedule
        fields = [
            "id",
            "url",
            "display",
            "name",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "template",
            "template_version",
            "machines",
            "params",
            "cron",
            "every_minutes",
            "time_zone",
            "batch_size",
            "batch_pause",
            "max_failed_percent",
            "priority",
            "reason",
            "enabled",
            "owner_name",
            "next_at",
            "upcoming",
            "last_at",
            "last_task",
            "message",
            "created_at",
        ]
        read_only_fields = [
            "template_version",
            "owner_name",
            "next_at",
            "last_at",
            "last_task",
            "created_at",
        ]

    def get_upcoming(self, row: TaskSchedule) -> list[datetime]:
        """The next five times, as far as nothing puts them off."""
        return list(storing.upcoming(row))


class ScheduleViewSet(BaseViewSet):
    """Schedules of tasks; whoever saves one is its owner, with whose rights its tasks begin."""

    queryset = TaskSchedule.objects.select_related("cluster", "last_task").order_by("name")
    serializer_class = ScheduleSerializer
    filterset_fields = {"cluster": ["exact", "in"], "enabled": ["exact"], "template": ["exact"]}
    search_fields = ["name", "template", "owner_name"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {
        "create": permissions.VIEW,
        "update": permissions.OPERATE,
        "partial_update": permissions.OPERATE,
        "destroy": permissions.OPERATE,
        "enable": permissions.OPERATE,
        "disable": permissions.OPERATE,
    }

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        row = TaskSchedule(**serializer.validated_data)
        storing.store(row, acting_user=self._user)
        serializer.instance = row

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        row: Any = serializer.instance
        if "cluster" in serializer.validated_data:
            wanted = serializer.validated_data["cluster"]
            permissions.require(self._user, wanted, permissions.OPERATE)
        for name, value in serializer.validated_data.items():
            setattr(row, name, value)
        storing.store(row, acting_user=self._user)

    def perform_destroy(self, instance: Any) -> None:
        storing.remove(instance, acting_user=self._user)

    @extend_schema(request=ReasonSerializer, responses=ScheduleSerializer, filters=False)
    @action(detail=True, methods=["post"])
    def enable(self, request: Request, pk: str) -> Response:
        """Switch it on; its times are counted from now."""
        return self._switch(request, enabled=True)

    @extend_schema(request=ReasonSerializer, responses=ScheduleSerializer, filters=False)
    @action(detail=True, methods=["post"])
    def disable(self, request: Request, pk: str) -> Response:
        """Begin nothing more; what has begun goes on."""
        return self._switch(request, enabled=False)

    def _switch(self, request: Request, *, enabled: bool) -> Response:
        row = self.get_object()
        wish = ReasonSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        reason = wish.validated_data["reason"]
        storing.switch(row, enabled=enabled, acting_user=self._user, reason=reason)
        return Response(self.get_serializer(self.get_object()).data)

    @property
    def _user(self) -> User:
        """The permission class lets nobody else through."""
        return cast(User, self.request.user)
