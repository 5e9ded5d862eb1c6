"""Lines in the head of an object's page that apps above the object's own contribute.

A provider turns an object into lines; apps register theirs in ``AppConfig.ready``, and the page
asks without knowing them::

    lines.register(Machine, "health", last_health_check)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models
from django.utils.functional import Promise

Provider = Callable[[Any, Any], "Iterable[Line]"]  # object, user


@dataclass(frozen=True)
class Line:
    """``shown`` is safe HTML (a badge) or a text; ``url`` leads to more; what ``later`` answers
    with comes after the page, or ``trouble`` where nothing does."""

    label: str | Promise
    shown: str
    url: str = ""
    later: str = ""
    trouble: str = ""


_providers: dict[tuple[type[models.Model], str], Provider] = {}


def register(model: type[models.Model], name: str, provider: Provider) -> None:
    """A second registration of ``name`` for ``model`` replaces the first."""
    _providers[model, name] = provider


def of(row: models.Model, user: Any) -> list[Line]:
    found: list[Line] = []
    for (model, _name), provider in _providers.items():
        if isinstance(row, model):
            found += provider(row, user)
    return found
