"""Checks as sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from beidou.base.sentences import Sentence
from operations.kinds.base import StepRun
from operations.models import OperationMachine


def in_short(bad: Sequence[Mapping[str, Any]]) -> str:
    """The first of the failed checks, and how many more there are."""
    first = describe(dict(bad[0]))
    if len(bad) == 1:
        return first
    return Sentence("%(check)s (and %(more)s more)", check=first, more=len(bad) - 1)


def fail(
    run: StepRun,
    target: OperationMachine,
    bad: Sequence[Mapping[str, Any]],
    *,
    checks: Sequence[Mapping[str, Any]],
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Fail a machine because of ``bad``, some of its ``checks``; the output has each of them once.

    The first is the message, which is told with the failure.
    """
    run.fail(target, in_short(bad), checks=checks, evidence=evidence)
    for check in bad[1:]:
        run.say(describe(dict(check)), target=target, level="error")


def describe(check: dict[str, Any]) -> str:
    """One check as a sentence: found, wanted, what to do."""
    return Sentence(
        "%(check)s: %(found)s, wanted %(wanted)s → %(advice)s",
        **{name: check[name] for name in ("check", "found", "wanted", "advice")},
    )
