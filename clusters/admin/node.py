"""The pages of nodes: list with cordon and uncordon, and one node."""

from typing import Any, cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import action
from unfold.decorators import display as column

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ReadOnlyAdmin, confirm_action
from beidou.base.admin.filters import VisibleRowFilter
from beidou.base.errors import BeidouError
from beidou.base.models import User
from beidou.base.page_head import lines
from clusters.admin import tabs
from clusters.admin.columns import UsageColumns, health_badge, is_list
from clusters.admin.forms import CordonForm
from clusters.models import Cluster, Node
from clusters.services import listing, nodes


class RoleFilter(admin.SimpleListFilter):
    title = gettext_lazy("role")
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("control-plane", gettext_lazy("control plane")),
            ("none", gettext_lazy("without a role (workers)")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return listing.with_role(queryset, value) if value else queryset


@admin.register(Node)
class NodeAdmin(UsageColumns, ReadOnlyAdmin):
    marks_cluster = True
    list_display = (
        "name",
        "cluster_column",
        "state",
        "internal_ip",
        "roles_column",
        "cpu",
        "memory",
        "pods",
        "kubelet_version",
        "as_of",
    )
    list_filter = (
        "is_ready",
        "unschedulable",
        ("cluster", VisibleRowFilter),
        RoleFilter,
    )
    search_fields = ("name", "internal_ip", "system_uuid", "cluster__name")
    ordering = ("cluster__name", "name")
    list_per_page = 50
    actions = ("cordon", "uncordon")
    change_form_template = "admin/clusters/node/change_form.html"

    class Media:
        css = {"all": ["clusters/clusters.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if is_list(request):
            return listing.slim_nodes(rows)
        return rows.select_related("cluster", "machine")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        if request.user.has_perm("clusters.add_cluster"):
            return EmptyList(
                _("Nodes appear here by themselves once a cluster is adopted."),
                reverse("admin:clusters_cluster_add"),
                _("Adopt a cluster"),
            )
        return EmptyList(_("You see the nodes of the clusters on which your teams have a role."))

    @column(description=gettext_lazy("Cluster"), ordering="cluster__name")
    def cluster_column(self, node: Node) -> SafeString:
        url = reverse("admin:clusters_cluster_change", args=[node.cluster_id])
        mark = display.insecure_badge() if node.cluster.insecure_tls else ""
        return format_html('<a href="{}">{}</a> {}', url, node.cluster.name, mark)

    @column(description=gettext_lazy("State"), ordering="is_ready")
    def state(self, node: Node) -> SafeString:
        return node_state(node)

    @column(description=gettext_lazy("Roles"))
    def roles_column(self, node: Node) -> SafeString:
        """A role breaks at no hyphen of its name, a list of them between two."""
        roles = [(role,) for role in node.roles or [_("worker")]]
        return format_html_join(", ", '<span class="bd-whole">{}</span>', roles)

    @column(description=gettext_lazy("As of"), ordering="cluster__observed_at")
    def as_of(self, node: Node) -> SafeString:
        return display.ago(node.cluster.observed_at)

    # --- one node ---------------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = dict(extra_context or {})
        node: Any = self.get_object(request, object_id)
        if node is not None and self.has_view_permission(request, node):
            context |= tabs.node_context(node)
            context |= {
                "node": node,
                "machine": getattr(node, "machine", None),
                "state": node_state(node),
                "health": health_badge(node.cluster),
                "may_operate": permissions.may(request.user, node, permissions.OPERATE),
                "lines": lines.of(node, request.user),
            }
        response: HttpResponse = super().change_view(request, object_id, form_url, context)
        return response

    # --- cordon and uncordon ----------------------------------------------------------------------

    @action(description=gettext_lazy("Cordon"), permissions=["operate"])
    def cordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        return self._set_cordoned(request, queryset, cordoned=True)

    @action(description=gettext_lazy("Uncordon"), permissions=["operate"])
    def uncordon(self, request: HttpRequest, queryset: QuerySet[Node]) -> HttpResponse | None:
        return self._set_cordoned(request, queryset, cordoned=False)

    def _set_cordoned(
        self, request: HttpRequest, queryset: QuerySet[Node], *, cordoned: bool
    ) -> HttpResponse | None:
        rows, left_out = self.for_action(request, queryset, permissions.OPERATE)
        if not rows:
            messages.error(request, _("You may not operate any of the chosen nodes."))
            return None
        held = _held(rows)
        form = CordonForm(
            request.POST if request.POST.get("post") == "yes" else None,
            may_break_glass=any(
                permissions.may(request.user, cluster, permissions.APPROVE) for cluster in held
            ),
        )
        if form.is_valid():
            self._carry_out(request, rows, cordoned=cordoned, **form.cleaned_data)
            return None
        return confirm_action(
            self,
            request,
            title=_("Cordon nodes") if cordoned else _("Uncordon nodes"),
            action="cordon" if cordoned else "uncordon",
            plan=[*_plan(rows, left_out, cordoned=cordoned), *held.values()],
            objects=list(rows),
            form=form,
            button=_("Cordon") if cordoned else _("Uncordon"),
            dangerous=cordoned,
        )

    def _carry_out(
        self, request: HttpRequest, rows: list[Node], *, cordoned: bool, **given: Any
    ) -> None:
        user, done = cast("User", request.user), 0
        for node in rows:
            try:
                nodes.set_cordoned(node=node, cordoned=cordoned, acting_user=user, **given)
                done += 1
            except BeidouError as error:
                messages.error(request, f"{node.name}: {error.message}")
        if done:
            text = (
                ngettext("%(count)d node is cordoned.", "%(count)d nodes are cordoned.", done)
                if cordoned
                else ngettext("%(count)d node is open.", "%(count)d nodes are open.", done)
            )
            messages.success(request, text % {"count": done})


def node_state(node: Node) -> SafeString:
    """Ready or not, and cordoned or not."""
    ready = (
        display.badge(_("Ready"), display.GOOD)
        if node.is_ready
        else display.badge(_("Not ready"), display.BAD, title=node.not_ready_reason)
    )
    if not node.unschedulable:
        return ready
    return display.badges(ready, display.badge(_("Cordoned"), display.WARNING, icon="block"))


def _held(rows: list[Node]) -> dict[Cluster, str]:
    """Of the nodes' clusters those in which changes have to wait now, and a sentence on each."""
    clusters = sorted({node.cluster for node in rows}, key=lambda cluster: cluster.name)
    holds = {cluster: nodes.hold_of(cluster) for cluster in clusters}
    return {
        cluster: nodes.held_sentence(cluster, hold)
        for cluster, hold in holds.items()
        if hold is not None
    }


def _plan(rows: list[Node], left_out: int, *, cordoned: bool) -> list[str]:
    already = sum(node.unschedulable == cordoned for node in rows)
    plan = [
        _("New pods are no longer placed on these nodes; running ones stay.")
        if cordoned
        else _("New pods may be placed on these nodes again.")
    ]
    if already:
        plan.append(
            ngettext(
                "%(count)d of them is so already.", "%(count)d of them are so already.", already
            )
            % {"count": already}
        )
    if left_out:
        plan.append(
            ngettext(
                "%(count)d chosen node is left out: you may not operate it.",
                "%(count)d chosen nodes are left out: you may not operate them.",
                left_out,
            )
            % {"count": left_out}
        )
    return plan
