"""What the event centre shows: the rows at once, the figures about them as they are counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from beidou.base import display
from beidou.base.permissions import visible_to
from clusters.models import Node
from events.admin.address import Address
from events.drivers import patience
from events.services import asked, flow, retention, search
from events.services.search import Cursor, FoundEvent, Query, Scope

ROWS = 100
VALUES = 10
HEIGHT = 100
FILTERS: dict[str, str | Promise] = {
    "cluster": _("Cluster"),
    "namespace": _("Namespace"),
    "kind": _("Kind of object"),
    "reason": _("Reason"),
    "type": _("Type"),
    "node": _("Node"),
    "component": _("Component"),
    "name": _("Object"),
}
RANGES: dict[str, str | Promise] = {
    "1h": _("Last hour"),
    "24h": _("Last 24 hours"),
    "7d": _("Last 7 days"),
    "30d": _("Last 30 days"),
}


@dataclass(frozen=True)
class Choice:
    """Something that a click chooses, or takes back."""

    label: str | Promise
    url: str
    is_chosen: bool = False
    count: int = 0


@dataclass(frozen=True)
class Bar:
    """A part of the histogram; heights are in ``HEIGHT``ths of the highest bar."""

    bucket: search.Bucket
    x: int
    warnings: int
    others: int
    url: str

    @property
    def total(self) -> int:
        return self.bucket.warnings + self.bucket.others

    @property
    def warnings_y(self) -> int:
        return HEIGHT - self.warnings

    @property
    def others_y(self) -> int:
        return HEIGHT - self.warnings - self.others


# --- the page -------------------------------------------------------------------------------------


def times(query: Query | None, given: QueryDict) -> dict[str, Any]:
    """The choices of time, and what stands in the two fields."""
    address = Address(given)
    is_own = bool(given.get("since") or given.get("until"))
    chosen = "" if is_own else given.get("range") or asked.DEFAULT_RANGE
    ranges = [
        Choice(label, address.ranged(name), is_chosen=name == chosen)
        for name, label in RANGES.items()
    ]
    fields = {"since": given.get("since", ""), "until": given.get("until", "")}
    if query is not None:
        for name, value in (("since", query.since), ("until", query.until)):
            if fields[name]:
                fields[name] = f"{timezone.localtime(value):%Y-%m-%dT%H:%M:%S}"
    return {
        "ranges": ranges,
        **fields,
        "during": given.get(asked.DURING) == "1",
        "carried": list(address.fields(but=("q", "since", "until", asked.DURING))),
    }


def rows(user: Any, query: Query, given: QueryDict) -> dict[str, Any]:
    """One page of events, with the way on."""
    cursor = given.get("cursor", "")
    after = Cursor.parse(cursor) if cursor else None
    found = search.page(user, query, after=after, limit=ROWS)
    scope = search.scope_of(user)
    address = Address(given)
    kept, otherwise = retention.kept(user, query.clusters)
    return {
        "found": found,
        "rows": each_row(found.rows, visible_to(user, Node.objects.all()), scope),
        "is_limited": not scope.clusters and bool(scope.limited),
        "newest": str(address) if after else "",
        "older": address.after(found.next) if found.next else "",
        "without_filters": address.without_filters() if _is_narrowed(given) else "",
        "longest": address.ranged("30d"),
        "kept": kept,
        "kept_otherwise": otherwise,
        "flow": flow.look(user, query.clusters),
        "named_at_most": flow.NAMED_AT_MOST,
    }


def each_row(
    events: Sequence[FoundEvent], nodes: QuerySet[Node], scope: Scope
) -> list[dict[str, Any]]:
    """What ``row.html`` shows of each; nodes that are not among ``nodes`` are not linked, and no
    cluster of which only namespaces are seen."""
    pages = _pages_of_nodes(nodes, events)
    return [
        {
            "event": event,
            "badge": type_badge(event.type),
            "node_page": pages.get((event.cluster_id, event.node), ""),
            "has_cluster_page": event.cluster_id in scope.clusters,
        }
        for event in events
    ]


def chosen(user: Any, query: Query, given: QueryDict) -> list[tuple[str | Promise, Choice]]:
    """The filters that are on, each with the way to take it back."""
    address = Address(given)
    names = _names_of_clusters(user, query.clusters)
    found = []
    for field, label in FILTERS.items():
        for value in asked.values(given, field):
            shown = names.get(value, value) if field == "cluster" else value
            found.append((label, Choice(shown, address.toggled(field, value), is_chosen=True)))
    return found


def _is_narrowed(given: QueryDict) -> bool:
    return any(given.get(name) for name in ("q", *FILTERS))


def _pages_of_nodes(
    nodes: QuerySet[Node], events: Sequence[FoundEvent]
) -> dict[tuple[int, str], str]:
    named = {(event.cluster_id, event.node) for event in events if event.node}
    nodes = nodes.filter(
        cluster__in={cluster for cluster, _name in named},
        name__in={name for _cluster, name in named},
    )
    return {
        (cluster, name): reverse("admin:clusters_node_change", args=[pk])
        for cluster, name, pk in nodes.order_by().values_list("cluster_id", "name", "pk")
    }


def _names_of_clusters(user: Any, keys: Any) -> dict[str, str]:
    if not keys:
        return {}
    known = search.scope_of(user).known
    return {str(key): known[int(key)].name for key in keys if int(key) in known}


# --- the figures ----------------------------------------------------------------------------------


def figures(user: Any, query: Query, given: QueryDict) -> dict[str, Any]:
    """The histogram and the commonest values of each filter: nine questions, in the time of one."""
    with patience.of(patience.READ_SECONDS):
        return _figures(user, query, given)


def _figures(user: Any, query: Query, given: QueryDict) -> dict[str, Any]:
    address = Address(given)
    buckets = search.histogram(user, query)
    warnings = sum(bucket.warnings for bucket in buckets)
    total = warnings + sum(bucket.others for bucket in buckets)
    return {
        "bars": _bars(buckets, address),
        "width": 10 * len(buckets),
        "height": HEIGHT,
        "total": total,
        "warnings": warnings,
        "since": query.since,
        "until": query.until,
        "filters": [
            (label, _values(user, query, field, given, address)) for field, label in FILTERS.items()
        ],
    }


def _bars(buckets: list[search.Bucket], address: Address) -> list[Bar]:
    highest = max((each.warnings + each.others for each in buckets), default=0) or 1
    bars = []
    for number, bucket in enumerate(buckets):
        warnings, others = (_height(part, highest) for part in (bucket.warnings, bucket.others))
        url = address.zoomed(bucket.since, bucket.until)
        bars.append(Bar(bucket, 10 * number, warnings, min(others, HEIGHT - warnings), url))
    return bars


def _height(count: int, highest: int) -> int:
    """Whatever there is can be seen."""
    return max(2, round(HEIGHT * count / highest)) if count else 0


def _values(
    user: Any, query: Query, field: str, given: QueryDict, address: Address
) -> list[Choice]:
    counted = [
        (str(value), count) for value, count in search.counts(user, query, field, most=VALUES)
    ]
    names = {value: value for value, _count in counted}
    if field == "cluster":  # one that was un-adopted has no name; its events are on their way out
        names = _names_of_clusters(user, list(names))
    on = asked.values(given, field)
    return [
        Choice(names[value], address.toggled(field, value), is_chosen=value in on, count=count)
        for value, count in counted
        if value in names
    ]


def export_name(kind: str) -> str:
    return f"events-{timezone.localtime():%Y%m%d-%H%M%S}.{kind}"


def type_badge(kind: str) -> SafeString:
    if kind == search.WARNING:
        return display.badge(kind, display.WARNING)
    return display.badge(kind, display.NEUTRAL, icon="info")
