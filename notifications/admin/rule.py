"""Rules: who is told of what, and what each would have told within the last day."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column

from beidou.base import display, notices
from beidou.base.admin import EmptyList
from beidou.base.models import Notice
from notifications.admin.forms import RuleForm
from notifications.admin.receiver import OfTeams
from notifications.models import NotificationRule
from notifications.services import rules

TONES = {
    Notice.Severity.INFO: display.NEUTRAL,
    Notice.Severity.WARNING: display.WARNING,
    Notice.Severity.CRITICAL: display.BAD,
}


def severity_badge(severity: str) -> SafeString:
    label = dict(Notice.Severity.choices).get(severity, severity)
    return display.badge(label, TONES.get(Notice.Severity(severity), display.NEUTRAL))


@admin.register(NotificationRule)
class RuleAdmin(OfTeams):
    form: Any = RuleForm
    list_display = ("name", "team_shown", "what", "at_least", "of", "tells", "is_on")
    list_filter = ("enabled",)
    list_select_related = ("team",)
    search_fields = ("name", "team__name", "receivers__name")
    readonly_fields = ("lately",)

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No rule yet. A rule says which news are told to which receivers.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:notifications_notificationrule_add"), _("Add a rule"))

    autocomplete_fields = ("clusters", "receivers")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": (("name", "team"), "enabled")}),
        (gettext_lazy("What is told"), {"fields": ("kinds", "severity")}),
        (gettext_lazy("Of which clusters"), {"fields": ("scope", "labels", "clusters")}),
        (gettext_lazy("To whom"), {"fields": ("receivers",)}),
    )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_fieldsets(request, obj)
        if obj is None:
            return found
        return [*found, (_("The last 24 hours"), {"fields": ("lately",)})]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        rows = rows.annotate(number=Count("receivers", distinct=True))
        return rows

    @column(description=gettext_lazy("team"), ordering="team__name")
    def team_shown(self, rule: NotificationRule) -> str:
        return str(rule.team or _("the fleet"))

    @column(description=gettext_lazy("kinds"))
    def what(self, rule: NotificationRule) -> str:
        labels = [notices.label_of(kind) for kind in rule.kinds]
        return ", ".join(labels[:3]) + (" …" if len(labels) > 3 else "") or _("everything")

    @column(description=gettext_lazy("severity at least"), ordering="severity")
    def at_least(self, rule: NotificationRule) -> SafeString:
        return severity_badge(rule.severity)

    @column(description=gettext_lazy("of"))
    def of(self, rule: NotificationRule) -> str:
        return rule.labels or rule.get_scope_display()

    @column(description=gettext_lazy("receivers"), ordering="number")
    def tells(self, rule: Any) -> int:
        return int(rule.number)

    @column(description=gettext_lazy("enabled"), ordering="enabled")
    def is_on(self, rule: NotificationRule) -> SafeString:
        return display.yes_no(rule.enabled, _("enabled"), _("off"))

    @column(description=gettext_lazy("would have been told"))
    def lately(self, rule: NotificationRule) -> str:
        return render_to_string(
            "admin/notifications/notificationrule/preview.html",
            {"preview": rules.preview(rule)},
        )
