"""By what lists of machines and drift can be narrowed."""

from typing import Any

from django import forms
from django.db.models import QuerySet
from django_filters import rest_framework as filters
from rest_framework.filters import SearchFilter
from rest_framework.request import Request

from beidou.base.api.filters import FilterSet, Ordering
from machines.models import Drift, Machine


class AnyName(SearchFilter):
    """``search``: any address, hostname, serial, asset tag, rack or node name begins with it."""

    search_description = "Begins with: any address, hostname, serial, asset tag, rack, node name."

    def filter_queryset(
        self, request: Request, queryset: QuerySet[Any], view: Any
    ) -> QuerySet[Any]:
        text = " ".join(self.get_search_terms(request))
        return queryset.search(text) if text else queryset  # type: ignore[attr-defined]


class ByAddress(Ordering):
    """``address`` means its value: 10.0.0.9 comes before 10.0.0.10."""

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: Any) -> Any:
        terms = super().get_ordering(request, queryset, view)
        keys = {"address": "address_key", "-address": "-address_key"}
        return [keys.get(term, term) for term in terms or ()]


class AddressFilter(filters.Filter):
    """Refuses what is no address: PostgreSQL would fail to compare it."""

    field_class = forms.GenericIPAddressField


class AddressesFilter(filters.BaseInFilter, AddressFilter):
    """Several addresses with commas between them."""


class MachineFilter(FilterSet):
    address = AddressFilter(unpack_ipv4=True)
    address__in = AddressesFilter(field_name="address", lookup_expr="in")
    free = filters.BooleanFilter(method="only_free", label="Discovered or available.")
    drifting = filters.BooleanFilter(method="only_drifting", label="With any drift.")
    host_key_changed = filters.BooleanFilter(
        field_name="offered_host_key", method="only_changed_key", label="Blocked by its host key."
    )

    class Meta:
        model = Machine
        fields = {
            "hostname": ["exact", "in"],
            "serial": ["exact", "in"],
            "state": ["exact", "in"],
            "cluster": ["exact", "in", "isnull"],
            "owner_team": ["exact", "isnull"],
            "credential": ["exact", "isnull"],
            "room": ["exact"],
            "rack": ["exact", "in"],
            "role": ["exact"],
        }

    def only_free(self, queryset: QuerySet[Machine], name: str, value: bool) -> QuerySet[Machine]:
        return _narrowed(queryset, value, state__in=Machine.FREE)

    def only_drifting(
        self, queryset: QuerySet[Machine], name: str, value: bool
    ) -> QuerySet[Machine]:
        return _narrowed(queryset, value, pk__in=Drift.objects.values("machine"))

    def only_changed_key(
        self, queryset: QuerySet[Machine], name: str, value: bool
    ) -> QuerySet[Machine]:
        return _narrowed(queryset, value, offered_host_key__gt="")


def _narrowed(queryset: QuerySet[Machine], value: bool, **condition: Any) -> QuerySet[Machine]:
    return queryset.filter(**condition) if value else queryset.exclude(**condition)


class DriftFilter(FilterSet):
    class Meta:
        model = Drift
        fields = {
            "machine": ["exact", "in"],
            "machine__cluster": ["exact"],
            "field": ["exact", "in"],
            "verdict": ["exact"],
        }
