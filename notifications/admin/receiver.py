"""Receivers: written, tested, their secrets never shown."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import action
from unfold.decorators import display as column

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ObjectPermissionAdmin
from beidou.base.errors import SAID
from notifications.admin.forms import ReceiverForm
from notifications.models import Delivery, Receiver
from notifications.services import belonging, sending
from notifications.services.receivers import SECRETS


class OfTeams(ObjectPermissionAdmin):
    """Pages of what owners of clusters write for their teams."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return belonging.may_add(request.user)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def get_form(
        self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any
    ) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        return type("FormOfUser", (form,), {"user": request.user})


@admin.register(Receiver)
class ReceiverAdmin(OfTeams):
    form: Any = ReceiverForm
    list_display = ("name", "channel", "team_shown", "language", "is_on", "tested", "test_result")
    list_filter = (("channel", ChoicesCheckboxFilter), "enabled")
    list_select_related = ("team",)
    search_fields = ("name", "team__name")
    readonly_fields = ("tested_at", "test_result")

    def empty_list(self, request: HttpRequest) -> EmptyList:
        text = _("No receiver yet. One is a way to tell somebody: mailboxes, a webhook, a chat.")
        if not self.has_add_permission(request):
            return EmptyList(text)
        return EmptyList(text, reverse("admin:notifications_receiver_add"), _("Add a receiver"))

    actions = ("test",)
    actions_submit_line = ("save_and_test",)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": (("name", "team"), ("channel", "language"), "enabled")}),
        (gettext_lazy("E-mail"), {"fields": ("addresses",)}),
        (gettext_lazy("Webhook"), {"fields": ("webhook_url", "secret")}),
        (
            gettext_lazy("Chat"),
            {
                "fields": ("service_url",),
                "description": gettext_lazy("Stored encrypted; never shown again."),
            },
        ),
        (gettext_lazy("Test"), {"fields": (("tested_at", "test_result"),)}),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        # A list decrypts no secrets; the form of one loads them.
        rows = super().get_queryset(request)
        match = request.resolver_match
        is_list = match is not None and str(match.url_name).endswith("changelist")
        return rows.defer(*SECRETS) if is_list else rows

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look sees no field of a secret, not even an empty one."""
        if obj is None or self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        shown = ("name", "team", "channel", "language", "enabled", "addresses", "webhook_url")
        return [(None, {"fields": (*shown, *self.readonly_fields)})]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        sending.hurry(obj)

    @column(description=gettext_lazy("team"), ordering="team__name")
    def team_shown(self, receiver: Receiver) -> str:
        return str(receiver.team or _("the fleet"))

    @column(description=gettext_lazy("enabled"), ordering="enabled")
    def is_on(self, receiver: Receiver) -> SafeString:
        return display.yes_no(receiver.enabled, _("enabled"), _("off"))

    @column(description=gettext_lazy("last tested"), ordering="tested_at")
    def tested(self, receiver: Receiver) -> SafeString:
        return display.ago(receiver.tested_at)

    @admin.action(description=gettext_lazy("Send a test message"), permissions=["change"])
    def test(self, request: HttpRequest, queryset: QuerySet[Receiver]) -> None:
        rows, _left_out = self.for_action(request, queryset[:10], permissions.CHANGE)
        for receiver in rows:
            self._test(request, receiver)

    @action(description=gettext_lazy("Save and send a test message"), permissions=["save_and_test"])
    def save_and_test(self, request: HttpRequest, obj: Receiver) -> None:
        # After the commit: nobody is talked to while the database waits.
        transaction.on_commit(lambda: self._test(request, obj))

    def has_save_and_test_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request)

    def _test(self, request: HttpRequest, receiver: Receiver) -> None:
        try:
            delivery = sending.send_test(receiver=receiver, acting_user=request.user)
        except SAID as error:
            messages.error(request, error.message)
            return
        if delivery.status == Delivery.Status.SENT:
            text = _("The test message to %(receiver)s was sent.")
            messages.success(request, text % {"receiver": receiver})
        else:
            text = _("The test message to %(receiver)s was not sent: %(why)s")
            messages.error(request, text % {"receiver": receiver, "why": delivery.last_error})
