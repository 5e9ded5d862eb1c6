"""Every error of the API has one shape: ``{"code", "message", "fields"}``.

What one may not see is 404, what one may see but not do is 403, a wrong state is 409, bad input is
400, and a cluster or host that does not answer is 502 (permanent) or 503 (temporary).
"""

from typing import Any

import structlog
from django.core.exceptions import PermissionDenied, RequestDataTooBig, ValidationError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from rest_framework import exceptions
from rest_framework.response import Response

from beidou.base import errors, permissions
from beidou.base.api.rights import ObjectPermissions

NAMED_AT_MOST = 5
logger = structlog.get_logger(__name__)

_STATUS: list[tuple[type[errors.BeidouError], int]] = [
    (errors.InvalidInput, 400),
    (errors.Forbidden, 403),
    (errors.Conflict, 409),
    (errors.TemporaryError, 503),
    (errors.PermanentError, 502),
]


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """Every error as ``{"code", "message", "fields"}``; what nobody foresaw is logged whole."""
    if isinstance(error, errors.BeidouError):
        status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
        return _answer(status, error.code, error.message, getattr(error, "fields", {}))
    if isinstance(error, Http404):
        return _answer(404, "not_found", _("There is no such object, or you may not see it."))
    if isinstance(error, RequestDataTooBig):
        return _answer(413, "too_large", _("The body of the request is too large."))
    if isinstance(error, PermissionDenied):
        return _answer(403, "forbidden", str(error) or str(ObjectPermissions.message))
    if isinstance(error, ValidationError):
        fields = getattr(error, "message_dict", {"": error.messages})
        return _answer(400, "invalid_input", _("The input is not valid."), _sentences(fields))
    if isinstance(error, ProtectedError | RestrictedError):
        return _answer(409, "in_use", _who_depends(error, context))
    if isinstance(error, exceptions.ValidationError):
        fields = _sentences(error.detail)
        return _answer(400, "invalid_input", _first(fields), fields)
    if isinstance(error, exceptions.APIException):
        detail = error.detail
        message = str(detail) if not isinstance(detail, dict | list) else error.default_detail
        response = _answer(error.status_code, error.default_code, str(message))
        view = context.get("view")
        if (
            isinstance(error, exceptions.NotAuthenticated | exceptions.AuthenticationFailed)
            and view
        ):
            header = view.get_authenticate_header(context["request"])
            if header:
                response["WWW-Authenticate"] = header
        wait = getattr(error, "wait", None)
        if isinstance(error, exceptions.Throttled) and wait:
            response["Retry-After"] = str(int(wait) + 1)
        return response
    logger.error("api_error", exc_info=error)
    return _answer(500, "internal_error", _("The portal made a mistake; it is in its log."))


def _who_depends(error: ProtectedError | RestrictedError, context: dict[str, Any]) -> str:
    """Which objects, as far as this reader may see them."""
    held = (
        error.protected_objects if isinstance(error, ProtectedError) else error.restricted_objects
    )
    user = getattr(context.get("request"), "user", None)
    first = sorted(held, key=lambda each: (each._meta.label, each.pk))[:NAMED_AT_MOST]
    named = [f"{each._meta.verbose_name} {each}" for each in first if permissions.may(user, each)]
    if not named:
        return _("Other objects still depend on this one.")
    more = len(held) - len(named)
    if more:
        named.append(ngettext("%(count)d more", "%(count)d more", more) % {"count": more})
    return _("Other objects still depend on this one: %(objects)s.") % {"objects": ", ".join(named)}


def _sentences(detail: Any, path: str = "") -> dict[str, str]:
    """A nested error of DRF or Django as one sentence per dotted field path."""
    if isinstance(detail, dict):
        found: dict[str, str] = {}
        for name, value in detail.items():
            found |= _sentences(value, f"{path}.{name}" if path else str(name))
        return found
    if isinstance(detail, list) and any(isinstance(item, dict) for item in detail):
        found = {}
        for index, item in enumerate(detail):
            found |= _sentences(item, f"{path}.{index}" if path else str(index))
        return found
    items = detail if isinstance(detail, list) else [detail]
    return {path or "non_field_errors": " ".join(str(item) for item in items)} if items else {}


def _first(fields: dict[str, str]) -> str:
    for name, sentence in fields.items():
        return sentence if name == "non_field_errors" else f"{name}: {sentence}"
    return _("The input is not valid.")


def _answer(status: int, code: str, message: str, fields: dict[str, str] | None = None) -> Response:
    return Response({"code": code, "message": message, "fields": fields or {}}, status=status)
