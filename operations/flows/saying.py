"""What an approval is about in words, from the plan that is kept with the question."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from operations.flows import catalog, nesting
from operations.flows.approval import Plan
from operations.flows.models import AutoOperationTask, TaskMachine, TaskStep
from operations.kinds import base as operation_kinds

Line = dict[str, str]


def in_words(plan: Plan, task: AutoOperationTask) -> list[Line]:
    """Label and text of what the plan binds; the machines are listed beside it."""
    steps = [
        TaskStep(key=each["key"], name=each["name"], kind=each["kind"], params=each["params"])
        for each in plan.get("steps", [])
    ]
    lines = [(_("Steps"), " → ".join(str(catalog.title_of(step)) for step in steps))]
    for step, above in _all(steps):
        title = " · ".join((*above, str(catalog.title_of(step))))
        if step.kind == "operation" and (text := _of_operation(step.params)):
            lines.append((title, text))
        elif step.kind == nesting.KIND:
            inner = " → ".join(str(catalog.title_of(each)) for each in _below(step))
            name = _("template %(name)s, version %(version)s") % {
                "name": step.params.get("template", ""),
                "version": step.params.get("version", ""),
            }
            lines.append((title, f"{name}: {inner}"))
    lines += [
        (_("Answers to %(name)s") % {"name": name}, _listed(given))
        for name, given in plan.get("answers", {}).items()
    ]
    if "version" in plan:
        lines.append((_("Version of the cluster"), plan["version"]))
    lines += [
        (_("Batches"), _batches(task)),
        (_("Artifact source"), plan.get("artifact_source") or _("none")),
        (_("Playbook variables"), _listed(plan.get("overrides", {})) or _("as preset")),
        (_("PreCheck policy"), _listed(plan.get("policy", {})) or _("as preset")),
        (_("Done with the rights of"), plan.get("by", "")),
    ]
    return [{"label": label, "text": text} for label, text in lines]


def _below(step: TaskStep) -> list[TaskStep]:
    return [
        TaskStep(key=each.key, name=each.name, kind=each.kind, params=dict(each.params))
        for each in nesting.below(step.params)
    ]


def _all(
    steps: Iterable[TaskStep], above: tuple[str, ...] = ()
) -> Iterator[tuple[TaskStep, tuple[str, ...]]]:
    """Every step of the tree, and what the tasks above it are called."""
    for step in steps:
        yield step, above
        if step.kind == nesting.KIND:
            yield from _all(_below(step), (*above, str(catalog.title_of(step))))


def _group(name: str) -> str:
    return str(TaskMachine.Group(name).label)


def _of_operation(params: Mapping[str, Any]) -> str:
    """What was asked for, and the version, which matters even where nobody chose one."""
    asked = {name: value for name, value in params.get("params", {}).items() if value != ""}
    kind = operation_kinds.KINDS.get(params.get("kind", ""))
    texts = []
    if group := params.get("group"):
        texts.append(_("with each machine that %(group)s") % {"group": _group(group)})
    if params.get("everywhere"):
        texts.append(_("on all machines of the cluster"))
    if kind is not None and "kubernetes_version" in kind.params.model_fields:
        version = asked.pop("kubernetes_version", "")
        texts.append(
            _("Kubernetes %(version)s") % {"version": version}
            if version
            else _("Kubernetes of the cluster's own version")
        )
    if asked:
        texts.append(_listed(asked))
    return "; ".join(texts)


def _batches(task: AutoOperationTask) -> str:
    size, pause = task.batch_size, task.batch_pause
    if not size:
        return _("all machines at once")
    text = ngettext("%(count)s machine at once", "%(count)s machines at once", size) % {
        "count": size
    }
    if not pause:
        return text
    return _("%(batch)s, %(seconds)s s between batches") % {"batch": text, "seconds": pause}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, Mapping):
        return f"({_listed(value)})"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    return str(value)
