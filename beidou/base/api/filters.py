"""Filters by key that do not tell which keys exist, and by a moment that databases know; the order
of a list."""

from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext as _
from django_filters import rest_framework as filters
from django_filters.fields import IsoDateTimeField, ModelMultipleChoiceField
from rest_framework.filters import BaseFilterBackend, OrderingFilter

from beidou.base.errors import InvalidInput, shorten
from beidou.base.numbers import as_key

KEY_MAX: Final = 2**63 - 1


class KeyFilter(filters.Filter):
    """Rows that lead to this key.  django-filter's own filter looks the key up among all rows, so
    that its answer would tell of rows that one may not see."""

    field_class = forms.IntegerField

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"min_value": 1, "max_value": KEY_MAX, **kwargs})


class _KeysField(ModelMultipleChoiceField):
    def _check_values(self, value: Any) -> Any:
        for key in value:
            if key != self.null_value and as_key(key) is None:
                raise ValidationError(
                    self.error_messages["invalid_pk_value"],
                    code="invalid_pk_value",
                    params={"pk": key},
                )
        return super()._check_values(value)


class KeysFilter(filters.ModelMultipleChoiceFilter):
    """Rows that lead to one of these keys, whose names all who may filter see anyway."""

    field_class = _KeysField


class _MomentField(IsoDateTimeField):
    def to_python(self, value: Any) -> datetime | None:
        try:
            moment: datetime | None = super().to_python(value)
            if moment is not None:
                moment.astimezone(UTC)
        except OverflowError:  # SQLite compares in UTC, where this is before year 1
            raise ValidationError(self.error_messages["invalid"], code="invalid") from None
        return moment


class MomentFilter(filters.IsoDateTimeFilter):
    """A moment with date and time, as ISO 8601 writes it."""

    field_class = _MomentField


class FilterSet(filters.FilterSet):
    """The base of all sets of filters."""

    FILTER_DEFAULTS = {
        **filters.FilterSet.FILTER_DEFAULTS,
        models.ForeignKey: {"filter_class": KeyFilter},
        models.OneToOneField: {"filter_class": KeyFilter},
        models.ManyToManyField: {
            **filters.FilterSet.FILTER_DEFAULTS[models.ManyToManyField],
            "filter_class": KeysFilter,
        },
    }


class Backend(filters.DjangoFilterBackend):
    """For viewsets that name fields instead of a class."""

    filterset_base = FilterSet


class Ordering(OrderingFilter):
    """The order of a list: its own fields, and everywhere ``id``.

    What it does not know is refused; the framework would give the list in another order than was
    asked for."""

    def get_valid_fields(
        self, queryset: Any, view: Any, context: Any = None
    ) -> list[tuple[str, str]]:
        found = super().get_valid_fields(queryset, view, context)
        if getattr(view, "ordering_fields", None) is None:  # those of the serializer
            columns = {field.name for field in queryset.model._meta.concrete_fields}
            found = [each for each in found if each[0] in columns]
        known = [(str(name), str(label)) for name, label in found]
        return known if any(name == "id" for name, _label in known) else [*known, ("id", "id")]

    def remove_invalid_fields(
        self, queryset: Any, fields: Any, view: Any, request: Any
    ) -> list[str]:
        terms = [term for term in fields if term]
        names = [
            name for name, _label in self.get_valid_fields(queryset, view, {"request": request})
        ]
        for term in terms:
            if term.removeprefix("-") not in names:
                sentence = _("“%(name)s” is no order of this list; known are %(known)s.") % {
                    "name": shorten(term, 60),
                    "known": ", ".join(names),
                }
                raise InvalidInput(sentence, code="unknown_ordering", fields={"ordering": sentence})
        return terms


class OneOrder(BaseFilterBackend):
    """For lists that have one order: another that is asked for is refused, as everywhere."""

    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        if request.query_params.get("ordering"):
            sentence = _("This list has one order; it knows no other.")
            raise InvalidInput(sentence, code="unknown_ordering", fields={"ordering": sentence})
        return queryset
