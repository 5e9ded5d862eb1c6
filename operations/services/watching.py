"""Whether somebody who began to watch may go on: rights and sign-in are asked again and again."""

from collections.abc import Callable
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from beidou.base import permissions, watching
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
    who = watching.person(request, user=user, auth=auth)

    def may_still_see() -> bool:
        now_user = who()
        if now_user is None:
            return False
        visible = permissions.visible_to(now_user, model._default_manager.filter(pk=operation_id))
        return visible.exists()

    return may_still_see
