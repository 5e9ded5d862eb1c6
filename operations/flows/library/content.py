"""What a version of a template holds, and everything that can be wrong with it.

Mistakes are told all at once, each at its place (``steps[1].params.minutes``).  Whether the steps
can be done on a cluster is asked when a task begins; what a cluster must have for a step (a ticket
system, a Prometheus) is not known here.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import yaml
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from beidou.base.errors import InvalidInput
from beidou.base.storable import unstorable_in
from operations.flows import catalog, graph
from operations.flows.library import steps as step_types
from operations.playbooks import library as playbooks
from operations.playbooks.models import SitePlaybook
from operations.services import manifests, wording

Problems = dict[str, str]
Given = Mapping[str, Mapping[str, Any]]
REPLACEMENT = "ReplaceMachine"


class Step(BaseModel):
    """One step; ``settable`` are parameters that whoever begins a task may choose."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: str = Field(max_length=40)
    step: str = Field(max_length=40)
    params: dict[str, Any] = Field(default_factory=dict)
    needs: list[str] = Field(default_factory=list, max_length=graph.STEPS_MAX)
    on_failure: Literal["stop", "continue", "compensate"] = "stop"
    compensates: list[str] = Field(default_factory=list, max_length=graph.STEPS_MAX)
    settable: list[str] = Field(default_factory=list, max_length=50)


class Content(BaseModel):
    """``replaces``: some machines come in, and others go out when they are in."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=500)
    replaces: bool = False
    steps: list[Step] = Field(min_length=1, max_length=graph.STEPS_MAX)


def read(raw: Mapping[str, Any]) -> Content:
    """``InvalidInput`` with all that is wrong, also with what the steps mean."""
    try:
        content = parse(raw)
    except InvalidInput as error:
        raise refusal({**error.fields, **_beside(raw)}) from error
    if found := problems(content):
        raise refusal(found)
    return content


def _beside(raw: Mapping[str, Any]) -> Problems:
    """What is wrong with the steps, where something is wrong with the head."""
    try:
        return problems(parse({"title": "-", "steps": raw.get("steps")}))
    except InvalidInput:
        return {}


def parse(raw: Mapping[str, Any]) -> Content:
    """Its shape alone."""
    if strange := list(unstorable_in(dict(raw))):
        sentence = _("It holds a text or a number that cannot be stored.")
        raise refusal(dict.fromkeys(strange, sentence))
    try:
        return Content.model_validate(dict(raw))
    except ValidationError as error:
        raise refusal(
            {_place(path): _ended(sentence) for path, sentence in wording.problems(error)}
        ) from error


def refusal(found: Problems, *, code: str = "invalid_template") -> InvalidInput:
    name, sentence = next(iter(found.items()))
    return InvalidInput(f"{name}: {sentence}", code=code, fields=found)


def _ended(sentence: str) -> str:
    return capfirst(sentence if sentence.endswith((".", "。")) else f"{sentence}.")


def _place(path: Iterable[int | str]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def stored(content: Content) -> dict[str, Any]:
    """As it is kept and shown: what was left as it is by default is left out."""
    return content.model_dump(mode="json", exclude_defaults=True)


def as_yaml(raw: Mapping[str, Any]) -> str:
    """Fields in the order in which they are read, whatever order the database keeps them in; also
    of what is not right yet."""
    ordered = _ordered(raw, Content)
    steps = raw.get("steps")
    if isinstance(steps, list):
        ordered["steps"] = [
            _ordered(step, Step) if isinstance(step, Mapping) else step for step in steps
        ]
    text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True, width=100)
    return text


def _ordered(raw: Mapping[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    known = [name for name in model.model_fields if name in raw]
    found = {name: raw[name] for name in (*known, *sorted(set(raw) - set(known)))}
    if isinstance(params := found.get("params"), Mapping):
        found["params"] = dict(sorted(params.items()))
    return found


def from_yaml(text: str) -> dict[str, Any]:
    """One document; what it means is not looked at yet."""
    documents = manifests.parse(text)
    if len(documents) != 1:
        raise InvalidInput(_("A template is one document."), code="too_many")
    return documents[0]


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lines of the YAML of both: a sign (``+``, ``-``, `` ``, ``@``) and the text."""
    lines = difflib.unified_diff(
        as_yaml(old).splitlines(), as_yaml(new).splitlines(), lineterm="", n=4
    )
    return [(line[0], "" if line.startswith("@@") else line[1:]) for line in list(lines)[2:]]


# --- what is wrong ----------------------------------------------------------------------------


def problems(content: Content) -> Problems:
    """Place -> sentence."""
    found: Problems = {}
    named: list[catalog.Named | None] = []
    for index, step in enumerate(content.steps):
        place = f"steps[{index}]"
        try:
            named.append(_named(step.step))
        except InvalidInput as error:
            named.append(None)
            found[f"{place}.step"] = error.message
    specs = [
        graph.Spec(
            step.key,
            step.step,
            each.kind if each else "",
            {},
            tuple(step.needs),
            step.on_failure,
            tuple(step.compensates),
        )
        for step, each in zip(content.steps, named, strict=True)
    ]
    for index, name, sentence in graph.mistakes(specs):
        found.setdefault(f"steps[{index}].{name}", sentence)
    for index, (step, each) in enumerate(zip(content.steps, named, strict=True)):
        if each is not None:
            found |= _of_params(step, each, f"steps[{index}]")
    if content.replaces and not found:
        found |= _of_replacement(content)
    return found


def _named(name: str) -> catalog.Named:
    found = catalog.named(name)
    kind = step_types.kind_of(found)
    if kind is not None and kind.makes_cluster:
        sentence = _("%(kind)s makes a cluster of its own and is begun by itself.") % {"kind": name}
        raise InvalidInput(sentence, code="unknown_step", fields={"step": sentence})
    return found


def _of_params(step: Step, named: catalog.Named, place: str) -> Problems:
    known = step_types.schema_of(named)["properties"]
    found: Problems = {}
    for name in step.params:
        if name not in known:
            found[f"{place}.params.{name}"] = _("%(step)s has no such parameter.") % {
                "step": step.step
            }
    for name in step.settable:
        if name not in known:
            found[f"{place}.settable"] = _("%(step)s has no parameter “%(name)s”.") % {
                "step": step.step,
                "name": name,
            }
    if found:
        return found
    try:
        step_types.model_of(named).model_validate({**step_types.fixed(named), **step.params})
    except ValidationError as error:
        for item in error.errors():
            path = item["loc"]
            if step.settable and (not path or path[0] in step.settable):
                continue  # nobody knows yet; asked when a task begins
            # What a gate says of all its parameters is about its query.
            where = _place([f"{place}.params", *(path or (["query"] if "query" in known else []))])
            found[where] = _ended(wording.sentence(item))
    return found or _of_secrets(step, named, place)


def _of_secrets(step: Step, named: catalog.Named, place: str) -> Problems:
    """A template can be read by everybody: no variable of a playbook that is a secret, or may be
    one."""
    kind = step_types.kind_of(named)
    variables = step.params.get("variables")
    if kind is None or kind.name != "RunPlaybook" or not isinstance(variables, Mapping):
        return {}
    place = f"{place}.params.variables"
    rows = SitePlaybook.objects.filter(SitePlaybook.OFFERED).select_related("source")
    playbook = playbooks.find(str(step.params.get("playbook", "")), rows)
    if playbook is None or "playbook" in step.settable:
        sentence = _(
            "Which of them are secrets is not known, and everybody can read a template: name a "
            "playbook that is released, or let the variables be chosen when a task begins."
        )
        return {place: sentence} if variables else {}
    secret = {
        name for name, part in playbook.declared.parameters.properties.items() if part.is_secret
    }
    given = sorted(secret & set(variables))
    sentence = _("These are secrets, and everybody can read a template: %(names)s.") % {
        "names": ", ".join(given)
    }
    return {place: sentence} if given else {}


def _of_replacement(content: Content) -> Problems:
    try:
        _grouped(_specs(content, {}))
    except InvalidInput as error:
        return {f"{name}.needs": sentence for name, sentence in error.fields.items()}
    return {}


# --- what it means ----------------------------------------------------------------------------


def specs(content: Content, given: Mapping[str, Any]) -> list[graph.Spec]:
    """The steps of a task; ``given`` are the settable parameters by the key of the step."""
    found = _specs(content, _checked(content, given))
    return _grouped(found) if content.replaces else found


def filled(content: Content, given: Mapping[str, Any], *, is_final: bool) -> Content:
    """The same with what is given for good; ``is_final``: nothing more can be given."""
    checked = _checked(content, given)
    steps = []
    for step in content.steps:
        own = checked.get(step.key, {})
        left = [] if is_final else [name for name in step.settable if name not in own]
        changes = {"params": {**step.params, **own}, "settable": left}
        steps.append(step.model_copy(update=changes))
    return content.model_copy(update={"steps": steps})


def _checked(content: Content, given: Mapping[str, Any]) -> Given:
    by_key = {step.key: step for step in content.steps}
    wrong: Problems = {}
    for key, values in given.items():
        step = by_key.get(key)
        if step is None or not isinstance(values, Mapping):
            settable = [each.key for each in content.steps if each.settable]
            wrong[f"params.{key}"] = _(
                "Parameters are given by the key of a step; those with any: %(keys)s."
            ) % {"keys": ", ".join(settable) or _("none")}
            continue
        for name in values:
            if name not in step.settable:
                wrong[f"params.{key}.{name}"] = _(
                    "The template does not let “%(name)s” be chosen."
                ) % {"name": name}
    if wrong:
        name, sentence = next(iter(wrong.items()))
        raise InvalidInput(f"{name}: {sentence}", code="invalid_params", fields=wrong)
    return given


def _specs(content: Content, given: Given) -> list[graph.Spec]:
    return [
        replace(
            catalog.spec(step.step, {**step.params, **given.get(step.key, {})}),
            key=step.key,
            needs=tuple(step.needs),
            on_failure=step.on_failure,
            compensates=tuple(step.compensates),
        )
        for step in content.steps
    ]


def _grouped(found: Sequence[graph.Spec]) -> list[graph.Spec]:
    return catalog.for_template(catalog.TEMPLATES[REPLACEMENT], found)
