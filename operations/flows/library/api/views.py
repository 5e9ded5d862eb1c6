"""Templates over HTTP: those that there are, their versions, and new ones."""

from typing import Any, ClassVar, cast

from django.http import Http404
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from beidou.base.errors import InvalidInput
from beidou.base.models import User
from beidou.base.numbers import as_key
from operations.api.serializers import ReasonSerializer
from operations.flows import catalog
from operations.flows.catalog import Template
from operations.flows.library import content as contents
from operations.flows.library import finding, saving
from operations.flows.library import steps as step_types
from operations.flows.library.api import serializers
from operations.flows.library.models import TaskTemplate

_VERSION = OpenApiParameter("version", OpenApiTypes.INT, description="Left out: the newest.")
_ONES = [
    OpenApiParameter("from", OpenApiTypes.INT, required=True),
    OpenApiParameter("to", OpenApiTypes.INT, required=True),
]


class TemplateViewSet(viewsets.ViewSet):
    """Templates of one-click tasks: ready-made ones and those of the site."""

    permission_classes = [IsAuthenticated]
    rights: ClassVar[dict[str, str]] = {}
    lookup_value_regex = r"[A-Za-z0-9-]+"

    @extend_schema(responses=serializers.TemplateSerializer(many=True))
    def list(self, request: Request) -> Response:
        """What tasks can begin with; CreateCluster begins by an address of its own."""
        made = [each for each in catalog.TEMPLATES.values() if each.makes_cluster]
        rows = sorted([*finding.offered(), *made], key=lambda each: each.name)
        return Response(
            serializers.TemplateSerializer(rows, many=True, context={"request": request}).data
        )

    @extend_schema(responses=serializers.TemplateDetailSerializer, parameters=[_VERSION])
    def retrieve(self, request: Request, pk: str = "") -> Response:
        """One with its content, also one that was withdrawn."""
        return self._told(request, _find(pk, _number(request, "version")))

    @extend_schema(
        request=serializers.NewTemplateSerializer,
        responses={201: serializers.TemplateDetailSerializer},
    )
    def create(self, request: Request) -> Response:
        """A new template with its first version."""
        saving.require_writer(request.user)
        wish = _validated(serializers.NewTemplateSerializer, request)
        row = saving.create(
            name=wish["name"],
            content=contents.read(_raw(wish)),
            comment=wish["comment"],
            acting_user=_user(request),
        )
        return self._told(request, _find(row.name), status.HTTP_201_CREATED)

    @extend_schema(methods=["get"], responses=serializers.VersionSerializer(many=True))
    @extend_schema(
        methods=["post"],
        request=serializers.NewVersionSerializer,
        responses={201: serializers.TemplateDetailSerializer},
    )
    @action(detail=True, methods=["get", "post"])
    def versions(self, request: Request, pk: str = "") -> Response:
        """All versions, newest first; POST saves a new one."""
        if request.method != "POST":
            rows = _own(pk).versions.order_by("-number")
            return Response(serializers.VersionSerializer(rows, many=True).data)
        saving.require_writer(request.user)
        row = _own(pk)
        wish = _validated(serializers.NewVersionSerializer, request)
        saving.save_version(
            row,
            content=contents.read(_raw(wish)),
            base=wish["base"],
            comment=wish["comment"],
            acting_user=_user(request),
        )
        return self._told(request, _find(row.name), status.HTTP_201_CREATED)

    @extend_schema(responses=serializers.DifferenceSerializer(many=True), parameters=_ONES)
    @action(detail=True, methods=["get"])
    def difference(self, request: Request, pk: str = "") -> Response:
        """What differs between two versions, as lines of their YAML."""
        row = _own(pk)
        old, new = (
            finding.version_of(row, _number(request, name, required=True)).content
            for name in ("from", "to")
        )
        lines = [{"sign": sign, "text": text} for sign, text in contents.difference(old, new)]
        return Response(serializers.DifferenceSerializer(lines, many=True).data)

    @extend_schema(request=serializers.WishSerializer, responses=serializers.ContentSerializer)
    @action(detail=False, methods=["post"])
    def validate(self, request: Request) -> Response:
        """Whether this could be saved (as ``name``): 200 with both spellings of it, or 400 that
        names every mistake at its place.  Nothing is stored."""
        wish = _validated(serializers.WishSerializer, request)
        content = contents.read(_raw(wish))
        saving.check(content, wish["name"])
        stored = contents.stored(content)
        return Response({"content": stored, "yaml": contents.as_yaml(stored)})

    @extend_schema(responses=serializers.StepTypeSerializer(many=True))
    @action(detail=False, methods=["get"])
    def steps(self, request: Request) -> Response:
        """What a step can be, with the schema of its parameters."""
        return Response(serializers.StepTypeSerializer(step_types.names(), many=True).data)

    @extend_schema(request=ReasonSerializer, responses=serializers.TemplateDetailSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str = "") -> Response:
        """Let no further task begin with it."""
        return self._offer(request, pk, is_offered=False)

    @extend_schema(request=ReasonSerializer, responses=serializers.TemplateDetailSerializer)
    @action(detail=True, methods=["post"])
    def offer(self, request: Request, pk: str = "") -> Response:
        """Let tasks begin with it again."""
        return self._offer(request, pk, is_offered=True)

    def _offer(self, request: Request, name: str, *, is_offered: bool) -> Response:
        saving.require_writer(request.user)
        row = _own(name)
        wish = _validated(ReasonSerializer, request)
        saving.offer(row, is_offered=is_offered, acting_user=_user(request), reason=wish["reason"])
        return self._told(request, _find(name))

    def _told(
        self, request: Request, template: Template, code: int = status.HTTP_200_OK
    ) -> Response:
        data = serializers.TemplateDetailSerializer(template, context={"request": request}).data
        return Response(data, status=code)


def _find(name: str, version: int | None = None) -> Template:
    if name in catalog.TEMPLATES:
        return finding.ready_made(name, version)
    return finding.of(finding.version_of(_own(name), version))


def _own(name: str) -> TaskTemplate:
    """Of the site: ready-made ones have no versions here and are not written."""
    if name in catalog.TEMPLATES:
        raise InvalidInput(
            _("“%(name)s” is ready-made: copy it under another name.") % {"name": name},
            code="ready_made",
        )
    row = TaskTemplate.objects.filter(name=name).first()
    if row is None:
        raise Http404
    return row


def _number(request: Request, name: str, *, required: bool = False) -> int | None:
    text = request.query_params.get(name, "")
    if not text and not required:
        return None
    if (number := as_key(text)) is None:
        sentence = _("Give the number of a version.")
        raise InvalidInput(f"{name}: {sentence}", code="invalid", fields={name: sentence})
    return number


def _validated(serializer: Any, request: Request) -> dict[str, Any]:
    wish = serializer(data=request.data)
    wish.is_valid(raise_exception=True)
    return dict(wish.validated_data)


def _raw(wish: dict[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = wish.get("content") or {}
    return contents.from_yaml(wish["yaml"]) if "yaml" in wish else raw


def _user(request: Request) -> User:
    """The signed-in user; the permission class lets nobody else through."""
    return cast(User, request.user)
