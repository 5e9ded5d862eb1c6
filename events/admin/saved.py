"""Saved searches: made on the event centre, renamed, shared and deleted here."""

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.decorators import display as column
from unfold.widgets import UnfoldAdminTextareaWidget

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ago_column
from beidou.base.errors import InvalidInput
from events.models import SavedSearch
from events.services import searches

_CREATED = ago_column("created_at", gettext_lazy("created"))
MENU = 100
"""Of one person's own, and of those that others share."""

if TYPE_CHECKING:
    _Form = forms.ModelForm[SavedSearch]
else:  # Django's own class takes no parameter when it runs
    _Form = forms.ModelForm


def menu(user: Any) -> dict[str, list[SavedSearch]]:
    """What the event centre offers; an administrator is not offered what others keep to
    themselves."""
    rows = permissions.visible_to(user, SavedSearch.objects.select_related("owner"))
    own = rows.filter(owner=user.pk)[:MENU]
    others = rows.filter(shared=True).exclude(owner=user.pk)[:MENU]
    return {"own": list(own), "others": list(others)}


def address_of(search: str) -> str:
    return f"{reverse('admin:events_event_changelist')}?{search}"


class SavedSearchForm(_Form):
    user: ClassVar[Any]

    class Meta:
        model = SavedSearch
        fields = ("name", "search", "shared")
        widgets: ClassVar[dict[str, Any]] = {
            "search": UnfoldAdminTextareaWidget(attrs={"rows": 2, "spellcheck": "false"}),
        }

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        try:
            searches.validate(self.instance, self.user)
        except InvalidInput as error:
            for name, sentence in error.fields.items():
                self.add_error(name if name in self.fields else None, sentence)


@admin.register(SavedSearch)
class SavedSearchAdmin(ObjectPermissionAdmin):
    form: Any = SavedSearchForm
    list_display = ("name", "opens", "owner_shown", "is_shared", _CREATED)
    list_filter = ("shared",)
    list_select_related = ("owner",)
    search_fields = ("name", "search", "owner__username")
    readonly_fields = ("opens", "owner_shown", "created_at")
    fields = ("name", "search", "shared", "opens", "owner_shown", "created_at")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("owner")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No saved search yet. Search in the event centre, then save the search there."),
            reverse("admin:events_event_changelist"),
            _("To the event centre"),
        )

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("FormOfUser", (form,), {"user": request.user})

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The event centre has the button: what is saved there was looked at first."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    @column(description=gettext_lazy("events"))
    def opens(self, row: SavedSearch) -> SafeString:
        return format_html(
            '<a href="{}" class="text-link">{}</a>', address_of(row.search), _("Open the search")
        )

    @column(description=gettext_lazy("owner"), ordering="owner__username")
    def owner_shown(self, row: SavedSearch) -> str:
        return str(row.owner)

    @column(description=gettext_lazy("shared"), ordering="shared")
    def is_shared(self, row: SavedSearch) -> SafeString:
        if row.shared:
            return display.badge(_("shared"), display.GOOD, icon="group")
        return display.badge(_("private"), display.NEUTRAL, icon="lock")
