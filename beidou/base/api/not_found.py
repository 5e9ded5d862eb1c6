"""The API's answers where Django answers instead of a viewset, in the same shape."""

from django.http import HttpRequest, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt


def _answer(status: int, code: str, message: str) -> JsonResponse:
    return JsonResponse({"code": code, "message": message, "fields": {}}, status=status)


@csrf_exempt
def not_found(request: HttpRequest, rest: str = "") -> JsonResponse:
    return _answer(
        404,
        "not_found",
        _("There is no such address in the API; addresses end with a slash. See /api/v1/docs/."),
    )


def bad_request() -> JsonResponse:
    return _answer(
        400, "invalid_input", _("The request holds something that the portal cannot take.")
    )


def server_error() -> JsonResponse:
    return _answer(500, "internal_error", _("The portal made a mistake; it is in its log."))
