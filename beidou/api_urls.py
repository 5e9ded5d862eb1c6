"""``/api/v1/``: one router, every app registers its viewsets."""

from rest_framework.routers import SimpleRouter

router = SimpleRouter()
urlpatterns = router.urls
