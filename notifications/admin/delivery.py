"""Messages: the log of what was sent, to whom, and what went wrong."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from unfold.contrib.filters.admin import ChoicesCheckboxFilter
from unfold.decorators import display as column

from beidou.base import display, permissions
from beidou.base.admin import EmptyList, ReadOnlyAdmin
from beidou.base.admin.filters import VisibleRowFilter
from beidou.base.admin.trail import MomentFilter
from beidou.base.errors import BeidouError
from notifications.admin.rule import severity_badge
from notifications.models import Delivery
from notifications.services import content, sending

_TONES = {
    Delivery.Status.WAITING: (display.NEUTRAL, "schedule"),
    Delivery.Status.SENDING: (display.BUSY, ""),
    Delivery.Status.SENT: (display.GOOD, ""),
    Delivery.Status.FAILED: (display.WARNING, "replay"),
    Delivery.Status.GIVEN_UP: (display.BAD, ""),
}
_DEFERRED = ("receiver__secret", "receiver__service_url")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    def empty_list(self, request: HttpRequest) -> EmptyList:
        return EmptyList(_("No message yet. What rules tell to receivers is logged here."))

    list_display = (
        "created",
        "status_shown",
        "receiver",
        "what",
        "count",
        "tries_shown",
        "last_error",
        "sent",
    )
    list_display_links = ("what",)
    list_filter = (
        ("status", ChoicesCheckboxFilter),
        ("receiver", VisibleRowFilter),
        ("severity", ChoicesCheckboxFilter),
        "is_test",
        ("created_at", MomentFilter),
    )
    search_fields = ("receiver__name", "key", "last_error")
    actions = ("send_again",)
    fields: ClassVar[Any] = (
        "receiver",
        "status_shown",
        "severity_shown",
        "count",
        "text",
        "is_test",
        "key",
        "tries_shown",
        "last_error",
        "created_at",
        "tried_at",
        "next_try_at",
        "sent_at",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows.select_related("receiver__team").defer(*_DEFERRED)

    def has_send_permission(self, request: HttpRequest) -> bool:
        return permissions.may_anywhere(request.user, Delivery, permissions.CHANGE)

    @column(description=gettext_lazy("created"), ordering="created_at")
    def created(self, delivery: Delivery) -> SafeString:
        return display.ago(delivery.created_at)

    @column(description=gettext_lazy("sent"), ordering="sent_at")
    def sent(self, delivery: Delivery) -> SafeString:
        return display.ago(delivery.sent_at)

    @column(description=gettext_lazy("status"), ordering="status")
    def status_shown(self, delivery: Delivery) -> SafeString:
        tone, icon = _TONES[Delivery.Status(delivery.status)]
        return display.badge(delivery.get_status_display(), tone, icon=icon)

    @column(description=gettext_lazy("severity"), ordering="severity")
    def severity_shown(self, delivery: Delivery) -> SafeString:
        return severity_badge(delivery.severity)

    @column(description=gettext_lazy("message"))
    def what(self, delivery: Delivery) -> str:
        return str(delivery.first_line)

    @column(description=gettext_lazy("tries"), ordering="tries")
    def tries_shown(self, delivery: Delivery) -> str:
        return "1" if delivery.is_test else str(delivery.tries)

    @column(description=gettext_lazy("text"))
    def text(self, delivery: Delivery) -> SafeString:
        message = content.write(
            delivery.content, key=str(delivery.key), language=delivery.receiver.language
        )
        return format_html(
            '<strong>{}</strong><pre class="whitespace-pre-wrap">{}</pre>',
            message.subject,
            message.text,
        )

    @admin.action(description=gettext_lazy("Send again"), permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        rows, left_out = self.for_action(request, queryset, permissions.CHANGE)
        done = 0
        for delivery in rows:
            try:
                sending.send_again(delivery=delivery, acting_user=request.user)
                done += 1
            except BeidouError as error:  # one refusal stops no other; each is said
                messages.warning(request, error.message)
        text = ngettext(
            "%(count)d message will be sent again.", "%(count)d messages will be sent again.", done
        )
        messages.success(request, text % {"count": done})
        if left_out:
            text = ngettext(
                "%(count)d is left out: your roles do not include this.",
                "%(count)d are left out: your roles do not include this.",
                left_out,
            )
            messages.warning(request, text % {"count": left_out})
