"""A template as a step: what it holds is looked up once, when the task above begins.

From then on the steps of the whole tree are in the parameters of the step, so that they are what is
planned, what rights are asked for, and what an approval is about; a template that is saved
meanwhile changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from django.utils.translation import gettext as _

from beidou.base.errors import InvalidInput
from operations.flows import catalog, graph
from operations.flows.library import content as contents
from operations.flows.library import finding
from operations.flows.library.models import TaskTemplate, TemplateVersion

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
    found = [
        _expanded(spec, f"steps[{index}]", above, kept, f"{path}[{index}]")
        if spec.kind == KIND
        else spec
        for index, spec in enumerate(specs)
    ]
    if count(found) > STEPS_MAX:
        sentence = _("With the tasks below it, it has more than %(count)s steps.") % {
            "count": STEPS_MAX
        }
        raise InvalidInput(sentence, code="too_many_steps", fields={"steps": sentence})
    return found


def versions_of(specs: Sequence[graph.Spec]) -> dict[str, int]:
    """Place in the expanded tree -> version of the template that is there."""
    return {place: int(spec.params["version"]) for place, spec in walk(specs) if spec.kind == KIND}


def _expanded(
    spec: graph.Spec, place: str, above: tuple[str, ...], versions: Mapping[str, int], path: str
) -> graph.Spec:
    name = str(spec.params.get("template", ""))
    place = f"{place}.params.template"
    if sentence := why_not_below(name, above):
        raise InvalidInput(f"{place}: {sentence}", code="invalid_nesting", fields={place: sentence})
    try:
        wanted = spec.params.get("version") or versions.get(path) or None
        chosen = finding.template(name, wanted)
        if chosen.groups:
            raise InvalidInput(replaces())
        given: Mapping[str, Any] = spec.params.get("params", {})
        below = (
            finding.specs_of(chosen, given)
            if chosen.content is not None
            else _ready_made(chosen, given)
        )
        below = expand(below, above=(*above, name), versions=versions, path=f"{path}.params.steps")
    except InvalidInput as error:
        raise InvalidInput(
            f"{place}: {error.message}", code=error.code, fields={place: error.message}
        ) from error
    steps = [asdict(each) for each in below]
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


def problems(content: contents.Content, name: str = "") -> contents.Problems:
    """Of the steps that are tasks; ``name`` is that of the template that is saved."""
    found: contents.Problems = {}
    for index, step in enumerate(content.steps):
        if step.step != "Task" or "template" in step.settable:
            continue
        if sentence := _why_wrong(content, step, (name,) if name else ("",)):
            found[f"steps[{index}].params.template"] = sentence
    return found


def _why_wrong(content: contents.Content, step: contents.Step, above: tuple[str, ...]) -> str:
    if content.replaces:
        return _("Where machines are replaced, no step is another task.")
    name = str(step.params.get("template", ""))
    if sentence := why_not_below(name, above):
        return sentence
    if (made := catalog.TEMPLATES.get(name)) is not None:
        if made.makes_cluster:
            return finding.makes_cluster()
        return replaces() if made.groups else ""
    version = _version(name, step.params.get("version") or 0)
    if version is None:
        return _("There is no such template, or no such version of it: “%(name)s”.") % {
            "name": name
        }
    try:
        inner = contents.parse(version.content)
    except InvalidInput as error:
        return error.message
    if inner.replaces:
        return replaces()
    for each in inner.steps:
        if each.step == "Task" and (said := _why_wrong(inner, each, (*above, name))):
            return said
    return ""


def _version(name: str, number: int) -> TemplateVersion | None:
    row = TaskTemplate.objects.filter(name=name, is_offered=True).first()
    if row is None:
        return None
    try:
        return finding.version_of(row, number or None)
    except InvalidInput:
        return None
