"""All addresses: the API and the health endpoints first, the admin takes the rest."""

from django.contrib import admin
from django.urls import include, path, re_path

from beidou.base.api.not_found import not_found

admin.autodiscover()  # where PortalAdminConfig has not done so

urlpatterns = [
    path("", include("beidou.base.urls")),
    path("", include("operations.urls")),
    path("api/v1/", include("beidou.api_urls")),
    re_path(r"^api(?:/.*)?$", not_found),
    path("", admin.site.urls),
]
handler400 = "beidou.base.error_pages.bad_request"
handler403 = "beidou.base.error_pages.permission_denied"
handler404 = "beidou.base.error_pages.page_not_found"
handler500 = "beidou.base.error_pages.server_error"
