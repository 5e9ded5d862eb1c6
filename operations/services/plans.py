"""Plans and kinds as plain values, for the API and the start form."""

from typing import Any

from machines.models import Machine
from operations.kinds.base import Kind
from operations.services.start import Plan


def as_dict(plan: Plan) -> dict[str, Any]:
    return {
        "kind": plan.kind.name,
        "cluster": plan.cluster.name,
        "params": plan.params.model_dump(mode="json"),
        "steps": steps_of(plan.kind),
        "ready": [_machine(machine) for machine in plan.ready],
        "blocked": [
            {
                **_machine(blocker.machine),
                "reason": str(blocker),
                "reasons": list(blocker.reasons),
            }
            for blocker in plan.blockers
            if blocker.machine is not None
        ],
        "warnings": [
            {**_machine(remark.machine), "message": remark.text}
            for remark in plan.remarks
            if remark.machine is not None
        ],
        "blockers": [blocker.reason for blocker in plan.whole_blockers],
        "notes": [remark.text for remark in plan.remarks if remark.machine is None],
        "estimate": estimate_of(plan),
    }


def _machine(machine: Machine) -> dict[str, Any]:
    return {"id": machine.pk, "address": str(machine.address), "hostname": machine.hostname}


def estimate_of(plan: Plan) -> dict[str, Any] | None:
    if plan.seconds is None:
        return None
    low, high = plan.seconds
    return {"low": low, "high": high, "earlier_runs": plan.earlier_runs}


def steps_of(kind: Kind) -> list[dict[str, str]]:
    return [{"name": step.name, "title": str(step.title)} for step in kind.steps]


def kind_as_dict(kind: Kind) -> dict[str, Any]:
    return {
        "name": kind.name,
        "title": str(kind.title),
        "description": str(kind.description),
        "permission": kind.permission,
        "changes_machines": kind.mutating,
        "whole_cluster": kind.whole_cluster,
        "roles": list(kind.roles),
        "startable_states": sorted(kind.startable_states),
        "steps": steps_of(kind),
        "params": kind.params.model_json_schema(),
        "answers": sorted(kind.answers),
        "approvals": sorted(kind.approvals),
    }
