"""``/api/v1/``: one router, every app registers its viewsets."""

from django.urls import path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.routers import SimpleRouter

from beidou.base.api import people
from beidou.base.api.not_found import not_found

router = SimpleRouter()
router.register("tokens", people.TokenViewSet, basename="token")
router.register("users", people.UserViewSet, basename="user")
router.register("teams", people.TeamViewSet, basename="team")
router.register("audit", people.AuditViewSet, basename="audit")

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="api-schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="api-schema"), name="api-docs"),
    *router.urls,
    path("<path:rest>", not_found),
]
