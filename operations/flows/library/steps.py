"""What a step of a template can be: every name there is, with the schema of its parameters.

A template is kept and read by everybody, and is begun many times.  So what a name fixes is no
parameter, nor is what somebody else has to approve each time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from operations.flows import base, catalog
from operations.flows.catalog import Named
from operations.flows.library.models import TaskTemplate
from operations.kinds import base as operation_kinds

Schema = dict[str, Any]

# Those of a gate that mean something with its condition.
_OF_GATES = {
    "nodes": ("seconds", "minutes"),
    "health": ("machines", "params"),
    "prometheus": ("query", "comparison", "value", "match", "times", "seconds", "minutes"),
}


_OF_CREATION = ("CreateClusterWorkprocess",)


def names() -> Iterator[Named]:
    """All that can be a step: first what tasks have names for, then kinds as a whole."""
    every = [*catalog.NAMES, *sorted(set(operation_kinds.KINDS) - set(catalog.NAMES))]
    for name in every:
        named = catalog.named(name)
        kind = kind_of(named)
        if name not in _OF_CREATION and (kind is None or not kind.makes_cluster):
            yield named


def kind_of(named: Named) -> operation_kinds.Kind | None:
    """The kind of operation, of a step that is one."""
    return operation_kinds.KINDS.get(str(named.params.get("kind", "")))


def model_of(named: Named) -> type[BaseModel]:
    """What types the parameters: of the operation's kind, or of the kind of step."""
    kind = kind_of(named)
    return base.get(named.kind).params if kind is None else kind.params


def fixed(named: Named) -> Mapping[str, Any]:
    """Parameters that the name itself says."""
    params: Mapping[str, Any] = named.params
    return params.get("params", {}) if named.kind == "operation" else params


def _offered() -> list[str]:
    rows = TaskTemplate.objects.filter(is_offered=True).order_by("name")
    return list(rows.values_list("name", flat=True))


def schema_of(named: Named) -> Schema:
    """JSON schema of what can be chosen."""
    schema = model_of(named).model_json_schema()
    left_out = set(fixed(named)) | {"group"}
    if named.kind == "task":
        left_out |= {"steps"}  # found when a task begins
    if (kind := kind_of(named)) is not None:
        left_out = set(fixed(named)) | kind.approvals
    wanted = _OF_GATES.get(str(fixed(named).get("condition"))) if named.kind == "gate" else None
    properties = {
        name: part
        for name, part in schema.get("properties", {}).items()
        if name not in left_out and (wanted is None or name in wanted)
    }
    if named.kind == "task":
        ready = [name for name, each in catalog.TEMPLATES.items() if not each.makes_cluster]
        templates = [*ready, *_offered()]
        properties["template"] = {**properties["template"], "enum": templates}
    required = [name for name in schema.get("required", []) if name in properties]
    return {**schema, "properties": properties, "required": required}
