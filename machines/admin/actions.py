"""What can be done to many chosen machines: plan, reason, confirmation, deed."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from beidou.base import audit, permissions
from beidou.base.admin import ObjectPermissionAdmin, confirm_action
from beidou.base.errors import BeidouError
from machines.admin.answers import said_on_page
from machines.admin.forms import BulkEditForm, ReasonForm
from machines.files import reading
from machines.models import Machine
from machines.services import edits, facts, lifecycle, removal

SHOWN = 20  # sentences about single machines on one page
Answer = HttpResponse | None


class MachineActions(ObjectPermissionAdmin):
    """The actions of the machine's admin; each filters its rows by right once more."""

    # Django and the theme ask for each action, column and button anew: once per page is enough.
    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._once(request, "view", obj, super().has_view_permission)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._once(request, "change", obj, super().has_change_permission)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return self._once(request, "operate", None, super().has_operate_permission)

    def _once(self, request: HttpRequest, right: str, obj: Any, ask: Callable[..., bool]) -> bool:
        if obj is not None:
            return ask(request, obj)
        known: dict[tuple[str, Any], bool] = request.__dict__.setdefault("_machine_rights", {})
        key = (right, request.user.pk)
        if key not in known:
            known[key] = ask(request)
        return known[key]

    # --- deleting: refused before anybody is asked to confirm, and once more when it is done ---
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        removal.refuse_needed([each.pk for each in objs])
        return super().get_deleted_objects(objs, request)

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        with said_on_page(request):
            page: HttpResponse = super().delete_view(request, object_id, extra_context)
            return page
        return HttpResponseRedirect(reverse("admin:machines_machine_change", args=[object_id]))

    def response_action(self, request: HttpRequest, queryset: Any, *more: Any) -> Any:
        with said_on_page(request):
            return super().response_action(request, queryset, *more)
        return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with audit.entries_last():
            removal.lock_for_deletion([obj.pk])
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with audit.entries_last():
            removal.lock_for_deletion([each.pk for each in queryset])
            super().delete_queryset(request, queryset)

    # --- the rest -----------------------------------------------------------------------------
    @admin.action(description=gettext_lazy("Make available…"), permissions=["operate"])
    def make_available(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return self._change_state(request, queryset, lifecycle.Action.MAKE_AVAILABLE)

    @admin.action(description=gettext_lazy("To maintenance…"), permissions=["operate"])
    def to_maintenance(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return self._change_state(request, queryset, lifecycle.Action.MAINTENANCE)

    @admin.action(description=gettext_lazy("Mark as faulty…"), permissions=["operate"])
    def mark_faulty(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return self._change_state(request, queryset, lifecycle.Action.FAULTY)

    @admin.action(description=gettext_lazy("Bring back…"), permissions=["operate"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return self._change_state(request, queryset, lifecycle.Action.BACK)

    @admin.action(description=gettext_lazy("Retire…"), permissions=["operate"])
    def retire(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return self._change_state(request, queryset, lifecycle.Action.RETIRE)

    @admin.action(description=gettext_lazy("Gather facts"), permissions=["operate"])
    def gather_facts(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        rows = queryset.select_related("credential")
        machines, left_out = self.for_action(request, rows, permissions.OPERATE)
        asked = facts.request_gathering(machines=machines, acting_user=request.user)
        if asked.accepted:
            messages.success(request, will_be_visited(len(asked.accepted)))
        self._say_refused(request, list(asked.refused.values()), left_out)
        return None

    @admin.action(description=gettext_lazy("Edit…"), permissions=["change"])
    def edit_many(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        rows = queryset.select_related("owner_team", "credential", "cluster")
        machines, left_out = self.for_action(request, rows, permissions.CHANGE)
        is_confirmed = request.POST.get("post") == "yes"
        form = BulkEditForm(request.POST if is_confirmed else None, user=request.user)
        if not (is_confirmed and form.is_valid()):
            return confirm_action(
                self,
                request,
                title=_("Edit many machines"),
                action="edit_many",
                plan=[
                    ngettext(
                        "What is filled in or ticked below is changed on %(count)d machine; the "
                        "rest stays as it is.",
                        "What is filled in or ticked below is changed on %(count)d machines; the "
                        "rest stays as it is.",
                        len(machines),
                    )
                    % {"count": len(machines)},
                    *_left_out(left_out),
                ],
                objects=[*machines],
                form=form,
                button=_("Save"),
            )
        result = edits.edit_many(
            machines=machines,
            values=form.new_values(),
            add_labels=form.cleaned_data["add_labels"],
            remove_labels=form.removed_labels(),
            reason=form.cleaned_data["reason"],
            acting_user=request.user,
        )
        if result.changed:
            messages.success(request, _changed(len(result.changed)))
        if result.unchanged:
            messages.info(
                request,
                ngettext(
                    "%(count)d machine was so already; nothing was changed there.",
                    "%(count)d machines were so already; nothing was changed there.",
                    result.unchanged,
                )
                % {"count": result.unchanged},
            )
        self._say_refused(request, list(result.refused.values()), left_out)
        return None

    @admin.action(description=gettext_lazy("Export as CSV"), permissions=["view"])
    def export_csv(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return file_of(queryset, "csv", request.user)

    @admin.action(description=gettext_lazy("Export as XLSX"), permissions=["view"])
    def export_xlsx(self, request: HttpRequest, queryset: QuerySet[Machine]) -> Answer:
        return file_of(queryset, "xlsx", request.user)

    def _change_state(
        self, request: HttpRequest, queryset: QuerySet[Machine], action: lifecycle.Action
    ) -> Answer:
        rows = queryset.select_related("node", "cluster")
        machines, left_out = self.for_action(request, rows, permissions.OPERATE)
        possible = [each for each in machines if not lifecycle.action_refusal(each, action)]
        refused = [
            sentence for each in machines if (sentence := lifecycle.action_refusal(each, action))
        ]
        if not possible:
            messages.warning(request, _("None of the chosen machines can go there."))
            self._say_refused(request, refused, left_out)
            return None
        is_confirmed = request.POST.get("post") == "yes"
        form = ReasonForm(request.POST if is_confirmed else None)
        if not (is_confirmed and form.is_valid()):
            return confirm_action(
                self,
                request,
                title=str(action.label),
                action=_NAMES[action],
                plan=[*plan_lines(possible, action), *shortened(refused), *_left_out(left_out)],
                objects=[*possible],
                form=form,
                button=str(action.label),
                dangerous=action in (lifecycle.Action.RETIRE, lifecycle.Action.FAULTY),
            )
        done = 0
        for machine in possible:
            try:
                lifecycle.act(
                    machine=machine,
                    action=action,
                    reason=form.cleaned_data["reason"],
                    acting_user=request.user,
                )
                done += 1
            except BeidouError as error:  # one refusal stops no other; each is said
                refused.append(error.message)
        if done:
            messages.success(request, _changed(done))
        self._say_refused(request, refused, left_out)
        return None

    def _say_refused(self, request: HttpRequest, refused: Sequence[str], left_out: int) -> None:
        for sentence in [*shortened(refused), *_left_out(left_out)]:
            messages.warning(request, sentence)


_NAMES = {
    lifecycle.Action.MAKE_AVAILABLE: "make_available",
    lifecycle.Action.MAINTENANCE: "to_maintenance",
    lifecycle.Action.FAULTY: "mark_faulty",
    lifecycle.Action.BACK: "bring_back",
    lifecycle.Action.RETIRE: "retire",
}


def plan_lines(machines: Sequence[Machine], action: str) -> list[str]:
    """How many machines go from which state to which."""
    counts: dict[tuple[str, str], int] = {}
    for machine in machines:
        way = (
            machine.state_label(machine.state),
            machine.state_label(lifecycle.target_of(machine, action)),
        )
        counts[way] = counts.get(way, 0) + 1
    return [
        ngettext(
            "%(count)d machine: %(old)s → %(new)s", "%(count)d machines: %(old)s → %(new)s", count
        )
        % {"count": count, "old": old, "new": new}
        for (old, new), count in counts.items()
    ]


def shortened(sentences: Sequence[str]) -> list[str]:
    """The first sentences, and how many more there are."""
    rest = len(sentences) - SHOWN
    more = [_("… and %(count)d more.") % {"count": rest}] if rest > 0 else []
    return [*sentences[:SHOWN], *more]


def _left_out(count: int) -> list[str]:
    if not count:
        return []
    return [
        ngettext(
            "%(count)d machine is left out: your roles do not include this.",
            "%(count)d machines are left out: your roles do not include this.",
            count,
        )
        % {"count": count}
    ]


def _changed(count: int) -> str:
    return ngettext("%(count)d machine changed.", "%(count)d machines changed.", count) % {
        "count": count
    }


def will_be_visited(count: int) -> str:
    return ngettext(
        "%(count)d machine will be visited; its facts appear here within moments.",
        "%(count)d machines will be visited; their facts appear here within moments.",
        count,
    ) % {"count": count}


def file_of(queryset: QuerySet[Machine], kind: str, user: Any) -> HttpResponse:
    """The machines as a download, which is an entry of the audit trail."""
    rows = queryset.select_related("owner_team", "credential", "cluster", "node")
    types = {
        "csv": "text/csv; charset=utf-8",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
    content = reading.write(rows, kind=kind, user=user)
    audit.record("export", name="machines", after={"file": kind, "machines": rows.count()})
    response = HttpResponse(content, content_type=types[kind])
    response["Content-Disposition"] = f'attachment; filename="machines.{kind}"'
    return response
