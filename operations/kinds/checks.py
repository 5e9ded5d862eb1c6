"""Checks as sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from beidou.base.sentences import Sentence


def in_short(bad: Sequence[Mapping[str, Any]]) -> str:
    """The first of the failed checks, and how many more there are."""
    first = describe(dict(bad[0]))
    if len(bad) == 1:
        return first
    return Sentence("%(check)s (and %(more)s more)", check=first, more=len(bad) - 1)


def describe(check: dict[str, Any]) -> str:
    """One check as a sentence: found, wanted, what to do."""
    return Sentence(
        "%(check)s: %(found)s, wanted %(wanted)s → %(advice)s",
        **{name: check[name] for name in ("check", "found", "wanted", "advice")},
    )
