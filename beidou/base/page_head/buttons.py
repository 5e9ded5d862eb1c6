"""Buttons in the head of an object's page that apps above the object's own contribute.

A provider turns an object into buttons; apps register theirs in ``AppConfig.ready``, and the page
asks without knowing them::

    buttons.register(Machine, "operations", buttons_of_machine)

``admin/buttons.html`` shows what is wanted every day, and the others in a menu.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import models

Provider = Callable[[Any, Any], "Iterable[Button]"]  # object, user


@dataclass(frozen=True)
class Button:
    """What a person may do with the object on another page; ``is_everyday`` is shown at once."""

    label: str
    url: str
    icon: str = ""
    is_everyday: bool = True


class Buttons(NamedTuple):
    everyday: list[Button]
    others: list[Button]


_providers: dict[tuple[type[models.Model], str], Provider] = {}


def register(model: type[models.Model], name: str, provider: Provider) -> None:
    """A second registration of ``name`` for ``model`` replaces the first."""
    _providers[model, name] = provider


def of(row: models.Model, user: Any) -> Buttons:
    found: list[Button] = []
    for (model, _name), provider in _providers.items():
        if isinstance(row, model):
            found += provider(row, user)
    return Buttons(
        [each for each in found if each.is_everyday],
        [each for each in found if not each.is_everyday],
    )
