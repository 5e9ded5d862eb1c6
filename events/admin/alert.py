"""Event alerts: what alert rules found, with the events behind each."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column

from beidou.base import display, links
from beidou.base.admin import EmptyList, ReadOnlyAdmin, ago_column
from clusters.admin.columns import name_of
from events.admin.saved import address_of
from events.models import AlertRule, EventAlert
from events.services import alert_rules, searches

_BEGAN = ago_column("began_at", gettext_lazy("began"))
_ENDED = ago_column("ended_at", gettext_lazy("over"))


class StateFilter(admin.SimpleListFilter):
    title = gettext_lazy("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("firing", _("Firing")), ("over", _("Over"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() is None:
            return queryset
        return queryset.filter(ended_at__isnull=self.value() == "firing")


@admin.register(EventAlert)
class EventAlertAdmin(ReadOnlyAdmin):
    list_display = (
        "rule_name", "state", "what", "cluster_shown", _BEGAN, _ENDED, "count", "peak", "told",
        "events",
    )  # fmt: skip
    list_display_links = ("rule_name",)
    list_filter = (StateFilter, "group_by")
    list_select_related = ("rule", "cluster")
    search_fields = ("rule__name", "value", "cluster__name")
    fields = (
        "rule_page", "state", "what", "cluster_shown", "searched", "began", "last", "ended",
        "count", "peak", "told", "events",
    )  # fmt: skip
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("rule", "cluster")

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """The page of a rule leads to its alerts."""
        return lookup == "rule__id__exact" or super().lookup_allowed(lookup, value, request)

    def get_object(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        alert: Any = super().get_object(request, *args, **kwargs)
        if alert is not None:
            alert.link_to_rule = links.link_for(request.user, alert.rule)
        return alert

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No alert yet. Alert rules find them, once a minute.")
        if not alert_rules.may_add(request.user):
            return EmptyList(text)
        return EmptyList(
            text, reverse("admin:events_alertrule_changelist"), _("To the alert rules")
        )

    @column(description=gettext_lazy("rule"), ordering="rule__name")
    def rule_name(self, alert: EventAlert) -> str:
        return alert.rule.name

    @column(description=gettext_lazy("rule"))
    def rule_page(self, alert: Any) -> SafeString:
        link: SafeString = alert.link_to_rule
        return link

    @column(description=gettext_lazy("state"), ordering="ended_at")
    def state(self, alert: EventAlert) -> SafeString:
        if alert.is_firing:
            return display.badge(_("firing"), display.BAD, icon="notifications_active")
        return display.badge(_("over"), display.NEUTRAL, icon="check")

    @column(description=gettext_lazy("for"), ordering="value")
    def what(self, alert: EventAlert) -> SafeString | str:
        if not alert.value:
            is_cluster = alert.group_by == AlertRule.GroupBy.CLUSTER
            return display.NOTHING if is_cluster else alert.get_group_by_display()
        return format_html(
            '<span class="bd-subtle">{}</span> {}', _FIELDS[alert.group_by], alert.value
        )

    @column(description=gettext_lazy("cluster"), ordering="cluster__name")
    def cluster_shown(self, alert: EventAlert) -> str:
        return display.NOTHING if alert.cluster is None else name_of(alert.cluster)

    @column(description=gettext_lazy("searched"))
    def searched(self, alert: EventAlert) -> str:
        return searches.plain(alert.search, but=alert.told_apart) or _("every event")

    @column(description=gettext_lazy("began"))
    def began(self, alert: EventAlert) -> SafeString:
        return display.exact(alert.began_at)

    @column(description=gettext_lazy("last found"))
    def last(self, alert: EventAlert) -> SafeString:
        return display.exact(alert.last_at)

    @column(description=gettext_lazy("over"))
    def ended(self, alert: EventAlert) -> SafeString:
        return display.exact(alert.ended_at)

    @column(description=gettext_lazy("events"))
    def events(self, alert: EventAlert) -> SafeString:
        search = searches.timed(alert.search, since=alert.since, until=alert.ended_at)
        return format_html(
            '<a href="{}" class="text-link">{}</a>', address_of(search), _("Look at them")
        )


_FIELDS: dict[str, Any] = {
    AlertRule.GroupBy.NAMESPACE: gettext_lazy("namespace"),
    AlertRule.GroupBy.NAME: gettext_lazy("object"),
    AlertRule.GroupBy.REASON: gettext_lazy("reason"),
    AlertRule.GroupBy.NODE: gettext_lazy("node"),
}
