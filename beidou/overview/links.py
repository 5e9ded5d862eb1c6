"""Addresses of the lists and objects behind figures."""

from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.db.models import Model
from django.urls import reverse


def listing(label: str, **lookups: Any) -> str:
    """The list page of ``label`` (``app.Model``) narrowed by ``lookups``; empty when there is no
    such page."""
    model = apps.get_model(label)
    if model not in admin.site._registry:
        return ""
    address = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return f"{address}?{urlencode(lookups)}" if lookups else address


def page(obj: Model) -> str:
    """The page of one object; empty when its model has none."""
    model = type(obj)
    if model not in admin.site._registry:
        return ""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[obj.pk])
