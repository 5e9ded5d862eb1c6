"""The viewset bases; see ``ReadOnlyViewSet`` for how rights are declared."""

from typing import Any, ClassVar, cast

from django.db import models
from rest_framework import exceptions, mixins, viewsets
from rest_framework.pagination import BasePagination
from rest_framework.serializers import BaseSerializer

from beidou.base import audit, permissions
from beidou.base.api.pages import Pages
from beidou.base.api.rights import ObjectPermissions
from beidou.base.api.strict import refuse_unknown, refuse_unknown_in_each


class ReadOnlyViewSet(
    mixins.RetrieveModelMixin, mixins.ListModelMixin, viewsets.GenericViewSet[Any]
):
    """``rights`` maps an action of the viewset to the right on the row that it needs."""

    permission_classes = [ObjectPermissions]
    pagination_class: type[BasePagination] = Pages
    rights: ClassVar[dict[str, str]] = {}
    _defaults: ClassVar[dict[str, str]] = {
        "list": permissions.VIEW,
        "retrieve": permissions.VIEW,
        "metadata": permissions.VIEW,
        "update": permissions.CHANGE,
        "partial_update": permissions.CHANGE,
        "destroy": permissions.CHANGE,
    }

    def action_needed(self) -> str:
        """An action without a declared right is refused rather than let through."""
        try:
            return {**self._defaults, **self.rights}[self.action]
        except KeyError:
            raise exceptions.MethodNotAllowed(self.request.method or "?") from None

    def get_queryset(self) -> models.QuerySet[Any]:
        return permissions.visible_to(self.request.user, super().get_queryset())

    def get_serializer(self, *args: Any, **kwargs: Any) -> BaseSerializer[Any]:
        """A name that is not known is refused: a misspelt limit must not be taken for none."""
        serializer: Any = super().get_serializer(*args, **kwargs)
        rows = getattr(serializer, "child", None)  # of a list, None otherwise
        if rows is None:
            refuse_unknown(kwargs.get("data"), serializer.fields)
        else:
            refuse_unknown_in_each(kwargs.get("data"), rows.fields)
        return cast(BaseSerializer[Any], serializer)


class BaseViewSet(
    mixins.CreateModelMixin, mixins.UpdateModelMixin, mixins.DestroyModelMixin, ReadOnlyViewSet
):
    """Reads as above, and plain writes with an audit entry each.

    ``create_permission``: the model permission that creating needs; None leaves the decision to
    ``perform_create``.
    """

    create_permission: ClassVar[str | None] = None
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]

    def perform_create(self, serializer: BaseSerializer[Any]) -> None:
        with audit.entries_last():
            obj = serializer.save()
            audit.record("add", obj, after=audit.snapshot(obj))

    def perform_update(self, serializer: BaseSerializer[Any]) -> None:
        """The row is read again under its lock: all its columns are written, and what somebody
        saved after it was first read would be put back."""
        with audit.entries_last():
            rows = self.get_queryset().model._default_manager.select_for_update()
            rows.filter(pk=serializer.instance.pk).order_by().first()  # type: ignore[union-attr]
            serializer.instance = self.get_object()
            before = audit.snapshot(serializer.instance)
            obj = serializer.save()
            old, new = audit.difference(before, audit.snapshot(obj))
            if new:
                audit.record("change", obj, before=old, after=new)

    def perform_destroy(self, instance: Any) -> None:
        with audit.entries_last():
            audit.record("delete", instance, before=audit.snapshot(instance))
            instance.delete()
