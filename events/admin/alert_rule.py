"""Alert rules: written, previewed, taken over."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminTextareaWidget

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ago_column
from beidou.base.errors import SAID, InvalidInput
from beidou.base.models import Notice
from clusters.models import Cluster
from events.admin.saved import address_of
from events.models import AlertRule
from events.services import alert_preview, alert_rules, searches

_TONES = {
    Notice.Severity.INFO: display.NEUTRAL,
    Notice.Severity.WARNING: display.WARNING,
    Notice.Severity.CRITICAL: display.BAD,
}
_LOOKED = ago_column("looked_at", gettext_lazy("last looked"))

if TYPE_CHECKING:
    _Form = forms.ModelForm[AlertRule]
else:  # Django's own class takes no parameter when it runs
    _Form = forms.ModelForm


class AlertRuleForm(_Form):
    user: ClassVar[Any]

    class Meta:
        model = AlertRule
        fields = (
            "name", "search", "threshold", "window_minutes", "group_by", "severity", "quiet_from",
            "quiet_to", "enabled",
        )  # fmt: skip
        widgets: ClassVar[dict[str, Any]] = {
            "search": UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
        }

    def clean(self) -> dict[str, Any]:
        """Before the constraints of the table, whose sentences say less."""
        values = super().clean() or {}
        wanted = AlertRule(**values)
        is_new = "name" in values and self.instance.pk is None
        try:
            alert_rules.validate(wanted, self.user, is_new=is_new)
        except InvalidInput as error:
            for name, sentence in error.fields.items():
                if name not in self.errors:  # what cannot be read lacks here, and says so itself
                    self.add_error(name if name in self.fields else None, sentence)
        return {**values, "search": wanted.search}


@admin.register(AlertRule)
class AlertRuleAdmin(ObjectPermissionAdmin):
    form: Any = AlertRuleForm
    list_display = (
        "name", "state", "searched", "when", "severity_shown", "firing", "owner_name", _LOOKED,
    )  # fmt: skip
    list_filter = ("enabled", "severity")
    search_fields = ("name", "search", "owner_name")
    readonly_fields = ("state", "searched", "firing", "owner_name", "looked_at", "week")
    actions = ("take_over",)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": (("name", "enabled"),)}),
        (
            gettext_lazy("What is counted"),
            {
                "fields": ("search", ("threshold", "window_minutes"), "group_by"),
                "description": gettext_lazy(
                    "Events are counted that were last seen within the window, as the owner of the "
                    "rule may see them. An event that repeats counts once, however often it "
                    "repeats; events without the value that is counted for count for nothing."
                ),
            },
        ),
        (
            gettext_lazy("Who is told"),
            {
                "fields": ("severity", ("quiet_from", "quiet_to")),
                "description": gettext_lazy(
                    "The notification rules that tell of “Alert on events” and of this severity "
                    "say who. An alert over several clusters together is told by rules of the "
                    "fleet alone. Whoever was told is not told again, unless it begins anew after "
                    "it was over for as long as the window."
                ),
            },
        ),
    )

    class Media:
        css = {"all": ["events/events.css"]}

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _(
            "No alert rule yet. One says how many events within how many minutes are too many."
        )
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:events_alertrule_add"), _("Add a rule"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        rows = rows.annotate(number=Count("alerts", filter=Q(alerts__ended_at=None)))
        return rows

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_fieldsets(request, obj)
        if self.has_add_permission(request):
            found = [*found, (_("The last 7 days"), {"fields": ("week",)})]
        if obj is None:
            return found
        state = {"fields": (("state", "firing"), ("owner_name", "looked_at"), "searched")}
        return [(_("State"), state), *found]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("FormOfUser", (form,), {"user": request.user})

    def has_add_permission(self, request: HttpRequest) -> bool:
        return alert_rules.may_add(request.user)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its owner may have lost the right to write rules; deleting them needs none."""
        return alert_rules.may_add(request.user) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj)

    # --- the preview ------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        # Not through ``admin_view``: a redirect would put the sign-in form into the page.
        return [
            path("preview/", self.preview, name="events_alertrule_preview"),
            *super().get_urls(),
        ]

    def preview(self, request: HttpRequest) -> HttpResponse:
        """Of what stands in the form, saved or not."""
        if not self.admin_site.has_permission(request):
            return HttpResponse(status=401, headers={"HX-Refresh": "true"})
        if request.method != "POST":
            return HttpResponseNotAllowed(("POST",))
        if not self.has_add_permission(request):
            raise PermissionDenied(_("Your roles do not include what this needs."))
        form = self.get_form(request)(request.POST)
        # Its name is of no account before it is saved, and taken when it is.
        del form.fields["name"]
        context: dict[str, Any] = {}
        if form.is_valid():
            context |= _week(form.instance, request.user)
        else:
            context["refusals"] = [
                (capfirst(form.fields[name].label) if name in form.fields else "", sentences[0])
                for name, sentences in form.errors.items()
            ]
        response = TemplateResponse(request, "events/alert_preview.html", context)
        response["Cache-Control"] = "no-store"
        return response

    @column(description=gettext_lazy("would have fired"))
    def week(self, rule: AlertRule) -> SafeString:
        return render_to_string("events/alert_week.html", {"rule": rule})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:  # and stays it when others change the rule
            obj.owner, obj.owner_name = request.user, request.user.get_username()
        super().save_model(request, obj, form, change)

    # --- columns ----------------------------------------------------------------------------------

    @column(description=gettext_lazy("state"), ordering="enabled")
    def state(self, rule: AlertRule) -> SafeString:
        if not rule.enabled:
            return display.badge(_("off"), display.NEUTRAL)
        if rule.problem:
            return format_html(
                '{} <span class="bd-subtle">{} {}</span>',
                display.badge(_("problem"), display.BAD),
                rule.problem,
                display.lasting(rule.problem_since),
            )
        return display.badge(_("enabled"), display.GOOD)

    @column(description=gettext_lazy("searched"))
    def searched(self, rule: AlertRule) -> SafeString:
        return format_html(
            '<a href="{}" class="text-link">{}</a>',
            address_of(rule.search),
            searches.plain(rule.search) or _("every event"),
        )

    @column(description=gettext_lazy("fires"))
    def when(self, rule: AlertRule) -> str:
        return _("≥ %(count)s in %(minutes)s min, %(by)s") % {
            "count": rule.threshold,
            "minutes": rule.window_minutes,
            "by": rule.get_group_by_display(),
        }

    @column(description=gettext_lazy("severity"), ordering="severity")
    def severity_shown(self, rule: AlertRule) -> SafeString:
        tone = _TONES.get(Notice.Severity(rule.severity), display.NEUTRAL)
        return display.badge(rule.get_severity_display(), tone)

    @column(description=gettext_lazy("firing"), ordering="number")
    def firing(self, rule: Any) -> SafeString | str:
        if not rule.pk:
            return display.NOTHING
        return format_html(
            '<a href="{}?rule__id__exact={}&amp;state=firing" class="text-link">{}</a>',
            reverse("admin:events_eventalert_changelist"),
            rule.pk,
            rule.number,
        )

    # --- actions ----------------------------------------------------------------------------------

    @admin.action(description=gettext_lazy("Take over: become the owner"), permissions=["add"])
    def take_over(self, request: HttpRequest, queryset: QuerySet[AlertRule]) -> None:
        rows, _left_out = self.for_action(request, queryset, permissions.CHANGE)
        for rule in rows:
            alert_rules.take_over(rule, acting_user=request.user)
        messages.success(
            request,
            ngettext(
                "%(count)d rule is yours now: it sees what you may see.",
                "%(count)d rules are yours now: they see what you may see.",
                len(rows),
            )
            % {"count": len(rows)},
        )


def _week(rule: AlertRule, user: Any) -> dict[str, Any]:
    """As ``user`` may see it, who need not be the owner."""
    try:
        found = alert_preview.preview(rule, user)
    except SAID as error:
        return {"trouble": error.message}
    keys = {each.cluster for each in found.firings if each.cluster is not None}
    named = permissions.visible_to(user, Cluster.objects.filter(pk__in=keys))
    names: dict[int | None, str] = dict(named.order_by().values_list("pk", "name"))
    rows = [
        {
            "firing": each,
            "what": each.value or names.get(each.cluster, ""),
            "cluster": names.get(each.cluster, "") if each.value else "",
            "url": address_of(_with_times(each.search, rule, each)),
        }
        for each in found.firings
    ]
    return {"preview": found, "rows": rows}


def _with_times(search: str, rule: AlertRule, firing: alert_preview.Firing) -> str:
    return searches.timed(search, since=firing.began - rule.window, until=firing.ended)
