"""Who watches a stream, asked again and again while it is open."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from beidou.base.models import ApiToken, User


def person(request: HttpRequest, *, user: Any, auth: Any) -> Callable[[], User | None]:
    """A question for later: who is it now?  None when no longer active or signed in.

    ``auth`` is the token they came with, None for a session.
    """
    session = getattr(request, "session", None)
    session_key = session.session_key if session is not None and auth is None else None
    token_id = auth.pk if isinstance(auth, ApiToken) else None
    user_id = user.pk

    def who() -> User | None:
        now_user = User._default_manager.filter(pk=user_id, is_active=True).first()
        if now_user is None:
            return None
        if session_key is not None and not _is_signed_in(session_key, now_user):
            return None
        if token_id is not None:
            token = ApiToken.objects.filter(pk=token_id).first()
            if token is None or not token.is_valid:
                return None
        return now_user

    return who


def _is_signed_in(session_key: str, user: Any) -> bool:
    """The session is there, and of the password that is valid now."""
    stored = SessionStore(session_key).load()
    return constant_time_compare(stored.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
