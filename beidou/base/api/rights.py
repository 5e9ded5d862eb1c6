"""DRF's permission class that asks the rules of ``beidou.base.permissions``."""

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from beidou.base import context, permissions


class ObjectPermissions(BasePermission):
    """Asks ``visible_to``'s rules; the viewset names the right that each of its actions needs."""

    message = _("You may see this, but your roles do not include what you asked for.")

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False
        if view.action == "create" and hasattr(view, "create_permission"):
            return view.create_permission is None or request.user.has_perm(view.create_permission)
        return True

    def has_object_permission(self, request: Request, view: Any, obj: models.Model) -> bool:
        action = view.action_needed()
        if action == permissions.VIEW or permissions.may(request.user, obj, action):
            return True
        context.note_refusal(obj)
        return False
