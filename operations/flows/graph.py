"""What follows what: the graph of a task before it has rows, and the one question asked of rows."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from beidou.base.errors import InvalidInput
from operations.flows.models import TaskStep

STEPS_MAX = 50
_KEY = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,38}[A-Za-z0-9])?")
Status = TaskStep.Status
OnFailure = TaskStep.OnFailure


@dataclass(frozen=True)
class Spec:
    """One step as it is asked for; ``name`` is what manifests call it, ``key`` is its own."""

    key: str
    name: str
    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    on_failure: str = OnFailure.STOP
    compensates: tuple[str, ...] = ()


def in_order(specs: Iterable[Spec]) -> list[Spec]:
    """One after the other, with keys of their own where a name comes twice."""
    ordered: list[Spec] = []
    used: dict[str, int] = {}
    for spec in specs:
        used[spec.name] = number = used.get(spec.name, 0) + 1
        key = spec.name if number == 1 else f"{spec.name}-{number}"
        needs = (ordered[-1].key,) if ordered else ()
        ordered.append(Spec(key, spec.name, spec.kind, spec.params, needs, spec.on_failure))
    return ordered


def check(specs: Sequence[Spec], *, field_name: str = "steps") -> None:
    """``InvalidInput`` naming the step that makes no sense."""
    if not specs or len(specs) > STEPS_MAX:
        sentence = _("A task has 1 to %(count)s steps.") % {"count": STEPS_MAX}
        raise InvalidInput(sentence, code="invalid_graph", fields={field_name: sentence})
    for index, _name, sentence in mistakes(specs):
        place = f"{field_name}[{index}]"
        raise InvalidInput(f"{place}: {sentence}", code="invalid_graph", fields={place: sentence})


def mistakes(specs: Sequence[Spec]) -> Iterator[tuple[int, str, str]]:
    """Which step, which of its fields, and what is wrong; all there are."""
    keys = {spec.key for spec in specs}
    seen: set[str] = set()
    for index, spec in enumerate(specs):
        for name, sentence in _mistakes_of(spec, keys, seen):
            yield index, name, sentence
        seen.add(spec.key)
    compensated = {key for spec in specs for key in spec.compensates}
    undoing = {spec.key for spec in specs if spec.compensates}
    for index, spec in enumerate(specs):
        if spec.on_failure == OnFailure.COMPENSATE and spec.key not in compensated:
            yield index, "on_failure", _("No step compensates “%(key)s”.") % {"key": spec.key}
        if spec.compensates and spec.needs:
            yield (
                index,
                "needs",
                _("It is done only after a failure, and comes after nothing else."),
            )
        for key in spec.needs:
            if key in undoing:
                sentence = _("“%(key)s” is done only after a failure: nothing can come after it.")
                yield index, "needs", sentence % {"key": key}


def _mistakes_of(spec: Spec, keys: set[str], seen: set[str]) -> Iterator[tuple[str, str]]:
    """Steps are listed after those they need, so that there is no circle."""
    if not _KEY.fullmatch(spec.key):
        yield (
            "key",
            _("“%(key)s” is no key: 1 to 40 letters, digits, and . _ - between them.")
            % {"key": spec.key},
        )
    if spec.key in seen:
        yield "key", _("There are two steps with the key “%(key)s”.") % {"key": spec.key}
    if spec.on_failure not in OnFailure.values:
        yield (
            "on_failure",
            _("“%(value)s” is none of %(known)s.")
            % {"value": spec.on_failure, "known": ", ".join(OnFailure.values)},
        )
    if spec.kind == "workOrder" and spec.on_failure == OnFailure.CONTINUE:
        yield "on_failure", _("What needs an approval cannot go on without it.")
    if spec.kind == "task" and spec.compensates:
        yield (
            "compensates",
            _("A task cannot compensate: it would be done with the machines that did not fail."),
        )
    for name, asked in (("needs", spec.needs), ("compensates", spec.compensates)):
        for key in asked:
            if key not in keys:
                yield name, _("There is no step “%(key)s”.") % {"key": key}
            elif key not in seen:
                yield name, _("It needs “%(key)s”, which must be listed before it.") % {"key": key}


def levels(steps: Iterable[TaskStep]) -> dict[str, int]:
    """Key -> column of the picture: one behind the last step that it needs or compensates."""
    found: dict[str, int] = {}
    for step in steps:
        before = [found[key] for key in (*step.needs, *step.compensates) if key in found]
        found[step.key] = max(before) + 1 if before else 0
    return found


def before(step: TaskStep, by_key: Mapping[str, TaskStep]) -> list[TaskStep]:
    """Every step on the way to this one."""
    found: dict[str, TaskStep] = {}
    left = [*step.needs, *step.compensates]
    while left:
        key = left.pop()
        if key in by_key and key not in found:
            found[key] = by_key[key]
            left += [*by_key[key].needs, *by_key[key].compensates]
    return list(found.values())


def after(keys: set[str], steps: Iterable[TaskStep]) -> set[str]:
    """Keys of the steps that come behind any of these; ``steps`` in their order."""
    found: set[str] = set()
    for step in steps:
        if (keys | found) & {*step.needs, *step.compensates}:
            found.add(step.key)
    return found


def has_stopped(steps: Iterable[TaskStep]) -> bool:
    """Whether a failure keeps everything but compensations from beginning.  One of those that could
    not undo a machine has failed, also while it goes on with others (``flows.undoing``)."""
    bad = (Status.FAILED, Status.CANCELED)
    going_on = (Status.WAITING, Status.RUNNING)
    return any(
        (step.status in bad or (step.status in going_on and step.progress.get("has_failed")))
        and step.on_failure != OnFailure.CONTINUE
        for step in steps
    )


def ready(steps: Sequence[TaskStep], failed_in: Collection[str]) -> list[TaskStep]:
    """The waiting steps whose turn it is; machines have failed in the steps ``failed_in``."""
    by_key = {step.key: step for step in steps}
    stopped = has_stopped(steps)
    return [
        step
        for step in steps
        if step.status == Status.WAITING
        and (
            is_called(step, by_key, stopped, failed_in)
            if step.compensates
            # Of all before it: an approval that asks again may be far away.
            else not stopped and all(_lets_on(each) for each in before(step, by_key))
        )
    ]


def is_called(
    step: TaskStep, by_key: Mapping[str, TaskStep], stopped: bool, failed_in: Collection[str]
) -> bool:
    """Whether a step that compensates is to be done."""
    return any(
        calls(each) or (stopped and asks_to_undo(each) and is_half_done(each, failed_in))
        for each in (by_key[key] for key in step.compensates)
    )


def _lets_on(step: TaskStep) -> bool:
    if step.status in TaskStep.PASSED:
        return True
    return step.status in (Status.FAILED, Status.CANCELED) and (
        step.on_failure == OnFailure.CONTINUE
    )


def calls(step: TaskStep) -> bool:
    """Whether something of it has failed that is to be undone; the machines that came through may
    be going on meanwhile."""
    return step.status in (Status.FAILED, Status.PARTIAL) and asks_to_undo(step)


def asks_to_undo(step: TaskStep) -> bool:
    return step.on_failure == OnFailure.COMPENSATE


def is_half_done(step: TaskStep, failed_in: Collection[str]) -> bool:
    """Whether it waits to go on, with machines that have failed in it before."""
    return step.status == Status.WAITING and step.key in failed_in
