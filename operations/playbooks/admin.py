"""The pages of sources, their revisions and the playbooks that are offered."""

import json
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import action
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from beidou.base import audit, display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ReadOnlyAdmin
from beidou.base.errors import SAID, InvalidInput
from clusters.models import Cluster
from machines.admin.answers import said_on_page
from machines.models import Machine
from operations.kinds.base import KINDS
from operations.playbooks.declaration import Part, Playbook
from operations.playbooks.models import PlaybookSource, SitePlaybook, SourceRevision
from operations.services import playbook_sources

if TYPE_CHECKING:
    _SourceForm = forms.ModelForm[PlaybookSource]
else:
    _SourceForm = forms.ModelForm

REVISIONS_SHOWN = 10


class SourceForm(_SourceForm):
    """Secrets go in and never come out: an empty field keeps what is stored."""

    class Meta:
        model = PlaybookSource
        fields = (
            "name", "kind", "location", "ref", "subfolder", "user", "secret", "host_keys", "teams",
            "enabled",
        )  # fmt: skip
        widgets: ClassVar[dict[str, Any]] = {
            "secret": UnfoldAdminTextareaWidget(attrs={"rows": 3, "autocomplete": "off"}),
            "host_keys": UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._secret = self.instance.secret
        if "secret" in self.fields:
            self.initial["secret"] = ""
            if self._secret:
                self.fields["secret"].help_text = _("Stored; leave empty to keep it.")

    def _post_clean(self) -> None:
        """Put back the secret that was left empty, after the form set it on the instance."""
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        stored = PlaybookSource.objects.filter(pk=self.instance.pk).first()
        self.instance.secret = self._secret
        given = {"secret": self.cleaned_data.get("secret", "")}
        playbook_sources.apply_secrets(self.instance, given)
        try:
            playbook_sources.validate(self.instance, stored=stored)
        except InvalidInput as error:
            for name, sentence in (error.fields or {"": error.message}).items():
                self.add_error(name if name in self.fields else None, sentence)


@admin.register(PlaybookSource)
class SourceAdmin(ObjectPermissionAdmin):
    form: Any = SourceForm
    list_display = ("name", "kind", "location", "ref", "released_shown", "read_shown", "trouble",
                    "enabled")  # fmt: skip
    list_select_related = ("released",)
    search_fields = ("name", "location")
    actions = ("read_chosen",)
    actions_submit_line = ("save_and_read",)
    readonly_fields = ("released_shown", "read_shown", "trouble", "revisions_shown")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": (("name", "kind"), "location", ("ref", "subfolder"), "enabled")}),
        (
            gettext_lazy("Access"),
            {
                "fields": ("user", "secret", "host_keys"),
                "description": gettext_lazy("Stored encrypted; never shown again."),
            },
        ),
        (gettext_lazy("Who may run its playbooks"), {"fields": ("teams",)}),
        (
            gettext_lazy("Content"),
            {"fields": ("released_shown", "read_shown", "trouble", "revisions_shown")},
        ),
    )

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No source yet. One is a folder or a git repository with playbooks of your own."),
            reverse("admin:operations_playbooksource_add"),
            _("Add a source"),
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request).select_related("released")
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("changelist")
        hidden = ("released__archive", "secret") if is_list else ("released__archive",)
        return rows.defer(*hidden)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        """The button that reads it is wanted most where a source is added."""
        context = dict(extra_context or {})
        if object_id is None:
            page: Any = super()
            context["actions_submit_line"] = page.get_actions_submit_line(request, None)
        return super().changeform_view(request, object_id, form_url, context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look sees no field of a secret, not even an empty one."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        return [
            (title, {"fields": ("user", "host_keys")} if "secret" in group["fields"] else group)
            for title, group in self.fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*self.readonly_fields, "name") if obj else self.readonly_fields

    # --- deleting: refused before anybody is asked to confirm, and once more when it is done ---
    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its revisions and playbooks go with it, though nobody may delete one of those alone."""
        playbook_sources.refuse_deletion(_sources(objs))
        deleted, counts, needed, protected = super().get_deleted_objects(objs, request)
        own = {str(each._meta.verbose_name) for each in (SourceRevision, SitePlaybook)}
        return deleted, counts, {each for each in needed if str(each) not in own}, protected

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        with said_on_page(request):
            page: HttpResponse = super().delete_view(request, object_id, extra_context)
            return page
        return HttpResponseRedirect(
            reverse("admin:operations_playbooksource_change", args=[object_id])
        )

    def response_action(self, request: HttpRequest, queryset: Any, *more: Any) -> Any:
        with said_on_page(request):
            return super().response_action(request, queryset, *more)
        return HttpResponseRedirect(request.get_full_path())

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with audit.entries_last():
            playbook_sources.refuse_deletion(_sources([obj]))
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with audit.entries_last():
            playbook_sources.refuse_deletion(_sources(queryset))
            super().delete_queryset(request, queryset)

    @column(description=gettext_lazy("released"))
    def released_shown(self, source: PlaybookSource) -> SafeString | str:
        return _link(source.released) if source.released else display.NOTHING

    @column(description=gettext_lazy("last read"), ordering="read_at")
    def read_shown(self, source: PlaybookSource) -> SafeString:
        if source.is_being_read:
            return display.badge(_("being read"), display.BUSY)
        if source.was_not_read:
            return display.badge(_("was not read; read it again"), display.WARNING)
        return display.ago(source.read_at)

    @column(description=gettext_lazy("problem"))
    def trouble(self, source: PlaybookSource) -> SafeString | str:
        if not source.problem:
            return display.NOTHING
        return format_html('<span class="bd-tone-bad">{}</span>', source.problem)

    @column(description=gettext_lazy("revisions"))
    def revisions_shown(self, source: PlaybookSource) -> SafeString | str:
        if source.pk is None:
            return display.NOTHING
        rows = list(source.revisions.defer("archive").order_by("-read_at")[:REVISIONS_SHOWN])
        if not rows:
            return _("None yet: save and read it.")
        lines = (
            (_link(row), display.ago(row.read_at),
             _("released") if row.pk == source.released_id else "")
            for row in rows
        )  # fmt: skip
        return format_html_join("", "<p>{} {} {}</p>", lines)

    @admin.action(description=gettext_lazy("Read now"), permissions=["change"])
    def read_chosen(self, request: HttpRequest, queryset: QuerySet[PlaybookSource]) -> None:
        rows, _left_out = self.for_action(request, queryset, permissions.CHANGE)
        for source in rows:
            self._ask(request, source)

    @action(description=gettext_lazy("Save and read"), permissions=["save_and_read"])
    def save_and_read(self, request: HttpRequest, obj: PlaybookSource) -> None:
        self._ask(request, obj)

    def has_save_and_read_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request)

    def _ask(self, request: HttpRequest, source: PlaybookSource) -> None:
        playbook_sources.ask(source, acting_user=request.user)  # type: ignore[arg-type]
        messages.success(
            request, _("%(source)s is read by a worker within moments.") % {"source": source}
        )


def _sources(rows: Any) -> QuerySet[PlaybookSource]:
    return PlaybookSource.objects.filter(pk__in=[each.pk for each in rows])


def _link(revision: SourceRevision) -> SafeString:
    url = reverse("admin:operations_sourcerevision_change", args=[revision.pk])
    return format_html('<a class="op-link" href="{}">{}</a>', url, revision.short)


class ReleaseForm(forms.Form):
    digest = forms.CharField(widget=forms.HiddenInput)
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=gettext_lazy("Kept in the history and the audit trail."),
    )


@admin.register(SourceRevision)
class RevisionAdmin(ReadOnlyAdmin):
    """What was read; one is looked at and released on its own page."""

    list_display = ("named", "source", "read_shown", "files", "size_shown", "state", "used")
    list_display_links = ("named",)
    list_filter = ("source",)
    list_select_related = ("source",)
    search_fields = ("revision", "digest", "source__name")

    class Media:
        css = {"all": ["operations/operations.css"]}

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(_("Nothing was read yet. Add a source of playbooks and read it."))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).defer("archive", "source__secret")
        counted: QuerySet[Any] = rows.annotate(operations=Count("runs"))
        return counted

    def get_urls(self) -> list[Any]:
        release = path(
            "<int:pk>/release/",
            self.admin_site.admin_view(self.release_view),
            name="operations_sourcerevision_release",
        )
        return [release, *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The page on which it is looked at; ``release_view`` takes what is posted there."""
        revision = self._find(request, object_id)
        if request.method == "POST":
            raise PermissionDenied
        return self._page(request, revision, ReleaseForm(initial={"digest": revision.digest}))

    def release_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        revision = self._find(request, str(pk))
        form = ReleaseForm(request.POST or None, initial={"digest": revision.digest})
        if request.method == "POST" and form.is_valid():
            try:
                playbook_sources.release(
                    revision,
                    digest=form.cleaned_data["digest"],
                    reason=form.cleaned_data["reason"],
                    acting_user=request.user,  # type: ignore[arg-type]
                )
            except SAID as error:
                form.add_error(None, error.message)
            else:
                text = _("The playbooks of %(revision)s are offered from now on.")
                messages.success(request, text % {"revision": revision})
                url = reverse("admin:operations_playbooksource_change", args=[revision.source_id])
                return HttpResponseRedirect(url)
        return self._page(request, revision, form)

    def _find(self, request: HttpRequest, key: str) -> SourceRevision:
        revision: Any = self.get_object(request, key)
        if revision is None:
            self._get_obj_does_not_exist_redirect(request, self.opts, key)
        return revision  # type: ignore[no-any-return]

    def _page(
        self, request: HttpRequest, revision: SourceRevision, form: ReleaseForm
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(revision),
            "media": self.media,
            "original": revision,
            "revision": revision,
            "is_released": revision.source.released_id == revision.pk,
            "playbooks": [
                (each, _facts(each), _parameters(each)) for each in revision.declared.playbooks
            ],
            "changes": playbook_sources.changes(revision),
            "form": form,
        }
        return TemplateResponse(request, "admin/operations/sourcerevision/review.html", context)

    @column(description=gettext_lazy("revision"), ordering="revision")
    def named(self, revision: SourceRevision) -> str:
        return revision.short

    @column(description=gettext_lazy("read"), ordering="read_at")
    def read_shown(self, revision: SourceRevision) -> SafeString:
        return display.ago(revision.read_at)

    @column(description=gettext_lazy("size"), ordering="size")
    def size_shown(self, revision: SourceRevision) -> str:
        return f"{revision.size / 1024:.0f} KiB"

    @column(description=gettext_lazy("state"))
    def state(self, revision: SourceRevision) -> SafeString:
        if revision.source.released_id == revision.pk:
            return display.badge(_("released"), display.GOOD)
        if revision.released_at:
            return display.badge(_("was released"), display.NEUTRAL)
        return display.badge(_("to be looked at"), display.WARNING)

    @column(description=gettext_lazy("operations"))
    def used(self, revision: Any) -> int:
        return int(revision.operations)


def _facts(playbook: Playbook) -> list[tuple[str, str]]:
    """Label and text of what is declared besides the parameters."""
    yes, no = _("yes"), _("no")
    lines = [
        (_("Playbook"), playbook.playbook),
        (_("Proved by"), playbook.verify),
        (_("Right needed"), str(permissions.ACTION_LABELS[playbook.permission])),
        (_("Changes machines"), yes if playbook.changes_machines else no),
        (_("Destructive"), yes if playbook.destructive else no),
        (_("May be repeated unasked"), yes if playbook.idempotent else no),
        (_("Becomes root"), yes if playbook.become else no),
        (
            _("Machines that are"),
            ", ".join(str(Machine.State(state).label) for state in playbook.states),
        ),
        (
            _("Groups"),
            "; ".join(f"{name}: {', '.join(roles)}" for name, roles in playbook.groups.items()),
        ),
        (_("Machines per batch"), str(playbook.serial or "")),
        (_("Failed machines allowed, %"), str(playbook.max_failed_percent)),
        (_("Time limit, minutes"), str(playbook.timeout_minutes)),
    ]
    return [(label, text) for label, text in lines if text]


def _parameters(playbook: Playbook) -> list[tuple[str, str, str, str]]:
    """Name, type, what it allows, description."""
    required = playbook.parameters.required
    return [
        (
            name,
            _("secret") if part.is_secret else part.type,
            "; ".join(_limits(part, is_required=name in required)),
            part.description or part.title,
        )
        for name, part in playbook.parameters.properties.items()
    ]


def _limits(part: Part, *, is_required: bool) -> list[str]:
    shown = part.model_dump(mode="json", exclude_unset=True)
    hidden = ("type", "title", "description", "format", "writeOnly")
    named = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in shown.items()
        if name not in hidden
    ]
    return [*([_("required")] if is_required else []), *named]


@admin.register(SitePlaybook)
class PlaybookAdmin(ReadOnlyAdmin):
    """What is offered, for everybody to look at."""

    list_display = ("title", "reference", "description", "offered")
    list_display_links = ("title",)
    list_select_related = ("source__released",)
    list_filter = ("source",)
    search_fields = ("name", "title", "description", "source__name")
    fields: ClassVar[Any] = (
        "title", "reference", "description", "offered", "revision", "facts", "parameters", "begin",
    )  # fmt: skip
    readonly_fields = fields

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No playbook yet. Administrators release those of the site from their sources.")
        )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request).select_related("source__released")
        return rows.defer("source__secret", "source__released__archive")

    @column(description=gettext_lazy("name"), ordering="name")
    def reference(self, playbook: SitePlaybook) -> str:
        return playbook.reference

    @column(description=gettext_lazy("offered"))
    def offered(self, playbook: SitePlaybook) -> SafeString:
        source = playbook.source
        if playbook.is_offered and source.enabled and source.released_id:
            return display.badge(_("offered"), display.GOOD)
        return display.badge(_("withdrawn"), display.NEUTRAL)

    @column(description=gettext_lazy("revision"))
    def revision(self, playbook: SitePlaybook) -> str:
        released = playbook.source.released
        return released.revision if released else display.NOTHING

    @column(description=gettext_lazy("what it does"))
    def facts(self, playbook: SitePlaybook) -> SafeString:
        return format_html_join("", "<p>{}: {}</p>", _facts(playbook.declared))

    @column(description=gettext_lazy("parameters"))
    def parameters(self, playbook: SitePlaybook) -> SafeString | str:
        rows = _parameters(playbook.declared)
        if not rows:
            return display.NOTHING
        return format_html_join("", "<p><code>{}</code> {} {} {}</p>", rows)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        if permissions.may_anywhere(request.user, Cluster, permissions.OPERATE):
            return self.fields
        return [name for name in self.fields if name != "begin"]

    @column(description=gettext_lazy("run it"))
    def begin(self, playbook: SitePlaybook) -> SafeString:
        query = urlencode({"kind": "RunPlaybook", "playbook": playbook.reference})
        url = f"{reverse('operations:start')}?{query}"
        title = KINDS["RunPlaybook"].title
        return format_html('<a class="op-link" href="{}">{} …</a>', url, title)
