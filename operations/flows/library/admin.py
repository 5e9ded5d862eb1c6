"""The list of templates; one has a page of its own."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column

from beidou.base import display
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ago_column
from beidou.base.context import note_refusal
from operations.flows import catalog
from operations.flows.library import saving
from operations.flows.library.models import TaskTemplate


@admin.register(TaskTemplate)
class TaskTemplateAdmin(ObjectPermissionAdmin):
    """Versions are kept for ever: a template is withdrawn, not deleted."""

    list_display = (
        "name",
        "title",
        "version",
        "offered",
        ago_column("saved_at", gettext_lazy("saved")),
        "saved_by_name",
    )
    list_filter = ("is_offered",)
    search_fields = ("name", "title", "description")
    list_before_template = "operations/ready_made.html"

    class Media:
        css = {"all": ["operations/operations.css"]}

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No template of your own yet. Copy a ready-made one, or begin with nothing.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("operations:template_new"), _("Write a template"))

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        more = {
            "ready_made": list(catalog.TEMPLATES.values()),
            "may_write": saving.may_write(request.user),
        }
        return super().changelist_view(request, {**more, **(extra_context or {})})

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("operations:template_new"))

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row: Any = self.get_object(request, object_id)
        if row is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if request.method == "POST":
            note_refusal(row)
            raise PermissionDenied
        return HttpResponseRedirect(reverse("operations:template", args=[row.name]))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @column(description=gettext_lazy("offered"), ordering="is_offered")
    def offered(self, template: TaskTemplate) -> SafeString:
        if template.is_offered:
            return display.badge(_("offered"), display.GOOD)
        return display.badge(_("withdrawn"), display.NEUTRAL)
