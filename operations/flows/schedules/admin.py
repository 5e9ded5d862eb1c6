"""The pages of schedules; checked by the service that stores them."""

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin
from beidou.base.errors import SAID
from beidou.base.models import User
from clusters.admin.columns import name_of
from clusters.models import Cluster
from operations.flows.forms import BATCHES_HELP
from operations.flows.library import finding
from operations.flows.schedules import storing
from operations.flows.schedules.models import TaskSchedule

if TYPE_CHECKING:
    _Form = forms.ModelForm[TaskSchedule]
else:
    _Form = forms.ModelForm


class ScheduleForm(_Form):
    """``acting_user`` is set by the admin."""

    acting_user: ClassVar[Any] = None
    template = forms.ChoiceField(
        widget=UnfoldAdminSelectWidget,
        help_text=gettext_lazy(
            "The version that is newest when the schedule is saved is begun each time."
        ),
    )

    class Meta:
        model = TaskSchedule
        fields = (
            "name", "cluster", "template", "machines", "params", "cron", "every_minutes",
            "time_zone", "batch_size", "batch_pause", "max_failed_percent", "priority", "reason",
            "enabled",
        )  # fmt: skip
        widgets: ClassVar[dict[str, Any]] = {
            "machines": UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
        }
        help_texts: ClassVar[dict[str, Any]] = {"batch_size": BATCHES_HELP}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "template" in self.fields:
            field = self.fields["template"]
            assert isinstance(field, forms.ChoiceField)  # noqa: S101
            field.label = capfirst(_("template"))
            choices = [
                (each.name, f"{each.title} ({each.name})")
                for each in finding.offered()
                if not each.groups
            ]
            kept = self.instance.template
            if kept and kept not in dict(choices):
                choices.append((kept, kept))  # withdrawn, say; saving it tells
            field.choices = [("", _("Choose a template")), *choices]
        if "cluster" in self.fields:
            rows = permissions.visible_to(
                self.acting_user, Cluster.objects.order_by("name"), permissions.OPERATE
            )
            self.fields["cluster"].queryset = rows  # type: ignore[attr-defined]

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        # Times can be looked at by themselves: all mistakes are told at once.
        found = (
            storing.problems_of_times(self.instance)
            if self.errors
            else storing.find_problems(self.instance, self.acting_user)
        )
        for name, sentence in found.items():
            is_told = name in self.errors or (name == "cron" and "every_minutes" in self.errors)
            if not is_told:
                self.add_error(name if name in self.fields else None, sentence)


@admin.register(TaskSchedule)
class TaskScheduleAdmin(ObjectPermissionAdmin):
    """Edited by whoever may operate on the cluster, with whose rights it is done from then on."""

    change_action = permissions.OPERATE
    form: Any = ScheduleForm
    list_display = (
        "name",
        "state",
        "cluster_name",
        "template",
        "when",
        "next",
        "last",
        "owner_name",
    )
    list_select_related = ("cluster", "last_task")
    list_filter = ("enabled",)
    search_fields = ("name", "template", "cluster__name", "owner_name")
    actions = ("switch_on", "switch_off")
    readonly_fields = ("state", "owner_name", "version", "upcoming", "last")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": (("name", "enabled"), ("cluster", "template"), "reason")}),
        (gettext_lazy("When"), {"fields": (("cron", "every_minutes"), "time_zone")}),
        (
            gettext_lazy("With what"),
            {
                "fields": (
                    "machines",
                    "params",
                    ("batch_size", "batch_pause", "max_failed_percent"),
                    "priority",
                )
            },
        ),
        (gettext_lazy("State"), {"fields": ("state", "owner_name", "version", "upcoming", "last")}),
    )

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No schedule yet. One begins a task with a template again and again.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:operations_taskschedule_add"), _("Add a schedule"))

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type(form.__name__, (form,), {"acting_user": request.user})

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*self.readonly_fields, "cluster") if obj else self.readonly_fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, Cluster, permissions.OPERATE)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """What only shows while it is stored (the name was taken just now, say) is told."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except SAID as error:
            messages.error(request, error.message)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        storing.store(obj, acting_user=cast("User", request.user))

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        storing.remove(obj, acting_user=cast("User", request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        for row in queryset:
            storing.remove(row, acting_user=cast("User", request.user))

    @admin.action(description=gettext_lazy("Switch on"), permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[TaskSchedule]) -> None:
        self._switch(request, queryset, enabled=True)

    @admin.action(description=gettext_lazy("Switch off"), permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[TaskSchedule]) -> None:
        self._switch(request, queryset, enabled=False)

    def _switch(
        self, request: HttpRequest, queryset: QuerySet[TaskSchedule], *, enabled: bool
    ) -> None:
        rows, left_out = self.for_action(request, queryset, permissions.OPERATE)
        for row in rows:
            try:
                storing.switch(row, enabled=enabled, acting_user=cast("User", request.user))
            except SAID as error:
                messages.error(request, f"{row.name}: {error.message}")
        if left_out:
            messages.warning(
                request,
                _("%(count)s were left out: you may not operate there.") % {"count": left_out},
            )

    @column(description=gettext_lazy("state"), ordering="enabled")
    def state(self, row: TaskSchedule) -> SafeString:
        mark = (
            display.badge(_("enabled"), display.GOOD)
            if row.enabled
            else display.badge(_("off"), display.WARNING if row.message else display.NEUTRAL)
        )
        if not row.message:
            return mark
        return format_html('{} <span class="bd-subtle">{}</span>', mark, row.message)

    @column(description=gettext_lazy("version"))
    def version(self, row: TaskSchedule) -> str:
        if not row.pk:
            return display.NOTHING
        if not storing.is_outdated(row):
            return str(row.template_version)
        return _(
            "%(number)s; the template, or one below it, was saved anew since then, and whoever "
            "saves the schedule takes that."
        ) % {"number": row.template_version}

    @column(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_name(self, row: TaskSchedule) -> str:
        return name_of(row.cluster)

    @column(description=gettext_lazy("when"))
    def when(self, row: TaskSchedule) -> str:
        if row.every_minutes:
            return _("every %(count)s minutes") % {"count": row.every_minutes}
        return f"{row.cron} ({storing.zone_of(row).key})"

    @column(description=gettext_lazy("next"), ordering="next_at")
    def next(self, row: TaskSchedule) -> str:
        return storing.shown(row, row.next_at) if row.next_at else display.NOTHING

    @column(description=gettext_lazy("next times"))
    def upcoming(self, row: TaskSchedule) -> SafeString | str:
        moments = list(storing.upcoming(row)) if row.pk else []
        if not moments:
            return display.NOTHING
        return format_html_join("", "<p>{}</p>", ((storing.shown(row, each),) for each in moments))

    @column(description=gettext_lazy("last task"))
    def last(self, row: TaskSchedule) -> SafeString | str:
        if row.last_task is None:
            return display.NOTHING
        url = reverse("admin:operations_autooperationtask_change", args=[row.last_task_id])
        return format_html(
            '<a class="op-link" href="{}">{}</a> {}',
            url,
            row.last_task.name,
            row.last_task.get_status_display(),
        )
