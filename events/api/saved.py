"""Saved searches over HTTP."""

from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.response import Response

from beidou.base import audit, permissions
from beidou.base.api.viewsets import BaseViewSet
from events.api import serializers
from events.models import SavedSearch
from events.services import searches


class SavedSearchViewSet(BaseViewSet):
    """Searches under a name: one's own, and those that others share."""

    queryset = SavedSearch.objects.select_related("owner").order_by("name", "id")
    serializer_class = serializers.SavedSearchSerializer
    filterset_fields = {
        "name": ["exact", "in"],
        "owner": ["exact"],
        "shared": ["exact"],
    }
    search_fields = ["name", "search"]
    ordering_fields = ["name", "created_at"]
    lookup_value_regex = r"\d+"
    rights: ClassVar[dict[str, str]] = {"create": permissions.VIEW}

    def create(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        searches.require_may_save(request.user)
        with audit.entries_last():  # what was checked holds until it is saved
            return super().create(request, *args, **kwargs)

    def update(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        with audit.entries_last():
            return super().update(request, *args, **kwargs)
