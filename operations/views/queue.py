"""The page of the queue, and what can be done from it."""

from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views import View
from django.views.decorators.http import require_GET

from beidou.base import permissions
from beidou.base.errors import SAID, InvalidInput
from beidou.base.models import User
from beidou.base.numbers import as_number
from operations.models import Operation
from operations.services import control, queue


def _page(request: HttpRequest) -> int:
    return as_number(request.GET.get("p", "")) or 1


def _refuse_strangers(request: HttpRequest) -> None:
    if not permissions.may_anywhere(request.user, Operation):
        raise PermissionDenied(_("Your teams have no role on any cluster."))


class QueueView(LoginRequiredMixin, View):
    """GET shows it; POST changes a priority or cancels (``do``) and leads back."""

    def get(self, request: HttpRequest) -> HttpResponse:
        _refuse_strangers(request)
        context = {
            **admin.site.each_context(request),
            "title": _("Queue"),
            "is_fullwidth": "1",
            "queue": queue.look(request.user, page=_page(request)),
        }
        return TemplateResponse(request, "operations/queue.html", context)

    def post(self, request: HttpRequest) -> HttpResponse:
        key = as_number(request.POST.get("operation", "")) or 0
        rows = permissions.visible_to(request.user, Operation.objects.all())
        operation = get_object_or_404(rows, pk=key)
        try:
            messages.success(request, _do(request, operation))
        except SAID as error:
            messages.error(request, error.message)
        back = reverse("operations:queue")
        page = as_number(request.POST.get("p", "")) or 1
        return HttpResponseRedirect(f"{back}?p={page}" if page > 1 else back)


def _do(request: HttpRequest, operation: Operation) -> str:
    """Gives what was done, in words."""
    given: dict[str, Any] = {
        "acting_user": cast("User", request.user),
        "reason": request.POST.get("reason", "")[:500],
    }
    if request.POST.get("do") == "priority":
        changed = control.change_priority(
            operation, priority=request.POST.get("priority", ""), **given
        )
        return _("The priority of %(name)s is %(priority)s now.") % {
            "name": changed,
            "priority": changed.get_priority_display(),
        }
    if request.POST.get("do") == "cancel":
        control.cancel(operation, **given)
        return _("%(name)s is canceled.") % {"name": operation}
    raise InvalidInput(_("There is nothing to do."), code="unknown_action")


@require_GET
def queue_now(request: HttpRequest) -> HttpResponse:
    """The inner part of the page, for its refresh without reload."""
    if not request.user.is_authenticated:
        # A redirect would put the sign-in form into the middle of the page.
        return HttpResponse(status=401, headers={"HX-Refresh": "true"})
    _refuse_strangers(request)
    context = {"queue": queue.look(request.user, page=_page(request))}
    response = TemplateResponse(request, "operations/queue_rows.html", context)
    response["Cache-Control"] = "no-store"
    return response
