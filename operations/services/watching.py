"""Whether somebody who began to watch may go on: rights and sign-in are asked again and again."""

from collections.abc import Callable
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.db.models import Model
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from beidou.base import permissions
from beidou.base.models import ApiToken
from operations.models import Operation


def checker(
    request: HttpRequest,
    *,
    user: Any,
    auth: Any,
    operation_id: int,
    model: type[Model] = Operation,
) -> Callable[[], bool]:
    """A question for later: is the user active, signed in still, and allowed to see it?"""
    session = getattr(request, "session", None)
    session_key = session.session_key if session is not None and auth is None else None
    token_id = auth.pk if isinstance(auth, ApiToken) else None
    user_id = user.pk

    def may_still_see() -> bool:
        now_user = get_user_model()._default_manager.filter(pk=user_id, is_active=True).first()
        if now_user is None:
            return False
        if session_key is not None and not _is_signed_in(session_key, now_user):
            return False
        if token_id is not None:
            token = ApiToken.objects.filter(pk=token_id).first()
            if token is None or not token.is_valid:
                return False
        visible = permissions.visible_to(now_user, model._default_manager.filter(pk=operation_id))
        return visible.exists()

    return may_still_see


def _is_signed_in(session_key: str, user: Any) -> bool:
    """The session is there, and of the password that is valid now."""
    stored = SessionStore(session_key).load()
    return constant_time_compare(stored.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
