"""API tokens: issued once, shown once, revoked for good."""

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from beidou.base import audit
from beidou.base.errors import InvalidInput
from beidou.base.models import ApiToken

DAYS_MAX = 3650


def issue(*, user: Any, name: str, days: int | None = None) -> tuple[ApiToken, str]:
    """A new token of ``user`` and its key; ``days``: for how long, ``None`` for ever."""
    if not name.strip():
        raise InvalidInput(
            _("Say what will use the token."), fields={"name": _("Say what will use the token.")}
        )
    if days is not None and not 1 <= days <= DAYS_MAX:
        sentence = _("A token lasts 1 to %(most)d days.") % {"most": DAYS_MAX}
        raise InvalidInput(sentence, fields={"days": sentence})
    expires_at = None if days is None else timezone.now() + timedelta(days=days)
    with transaction.atomic():
        token, key = ApiToken.issue(user=user, name=name.strip(), expires_at=expires_at)
        audit.record("create token", token, after={"user": str(user), "expires_at": expires_at})
    return token, key


def revoke(token: ApiToken, *, reason: str = "") -> None:
    """Make ``token`` useless from the next request on; repeating it changes nothing."""
    with transaction.atomic():
        changed = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(
            revoked_at=timezone.now()
        )
        if changed:
            audit.record("revoke token", token, reason=reason)
    token.refresh_from_db()
