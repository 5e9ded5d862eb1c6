"""Filters of lists that take a row's key from the address."""

from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.http import HttpRequest
from unfold.contrib.filters.admin import AutocompleteSelectFilter

from beidou.base import permissions
from beidou.base.numbers import as_key


class VisibleRowFilter(AutocompleteSelectFilter):
    """A choice among many rows; Unfold's alone asks for any key, and shows the row's name."""

    def __init__(
        self, field: Any, request: HttpRequest, params: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(field, request, params, *args, **kwargs)
        if self.value():
            rows = field.remote_field.model._default_manager.all()
            visible = permissions.visible_to(request.user, rows)
            if not visible.filter(pk=as_key(self.value())).exists():
                raise IncorrectLookupParameters
