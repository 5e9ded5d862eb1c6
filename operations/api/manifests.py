"""``POST /api/v1/manifests/``: the article's custom resources, as they are."""

from typing import Any, ClassVar

from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.parsers import BaseParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.viewsets import ViewSet

from beidou.base.errors import InvalidInput
from operations.api.serializers import ManifestResultSerializer
from operations.services import manifests

_VIEWS = {"Operation": "operation-detail", "AutoOperationTask": "auto-operation-task-detail"}


class ManifestParser(BaseParser):
    """YAML, whatever it is called; JSON is YAML too."""

    media_type = "*/*"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        body = stream.read(4 * manifests.SIZE_MAX + 1)
        try:
            return {"manifest": body.decode("utf-8")}
        except UnicodeDecodeError:
            raise InvalidInput(_("A manifest is text in UTF-8."), code="not_yaml") from None


class ManifestViewSet(ViewSet):
    """Applies manifests, all of them or none; the same one twice changes nothing."""

    permission_classes = [IsAuthenticated]
    parser_classes = [ManifestParser]
    rights: ClassVar[dict[str, str]] = {}

    @extend_schema(
        request={"application/yaml": OpenApiTypes.STR, "application/json": OpenApiTypes.OBJECT},
        responses={
            200: ManifestResultSerializer(many=True),
            202: ManifestResultSerializer(many=True),
        },
    )
    def create(self, request: Request) -> Response:
        """202 when something was begun, 200 when all of it was there already."""
        text = request.data.get("manifest", "") if isinstance(request.data, dict) else ""
        documents = manifests.parse(text)
        applied = manifests.apply(documents, acting_user=request.user)  # type: ignore[arg-type]
        rows = [
            {
                "kind": each.kind,
                "name": each.row.name,
                "created": each.is_new,
                "url": reverse(_VIEWS[each.kind], args=[each.row.pk], request=request),
            }
            for each in applied
        ]
        is_new = any(each.is_new for each in applied)
        return Response(
            ManifestResultSerializer(rows, many=True).data,
            status=status.HTTP_202_ACCEPTED if is_new else status.HTTP_200_OK,
            headers={"Location": str(rows[0]["url"])},
        )
