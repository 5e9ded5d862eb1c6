"""The pages of clusters: list, adopting, one cluster with its tabs, un-adopting."""

from typing import Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from unfold.contrib.filters.admin import ChoicesCheckboxFilter, RelatedDropdownFilter
from unfold.decorators import display as column

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin
from beidou.base.context import note_refusal
from beidou.base.errors import SAID, BeidouError, InvalidInput
from beidou.base.models import User
from beidou.base.page_head import buttons, lines
from clusters.admin import tabs
from clusters.admin.columns import UsageColumns, health_badge, is_list
from clusters.admin.forms import ClusterForm, DetailsForm, SourceForm, UnadoptForm
from clusters.drivers.kubeconfig_text import SIZE_LIMIT
from clusters.models import Cluster
from clusters.services import adoption, capabilities, listing, removal
from clusters.services.checking import STEP_KEYS, STEPS, Check, Findings, Source

_SECRETS = sensitive_post_parameters("kubeconfig", "token")


@admin.register(Cluster)
class ClusterAdmin(UsageColumns, ObjectPermissionAdmin):
    form = ClusterForm
    list_display = (
        "name",
        "health_column",
        "environment",
        "version",
        "nodes_column",
        "cpu",
        "memory",
        "pods",
        "running",
        "as_of",
    )
    list_filter = (
        ("health", ChoicesCheckboxFilter),
        ("environment", ChoicesCheckboxFilter),
        ("phase", ChoicesCheckboxFilter),
        ("team", RelatedDropdownFilter),
    )
    search_fields = ("name", "description", "region", "server", "version", "contact")
    ordering = ("name",)
    list_per_page = 50
    fields = (
        "name", "description", "environment", "region", "labels", "team", "contact",
        "change_reason",
    )  # fmt: skip
    change_form_template = "admin/clusters/cluster/change_form.html"
    history_place = "?tab=history"

    class Media:
        css = {"all": ["clusters/clusters.css"]}

    # --- list -------------------------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        if is_list(request):
            return listing.with_running_operations(listing.slim_clusters(rows))
        return rows

    def empty_list(self, request: HttpRequest) -> EmptyList:
        if not self.has_add_permission(request):
            return EmptyList(
                _(
                    "You see the clusters on which your teams have a role. "
                    "Ask an owner of a cluster or an administrator for one."
                )
            )
        return EmptyList(
            _(
                "Adopt a cluster that runs already: paste its kubeconfig, see what the portal "
                "may do there, and confirm. Nothing is written to the cluster."
            ),
            reverse("admin:clusters_cluster_add"),
            _("Adopt a cluster"),
        )

    @column(description=gettext_lazy("Health"), ordering="health")
    def health_column(self, cluster: Cluster) -> SafeString:
        return health_badge(cluster)

    @column(description=gettext_lazy("Nodes ready"), ordering="nodes_total")
    def nodes_column(self, cluster: Cluster) -> SafeString:
        url = f"{reverse('admin:clusters_node_changelist')}?cluster__id__exact={cluster.pk}"
        text = f"{cluster.nodes_ready}/{cluster.nodes_total}"
        return format_html('<a class="bd-number" href="{}">{}</a>', url, text)

    @column(description=gettext_lazy("Running"), ordering="operations_running")
    def running(self, cluster: Any) -> SafeString:
        count = cluster.operations_running
        if not count:
            return format_html('<span class="bd-subtle">{}</span>', 0)
        url = f"{reverse('admin:clusters_cluster_change', args=[cluster.pk])}?tab=operations"
        return format_html('<a class="bd-number" href="{}">{}</a>', url, count)

    @column(description=gettext_lazy("As of"), ordering="observed_at")
    def as_of(self, cluster: Cluster) -> SafeString:
        return display.ago(cluster.observed_at)

    def get_actions(self, request: HttpRequest) -> Any:
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)  # one cluster at a time, with its name typed
        return actions

    # --- one cluster ------------------------------------------------------------------------------

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = dict(extra_context or {})
        cluster: Any = self.get_object(request, object_id)
        if cluster is not None and self.has_view_permission(request, cluster):
            may_change = self.has_change_permission(request, cluster)
            context |= tabs.context_of(cluster, request, may_change=may_change)
            context |= {
                "cluster": cluster,
                "may_operate": permissions.may(request.user, cluster, permissions.OPERATE),
                "health": health_badge(cluster),
                "lines": lines.of(cluster, request.user),
                "buttons": buttons.of(cluster, request.user),
            }
            # Un-adopting is on the tab Access, in its own words; adopting is no form like this one.
            context |= {"show_delete": False, "show_save_and_add_another": False}
            if context["tab"] != tabs.SETTINGS:
                context |= {"show_save": False, "show_save_and_continue": False}
                context |= {"show_close": False}
        response: HttpResponse = super().change_view(request, object_id, form_url, context)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        given = form.cleaned_data
        changes = {name: given[name] for name in form.changed_data if name != "change_reason"}
        if changes:
            adoption.edit(cluster=obj, changes=changes, reason=given["change_reason"])

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        messages.success(request, _("Saved."))
        return HttpResponseRedirect(self._page(obj))

    def _page(self, cluster: Cluster, tab: str = "") -> str:
        url = reverse("admin:clusters_cluster_change", args=[cluster.pk])
        return f"{url}?tab={tab}" if tab else url

    # --- other pages ------------------------------------------------------------------------------

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        own = [
            path("add/check/<str:step>/", wrap(self.check_view), name="clusters_cluster_check"),
            path(
                "<int:pk>/credential/",
                wrap(self.credential_view),
                name="clusters_cluster_credential",
            ),
            path(
                "<int:pk>/credential/check/<str:step>/",
                wrap(self.check_view),
                name="clusters_cluster_credential_check",
            ),
            path(
                "<int:pk>/capabilities/",
                wrap(self.capabilities_view),
                name="clusters_cluster_capabilities",
            ),
        ]
        return [*own, *super().get_urls()]

    def _find(self, request: HttpRequest, pk: int | str, action: str) -> Cluster:
        """The cluster, 404 when it may not be seen and 403 when this may not be done."""
        cluster: Any = self.get_object(request, str(pk))
        if cluster is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))
        if not permissions.may(request.user, cluster, action):
            note_refusal(cluster)
            raise PermissionDenied
        found: Cluster = cluster
        return found

    def add_view(
        self,
        request: HttpRequest,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Adopt: what was given is checked, shown, and stored only when the person confirms."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return _SECRETS(self._adopt)(request)

    def _adopt(self, request: HttpRequest) -> HttpResponse:
        user = cast("User", request.user)
        posted = request.method == "POST"
        confirmed = posted and request.POST.get("do") == "adopt"
        source_form = SourceForm(request.POST or None, request.FILES or None)
        details_form = DetailsForm(request.POST if confirmed else None, user=user)
        findings: Findings | None = None
        if posted and source_form.is_valid():
            source = source_form.to_source()
            if not confirmed:
                findings = adoption.check(source)
            elif details_form.is_valid():
                try:
                    cluster = adoption.adopt(
                        source=source, details=details_form.to_details(), user=user
                    )
                except SAID as error:
                    _tell(source_form, details_form, error)
                else:
                    text = _("Cluster %(name)s is adopted; its figures appear within a minute.")
                    messages.success(request, text % {"name": cluster.name})
                    return HttpResponseRedirect(self._page(cluster))
        check_url = reverse("admin:clusters_cluster_check", args=["STEP"])
        return self._check_page(
            request,
            "admin/clusters/cluster/adopt.html",
            {
                "title": _("Adopt a cluster"),
                # The head shows this title; of ``opts`` it would make the name of the list.
                "opts": None,
                "source_form": source_form,
                "details_form": details_form,
                "findings": findings,
                "report": capabilities.shown(findings.capabilities) if findings else [],
                "check_url": check_url,
                "confirmed": confirmed,
            },
        )

    def credential_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Replace the credential; it must lead to the same cluster."""
        return _SECRETS(self._replace_credential)(request, pk)

    def _replace_credential(self, request: HttpRequest, pk: int) -> HttpResponse:
        cluster = self._find(request, pk, permissions.CHANGE)
        source_form = SourceForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and source_form.is_valid():
            try:
                adoption.replace_credential(
                    cluster=cluster,
                    source=source_form.to_source(),
                    reason=request.POST.get("reason", ""),
                )
            except SAID as error:
                _tell(source_form, None, error)
            else:
                messages.success(request, _("The credential is replaced."))
                return HttpResponseRedirect(self._page(cluster, "access"))
        return self._check_page(
            request,
            "admin/clusters/cluster/credential.html",
            {
                "title": _("Replace the credential of %(name)s") % {"name": cluster.name},
                "cluster": cluster,
                "original": cluster,
                "source_form": source_form,
                "check_url": reverse(
                    "admin:clusters_cluster_credential_check", args=[cluster.pk, "STEP"]
                ),
            },
        )

    def _check_page(
        self, request: HttpRequest, template: str, values: dict[str, Any]
    ) -> TemplateResponse:
        steps = [{"key": key, "label": label} for key, label, _action in STEPS]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "steps": steps,
            "size_limit": SIZE_LIMIT,
            **values,
        }
        return TemplateResponse(request, template, context)

    def check_view(self, request: HttpRequest, step: str, pk: int | None = None) -> HttpResponse:
        """One step of the check, for the page that shows them live; nothing is kept."""
        return _SECRETS(self._check)(request, step, pk)

    def _check(self, request: HttpRequest, step: str, pk: int | None) -> HttpResponse:
        if pk is None and not self.has_add_permission(request):
            raise PermissionDenied
        cluster = None if pk is None else self._find(request, pk, permissions.CHANGE)
        form = SourceForm(request.POST, request.FILES)
        if request.method != "POST" or step not in STEP_KEYS or not form.is_valid():
            sentences = [str(each[0]) for each in form.errors.values()]
            detail = sentences[0] if sentences else _("There is nothing to check.")
            return JsonResponse({"detail": detail}, status=400)
        return JsonResponse(_one_step(form.to_source(), step, cluster))

    def capabilities_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask the cluster again what we may do there."""
        cluster = self._find(request, pk, permissions.OPERATE)
        if request.method == "POST":
            try:
                rows = adoption.refresh_capabilities(cluster=cluster)
            except SAID as error:
                messages.error(request, error.message)
            else:
                messages.success(request, capabilities.summary(rows))
        return HttpResponseRedirect(self._page(cluster, "access"))

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Un-adopt: show what goes and what stays, and let the name be typed."""
        cluster = self._find(request, object_id, permissions.VIEW)
        if not self.has_delete_permission(request, cluster):
            note_refusal(cluster)
            raise PermissionDenied
        form = UnadoptForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                removal.unadopt(
                    cluster=cluster,
                    confirmation=form.cleaned_data["confirm"],
                    reason=form.cleaned_data["reason"],
                )
            except InvalidInput as error:
                form.add_error("confirm", error.message)
            except SAID as error:
                form.add_error(None, error.message)
            else:
                text = _("Cluster %(name)s is un-adopted; the cluster itself was not touched.")
                messages.success(request, text % {"name": cluster.name})
                return HttpResponseRedirect(reverse("admin:clusters_cluster_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "title": _("Un-adopt %(name)s") % {"name": cluster.name},
            "opts": self.opts,
            "media": self.media,
            "cluster": cluster,
            "original": cluster,
            "form": form,
            "blockers": removal.blockers_of(cluster),
            "consequences": removal.consequences_of(cluster),
            "nodes": cluster.nodes.count(),
        }
        return TemplateResponse(request, "admin/clusters/cluster/unadopt.html", context)


def _one_step(source: Source, step: str, cluster: Cluster | None) -> dict[str, Any]:
    accept = adoption.refuse_known if cluster is None else adoption.same_cluster(cluster)
    run = Check(source, accept_uid=accept)
    # A kubeconfig that cannot be read comes first and alone matters.
    found = next(run.run(only=step))
    return {
        "key": found.key,
        "status": found.status,
        "detail": found.detail,
        "url": getattr(run.findings.error, "url", ""),
        "capabilities": [
            {name: row[name] for name in ("label", "ok", "why", "planned")}
            for row in capabilities.shown(run.findings.capabilities)
        ],
        "suggested_name": _suggested_name(run.findings) if step == "parse" else "",
    }


def _suggested_name(findings: Findings) -> str:
    name = findings.connection.cluster_name if findings.connection else ""
    return "".join(char if char.isalnum() or char in ".-" else "-" for char in name.lower())[:63]


def _tell(source_form: SourceForm, details_form: DetailsForm | None, error: BeidouError) -> None:
    """Put an error at the field it is about, or above the form."""
    told = False
    for name, sentence in getattr(error, "fields", {}).items():
        for form in (source_form, details_form):
            if form is not None and name in form.fields:
                form.add_error(name, sentence)
                told = True
    if told:
        return
    url = getattr(error, "url", "")
    text = format_html('{} <a href="{}">{}</a>', error.message, url, _("Open it")) if url else ""
    source_form.add_error(None, text or error.message)
