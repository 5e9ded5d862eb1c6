"""What Django shows instead of a page: in the portal's own look, and as JSON under the API.

Signed in, the frame with its menu stays, so that one can go on.  The page of an error of the portal
itself uses nothing that may be what is broken: no database, no frame, no static file.
"""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader
from django.utils.translation import gettext as _

from beidou.base import context
from beidou.base.api import not_found as api

API = "/api/"


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler404``; what one may not see is answered alike, so the sentence names both."""
    if request.path.startswith(API):
        return api.not_found(request)
    text = _("There is no such page. It may be gone by now, or you may not see it.")
    return _page(request, 404, _("Nothing here"), text)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler403``; the exception's own words say more than ours, where it has any."""
    text = str(exception) or _("Your roles do not include this. Ask an owner or an administrator.")
    return _page(request, 403, _("You may not do this"), text)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """``handler400``."""
    if request.path.startswith(API):
        return api.bad_request()
    text = _("The browser sent something that the portal cannot take. Go back and try again.")
    return _page(request, 400, _("This could not be read"), text)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form from before a sign-in or sign-out: nothing was done, a fresh page helps."""
    text = _("Nothing was changed. Load the page again, then send the form once more.")
    return _page(request, 403, _("This form is too old"), text)


def server_error(request: HttpRequest) -> HttpResponse:
    """``handler500``; the number finds the lines in the log."""
    if request.path.startswith(API):
        return api.server_error()
    values = {"request_id": context.current().request_id}
    return HttpResponse(loader.render_to_string("500.html", values), status=500)


def _page(request: HttpRequest, status: int, title: str, text: str) -> HttpResponse:
    if not hasattr(request, "user"):  # refused before anybody looked at who asks
        request.user = AnonymousUser()
    is_signed_in = request.user.is_authenticated
    values: dict[str, Any] = {
        **admin.site.each_context(request),
        "frame": "admin/base_site.html" if is_signed_in else "unfold/layouts/unauthenticated.html",
        "title": title,
        "text": text,
        "status": status,
    }
    return render(request, "error.html", values, status=status)
