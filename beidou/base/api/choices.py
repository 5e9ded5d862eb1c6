"""Choosing a related row by its key without telling which other keys exist."""

from collections.abc import Callable
from typing import Any

from django.db.models import Q, QuerySet
from rest_framework import serializers


class ChosenField(serializers.PrimaryKeyRelatedField[Any]):
    """A row among those that ``among`` gives the person, or the one that is chosen at present; any
    other key is answered as one that does not exist."""

    def __init__(self, *, among: Callable[[Any], QuerySet[Any]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._among = among

    def get_queryset(self) -> QuerySet[Any]:
        rows = self._among(self.context["request"].user)
        parent: Any = self.parent
        present = getattr(parent.instance, f"{self.source}_id", None)
        chosen = Q(pk__in=rows.values("pk")) | Q(pk=present)
        found: QuerySet[Any] = rows.model._default_manager.filter(chosen)
        return found
