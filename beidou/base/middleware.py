"""Request id, log line, acting user, language, security headers and the record of refused attempts
for every request."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils import translation

from beidou.base import attempts, audit, context, figures
from beidou.base.errors import Forbidden
from beidou.base.models import AuditEntry
from beidou.base.storable import is_storable

Handler = Callable[[HttpRequest], HttpResponse]
logger = structlog.get_logger(__name__)

# Alpine, which the admin theme is made with, evaluates the expressions of its attributes, which
# needs 'unsafe-eval'; the theme sets colours and widths in style attributes, hence 'unsafe-inline'
# for styles alone.
# See docs/adr/0007-content-security-policy.md.
CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
PERMISSIONS_POLICY = "camera=(), geolocation=(), microphone=(), payment=(), usb=()"
_QUIET = ("/healthz", "/readyz", "/metrics")
_FOREIGN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


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
        request_id = request_id_of(request)
        started = time.perf_counter()
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
            self._note(request, response, time.perf_counter() - started)
        response["X-Request-ID"] = request_id
        return response

    def _note(self, request: HttpRequest, response: HttpResponse, seconds: float) -> None:
        """The request's log line and its part in the figures; for streams the time to the first
        byte."""
        if request.path.startswith("/static/"):
            return
        match = request.resolver_match
        view = (match.view_name or match.route) if match else "none"
        figures.REQUESTS.labels(request.method, view, response.status_code).observe(seconds)
        if request.path.startswith(_QUIET):
            return
        logger.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            milliseconds=round(seconds * 1000),
            user=getattr(getattr(request, "user", None), "pk", None),
            address=client_address(request),
        )


def request_id_of(request: HttpRequest) -> str:
    """A new id, or the one that a trusted proxy has given, so that both logs show the same."""
    given = request.headers.get("X-Request-ID", "")
    if settings.TRUST_PROXY and _FOREIGN_ID.fullmatch(given):
        return given
    return context.new_request_id()


class SecurityHeadersMiddleware:
    """What the browser may load and do; Django's own middleware adds the rest."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS_POLICY)
        return response


class StorableMiddleware:
    """Refuses what the database could neither keep nor look for, wherever a view would use it.

    Forms are looked at when a view was found for them; bodies of the API by its parsers.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        _require_storable([request.path, *_texts(request.GET), *request.COOKIES.values()])
        return self.get_response(request)

    def process_view(self, request: HttpRequest, *args: Any) -> None:
        if not request.path.startswith("/api/"):
            _require_storable(_texts(request.POST))


def _texts(values: QueryDict) -> Iterator[str]:
    for name, given in values.lists():
        yield name
        yield from given


def _require_storable(texts: Iterable[str]) -> None:
    if not all(map(is_storable, texts)):
        raise BadRequest("A character that cannot be stored, such as NUL.")


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
        with context.noting_refusals() as about:
            response = self.get_response(request)
        if response.status_code == 403 and request.user.is_authenticated:
            obj = about[-1] if about else None
            audit.record(
                attempts.REFUSED,
                obj,
                name=f"{request.method} {request.path}",
                after=attempts.of(request, obj),
                outcome=AuditEntry.Outcome.REFUSED,
            )
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        """A right that a service missed is a 403 of every page, as it is one of the API."""
        if isinstance(error, Forbidden):
            raise PermissionDenied(error.message) from error


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
