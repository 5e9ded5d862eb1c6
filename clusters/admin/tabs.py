"""The tabs of a cluster's page; each reads only what it shows."""

from collections.abc import Callable
from itertools import chain
from typing import Any

from django.http import HttpRequest
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from beidou.base import permissions, telling, verbs
from beidou.base.models import AuditEntry
from beidou.base.state import StatusChange
from clusters.models import Cluster, NamespaceUsage, Node
from clusters.services import capabilities, grants

ROWS_AT_MOST = 200
RECENT = 5

Context = dict[str, Any]


def overview(cluster: Cluster, request: HttpRequest) -> Context:
    bad = [item for item in cluster.components if item["healthy"] is False]
    return {
        "bad_components": bad,
        "not_ready": list(cluster.nodes.filter(is_ready=False).order_by("name")[:RECENT]),
        "cordoned": cluster.nodes.filter(unschedulable=True).count(),
        "operations": _operations(cluster)[:RECENT],
        "roles": _roles(cluster),
    }


def _roles(cluster: Cluster) -> list[tuple[str, int]]:
    """How many nodes have which role; those without any are workers."""
    counted: dict[str, int] = {}
    for roles in cluster.nodes.values_list("roles", flat=True):
        for role in roles or ["worker"]:
            counted[role] = counted.get(role, 0) + 1
    return sorted(counted.items())


def nodes(cluster: Cluster, request: HttpRequest) -> Context:
    rows = cluster.nodes.select_related("machine").order_by("name")
    return {"nodes": list(rows[:ROWS_AT_MOST]), "rows_at_most": ROWS_AT_MOST}


def components(cluster: Cluster, request: HttpRequest) -> Context:
    usage: dict[str, list[int]] = {}
    for row in NamespaceUsage.objects.filter(cluster=cluster).iterator():
        sums = usage.setdefault(row.namespace, [0, 0, 0])
        for index, value in enumerate((row.pods, row.cpu_requested, row.memory_requested)):
            sums[index] += value
    busiest = sorted(usage.items(), key=lambda item: -item[1][2])[:ROWS_AT_MOST]
    return {"namespaces": busiest}


def machines(cluster: Cluster, request: HttpRequest) -> Context:
    """Machines are an app above this one, known by the name of the relation alone."""
    rows = cluster.machines.select_related("node").order_by("address")
    return {"machines": list(rows[:ROWS_AT_MOST])}


def operations(cluster: Cluster, request: HttpRequest) -> Context:
    return {"operations": _operations(cluster)[:ROWS_AT_MOST]}


def _operations(cluster: Cluster) -> Any:
    return cluster.operations.order_by("-pk").defer("params")


def access(cluster: Cluster, request: HttpRequest) -> Context:
    granted = grants.grants_of(cluster)
    rows = capabilities.shown(cluster.capabilities)
    may_change = permissions.may(request.user, cluster, permissions.CHANGE)
    return {
        "grants": granted,
        "report": rows,
        "report_good": sum(row["ok"] for row in capabilities.present(rows)),
        "report_all": len(capabilities.present(rows)),
        "may_change": may_change,
        "may_grant": may_change or request.user.has_perm("clusters.add_clustergrant"),
        "may_operate": permissions.may(request.user, cluster, permissions.OPERATE),
    }


def history(cluster: Cluster, request: HttpRequest) -> Context:
    """Changes of health and phase, of fields, and what people did, in one order."""
    health = cluster.health_changes.order_by("-at", "-id")[:ROWS_AT_MOST]
    phases = cluster.status_changes.order_by("-at", "-id")[:ROWS_AT_MOST]
    entries = permissions.visible_to(
        request.user, AuditEntry.objects.filter(cluster_id=cluster.pk).order_by("-id")
    )[:ROWS_AT_MOST]
    healths: dict[str, Any] = dict(Cluster.Health.choices)
    lines = chain(
        (_state_line(row, _("Health"), lambda state: healths.get(state, state)) for row in health),
        (_state_line(row, _("Phase"), cluster.state_label) for row in phases),
        telling.lines_of(entries, user=request.user),
        _field_changes(cluster),
    )
    newest = sorted(lines, key=lambda line: line.at, reverse=True)
    return {"timeline": newest[:ROWS_AT_MOST]}


def _state_line(row: StatusChange, what: Promise, label: Callable[[str], Any]) -> telling.Line:
    return telling.Line(
        at=row.at,
        what=str(what),
        actor=verbs.actor(row.actor),
        change=f"{label(row.old) or '–'} → {label(row.new)}",
        reason=row.reason,
    )


def _field_changes(cluster: Cluster) -> list[telling.Line]:
    versions = list(cluster.history.select_related("history_user")[: RECENT * 10])
    lines = []
    for newer, older in zip(versions, versions[1:], strict=False):
        changes = newer.diff_against(older, foreign_keys_are_objs=True).changes
        if changes:
            line = telling.Line(
                at=newer.history_date,
                what=gettext("Changed"),
                actor=str(newer.history_user or "–"),
                change="; ".join(_field_change(change) for change in changes),
                reason=newer.history_change_reason or "",
            )
            lines.append(line)
    return lines


def _field_change(change: Any) -> str:
    field: Any = Cluster._meta.get_field(change.field)
    words: dict[Any, Any] = dict(getattr(field, "flatchoices", ()))
    old, new = (words.get(str(value), value) or "–" for value in (change.old, change.new))
    return f"{field.verbose_name}: {old} → {new}"


TABS: dict[str, tuple[Promise, Callable[[Cluster, HttpRequest], Context]]] = {
    "overview": (_("Overview"), overview),
    "nodes": (_("Nodes"), nodes),
    "components": (_("Components"), components),
    "machines": (_("Machines"), machines),
    "operations": (_("Operations"), operations),
    "access": (_("Access"), access),
    "history": (_("History"), history),
}
SETTINGS = "settings"


def context_of(cluster: Cluster, request: HttpRequest, *, may_change: bool) -> Context:
    """What the template needs: which tabs there are, which is open, and its contents."""
    wanted = request.GET.get("tab", "overview")
    tabs = [(key, label) for key, (label, _build) in TABS.items()]
    if may_change:
        tabs.append((SETTINGS, _("Settings")))
    known = {key for key, _label in tabs}
    current = wanted if wanted in known else "overview"
    shown: Context = {"tabs": tabs, "tab": current}
    if current != SETTINGS:
        shown |= TABS[current][1](cluster, request)
        shown["tab_template"] = f"admin/clusters/cluster/tabs/{current}.html"
    return shown


def node_context(node: Node) -> Context:
    """The pods of one node by namespace, and its conditions with real times."""
    conditions = [
        {**item, "changed_at": parse_datetime(item.get("changed_at") or "")}
        for item in node.conditions
    ]
    usage = NamespaceUsage.objects.filter(cluster_id=node.cluster_id, node=node.name)
    rows = list(usage.order_by("-pods", "namespace")[:ROWS_AT_MOST])
    return {"usage": rows, "conditions": conditions}
