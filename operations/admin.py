"""The pages of operations: the list, the live page, and the settings per cluster."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.decorators import action

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ReadOnlyAdmin
from beidou.base.context import note_refusal
from beidou.base.models import User
from beidou.base.numbers import as_key
from beidou.base.page_head import parts
from clusters.admin.columns import name_of
from clusters.admin.node import NodeAdmin
from clusters.models import Cluster, Node
from machines.admin.machine import MachineAdmin
from machines.models import Machine
from operations import live_page
from operations.calendar_forms import FreezeForm, MaintenanceWindowForm
from operations.durations import is_interrupted, spoken
from operations.flows import admin as flow_admin  # noqa: F401  registers its pages
from operations.flows.library import admin as library_admin  # noqa: F401  likewise
from operations.flows.schedules import admin as schedule_admin  # noqa: F401  likewise
from operations.forms import ClusterSettingsForm
from operations.kinds import base as kinds
from operations.models import ClusterSettings, Freeze, MaintenanceWindow, Operation, TeamLimit
from operations.outside import admin as outside_admin  # noqa: F401  likewise
from operations.playbooks import admin as playbooks_admin  # noqa: F401  likewise
from operations.services import calendars, cluster_settings, listing


class KindFilter(admin.SimpleListFilter):
    title = _("kind")
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, kind.title) for name, kind in kinds.KINDS.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


class ClusterFilter(admin.SimpleListFilter):
    """The clusters one may see."""

    title = _("cluster")
    parameter_name = "cluster"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = permissions.visible_to(request.user, Cluster.objects.order_by("name"))
        return [(str(key), name) for key, name in rows.values_list("pk", "name")[:500]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        key = as_key(self.value() or "")
        return queryset if key is None else queryset.filter(cluster_id=key)


class StatusFilter(admin.SimpleListFilter):
    title = _("status")
    parameter_name = "status"
    _GROUPS = {"active": Operation.ACTIVE, "ended_badly": Operation.ENDED_BADLY}

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("active", _("Not ended yet")),
            ("ended_badly", _("Ended badly")),
            *Operation.Status.choices,
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(status__in=self._GROUPS.get(value, frozenset({value})))


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    """The list; one operation is shown live by ``change_view``."""

    list_display = [
        "named",
        "state",
        "kind_title",
        "cluster_link",
        "progress",
        "requested_by_name",
        "asked",
        "duration",
        "waiting_for",
    ]
    list_display_links = ["named"]
    list_filter = [
        StatusFilter,
        KindFilter,
        ClusterFilter,
        ("created_at", RangeDateTimeFilter),
    ]
    search_fields = ["name", "reason", "requested_by_name", "machines__address"]
    search_help_text = _("Name, reason, who asked, address of a machine")
    ordering = ["-id"]
    list_per_page = 50
    actions_list = ["start_operation"]

    class Media:
        css = {"all": ["operations/operations.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return listing.with_times(listing.with_counts(super().get_queryset(request)))

    def empty_list(self, request: HttpRequest) -> EmptyList:
        if not self.has_start_permission(request):
            return EmptyList(
                _(
                    "No operation yet. You see those of the clusters on which your teams have a "
                    "role."
                )
            )
        return EmptyList(
            _(
                "No operation yet. One brings machines into a cluster or takes them out, step by "
                "step. Adopt a cluster, register machines, then start one."
            ),
            reverse("operations:start"),
            _("Start an operation"),
        )

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The live page; changes happen by the API's verbs alone."""
        operation: Any = self.get_object(request, object_id)
        if operation is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if request.method == "POST":
            note_refusal(operation)
            raise PermissionDenied
        return TemplateResponse(
            request,
            "admin/operations/operation/live.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": operation.name,
                "operation": operation,
                "original": operation,
                "media": self.media,
                "parts": parts.of(operation, request.user),
                **live_page.context(request, operation),
            },
        )

    @action(description=_("Start an operation"), icon="play_arrow", permissions=["start"])
    def start_operation(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("operations:start"))

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return permissions.may_anywhere(request.user, Cluster, permissions.OPERATE)

    @admin.display(description=_("name"), ordering="id")
    def named(self, operation: Operation) -> str:
        return operation.name

    @admin.display(description=_("status"), ordering="status")
    def state(self, operation: Operation) -> SafeString:
        return display.state_badge(operation, title=operation.message)

    @admin.display(description=_("kind"), ordering="kind")
    def kind_title(self, operation: Operation) -> Any:
        kind = kinds.KINDS.get(operation.kind)
        return kind.title if kind else operation.kind

    @admin.display(description=_("cluster"), ordering="cluster__name")
    def cluster_link(self, operation: Operation) -> SafeString:
        url = reverse("admin:clusters_cluster_change", args=[operation.cluster_id])
        mark = display.insecure_badge() if operation.cluster.insecure_tls else ""
        name = operation.cluster.name
        return format_html('<a href="{}" class="op-link">{}</a> {}', url, name, mark)

    @admin.display(description=_("machines"))
    def progress(self, operation: Any) -> SafeString:
        failed = (
            format_html(
                ' <span class="bd-tone-bad">{}</span>',
                _("%(count)d failed") % {"count": operation.machines_failed},
            )
            if operation.machines_failed
            else ""
        )
        return format_html(
            '<span class="bd-number">{} / {}</span>{}',
            operation.machines_succeeded,
            operation.machines_total,
            failed,
        )

    @admin.display(description=_("asked"), ordering="created_at")
    def asked(self, operation: Operation) -> SafeString:
        return display.ago(operation.created_at)

    @admin.display(description=_("duration"))
    def duration(self, operation: Any) -> str:
        """How long it was worked on; the whole span too, where it lay failed or paused."""
        if operation.started_at is None:
            return display.NOTHING
        took: timedelta = (operation.finished_at or timezone.now()) - operation.started_at
        span, worked = took.total_seconds(), (operation.worked or timedelta(0)).total_seconds()
        if not is_interrupted(worked, span):
            return spoken(span)
        return format_html(
            '<span title="{}">{}</span>',
            _("%(span)s from start to end") % {"span": spoken(span)},
            spoken(worked),
        )


@admin.register(ClusterSettings)
class ClusterSettingsAdmin(ObjectPermissionAdmin):
    """Where machines of a cluster install from, how they are reached, and what they must be."""

    form: Any = ClusterSettingsForm
    list_display = ["cluster_column", "artifact_source", "credential", "limit"]
    list_select_related = ["cluster", "credential"]
    search_fields = ["cluster__name", "artifact_source"]
    fieldsets = [
        (None, {"fields": ["cluster", "artifact_source", "credential", "limit", "time_zone"]}),
        (_("Advanced"), {"fields": ["policy", "overrides"]}),
        (_("Why"), {"fields": ["change_reason"]}),
    ]

    @admin.display(description=_("cluster"), ordering="cluster__name")
    def cluster_column(self, settings: ClusterSettings) -> str:
        return name_of(settings.cluster)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, Cluster, permissions.CHANGE)

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("Every cluster uses the defaults. Here one gets its own artifact source or policy.")
        )

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("ClusterSettingsForm", (form,), {"acting_user": request.user})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["cluster"] if obj else []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """By the service, which checks again and writes the audit entry."""
        row = cluster_settings.save_settings(
            cluster=obj.cluster,
            values={name: getattr(obj, name) for name in cluster_settings.FIELDS},
            acting_user=request.user,  # type: ignore[arg-type]
            reason=form.cleaned_data.get("change_reason", ""),
        )
        obj.pk = row.pk


@admin.register(TeamLimit)
class TeamLimitAdmin(ObjectPermissionAdmin):
    """For administrators: which teams may run more, or less, than others."""

    list_display = ["team", "limit"]
    list_select_related = ["team"]
    search_fields = ["team__name"]
    fields = ["team", "limit"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["team"] if obj else []

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Whoever may change one: what a team may use is not for teams to say."""
        return self.has_change_permission(request)

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("Of every team %(limit)d operations run at once. Here one gets its own number.")
            % {"limit": settings.OPERATIONS_PER_TEAM},
            reverse("admin:operations_teamlimit_add"),
            _("Add a limit"),
        )


class _CalendarAdmin(ObjectPermissionAdmin):
    """Edited by owners of the cluster, and stored by the service; the cluster stays as it is."""

    list_filter = [ClusterFilter]
    list_select_related = ["cluster"]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"acting_user": request.user})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, Cluster, permissions.CHANGE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        reason = form.cleaned_data.get("change_reason", "")
        calendars.store(obj, acting_user=cast("User", request.user), reason=reason)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        calendars.remove(obj, acting_user=cast("User", request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            calendars.remove(row, acting_user=cast("User", request.user))


@admin.register(MaintenanceWindow)
class MaintenanceWindowAdmin(_CalendarAdmin):
    """When a cluster may be changed."""

    form: Any = MaintenanceWindowForm
    list_display = ["cluster_column", "days", "begins", "lasts", "zone", "comment"]
    list_display_links = ["cluster_column"]
    list_select_related = ["cluster__operation_settings"]
    search_fields = ["cluster__name", "comment"]
    fields = ["cluster", "weekdays", "start", "minutes", "comment"]

    @admin.display(description=_("cluster"), ordering="cluster__name")
    def cluster_column(self, window: MaintenanceWindow) -> str:
        return name_of(window.cluster)

    @admin.display(description=_("weekdays"))
    def days(self, window: MaintenanceWindow) -> str:
        return ", ".join(str(MaintenanceWindow.Weekday(day).label) for day in window.weekdays)

    @admin.display(description=_("begins"), ordering="start")
    def begins(self, window: MaintenanceWindow) -> str:
        return f"{window.start:%H:%M}"

    @admin.display(description=_("lasts"), ordering="minutes")
    def lasts(self, window: MaintenanceWindow) -> str:
        return spoken(window.minutes * 60)

    @admin.display(description=_("time zone"))
    def zone(self, window: MaintenanceWindow) -> str:
        found = getattr(window.cluster, "operation_settings", None)
        return calendars.zone_of(found.time_zone if found else "").key

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["cluster"] if obj else []

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _(
            "No maintenance window: operations may change every cluster at any time. A cluster "
            "that has windows is changed within them alone."
        )
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:operations_maintenancewindow_add"), _("Add a window"))


@admin.register(Freeze)
class FreezeAdmin(_CalendarAdmin):
    """When clusters may not be changed."""

    form: Any = FreezeForm
    list_display = ["target_column", "now", "begins_at", "ends_at", "reason"]
    list_display_links = ["target_column"]
    search_fields = ["cluster__name", "label", "reason"]

    @admin.display(description=_("of"))
    def target_column(self, freeze: Freeze) -> str:
        return name_of(freeze.cluster) if freeze.cluster else freeze.target

    @admin.display(description=_("now"))
    def now(self, freeze: Freeze) -> SafeString:
        moment = timezone.now()
        if freeze.ends_at is not None and freeze.ends_at <= moment:
            return display.badge(_("over"))
        if freeze.begins_at > moment:
            return display.badge(_("to come"), display.BUSY)
        return display.badge(_("holds"), display.WARNING, icon="ac_unit")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        sees_labels = request.user.is_superuser
        fields = ["cluster", *(["label"] if sees_labels else []), "begins_at", "ends_at", "reason"]
        return [(None, {"fields": fields}), (_("Why"), {"fields": ["change_reason"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["cluster", "label"] if obj else []

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No freeze. While one holds, no change of its clusters begins.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:operations_freeze_add"), _("Add a freeze"))


CHOSEN_MAX = 500


def _to_start(request: HttpRequest, kind: str, machines: Sequence[Machine]) -> HttpResponse | None:
    """To the start form with these machines filled in; nothing is done here."""
    if len(machines) > CHOSEN_MAX:
        messages.error(
            request, _("Choose at most %(max)d machines for one operation.") % {"max": CHOSEN_MAX}
        )
        return None
    query = {"kind": kind, "machines": ",".join(str(each.address) for each in machines)}
    clusters = {each.cluster_id for each in machines}
    if len(clusters) == 1 and (cluster := clusters.pop()) is not None:
        query["cluster"] = str(cluster)
    return HttpResponseRedirect(f"{reverse('operations:start')}?{urlencode(query)}")


def _to_start_task(template: str) -> Any:
    """The list action that leads to the form of a one-click task with the chosen machines."""

    def chosen(
        model_admin: Any, request: HttpRequest, queryset: QuerySet[Machine]
    ) -> HttpResponse | None:
        machines, _left_out = model_admin.for_action(request, queryset, permissions.OPERATE)
        if len(machines) > CHOSEN_MAX:
            messages.error(
                request,
                _("Choose at most %(max)d machines for one operation.") % {"max": CHOSEN_MAX},
            )
            return None
        field = "replaced" if template == "ReplaceMachine" else "machines"
        query = {"template": template, field: ",".join(str(m.address) for m in machines)}
        clusters = {each.cluster_id for each in machines}
        if len(clusters) == 1 and (cluster := clusters.pop()) is not None:
            query["cluster"] = str(cluster)
        return HttpResponseRedirect(f"{reverse('operations:start_task')}?{urlencode(query)}")

    chosen.__name__ = f"start_task_{template.lower()}"
    title = {
        "ScaleUp": _("Scale up, the whole way…"),
        "ScaleDown": _("Scale down, the whole way…"),
        "ReplaceMachine": _("Replace by others…"),
    }
    return admin.action(chosen, description=title[template], permissions=["operate"])


def _start_chosen(name: str, kind: str, description: Any) -> Any:
    """The list action ``name``: the start form of ``kind`` with the chosen machines."""

    def chosen(
        model_admin: Any, request: HttpRequest, queryset: QuerySet[Machine]
    ) -> HttpResponse | None:
        machines, _left_out = model_admin.for_action(request, queryset, permissions.OPERATE)
        return _to_start(request, kind, machines)

    chosen.__name__ = name
    return admin.action(chosen, description=description, permissions=["operate"])


@admin.action(description=_("Scale down…"), permissions=["operate"])
def scale_down_nodes(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Node]
) -> HttpResponse | None:
    """By the machines that are these nodes."""
    nodes, _left_out = model_admin.for_action(request, queryset, permissions.OPERATE)
    machines = list(Machine.objects.filter(node__in=[node.pk for node in nodes]).order_by("pk"))
    if len(machines) < len(nodes):
        messages.error(
            request,
            _("%(count)d of the chosen nodes are registered as no machine; register them first.")
            % {"count": len(nodes) - len(machines)},
        )
        return None
    return _to_start(request, "ScaleDown", machines)


@admin.action(description=_("Check health…"), permissions=["operate"])
def check_health_of_nodes(
    model_admin: Any, request: HttpRequest, queryset: QuerySet[Node]
) -> HttpResponse | None:
    """By the machines that are these nodes; the others are left out, and named."""
    nodes, _left_out = model_admin.for_action(request, queryset, permissions.OPERATE)
    machines = list(Machine.objects.filter(node__in=[node.pk for node in nodes]).order_by("pk"))
    known = {machine.node_id for machine in machines}
    if unknown := [node.name for node in nodes if node.pk not in known]:
        messages.warning(
            request,
            _("Registered as no machine and left out: %(names)s.") % {"names": ", ".join(unknown)},
        )
    return _to_start(request, "HealthCheck", machines) if machines else None


# The lists of machines and nodes belong to the apps below, which do not know this one.
MachineAdmin.actions = (  # type: ignore[assignment]
    _start_chosen("scale_up_chosen", "ScaleUp", _("Scale up…")),
    _start_chosen("scale_down_chosen", "ScaleDown", _("Scale down…")),
    _start_chosen("check_health_chosen", "HealthCheck", _("Check health…")),
    _start_chosen("run_playbook_chosen", "RunPlaybook", _("Run a playbook…")),
    _to_start_task("ScaleUp"),
    _to_start_task("ScaleDown"),
    _to_start_task("ReplaceMachine"),
    *MachineAdmin.actions,
)
NodeAdmin.actions = (  # type: ignore[assignment]
    *NodeAdmin.actions,
    scale_down_nodes,
    check_health_of_nodes,
)
