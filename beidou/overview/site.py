"""The admin site of the portal: its home page is the operations centre, its search the palette."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _
from django.views.i18n import JavaScriptCatalog
from unfold.sites import UnfoldAdminSite

from beidou.overview import figures, palette

if TYPE_CHECKING:
    _Base = admin.AdminSite
else:
    _Base = UnfoldAdminSite


class PortalSite(_Base):
    """unfold's site without the list of all models, which the navigation by domain replaces."""

    def extra_urls(self) -> list[URLPattern]:
        return [path("overview/", self.figures_now, name="overview_now")]

    def get_app_list(
        self, request: HttpRequest, app_label: str | None = None
    ) -> list[dict[str, Any]]:
        """Only of one app.

        Django asks for all apps on each page, at four permissions per model, for a menu that no
        page has.
        """
        return super().get_app_list(request, app_label) if app_label else []

    def index(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        request.current_app = self.name
        context = {
            **self.each_context(request),
            "title": _("Operations centre"),
            "index": True,
            "is_fullwidth": "1",
            "overview": figures.collect(request.user),
            **(extra_context or {}),
        }
        return TemplateResponse(request, "admin/index.html", context)

    def figures_now(self, request: HttpRequest) -> HttpResponse:
        """The inner part of the home page, for its refresh without reload."""
        if not self.has_permission(request):
            # A redirect would put the sign-in form into the middle of the page.
            return HttpResponse(status=401, headers={"HX-Refresh": "true"})
        context = {"overview": figures.collect(request.user)}
        response = TemplateResponse(request, "overview/figures.html", context)
        response["Cache-Control"] = "no-store"
        return response

    def i18n_javascript(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """With our own catalogue too: Django's lacks some of the texts of its scripts."""
        response: HttpResponse = JavaScriptCatalog.as_view()(request)  # type: ignore[assignment]
        return response

    def search(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> TemplateResponse:
        """The command palette; unfold's own would read whole tables and keep what was found for
        minutes after a right was taken away."""
        return palette.answer(request)
