"""A template as a step: what it holds is looked up once, when the task above begins.

From then on the steps of the whole tree are in the parameters of the step, so that they are what is
planned, what rights are asked for, and what an approval is about; a template that is saved
meanwhile changes nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final, NamedTuple

from django.utils.translation import gettext as _

from beidou.base.errors import InvalidInput
from operations.flows import base, catalog, graph
from operations.flows.library import content as contents
from operations.flows.library import finding
from operations.flows.library.models import TaskTemplate, TemplateVersion
from operations.kinds import base as operation_kinds

KIND: Final = "task"
DEPTH_MAX: Final = 3  # tasks below a task
STEPS_MAX: Final = 200  # of the whole tree


def expand(
    specs: Sequence[graph.Spec],
    *,
    above: tuple[str, ...] = (),
    versions: Mapping[str, int] | None = None,
    path: str = "steps",
) -> list[graph.Spec]:
    """The same steps, those that are tasks with all that is below them; ``InvalidInput`` for what
    goes round in a circle, too deep, or is not there.

    ``versions`` (see ``versions_of``): those that are meant where a step names none."""
    kept = versions or {}
    found: list[graph.Spec] = []
    total = len(specs)
    for index, spec in enumerate(specs):
        if spec.kind != KIND:
            found.append(spec)
            continue
        found.append(_expanded(spec, f"steps[{index}]", above, kept, f"{path}[{index}]"))
        total += count(below(found[-1].params))
        if total > STEPS_MAX:
            raise InvalidInput(_too_many(), code="too_many_steps", fields={"steps": _too_many()})
    return found


def _too_many() -> str:
    return _("With the tasks below it, it has more than %(count)s steps.") % {"count": STEPS_MAX}


def versions_of(specs: Sequence[graph.Spec]) -> dict[str, int]:
    """Place in the expanded tree -> version of the template that is there."""
    return {place: int(spec.params["version"]) for place, spec in walk(specs) if spec.kind == KIND}


def _expanded(
    spec: graph.Spec, place: str, above: tuple[str, ...], versions: Mapping[str, int], path: str
) -> graph.Spec:
    typed = base.parse_params(base.get(KIND), spec.params, place=f"{place}.params")
    name = typed.template
    place = f"{place}.params.template"
    if sentence := why_not_below(name, above):
        raise InvalidInput(f"{place}: {sentence}", code="invalid_nesting", fields={place: sentence})
    try:
        chosen = finding.template(name, typed.version or versions.get(path) or None)
        if chosen.groups:
            raise InvalidInput(replaces())
        given: Mapping[str, Any] = typed.params
        inner = (
            finding.specs_of(chosen, given)
            if chosen.content is not None
            else _ready_made(chosen, given)
        )
        inner = expand(inner, above=(*above, name), versions=versions, path=f"{path}.params.steps")
    except InvalidInput as error:
        raise InvalidInput(
            f"{place}: {error.message}", code=error.code, fields={place: error.message}
        ) from error
    steps = [asdict(each) for each in inner]
    return replace(spec, params={**spec.params, "version": chosen.version, "steps": steps})


def _ready_made(chosen: catalog.Template, given: Mapping[str, Any]) -> list[graph.Spec]:
    """``given`` goes to the operations of the template's kind, as at the start of a task."""
    specs = catalog.in_order(chosen.steps)
    return [
        replace(spec, params={**spec.params, "params": dict(given)})
        if given and spec.params.get("kind") == chosen.name
        else spec
        for spec in specs
    ]


def why_not_below(name: str, above: tuple[str, ...]) -> str:
    if name in above:
        path = " → ".join((*above[above.index(name) :], name))
        return _("The template would contain itself: %(path)s.") % {"path": path}
    if len(above) >= DEPTH_MAX + 1:
        return _("At most %(count)s tasks may be below one another.") % {"count": DEPTH_MAX}
    return ""


def replaces() -> str:
    return _("A template that replaces machines is begun by itself, not as a step.")


def below(step: Mapping[str, Any]) -> list[graph.Spec]:
    """The steps of the task that a step with these parameters is."""
    return [
        graph.Spec(
            key=each["key"],
            name=each["name"],
            kind=each["kind"],
            params=each["params"],
            needs=tuple(each["needs"]),
            on_failure=each["on_failure"],
            compensates=tuple(each["compensates"]),
        )
        for each in step.get("steps", [])
    ]


def walk(specs: Sequence[graph.Spec], place: str = "steps") -> Iterator[tuple[str, graph.Spec]]:
    """Every step of the tree with its place, in the order in which they are listed."""
    for index, spec in enumerate(specs):
        here = f"{place}[{index}]"
        yield here, spec
        if spec.kind == KIND:
            yield from walk(below(spec.params), f"{here}.params.steps")


def changed(
    specs: Sequence[graph.Spec],
    change: Callable[[str, graph.Spec], graph.Spec],
    place: str = "steps",
) -> list[graph.Spec]:
    """The tree with every step as ``change`` makes it of its place and of itself."""
    found = []
    for index, spec in enumerate(specs):
        here = f"{place}[{index}]"
        new = change(here, spec)
        if new.kind == KIND:
            inner = changed(below(new.params), change, f"{here}.params.steps")
            new = replace(new, params={**new.params, "steps": [asdict(each) for each in inner]})
        found.append(new)
    return found


def count(specs: Sequence[graph.Spec]) -> int:
    return sum(1 for _each in walk(specs))


# --- before a template is saved ---------------------------------------------------------------


class _Below(NamedTuple):
    """What a step that is a task comes to: how many steps, or what is wrong, and where."""

    steps: int = 0
    sentence: str = ""
    place: str = "params.template"


def problems(content: contents.Content, name: str = "") -> contents.Problems:
    """Of the steps that are tasks; ``name`` is that of the template that is saved."""
    found: contents.Problems = {}
    looks = _Looks()
    total = len(content.steps)
    for index, step in enumerate(content.steps):
        if step.step != "Task":
            continue
        if content.replaces:
            sentence = _("Where machines are replaced, no step is another task.")
            below = _Below(sentence=sentence)
        else:
            below = looks.at(step, (name,) if name else ("",))
        total += below.steps
        if total > STEPS_MAX:
            below = _Below(sentence=_too_many())
        if below.sentence:
            found[f"steps[{index}].{below.place}"] = below.sentence
        if total > STEPS_MAX:
            break
    return found


class _Looks:
    """What was looked at once is known for the rest of the same look."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], _Below] = {}

    def at(self, step: contents.Step, above: tuple[str, ...]) -> _Below:
        if "template" in step.settable:
            # Which of its parameters are secrets, say, is not known.
            sentence = _(
                "Where the template is chosen when a task begins, its parameters are, too."
            )
            is_given = bool(step.params.get("params"))
            return _Below(sentence=sentence if is_given else "", place="params.params")
        try:
            typed = base.parse_params(base.get(KIND), step.params)
        except InvalidInput as error:
            place, sentence = next(iter(error.fields.items()))
            return _Below(sentence=sentence, place=place)
        if sentence := why_not_below(typed.template, above):
            return _Below(sentence=sentence)
        is_final = "params" not in step.settable
        given = json.dumps(typed.params, sort_keys=True)
        key = (typed.template, typed.version, given, is_final, above)
        if key not in self._known:
            self._known[key] = self._into(typed, above, is_final=is_final)
        return self._known[key]

    def _into(self, typed: Any, above: tuple[str, ...], *, is_final: bool) -> _Below:
        name = typed.template
        if (made := catalog.TEMPLATES.get(name)) is not None:
            return _of_ready_made(made, typed.params)
        version = _version(name, typed.version)
        if version is None:
            sentence = _("There is no such template, or no such version of it: “%(name)s”.")
            return _Below(sentence=sentence % {"name": name})
        try:
            inner = contents.parse(version.content)
        except InvalidInput as error:
            return _Below(sentence=error.message)
        if inner.replaces:
            return _Below(sentence=replaces())
        try:
            inner = contents.filled(inner, typed.params, is_final=is_final)
        except InvalidInput as error:
            return _Below(sentence=error.message, place="params.params")
        if wrong := contents.problems(inner):
            return _of_params(wrong)
        return self._all_of(inner, (*above, name))

    def _all_of(self, content: contents.Content, above: tuple[str, ...]) -> _Below:
        total = len(content.steps)
        for step in content.steps:
            below = self.at(step, above) if step.step == "Task" else _Below()
            if below.sentence:
                return below
            total += below.steps
            if total > STEPS_MAX:
                return _Below(sentence=_too_many())
        return _Below(total)


def _of_ready_made(made: catalog.Template, given: Mapping[str, Any]) -> _Below:
    if made.makes_cluster:
        return _Below(sentence=finding.makes_cluster())
    if made.groups:
        return _Below(sentence=replaces())
    if given and made.name in operation_kinds.KINDS:
        step = contents.Step(key=made.name, step=made.name, params=dict(given))
        if wrong := contents.problems(contents.Content(title="-", steps=[step])):
            return _of_params(wrong)
    return _Below(len(made.steps))


def _of_params(wrong: contents.Problems) -> _Below:
    place, sentence = next(iter(wrong.items()))
    return _Below(sentence=f"{place}: {sentence}", place="params.params")


def _version(name: str, number: int) -> TemplateVersion | None:
    row = TaskTemplate.objects.filter(name=name, is_offered=True).first()
    if row is None:
        return None
    try:
        return finding.version_of(row, number or None)
    except InvalidInput:
        return None
