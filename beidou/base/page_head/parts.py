"""Parts of an object's page that apps above the object's own contribute, and that come after it:
the page waits for none of them.

A provider turns an object into parts; apps register theirs in ``AppConfig.ready``, and the page
asks without knowing them::

    parts.register(Operation, "events", events_of_operation)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from django.db import models

Provider = Callable[[Any, Any], "Iterable[Part]"]  # object, user


@dataclass(frozen=True)
class Part:
    """``url`` answers with a fragment of a page, or with a sentence in plain text and a status that
    is none of success; ``link`` leads to all of it."""

    title: str
    url: str
    link: str
    trouble: str
    """What is said where nothing answers."""
    every_seconds: int = 0
    """Asked for again so often; 0 is never."""


_providers: dict[tuple[type[models.Model], str], Provider] = {}


def register(model: type[models.Model], name: str, provider: Provider) -> None:
    """A second registration of ``name`` for ``model`` replaces the first."""
    _providers[model, name] = provider


def of(row: models.Model, user: Any) -> list[Part]:
    found: list[Part] = []
    for (model, _name), provider in _providers.items():
        if isinstance(row, model):
            found += provider(row, user)
    return found
