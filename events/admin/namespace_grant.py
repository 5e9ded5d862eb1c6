"""Grants of namespaces: which team sees the events of which namespaces, beside the grants of roles
on clusters and by the same people's hands."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminTextareaWidget

from beidou.base import display
from beidou.base.admin import EmptyList, ago_column
from beidou.base.admin.filters import VisibleRowFilter
from beidou.base.errors import Conflict, InvalidInput
from clusters.admin.granting import GrantsAdmin
from clusters.services import grants
from events.models import NamespaceGrant
from events.services import namespaces

_GRANTED = ago_column("created_at", gettext_lazy("granted"))

if TYPE_CHECKING:
    _Form = forms.ModelForm[NamespaceGrant]
else:  # Django's own class takes no parameter when it runs
    _Form = forms.ModelForm


class NamespaceGrantForm(_Form):
    """Many at once; ``user`` is set by the page, which knows who asks."""

    user: Any = None
    namespaces = forms.CharField(
        label=gettext_lazy("Namespaces"),
        help_text=gettext_lazy(
            "One per line. The team sees their events, and nothing else of the cluster."
        ),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 10, "spellcheck": "false"}),
    )

    class Meta:
        model = NamespaceGrant
        fields = ("team", "cluster")

    def clean_namespaces(self) -> list[str]:
        try:
            return namespaces.checked(self.cleaned_data["namespaces"].splitlines())
        except InvalidInput as error:
            raise forms.ValidationError(error.message) from None

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cluster := cleaned.get("cluster"):
            grants.require_may_grant(self.user, cluster)
        if cluster and not self.errors:
            try:
                namespaces.new(cleaned["team"], cluster, cleaned["namespaces"])
            except Conflict as error:
                self.add_error("namespaces", error.message)
        return cleaned


@admin.register(NamespaceGrant)
class NamespaceGrantAdmin(GrantsAdmin):
    list_display = ("team", "cluster_column", "namespace", _GRANTED, "state")
    list_filter = (("cluster", VisibleRowFilter),)
    search_fields = ("team__name", "cluster__name", "namespace")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return namespaces.with_state(super().get_queryset(request))

    @column(description=gettext_lazy("older events"))
    def state(self, grant: Any) -> SafeString:
        if grant.follow:
            return display.badge(_("follow"), display.BUSY, icon="hourglass_top")
        return display.badge(_("seen"), display.GOOD, icon="check")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No team was granted a namespace yet. Whoever has a role on a cluster sees all.")
            if self.has_add_permission(request)
            else _("You see the grants on the clusters that you own.")
        )

    # --- forms ------------------------------------------------------------------------------------

    def get_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is None:
            return ("team", "cluster", "namespaces")
        return ("team", "cluster", "namespace", "created_at", "state")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("created_at", "state")

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        if obj is None:
            kwargs["form"] = NamespaceGrantForm
        return super().get_form(request, obj, change, **kwargs)

    # --- writing: the service audits --------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        made = namespaces.give(
            team=obj.team,
            cluster=obj.cluster,
            namespaces=form.cleaned_data["namespaces"],
            user=request.user,
        )
        obj.pk, obj.namespace, obj.made = made[0].pk, made[0].namespace, len(made)

    def response_add(
        self, request: HttpRequest, obj: Any, post_url_continue: str | None = None
    ) -> HttpResponse:
        if obj.made == 1:
            return super().response_add(request, obj, post_url_continue)
        sentence = ngettext(
            "%(team)s now sees the events of %(count)d namespace of %(cluster)s.",
            "%(team)s now sees the events of %(count)d namespaces of %(cluster)s.",
            obj.made,
        )
        words = {"team": obj.team, "count": obj.made, "cluster": obj.cluster}
        messages.success(request, sentence % words)
        if "_addanother" in request.POST:
            return HttpResponseRedirect(request.path)
        return self.response_post_save_add(request, obj)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        namespaces.take(rows=[obj], user=request.user)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        namespaces.take(rows=queryset.select_related("team", "cluster"), user=request.user)
