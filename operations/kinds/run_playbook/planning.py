"""What is in the way, what the form asks, and what is told of a run before and after it has
begun."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from beidou.base import permissions
from beidou.base.errors import PermanentError
from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from operations.kinds import hosts
from operations.kinds.base import Blocker
from operations.kinds.run_playbook.params import RunPlaybookParams
from operations.models import PlaybookSource
from operations.playbooks import library
from operations.playbooks.declaration import STATES, Part, Playbook


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: RunPlaybookParams
) -> list[Blocker]:
    try:
        declared = library.declared(params.playbook, params.content)
    except PermanentError as error:
        return [Blocker(None, error.message.removesuffix("."))]
    if declared is None:
        return [Blocker(None, _("the content of its playbook is not kept any more"))]
    source = params.playbook.partition("/")[0]
    found = []
    if not PlaybookSource.objects.filter(name=source, enabled=True).exists():
        found.append(Blocker(None, _("the source of its playbook is switched off")))
    settings = hosts.settings_of(cluster.pk)
    for machine in machines:
        if machine.cluster_id not in (None, cluster.pk):
            reason = _("it belongs to cluster %(name)s") % {"name": machine.cluster}
            found.append(Blocker(machine, reason))
        if machine.state in STATES and machine.state not in declared.states:
            reason = _("it is %(state)s; the playbook is for machines that are %(wanted)s") % {
                "state": machine.get_state_display(),
                "wanted": _labels(declared),
            }
            found.append(Blocker(machine, reason))
        found += [Blocker(machine, why) for why in hosts.why_unreachable(machine, settings)]
    return found


def _labels(declared: Playbook) -> str:
    return " / ".join(str(Machine.State(state).label) for state in declared.states)


def is_offered(user: User) -> bool:
    return library.offered(user).exists()


def options(chosen: Mapping[str, Any], user: User) -> dict[str, Any]:
    """The schema of the form: which playbook, and the parameters of the chosen one."""
    rows = list(library.offered(user))
    names = [row.reference for row in rows]
    picked = next((row for row in rows if row.reference == chosen.get("playbook")), None)
    picked = picked or next(iter(rows), None)
    playbook: dict[str, Any] = {
        "type": "string",
        "enum": names,
        "x-labels": {row.reference: f"{row.title} – {row.reference}" for row in rows},
        "x-reload": True,
        "description": picked.description if picked else _("No playbook is released yet."),
    }
    schema: dict[str, Any] = {"properties": {"playbook": playbook}, "required": ["playbook"]}
    if picked is None:
        return schema
    playbook["default"] = picked.reference
    parameters = picked.declared.parameters
    if parameters.properties:
        schema["properties"]["variables"] = {
            "type": "object",
            "properties": {name: _as_schema(part) for name, part in parameters.properties.items()},
            "required": parameters.required,
        }
    if picked.declared.destructive:
        schema["properties"]["confirm"] = {"type": "string", "maxLength": 63}
    return schema


def _as_schema(part: Part) -> dict[str, Any]:
    return {
        name: value
        for name, value in part.model_dump(mode="json", exclude_unset=True).items()
        if value not in ("", None)
    }


def about(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    declared = library.declared_if_readable(params["playbook"], params["content"])
    lines = [(_("Playbook"), params["playbook"]), (_("Revision"), params["revision"])]
    if params["content"] != params["revision"]:
        lines.append((_("Content"), params["content"]))
    if declared is None:
        return lines
    lines[0] = (_("Playbook"), f"{declared.title} – {params['playbook']} ({declared.playbook})")
    if declared.verify:
        lines.append((_("Proved by"), declared.verify))
    needs = permissions.ACTION_LABELS[declared.permission]
    lines.append((_("Right needed"), str(needs)))
    lines.append((_("Changes machines"), _("yes") if declared.changes_machines else _("no")))
    if declared.destructive:
        lines.append((_("Destructive"), _("yes")))
    if declared.serial:
        lines.append((_("Machines per batch"), str(declared.serial)))
    if not declared.idempotent:
        lines.append((_("When its worker is lost"), _("a person is asked, it is not repeated")))
    for name, value in params["variables"].items():
        part = declared.parameters.properties.get(name)
        lines.append(((part.title if part else "") or name, _as_text(value)))
    return lines


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return str(value)
