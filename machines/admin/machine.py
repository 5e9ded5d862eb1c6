"""The machine's list and page."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Prefetch, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, confirm_action
from beidou.base.context import note_refusal
from beidou.base.numbers import as_key
from clusters.models import Cluster
from machines.admin import filters, page
from machines.admin.actions import MachineActions, file_of, plan_lines, will_be_visited
from machines.admin.answers import said_on_page
from machines.admin.forms import MachineForm, ReasonForm, RegisterForm
from machines.admin.import_pages import import_page
from machines.models import Drift, Machine, MachineFacts
from machines.services import belonging, drift, edits, facts, host_keys, lifecycle, registration


@admin.register(Machine)
class MachineAdmin(MachineActions):
    """Where machines are found, judged and edited; their states change by actions alone."""

    marks_cluster = True

    class Media:
        css: ClassVar[Any] = {"all": ("machines/machines.css",)}

    form: Any = MachineForm
    list_display = (
        "machine",
        "state_shown",
        "cluster_shown",
        "node_shown",
        "place",
        "role",
        "owner_team",
        "differences",
        "facts_shown",
    )
    list_filter = (
        filters.ViewFilter,
        "state",
        filters.ClusterFilter,
        filters.TeamFilter,
        filters.RoleFilter,
    )
    list_per_page = 50
    list_before_template = "admin/machines/machine/list_before.html"
    change_form_template = "admin/machines/machine/change_form.html"
    history_place = "#machine-timeline"
    search_fields = ("address",)  # the box; ``get_search_results`` says what is searched
    search_help_text = gettext_lazy(
        "Begins with: any address, hostname, serial, asset tag, rack, node"
    )
    actions = (
        "make_available",
        "to_maintenance",
        "mark_faulty",
        "bring_back",
        "retire",
        "gather_facts",
        "edit_many",
        "export_csv",
        "export_xlsx",
    )
    fieldsets: ClassVar[Any] = (
        (
            gettext_lazy("Identity"),
            {"fields": (("address", "hostname"), ("serial", "asset_tag"), "system_uuid")},
        ),
        (
            gettext_lazy("Place and belonging"),
            {
                "fields": (
                    ("room", "rack"),
                    ("position", "role"),
                    ("owner_team", "credential"),
                    "labels",
                    "warranty_until",
                    "notes",
                )
            },
        ),
        (
            gettext_lazy("Intended hardware and software"),
            {
                "fields": (
                    ("vendor", "model"),
                    ("cpus", "memory_mib"),
                    ("disks", "nics"),
                    "gpus",
                    ("os", "kernel"),
                ),
                "description": gettext_lazy("What is empty was not promised and cannot drift."),
            },
        ),
        (None, {"fields": ("change_reason",)}),
    )

    # --- list ---------------------------------------------------------------------------------
    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return (
            super()
            .get_queryset(request)
            .select_related("cluster", "node", "owner_team")
            .prefetch_related(
                Prefetch("drift", Drift.objects.order_by("field")),
                Prefetch("facts", MachineFacts.objects.defer("facts")),
            )
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        return queryset.search(search_term), False  # type: ignore[attr-defined]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        view = request.GET.get("view", "")
        tabs = [("", _("All")), *((key, label) for key, (label, _n) in filters.VIEWS.items())]
        extra: dict[str, Any] = {
            "tabs": [
                {"label": label, "query": f"?view={key}" if key else "?", "is_active": key == view}
                for key, label in tabs
            ],
            "may_import": self._may_import(request),
            "query_string": request.GET.urlencode(),
        }
        return super().changelist_view(request, {**extra, **(extra_context or {})})

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _(
                "No machine yet. Add one, import a list, or register the nodes of an adopted "
                "cluster from its page."
            )
            if self.has_add_permission(request)
            else _(
                "You see the machines of your teams and of the clusters on which your teams have "
                "a role. Ask an administrator for more."
            )
        )

    @admin.display(description=gettext_lazy("Machine"), ordering="address_key")
    def machine(self, obj: Machine) -> SafeString:
        seen = getattr(obj, "facts", None)
        name = obj.hostname or (seen.hostname if seen else "")
        if not name:
            return format_html("{}", obj.address)
        return format_html(
            '<span class="bd-name" title="{0}">{0}</span><span class="machine-address">{1}</span>',
            name,
            obj.address,
        )

    @admin.display(description=gettext_lazy("State"), ordering="state")
    def state_shown(self, obj: Machine) -> SafeString:
        badge = display.state_badge(obj, "state")
        if obj.offered_host_key:
            return display.badges(badge, display.badge(_("host key changed"), display.BAD))
        return badge

    @admin.display(description=gettext_lazy("Cluster"), ordering="cluster")
    def cluster_shown(self, obj: Machine) -> SafeString:
        mark = display.insecure_badge() if obj.cluster and obj.cluster.insecure_tls else ""
        return format_html("{} {}", obj.cluster or display.NOTHING, mark)

    @admin.display(description=gettext_lazy("Node"))
    def node_shown(self, obj: Machine) -> SafeString:
        name = obj.node.name if obj.node else display.NOTHING
        return format_html('<span class="bd-name" title="{0}">{0}</span>', name)

    @admin.display(description=gettext_lazy("Rack"), ordering="rack")
    def place(self, obj: Machine) -> str:
        return " / ".join(filter(None, [obj.room, obj.rack, obj.position])) or display.NOTHING

    @admin.display(description=gettext_lazy("Drift"))
    def differences(self, obj: Machine) -> str:
        count = len(obj.drift.all())
        if not count:
            return display.NOTHING
        return ngettext("%(count)d field", "%(count)d fields", count) % {"count": count}

    @admin.display(description=gettext_lazy("Facts"))
    def facts_shown(self, obj: Machine) -> Any:
        seen = getattr(obj, "facts", None)
        if seen is None:
            return display.NOTHING
        if seen.error:
            return display.badge(_("failed"), display.WARNING)
        return display.ago(seen.gathered_at)

    # --- form ---------------------------------------------------------------------------------
    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> "type[forms.ModelForm[Any]]":
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("MachineFormOfUser", (form,), {"user": request.user})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {
            "owner_team": belonging.default_team(request.user),
            **super().get_changeform_initial_data(request),
        }

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        reason, user = form.cleaned_data["change_reason"], request.user
        if change:
            fields = [name for name in form.changed_data if name != "change_reason"]
            edits.change(machine=obj, fields=fields, reason=reason, acting_user=user)
        else:
            edits.add(machine=obj, reason=reason, acting_user=user)
            facts.visit_new(machines=[obj], acting_user=user)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> Any:
        machine: Any = self.get_object(request, unquote(object_id))
        extra: dict[str, Any] = dict(extra_context or {})
        if machine is not None and self.has_view_permission(request, machine):
            extra |= {**page.context(request, machine), "title": page.title(machine)}
        return super().change_view(request, object_id, form_url, extra)

    # --- other pages --------------------------------------------------------------------------
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("import/", wrap(self.import_view), name="machines_machine_import"),
            path("export.<str:kind>", wrap(self.export_view), name="machines_machine_export"),
            path("register/", wrap(self.register_view), name="machines_machine_register"),
            path(
                "<int:pk>/state/<str:action>/", wrap(self.state_view), name="machines_machine_state"
            ),
            path(
                "<int:pk>/gather-facts/",
                wrap(require_POST(self.gather_view)),
                name="machines_machine_gather",
            ),
            path(
                "<int:pk>/host-key/<str:decision>/",
                wrap(require_POST(self.host_key_view)),
                name="machines_machine_host_key",
            ),
            path(
                "<int:pk>/drift/<int:drift_pk>/<str:verdict>/",
                wrap(require_POST(self.drift_view)),
                name="machines_machine_drift",
            ),
        ]
        return [*own, *super().get_urls()]

    def _found(self, request: HttpRequest, pk: int) -> Machine:
        """404 for what one may not see."""
        rows = permissions.visible_to(
            request.user, Machine.objects.select_related("node", "cluster", "credential")
        )
        return get_object_or_404(rows, pk=pk)

    def _operated(self, request: HttpRequest, pk: int) -> Machine:
        machine = self._found(request, pk)
        if not permissions.may(request.user, machine, permissions.OPERATE):
            note_refusal(machine)
            raise PermissionDenied
        return machine

    def _back(self, machine: Machine) -> HttpResponseRedirect:
        return HttpResponseRedirect(reverse("admin:machines_machine_change", args=[machine.pk]))

    def _may_import(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request) or self.has_change_permission(request)

    def import_view(self, request: HttpRequest) -> HttpResponse:
        if not self._may_import(request):
            raise PermissionDenied
        return import_page(self, request)

    def export_view(self, request: HttpRequest, kind: str) -> HttpResponse:
        """The list as it is filtered now, as a file."""
        if kind not in ("csv", "xlsx"):
            raise Http404
        if not self.has_view_permission(request):
            raise PermissionDenied
        listed = self.get_changelist_instance(request)
        return file_of(listed.get_queryset(request).prefetch_related(None), kind, request.user)

    def state_view(self, request: HttpRequest, pk: int, action: str) -> HttpResponse:
        """A change of state: where to, why, and the button."""
        if action not in lifecycle.Action.values:
            raise Http404
        machine = self._operated(request, pk)
        chosen = lifecycle.Action(action)
        form = ReasonForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid():
            with said_on_page(request):
                lifecycle.act(
                    machine=machine,
                    action=action,
                    reason=form.cleaned_data["reason"],
                    acting_user=request.user,
                )
                messages.success(
                    request,
                    _("%(machine)s is %(state)s now.")
                    % {"machine": machine, "state": machine.state_label(machine.state)},
                )
            return self._back(machine)
        refused = lifecycle.action_refusal(machine, action)
        if refused:
            messages.error(request, refused)
            return self._back(machine)
        return confirm_action(
            self,
            request,
            title=f"{chosen.label}: {machine}",
            action=action,
            plan=plan_lines([machine], action),
            objects=[machine],
            form=form,
            button=str(chosen.label),
            dangerous=chosen in (lifecycle.Action.RETIRE, lifecycle.Action.FAULTY),
        )

    def gather_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        machine = self._operated(request, pk)
        asked = facts.request_gathering(machines=[machine], acting_user=request.user)
        for sentence in asked.refused.values():
            messages.error(request, sentence)
        if asked.accepted:
            messages.success(request, will_be_visited(1))
        return self._back(machine)

    def host_key_view(self, request: HttpRequest, pk: int, decision: str) -> HttpResponse:
        decide = {"accept": host_keys.accept, "reject": host_keys.reject}.get(decision)
        if decide is None:
            raise Http404
        machine = self._operated(request, pk)
        with said_on_page(request):
            decide(
                machine=machine,
                shown=request.POST.get("shown", ""),
                reason=request.POST.get("reason", ""),
                acting_user=request.user,
            )
            messages.success(
                request,
                _("The new host key is pinned.")
                if decision == "accept"
                else _("The new host key is rejected; the machine is faulty."),
            )
        return self._back(machine)

    def drift_view(
        self, request: HttpRequest, pk: int, drift_pk: int, verdict: str
    ) -> HttpResponse:
        judge = {"accept": drift.accept, "wrong": drift.mark_wrong}.get(verdict)
        if judge is None:
            raise Http404
        machine = self._found(request, pk)
        rows = machine.drift.filter(pk=drift_pk, observed=request.POST.get("observed", ""))
        with said_on_page(request):
            if not judge(rows=rows, reason="", acting_user=request.user):
                messages.error(request, _("This difference has changed meanwhile; look again."))
        return self._back(machine)

    def register_view(self, request: HttpRequest) -> HttpResponse:
        """The nodes of an adopted cluster that are no machines yet, registered in one go."""
        visible = permissions.visible_to(request.user, Cluster.objects.all(), permissions.OPERATE)
        cluster = get_object_or_404(visible, pk=as_key(request.GET.get("cluster", "")))
        nodes = list(registration.unregistered(cluster))
        form = RegisterForm(
            request.POST or None,
            user=request.user,
            initial={"owner_team": belonging.default_team(request.user)},
        )
        if request.method == "POST" and form.is_valid():
            chosen = set(request.POST.getlist("node"))
            return self._register(
                request, cluster, [node for node in nodes if str(node.pk) in chosen], form
            )
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": _("Register nodes of %(cluster)s as machines") % {"cluster": cluster},
            "cluster": cluster,
            "nodes": nodes,
            "form": form,
        }
        return TemplateResponse(request, "admin/machines/machine/register.html", context)

    def _register(
        self, request: HttpRequest, cluster: Cluster, nodes: list[Any], form: RegisterForm
    ) -> HttpResponse:
        with said_on_page(request):
            result = registration.register_nodes(
                cluster=cluster,
                nodes=nodes,
                acting_user=request.user,
                owner_team=form.cleaned_data["owner_team"],
                credential=form.cleaned_data["credential"],
            )
            messages.success(
                request,
                _("%(created)d machines registered, %(linked)d linked.")
                % {"created": len(result.created), "linked": len(result.linked)},
            )
            for name, sentence in list(result.refused.items())[:20]:
                messages.warning(request, f"{name}: {sentence}")
            facts.visit_new(machines=result.created, acting_user=request.user)
        listing = reverse("admin:machines_machine_changelist")
        return HttpResponseRedirect(f"{listing}?cluster__id__exact={cluster.pk}")
