"""Filters by key that do not tell which keys exist."""

from typing import Any, Final

from django import forms
from django.db import models
from django_filters import rest_framework as filters

KEY_MAX: Final = 2**63 - 1


class KeyFilter(filters.Filter):
    """Rows that lead to this key.  django-filter's own filter looks the key up among all rows, so
    that its answer would tell of rows that one may not see."""

    field_class = forms.IntegerField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"min_value": 1, "max_value": KEY_MAX, **kwargs})


class FilterSet(filters.FilterSet):
    """The base of all sets of filters."""

    FILTER_DEFAULTS = {
        **filters.FilterSet.FILTER_DEFAULTS,
        models.ForeignKey: {"filter_class": KeyFilter},
        models.OneToOneField: {"filter_class": KeyFilter},
    }


class Backend(filters.DjangoFilterBackend):
    """For viewsets that name fields instead of a class."""

    filterset_base = FilterSet
