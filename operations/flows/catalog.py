"""The steps that manifests, templates and the API name, and the ready-made templates.

A name stands for a kind of step and its parameters.  Beside the names below every kind of operation
can be named: it is done as a whole.  A task keeps the steps that it was begun with; whoever changes
a template counts its version up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence, untranslated
from operations.flows import base, graph
from operations.flows.models import TaskMachine, TaskStep
from operations.kinds import base as operation_kinds


@dataclass(frozen=True)
class Named:
    """What a name means; ``params`` are those of the kind of step."""

    name: str
    title: Any
    kind: str
    params: Mapping[str, Any]


def _operation(name: str, title: Any, kind: str, *steps: str, **more: Any) -> Named:
    params: dict[str, Any] = {"kind": kind, **more}
    if steps:
        params["steps"] = list(steps)
    return Named(name, title, "operation", params)


NAMES = {
    each.name: each
    for each in (
        _operation("ScaleUpPreCheck", _("Check the machines"), "ScaleUp", "preCheck"),
        # The node stays cordoned: opening it is a step of its own.
        _operation("ScaleUp", _("Install and join"), "ScaleUp", "preCheck", "scaleUp", "postCheck"),
        _operation("UncordonNodes", _("Open for pods"), "UncordonNodes"),
        Named("ScaleUpWorkprocess", _("Approval of the change"), "workOrder", {}),
        Named("ScaleUpSubWorkprocess", _("Acceptance"), "workOrder", {}),
        _operation("ScaleDownPreCheck", _("See what would happen"), "ScaleDown", "preCheck"),
        _operation("ScaleDown", _("Take out of the cluster"), "ScaleDown"),
        Named("ScaleDownWorkprocess", _("Approval of the change"), "workOrder", {}),
        Named("ScaleDownSubWorkprocess", _("Acceptance"), "workOrder", {}),
        Named("ReplaceWorkprocess", _("Approval of the change"), "workOrder", {}),
        _operation("CreateClusterPreCheck", _("Check the machines"), "CreateCluster", "preCheck"),
        Named("CreateClusterWorkprocess", _("Approval of the change"), "workOrder", {}),
        Named("WorkOrder", _("Approval"), "workOrder", {}),
        Named("ExternalTicket", _("Ticket"), "workOrder", {"ticket": True}),
        Named("Task", _("Another task"), "task", {}),
        Named("Wait", _("Wait"), "wait", {}),
        Named("Notify", _("Notification"), "notify", {}),
        Named("NodesReady", _("Nodes are ready"), "gate", {"condition": "nodes"}),
        Named("HealthGate", _("Health gate"), "gate", {"condition": "health"}),
        Named("PrometheusGate", _("Gate by Prometheus"), "gate", {"condition": "prometheus"}),
        _operation(
            "PodRoutes",
            _("Routes to pods"),
            "Network",
            params={"driver": "routes", "action": "add"},
            # The other nodes need a way to the new ones, too.
            everywhere=True,
        ),
        _operation(
            "SiteNetwork",
            _("Network of the site"),
            "Network",
            params={"driver": "webhook", "action": "add"},
        ),
        _operation(
            "SiteNetworkRemoval",
            _("Out of the site's network"),
            "Network",
            params={"driver": "webhook", "action": "remove"},
        ),
    )
}


@dataclass(frozen=True)
class Template:
    """``operation_id`` is what the manifests of the platform call it.

    ``groups``: in a replacement, which machines each step is done with.  ``behind``: steps that a
    step must come after, however somebody orders them.  ``begins_with``: the kind of operation that
    says which machines can be chosen.  ``makes_cluster``: it begins together with its cluster
    (``flows.creating``), and on no other one.
    """

    name: str
    version: int
    title: Any
    description: Any
    operation_id: str
    steps: tuple[str, ...]
    icon: str
    groups: Mapping[str, str] = field(default_factory=dict)
    behind: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    begins_with: str = ""
    makes_cluster: bool = False
    # Of a template of the site, what its version holds (``library.content``).
    content: Any = None


TEMPLATES = {
    each.name: each
    for each in (
        Template(
            "ScaleUp",
            1,
            _("Scale up"),
            _("Check machines, have it approved, bring them in, open them, have it accepted."),
            "scale-up",
            (
                "ScaleUpPreCheck",
                "ScaleUpWorkprocess",
                "ScaleUp",
                "UncordonNodes",
                "ScaleUpSubWorkprocess",
            ),
            "add_circle",
        ),
        Template(
            "ScaleDown",
            1,
            _("Scale down"),
            _("See what would happen, have it approved, take machines out."),
            "scale-down",
            ("ScaleDownPreCheck", "ScaleDownWorkprocess", "ScaleDown"),
            "do_not_disturb_on",
            begins_with="ScaleDown",
        ),
        Template(
            "ReplaceMachine",
            1,
            _("Replace machines"),
            _("Bring new machines in; only when all of them take pods, take the old ones out."),
            "replace-machine",
            (
                "ScaleUpPreCheck",
                "ScaleDownPreCheck",
                "ReplaceWorkprocess",
                "ScaleUp",
                "UncordonNodes",
                "NodesReady",
                "ScaleDown",
            ),
            "swap_horiz",
            groups={
                **dict.fromkeys(
                    (
                        "ScaleUpPreCheck",
                        "ScaleUp",
                        "UncordonNodes",
                        "NodesReady",
                        "HealthGate",
                        "PodRoutes",
                        "SiteNetwork",
                    ),
                    TaskMachine.Group.NEW.value,
                ),
                **dict.fromkeys(
                    ("ScaleDownPreCheck", "ScaleDown", "SiteNetworkRemoval"),
                    TaskMachine.Group.OLD.value,
                ),
            },
            behind={"ScaleDown": ("ScaleUp", "UncordonNodes", "NodesReady")},
            begins_with="ScaleUp",
        ),
        Template(
            "CreateCluster",
            1,
            _("Create cluster"),
            _("Check free machines, have it approved, make the cluster of them, prove it."),
            "create-cluster",
            (
                "CreateClusterPreCheck",
                "CreateClusterWorkprocess",
                "CreateCluster",
                "HealthGate",
            ),
            "deployed_code",
            makes_cluster=True,
        ),
    )
}


def template(name: str, *, others: Sequence[str] = ()) -> Template:
    """A ready-made one; ``others`` are named beside them when there is none."""
    try:
        return TEMPLATES[name]
    except KeyError:
        sentence = gettext("There is no template “%(name)s”; known are %(known)s.") % {
            "name": name,
            "known": ", ".join(sorted({*TEMPLATES, *others})),
        }
        raise InvalidInput(
            sentence, code="unknown_template", fields={"template": sentence}
        ) from None


def named(name: str) -> Named:
    """``InvalidInput`` lists the names there are."""
    if name in NAMES:
        return NAMES[name]
    if name in operation_kinds.KINDS:
        return _operation(name, operation_kinds.KINDS[name].title, name)
    known = sorted({*NAMES, *operation_kinds.KINDS})
    sentence = gettext("There is no step “%(name)s”; known are %(known)s.") % {
        "name": name,
        "known": ", ".join(known),
    }
    raise InvalidInput(sentence, code="unknown_step", fields={"step": sentence})


def spec(name: str, params: Mapping[str, Any] | None = None) -> graph.Spec:
    """A step by its name; ``params`` go to the operation's kind, or to the kind of step."""
    found = named(name)
    merged = dict(found.params)
    if found.kind == "operation":
        merged["params"] = {**found.params.get("params", {}), **(params or {})}
    else:
        merged |= dict(params or {})
    return graph.Spec(name, name, found.kind, merged)


def for_template(chosen: Template, specs: Sequence[graph.Spec]) -> list[graph.Spec]:
    """The steps with the machines that each is done with in the template.

    Of the machines that come in none may fail: what goes out would leave less than there was.
    ``InvalidInput`` when a step comes before one that it must come after, or when that one would
    keep nothing from it.
    """
    found: list[graph.Spec] = []
    for index, spec in enumerate(specs):
        if sentence := _why_not_in(chosen, spec, found):
            place = f"steps[{index}]"
            raise InvalidInput(
                f"{place}: {sentence}", code="invalid_graph", fields={place: sentence}
            )
        found.append(_with_group(spec, chosen.groups.get(spec.name, "")))
    return found


def _why_not_in(chosen: Template, spec: graph.Spec, others: Sequence[graph.Spec]) -> str:
    before = {each.name for each in _before(spec, others)}
    for name in chosen.behind.get(spec.name, ()):
        if name not in before:
            return gettext("In %(template)s, %(step)s must come after %(other)s.") % {
                "template": chosen.name,
                "step": spec.name,
                "other": name,
            }
    if not any(spec.name in names for names in chosen.behind.values()):
        return ""
    # Others come behind it because of what it makes sure of.
    if spec.on_failure == graph.OnFailure.CONTINUE:
        return gettext("In %(template)s, %(step)s must stop the task when it fails.") % {
            "template": chosen.name,
            "step": spec.name,
        }
    own = NAMES[spec.name].params.items()
    if any(spec.params.get(key) != value for key, value in own if key != "params"):
        return gettext("In %(template)s, %(step)s must look at what its name says.") % {
            "template": chosen.name,
            "step": spec.name,
        }
    return ""


def _before(spec: graph.Spec, others: Sequence[graph.Spec]) -> list[graph.Spec]:
    """Those of ``others`` that are on the way to ``spec``."""
    keys = {*spec.needs, *spec.compensates}
    found = []
    for each in reversed(others):
        if each.key in keys:
            found.append(each)
            keys |= {*each.needs, *each.compensates}
    return found


def _with_group(spec: graph.Spec, group: str) -> graph.Spec:
    if not group or spec.kind == "workOrder":
        return spec
    more: dict[str, Any] = {"group": group}
    if spec.kind == "operation" and group == TaskMachine.Group.NEW:
        more["all_or_nothing"] = True
    return replace(spec, params={**spec.params, **more})


def in_order(names: Sequence[str]) -> list[graph.Spec]:
    return graph.in_order(spec(name) for name in names)


def title_of(step: TaskStep) -> Sentence:
    """What people call the step, in the language of whoever reads it now."""
    if step.kind == "task" and (name := str(step.params.get("template", ""))):
        return Sentence("Task %(name)s", name=name)
    found = (
        NAMES.get(step.name) or operation_kinds.KINDS.get(step.name) or base.KINDS.get(step.kind)
    )
    return untranslated(found.title) if found else Sentence("")
