"""Columns that lists of clusters and nodes share."""

from django.db import models
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column

from beidou.base import display
from clusters.models import Cluster, Node


def health_badge(cluster: Cluster) -> SafeString:
    """Health with its reason on hover, and the red word for clusters without verified TLS."""
    if not cluster.is_watched:
        return display.state_badge(cluster)
    shown = display.state_badge(cluster, "health", title=cluster.health_reason)
    if not cluster.insecure_tls:
        return shown
    return display.badges(shown, display.insecure_badge())


def name_of(cluster: Cluster | None) -> str:
    """The cluster's name, marked in red when its TLS is not verified."""
    if cluster is None:
        return display.NOTHING
    if not cluster.insecure_tls:
        return cluster.name
    return format_html("{} {}", cluster.name, display.insecure_badge())


def is_list(request: HttpRequest) -> bool:
    """Whether the request is for a list page, which shows less of more rows."""
    match = request.resolver_match
    return bool(match and (match.url_name or "").endswith("_changelist"))


class UsageColumns:
    """CPU, memory and pods requested of allocatable, as bars; for clusters and nodes alike."""

    def _stale(self, obj: models.Model) -> bool:
        cluster = obj if isinstance(obj, Cluster) else getattr(obj, "cluster", None)
        return bool(cluster and cluster.is_stale)

    @column(description=gettext_lazy("CPU"), ordering="cpu_requested")
    def cpu(self, obj: Cluster | Node) -> SafeString:
        return display.usage_bar(
            obj.cpu_requested, obj.cpu_allocatable, "cpu", label=_("CPU"), stale=self._stale(obj)
        )

    @column(description=gettext_lazy("Memory"), ordering="memory_requested")
    def memory(self, obj: Cluster | Node) -> SafeString:
        return display.usage_bar(
            obj.memory_requested,
            obj.memory_allocatable,
            "bytes",
            label=_("Memory"),
            stale=self._stale(obj),
        )

    @column(description=gettext_lazy("Pods"), ordering="pods_count")
    def pods(self, obj: Cluster | Node) -> SafeString:
        return display.usage_bar(
            obj.pods_count, obj.pods_allocatable, label=_("Pods"), stale=self._stale(obj)
        )
