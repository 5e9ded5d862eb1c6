"""Addresses of the pages of objects, for those alone who may open them.

A link to what its reader may not see answers 403 or 404 and leaves a refusal in the audit trail;
wherever a page names another object it asks here, and shows the plain name when it gets none.
"""

from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import models
from django.urls import reverse
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString

from beidou.base import permissions

Place = tuple[str, str]  # "app.model" in lower case, key


def page_for(user: Any, obj: models.Model) -> str:
    """The address of ``obj``'s page; empty when it has none, or none for ``user``."""
    return _address(type(obj), obj.pk) if permissions.may(user, obj) else ""


def link_for(user: Any, obj: models.Model) -> SafeString:
    """The name of ``obj``, as a link where ``user`` may follow it."""
    address = page_for(user, obj)
    if not address:
        return conditional_escape(str(obj))
    return format_html('<a href="{}" class="text-link">{}</a>', address, obj)


def pages_for(user: Any, places: Iterable[Place]) -> dict[Place, str]:
    """The same for many, of which some may be gone: one query for each kind of object."""
    keys: dict[str, set[str]] = {}
    for label, key in places:
        keys.setdefault(label, set()).add(key)
    found: dict[Place, str] = {}
    for label, wanted in keys.items():
        model = _model(label)
        numbers = [int(key) for key in wanted if key.isdecimal() and len(key) < 19]
        if model is None or not numbers:
            continue
        rows = permissions.visible_to(user, model._default_manager.filter(pk__in=numbers))
        for pk in rows.order_by().values_list("pk", flat=True):
            found[label, str(pk)] = _address(model, pk)
    return found


def with_pages(user: Any, rows: Iterable[Any]) -> list[Any]:
    """Rows that name an object (audit entries, notices), each with ``object_page``: its page, empty
    where the object is gone or not for ``user``."""
    found = list(rows)
    pages = pages_for(user, {(row.object_type, row.object_id) for row in found})
    for row in found:
        row.object_page = pages.get((row.object_type, row.object_id), "")
    return found


def address_of(label: str, key: str) -> str:
    """The page of what is named by these, whoever may open it; empty when there is none."""
    model = _model(label)
    return _address(model, key) if model is not None and key else ""


def _model(label: str) -> type[models.Model] | None:
    """Entries of the audit trail may name models of earlier versions."""
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return None
    return model if model in admin.site._registry else None


def _address(model: type[models.Model], pk: Any) -> str:
    if model not in admin.site._registry:
        return ""
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[quote(pk)])
