"""All addresses: the API and the health endpoints first, the admin takes the rest."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("beidou.base.urls")),
    path("", include("operations.urls")),
    path("api/v1/", include("beidou.api_urls")),
    path("", admin.site.urls),
]
