"""The list of tasks; one task is shown live."""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ReadOnlyAdmin
from beidou.base.context import note_refusal
from beidou.base.numbers import as_key
from clusters.models import Cluster
from operations.durations import spoken
from operations.flows import catalog, listing, page
from operations.flows.models import AutoOperationTask


class TaskStatusFilter(admin.SimpleListFilter):
    title = _("status")
    parameter_name = "status"
    _GROUPS = {
        "active": AutoOperationTask.ACTIVE,
        "ended_badly": AutoOperationTask.ENDED_BADLY,
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("active", _("Not ended yet")),
            ("ended_badly", _("Ended badly")),
            *AutoOperationTask.Status.choices,
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        if not value:
            return queryset
        return queryset.filter(status__in=self._GROUPS.get(value, frozenset({value})))


class TaskClusterFilter(admin.SimpleListFilter):
    """The clusters one may see."""

    title = _("cluster")
    parameter_name = "cluster"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = permissions.visible_to(request.user, Cluster.objects.order_by("name"))
        return [(str(key), name) for key, name in rows.values_list("pk", "name")[:500]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        key = as_key(self.value() or "")
        return queryset if key is None else queryset.filter(cluster_id=key)


@admin.register(AutoOperationTask)
class AutoOperationTaskAdmin(ReadOnlyAdmin):
    list_display = [
        "named",
        "state",
        "template_title",
        "cluster_link",
        "progress",
        "machines_column",
        "requested_by_name",
        "asked",
        "duration",
        "waiting_for",
    ]
    list_display_links = ["named"]
    list_filter = [TaskStatusFilter, TaskClusterFilter]
    search_fields = ["name", "reason", "requested_by_name", "machines__address"]
    search_help_text = _("Name, reason, who asked, address of a machine")
    ordering = ["-id"]
    list_per_page = 50
    actions_list = ["start_task"]

    class Media:
        css = {"all": ["operations/operations.css"]}

    def empty_list(self, request: HttpRequest) -> EmptyList:
        if not self.has_start_permission(request):
            return EmptyList(
                _("No task yet. You see those of the clusters on which your teams have a role.")
            )
        return EmptyList(
            _("No task yet. One takes machines the whole way: checks, approvals, operations."),
            reverse("operations:start_task"),
            _("Start a task"),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return listing.with_counts(super().get_queryset(request))

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The live page; changes happen by the API's verbs alone."""
        task: Any = self.get_object(request, object_id)
        if task is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if request.method == "POST":
            note_refusal(task)
            raise PermissionDenied
        return TemplateResponse(
            request,
            "admin/operations/autooperationtask/live.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "title": task.name,
                "task": task,
                "original": task,
                "media": self.media,
                **page.context(request, task),
            },
        )

    @action(description=_("Start a task"), icon="play_arrow", permissions=["start"])
    def start_task(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("operations:start_task"))

    def has_start_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return permissions.may_anywhere(request.user, Cluster, permissions.OPERATE)

    @admin.display(description=_("name"), ordering="id")
    def named(self, task: AutoOperationTask) -> str:
        return task.name

    @admin.display(description=_("status"), ordering="status")
    def state(self, task: AutoOperationTask) -> SafeString:
        return display.state_badge(task, title=task.message)

    @admin.display(description=_("template"), ordering="template")
    def template_title(self, task: AutoOperationTask) -> Any:
        found = catalog.TEMPLATES.get(task.template)
        if found is not None:
            return found.title
        if task.template and task.template_version:
            return f"{task.template} · {task.template_version}"
        return task.template or display.NOTHING

    @admin.display(description=_("cluster"), ordering="cluster__name")
    def cluster_link(self, task: AutoOperationTask) -> SafeString:
        url = reverse("admin:clusters_cluster_change", args=[task.cluster_id])
        mark = display.insecure_badge() if task.cluster.insecure_tls else ""
        return format_html('<a href="{}" class="op-link">{}</a> {}', url, task.cluster.name, mark)

    @admin.display(description=_("steps"))
    def progress(self, task: Any) -> SafeString:
        return format_html(
            '<span class="bd-number">{} / {}</span>', task.steps_passed, task.steps_total
        )

    @admin.display(description=_("machines"))
    def machines_column(self, task: Any) -> SafeString:
        failed = (
            format_html(
                ' <span class="bd-tone-bad">{}</span>',
                _("%(count)d failed") % {"count": task.machines_failed},
            )
            if task.machines_failed
            else ""
        )
        return format_html('<span class="bd-number">{}</span>{}', task.machines_total, failed)

    @admin.display(description=_("asked"), ordering="created_at")
    def asked(self, task: AutoOperationTask) -> SafeString:
        return display.ago(task.created_at)

    @admin.display(description=_("duration"))
    def duration(self, task: AutoOperationTask) -> str:
        if task.started_at is None:
            return display.NOTHING
        took: timedelta = (task.finished_at or timezone.now()) - task.started_at
        return spoken(took.total_seconds())
