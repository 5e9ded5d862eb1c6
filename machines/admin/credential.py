"""SSH credentials: written, tested, never shown."""

from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from beidou.base import permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin, ago_column
from machines.admin.answers import said_on_page
from machines.admin.forms import CredentialForm
from machines.models import SshCredential
from machines.services import credentials

_TESTED = ago_column("tested_at", gettext_lazy("last tested"))


@admin.register(SshCredential)
class CredentialAdmin(ObjectPermissionAdmin):
    form: Any = CredentialForm
    list_display = ("name", "team", "user", "port", "become", _TESTED, "test_result")
    list_select_related = ("team",)
    search_fields = ("name", "user")
    readonly_fields = ("tested_at", "test_result")
    fieldsets: ClassVar[Any] = (
        (None, {"fields": (("name", "team"), ("user", "port"))}),
        (
            gettext_lazy("Secrets"),
            {
                "fields": ("private_key", "passphrase", "password", "forget"),
                "description": gettext_lazy("Stored encrypted; never shown again."),
            },
        ),
        (gettext_lazy("Privilege"), {"fields": ("become", "become_password")}),
        (gettext_lazy("Test"), {"fields": ("test_machine", ("tested_at", "test_result"))}),
    )

    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(
            _("No SSH credential yet. The portal reaches machines with one: a key or a password.")
            if self.has_add_permission(request)
            else _("You see the SSH credentials of your teams.")
        )

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look sees no field of a secret, not even an empty one."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        return [
            (None, {"fields": ("name", "team", "user", "port", "become", *self.readonly_fields)})
        ]

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> "type[forms.ModelForm[Any]]":
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("CredentialFormOfUser", (form,), {"acting_user": request.user})

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "team":
            kwargs["queryset"] = permissions.teams_of(request.user)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        machine = form.cleaned_data.get("test_machine")
        if machine is not None:
            # After the commit: no host is talked to while the database waits.
            transaction.on_commit(lambda: self._test(request, obj, machine))

    def _test(self, request: HttpRequest, credential: SshCredential, machine: Any) -> None:
        with said_on_page(request):
            result = credentials.test(
                credential=credential, machine=machine, acting_user=request.user
            )
            for step in result.steps:
                say = messages.success if step.is_ok else messages.error
                say(request, step.message)
            if result.fingerprint:
                messages.info(
                    request,
                    _("Host key of %(machine)s: %(fingerprint)s")
                    % {"machine": machine, "fingerprint": result.fingerprint},
                )
