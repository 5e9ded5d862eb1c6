"""The API's answers where Django answers instead of a viewset, in the same shape."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

API = "/api/"


def _answer(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"code": code, "message": message, "fields": {}}, status=status)


@csrf_exempt
def not_found(request: HttpRequest, rest: str = "") -> JsonResponse:
    return _answer(
        404,
        "not_found",
        "There is no such address in the API; addresses end with a slash. See /api/v1/docs/.",
    )


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's ``handler404``."""
    if request.path.startswith(API):
        return not_found(request)
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's ``handler500``."""
    if request.path.startswith(API):
        return _answer(500, "internal_error", "The portal made a mistake; it is in its log.")
    return defaults.server_error(request)
