"""By what lists of clusters, nodes and grants can be narrowed; pages use the same conditions."""

from django.db.models import QuerySet
from django_filters import rest_framework as filters

from beidou.base.api.filters import FilterSet
from clusters.models import Cluster, ClusterGrant, Node
from clusters.services.listing import with_label, with_role


class ClusterFilter(FilterSet):
    label = filters.CharFilter(method="filter_label", label="`key=value`, or `key` with any value.")

    class Meta:
        model = Cluster
        fields = {
            "name": ["exact", "in", "startswith"],
            "environment": ["exact", "in"],
            "region": ["exact"],
            "health": ["exact", "in"],
            "phase": ["exact", "in"],
            "type": ["exact"],
            "team": ["exact"],
            "version": ["exact", "startswith"],
        }

    def filter_label(self, queryset: QuerySet[Cluster], name: str, value: str) -> QuerySet[Cluster]:
        return with_label(queryset, value)


class NodeFilter(FilterSet):
    label = filters.CharFilter(method="filter_label", label="`key=value`, or `key` with any value.")
    role = filters.CharFilter(
        method="filter_role", label="A role such as `control-plane`; `none` for plain workers."
    )
    address = filters.CharFilter(method="filter_address", label="Internal address, whole.")

    class Meta:
        model = Node
        fields = {
            "cluster": ["exact", "in"],
            "cluster__name": ["exact"],
            "name": ["exact", "in", "startswith"],
            "is_ready": ["exact"],
            "unschedulable": ["exact"],
            "kubelet_version": ["exact"],
            "system_uuid": ["exact"],
        }

    def filter_label(self, queryset: QuerySet[Node], name: str, value: str) -> QuerySet[Node]:
        return with_label(queryset, value)

    def filter_role(self, queryset: QuerySet[Node], name: str, value: str) -> QuerySet[Node]:
        return with_role(queryset, value)

    def filter_address(self, queryset: QuerySet[Node], name: str, value: str) -> QuerySet[Node]:
        return queryset.filter(internal_ip=value)


class GrantFilter(FilterSet):
    class Meta:
        model = ClusterGrant
        fields = {
            "team": ["exact"],
            "team__name": ["exact"],
            "cluster": ["exact"],
            "role": ["exact"],
            "label": ["exact"],
        }
