"""Buttons in the head of an object's page that apps above the object's own contribute.

A provider turns an object into buttons; apps register theirs in ``AppConfig.ready``, and the page
asks without knowing them::

    buttons.register(Machine, "operations", buttons_of_machine)

``admin/buttons.html`` shows the first few, and the others in a menu.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models

Provider = Callable[[Any, Any], "Iterable[Button]"]  # object, user


@dataclass(frozen=True)
class Button:
    """Something a person may do with the object on another page; the likeliest come first."""

    label: str
    url: str
    icon: str = ""


_providers: dict[tuple[type[models.Model], str], Provider] = {}


def register(model: type[models.Model], name: str, provider: Provider) -> None:
    """A second registration of ``name`` for ``model`` replaces the first."""
    _providers[model, name] = provider


def of(row: models.Model, user: Any) -> list[Button]:
    found: list[Button] = []
    for (model, _name), provider in _providers.items():
        if isinstance(row, model):
            found += provider(row, user)
    return found
