"""Filters of lists that take a row's key from the address."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from beidou.base import permissions
from beidou.base.numbers import as_key


class VisibleRowFilter(AutocompleteSelectFilter):
    """A choice among many rows; Unfold's alone asks for any key, and shows the row's name."""

    is_unknown = False

    def __init__(
        self, field: Any, request: HttpRequest, params: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(field, request, params, *args, **kwargs)
        if self.value():
            rows = field.remote_field.model._default_manager.all()
            visible = permissions.visible_to(request.user, rows)
            self.is_unknown = not visible.filter(pk=as_key(self.value())).exists()

    def value(self) -> Any:
        return None if self.is_unknown else super().value()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        return queryset.none() if self.is_unknown else super().queryset(request, queryset)
