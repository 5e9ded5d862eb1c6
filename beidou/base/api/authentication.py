"""Signing in with an API token."""

from typing import Any

from django.core.cache import cache
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from beidou.base import audit
from beidou.base.middleware import act_as
from beidou.base.models import ApiToken, AuditEntry
from beidou.base.sentences import Sentence


class TokenAuthentication(BaseAuthentication):
    """``Authorization: Token KEY``; the key's digest is looked up, never the key."""

    keyword = "Token"

    def authenticate(self, request: Request) -> tuple[Any, ApiToken] | None:
        parts = get_authorization_header(request).split()
        if not parts or parts[0].lower() != b"token":
            return None
        if len(parts) != 2:
            raise exceptions.AuthenticationFailed(_("Write it as: Authorization: Token KEY."))
        try:
            key = parts[1].decode("ascii")
        except UnicodeDecodeError:
            raise exceptions.AuthenticationFailed(
                _("The token holds strange characters.")
            ) from None
        token = (
            ApiToken.objects.select_related("user").filter(digest=ApiToken.digest_of(key)).first()
        )
        if token is not None and not (token.is_valid and token.user.is_active):
            self._record_refusal(token)
        if token is None or not token.is_valid:
            raise exceptions.AuthenticationFailed(_("The token is unknown, expired or revoked."))
        if not token.user.is_active:
            raise exceptions.AuthenticationFailed(_("The user of this token is not active."))
        self._note_use(token)
        act_as(token.user)
        return token.user, token

    def _record_refusal(self, token: ApiToken) -> None:
        """Once a minute per token: whoever has an old one must not fill the trail with it.  Unknown
        keys, of which there is no end, leave no entry."""
        if cache.add(f"beidou-refused-token-{token.pk}", True, timeout=60):
            with transaction.atomic():
                audit.record(
                    "sign in",
                    token.user,
                    reason=Sentence(
                        "API token %(token)s: expired, revoked or of an inactive user",
                        token=token.name,
                    ),
                    outcome=AuditEntry.Outcome.FAILED,
                )

    def _note_use(self, token: ApiToken) -> None:
        """Once a minute is exact enough and spares a write per request."""
        now = timezone.now()
        if token.used_at is None or (now - token.used_at).total_seconds() > 60:
            ApiToken.objects.filter(pk=token.pk).update(used_at=now)

    def authenticate_header(self, request: Request) -> str:
        return self.keyword
