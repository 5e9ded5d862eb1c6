"""Site systems over the API, and where they call back."""

from typing import Any, ClassVar

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from beidou.base import permissions
from beidou.base.api.choices import ChosenField
from beidou.base.api.viewsets import BaseViewSet
from beidou.base.errors import Forbidden
from clusters.models import Cluster
from operations.outside import requests, systems
from operations.outside.models import SiteSystem


def _own_clusters(user: Any) -> Any:
    return permissions.visible_to(user, Cluster.objects.all(), permissions.CHANGE)


class SiteSystemSerializer(serializers.ModelSerializer[SiteSystem]):
    """A system of the site; an empty secret keeps what is stored."""

    cluster = ChosenField(queryset=Cluster.objects.all(), among=_own_clusters)
    cluster_name = serializers.CharField(source="cluster.name", read_only=True)
    cluster_insecure_tls = serializers.BooleanField(source="cluster.insecure_tls", read_only=True)
    has_secret = serializers.SerializerMethodField()

    class Meta:
        model = SiteSystem
        fields = (
            "id",
            "cluster",
            "cluster_name",
            "cluster_insecure_tls",
            "purpose",
            "url",
            "secret",
            "has_secret",
            "created_at",
        )
        validators: ClassVar[list[Any]] = []  # the service says it in its own sentence
        extra_kwargs: ClassVar[dict[str, Any]] = {
            "secret": {
                "write_only": True,
                "required": False,
                "allow_blank": True,
                "max_length": 2000,
                "trim_whitespace": False,
                "style": {"input_type": "password"},
            },
        }

    def get_fields(self) -> Any:
        """What a system is for, and whose it is, stays."""
        fields = super().get_fields()
        if self.instance is not None and not getattr(self, "many", False):
            fields["cluster"].read_only = fields["purpose"].read_only = True
        return fields

    def get_has_secret(self, system: SiteSystem) -> bool:
        return bool(system.secret)

    def create(self, validated_data: dict[str, Any]) -> SiteSystem:
        return self._written(SiteSystem(), None, validated_data)

    def update(self, instance: SiteSystem, validated_data: dict[str, Any]) -> SiteSystem:
        return self._written(instance, SiteSystem.objects.get(pk=instance.pk), validated_data)

    def _written(
        self, system: SiteSystem, stored: SiteSystem | None, values: dict[str, Any]
    ) -> SiteSystem:
        secret = values.pop("secret", "")
        for name, value in values.items():
            setattr(system, name, value)
        system.secret = secret or system.secret
        systems.validate(system, self.context["request"].user, stored=stored)
        system.save()
        return system


class SiteSystemViewSet(BaseViewSet):
    """Systems of the site that take part in tasks; secrets are write-only."""

    queryset = SiteSystem.objects.select_related("cluster")
    serializer_class = SiteSystemSerializer
    filterset_fields: ClassVar[dict[str, list[str]]] = {
        "cluster": ["exact"],
        "purpose": ["exact", "in"],
    }
    search_fields = ["cluster__name", "url"]
    ordering_fields = ["purpose", "created_at"]
    ordering = ["id"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {"create": permissions.VIEW}

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        # Before the body is read: whoever may add nothing learns no keys from it.
        if not permissions.may_anywhere(request.user, Cluster, permissions.CHANGE):
            raise Forbidden(_("Your roles do not include changing a cluster."))
        return super().create(request, *args, **kwargs)


class TakenSerializer(serializers.Serializer[Any]):
    """``open``: machines about which nothing was said yet."""

    taken = serializers.BooleanField()
    open = serializers.ListField(child=serializers.CharField())


class CallbackView(APIView):
    """Where a system of the site answers what it was asked.

    Signed as the request was: ``Beidou-Timestamp`` (seconds since 1970) and ``Beidou-Signature``
    (``v1=`` and HMAC-SHA256 in hex with the shared secret over the timestamp, a dot and the body).
    """

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(
        request=OpenApiTypes.OBJECT,
        responses={200: TakenSerializer},
        auth=[],
        parameters=[
            OpenApiParameter("Beidou-Timestamp", str, OpenApiParameter.HEADER, required=True),
            OpenApiParameter("Beidou-Signature", str, OpenApiParameter.HEADER, required=True),
        ],
    )
    def post(self, request: Request, key: str) -> Response:
        """404: nothing was asked under this key; 403: not signed as it must be, or too long ago;
        409: taken before, answered otherwise before, or nobody waits for it any more."""
        taken = requests.take_callback(str(key), request.headers, request._request.body)
        if taken is None:
            raise Http404
        asked = [each["address"] for each in taken.data.get("machines", [])]
        left = [] if taken.ended_at else [each for each in asked if each not in taken.answer]
        return Response({"taken": True, "open": left})
