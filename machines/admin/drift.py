"""All differences of the fleet in one list, judged one by one or many at once."""

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ReadOnlyAdmin, confirm_action
from beidou.base.errors import BeidouError
from machines.admin.forms import ReasonForm
from machines.models import Drift
from machines.services import drift


class FieldFilter(admin.SimpleListFilter):
    """By the names that people know, not those of columns."""

    title = gettext_lazy("field")
    parameter_name = "field"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, drift.label_of(name)) for name in Drift.FIELDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(field=self.value()) if self.value() else queryset


@admin.register(Drift)
class DriftAdmin(ReadOnlyAdmin):
    counted = (gettext_lazy("difference"), gettext_lazy("differences"))
    list_display = (
        "machine",
        "field_shown",
        "intended",
        "observed",
        "verdict_shown",
        "first_seen_shown",
    )
    list_display_links = None
    list_filter = ("verdict", FieldFilter)
    list_select_related = ("machine",)
    ordering = ("-first_seen", "pk")
    search_fields = ("machine__address",)
    search_help_text = gettext_lazy(
        "Begins with: any address, hostname, serial, asset tag, rack, node"
    )
    actions = ("accept", "wrong")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No machine differs from what was intended, as far as facts have been gathered.")
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term.strip():
            return queryset, False
        machines = Drift.machine.field.related_model.objects.search(search_term)  # type: ignore[attr-defined]
        return queryset.filter(machine__in=machines.order_by().values("pk")), False

    def has_judge_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, Drift, permissions.CHANGE)

    @admin.display(description=gettext_lazy("Field"), ordering="field")
    def field_shown(self, obj: Drift) -> str:
        return drift.label_of(obj.field)

    @admin.display(description=gettext_lazy("Verdict"), ordering="verdict")
    def verdict_shown(self, obj: Drift) -> SafeString:
        return display.state_badge(obj, "verdict")

    @admin.display(description=gettext_lazy("Since"), ordering="first_seen")
    def first_seen_shown(self, obj: Drift) -> Any:
        return display.ago(obj.first_seen)

    @admin.action(description=gettext_lazy("Accept what was observed…"), permissions=["judge"])
    def accept(self, request: HttpRequest, queryset: QuerySet[Drift]) -> HttpResponse | None:
        return self._judge(request, queryset, "accept", permissions.CHANGE)

    @admin.action(description=gettext_lazy("The machine is wrong…"), permissions=["operate"])
    def wrong(self, request: HttpRequest, queryset: QuerySet[Drift]) -> HttpResponse | None:
        return self._judge(request, queryset, "wrong", permissions.OPERATE)

    def _judge(
        self, request: HttpRequest, queryset: QuerySet[Drift], verdict: str, right: str
    ) -> HttpResponse | None:
        rows, left_out = self.for_action(request, queryset.select_related("machine"), right)
        is_confirmed = request.POST.get("post") == "yes"
        form = ReasonForm(request.POST if is_confirmed else None)
        is_accept = verdict == "accept"
        if not (is_confirmed and form.is_valid()):
            plan = ngettext(
                "The observed value becomes the intended one in %(count)d place.",
                "The observed value becomes the intended one in %(count)d places.",
                len(rows),
            )
            if not is_accept:
                plan = ngettext(
                    "%(count)d difference stays, marked as a fault of the machine.",
                    "%(count)d differences stay, marked as faults of the machine.",
                    len(rows),
                )
            return confirm_action(
                self,
                request,
                title=_("Accept what was observed") if is_accept else _("The machine is wrong"),
                action=verdict,
                plan=[plan % {"count": len(rows)}],
                objects=[*rows],
                form=form,
                button=_("Accept") if is_accept else _("Mark as wrong"),
            )
        judge = drift.accept if is_accept else drift.mark_wrong
        done = 0
        by_machine: dict[int, list[Drift]] = {}
        for row in rows:
            by_machine.setdefault(row.machine_id, []).append(row)
        for chosen in by_machine.values():
            try:
                done += judge(
                    rows=chosen, reason=form.cleaned_data["reason"], acting_user=request.user
                )
            except BeidouError as error:  # one machine's refusal stops no other; each is said
                messages.warning(request, error.message)
        judged = ngettext("%(count)d difference judged.", "%(count)d differences judged.", done)
        messages.success(request, judged % {"count": done})
        if left_out:
            text = ngettext(
                "%(count)d is left out: your roles do not include this.",
                "%(count)d are left out: your roles do not include this.",
                left_out,
            )
            messages.warning(request, text % {"count": left_out})
        return None
