"""Request id, acting user, language and the record of refused attempts for every request."""

from collections.abc import Callable

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation

from beidou.base import audit, context
from beidou.base.models import AuditEntry

Handler = Callable[[HttpRequest], HttpResponse]


def client_address(request: HttpRequest) -> str:
    """The client's address; X-Forwarded-For counts only behind a proxy we were told to trust."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if settings.TRUST_PROXY and forwarded:
        return str(forwarded).rsplit(",", 1)[-1].strip()
    return str(request.META.get("REMOTE_ADDR", ""))


class ContextMiddleware:
    """Opens the context of the request; stands before everything that writes or logs."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request_id = context.new_request_id()
        with (
            context.acting(
                actor_id=None,
                actor_name="anonymous",
                address=client_address(request),
                request_id=request_id,
            ),
            structlog.contextvars.bound_contextvars(request_id=request_id),
        ):
            response = self.get_response(request)
        response["X-Request-ID"] = request_id
        return response


class ActorMiddleware:
    """After authentication: the signed-in user acts, in the language they chose."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        act_as(request.user)
        language = getattr(request.user, "language", "")
        if language:
            translation.activate(language)
            request.LANGUAGE_CODE = translation.get_language() or language
        response = self.get_response(request)
        if response.status_code == 403 and request.user.is_authenticated:
            audit.record(
                "refused",
                name=f"{request.method} {request.path}",
                outcome=AuditEntry.Outcome.REFUSED,
            )
        return response


def act_as(user: object) -> None:
    """Make ``user`` the actor for the rest of this request; API authentication calls it too."""
    if getattr(user, "is_authenticated", False):
        who = context.current()
        context.set_current(
            context.Context(
                actor_id=user.pk,  # type: ignore[attr-defined]
                actor_name=user.get_username(),  # type: ignore[attr-defined]
                address=who.address,
                request_id=who.request_id,
            )
        )
