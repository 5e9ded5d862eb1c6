"""Executed exactly as approved: what an approval is about, and whether it is still that.

The plan has the cluster, the machines, the steps with their parameters, the playbooks (a hash of
all that ansible runs), what operations were answered, what the cluster's settings make of all that,
and the cluster's version where a step takes that.  Machines that drop out are no change: fewer
machines than approved are touched, never others.
"""

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet

from beidou.base.models import User
from beidou.base.sentences import Sentence, joined
from beidou.base.state import change_status
from operations.flows import nesting
from operations.flows.models import (
    AutoOperationTask,
    TaskMachine,
    TaskPart,
    TaskStep,
    WorkOrder,
)
from operations.kinds.base import KINDS
from operations.models import ClusterSettings, Operation
from operations.outside import requests
from operations.outside.models import SiteRequest

Status = TaskStep.Status
Plan = dict[str, Any]
ANSIBLE = Path(__file__).resolve().parent.parent / "ansible"


@functools.cache
def playbook_revision() -> str:
    """Of every file that ansible may run; a portal runs one version of them as long as it lives."""
    digest = hashlib.sha256()
    for path in sorted(ANSIBLE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ANSIBLE)}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def plan_of(task: AutoOperationTask, machines: Sequence[TaskMachine]) -> Plan:
    """What would be done from here on, as plain values."""
    settings = ClusterSettings.objects.filter(cluster=task.cluster_id).first()
    steps = list(task.steps.order_by("position"))
    answers = _answers(task)
    return {
        "cluster": task.cluster.name,
        "machines": {
            member.address: {
                "key": member.machine_id,
                "hostname": member.machine.hostname if member.machine else member.hostname,
                "address": str(member.machine.address) if member.machine else member.address,
                "role": member.role or (member.machine.role if member.machine else ""),
                **({"group": member.group} if member.group else {}),
            }
            for member in machines
        },
        "params": task.params,
        "steps": [
            {"key": each.key, "name": each.name, "kind": each.kind, "params": each.params}
            for each in steps
        ],
        **({"answers": answers} if answers else {}),
        **({"version": task.cluster.version} if _is_of_its_version(steps) else {}),
        "playbooks": playbook_revision(),
        "overrides": settings.overrides if settings else {},
        "policy": settings.policy if settings else {},
        "artifact_source": settings.artifact_source if settings else "",
        "by": task.acting_name,
    }


def _answers(task: AutoOperationTask) -> dict[str, dict[str, Any]]:
    """What its operations, and those below it, were told with a retry otherwise than the steps say,
    or will be.  What somebody else approves with the retry itself is no part of it."""
    found = {}
    level = [task.pk]
    while level:
        parts = TaskPart.objects.filter(step__task__in=level, operation__isnull=False).filter(
            ~Q(operation__answers={}) | Q(step__progress__has_key="answers")
        )
        for part in parts.select_related("step", "operation").order_by("step", "number"):
            if part.operation is not None and (changed := _changed(part.step, part.operation)):
                found[part.operation.name] = changed
        rows = AutoOperationTask.objects.filter(parent__task__in=level)
        level = list(rows.values_list("pk", flat=True))
    return found


def answerers(task: AutoOperationTask) -> dict[int, str]:
    """Key -> name of those who gave answers that nobody has approved yet, to its operations or to
    those below: they want what the approval is about, as whoever asked does."""
    steps = _steps_with_those_below(task.pk).filter(progress__has_key="answerers")
    given = steps.order_by("pk").values_list("progress", flat=True)
    return {int(key): name for each in given for key, name in each["answerers"].items()}


def answered_by(user: User, task: str) -> Exists:
    """Of rows whose task (``task`` is the way to it) has them among its ``answerers``."""
    steps = _steps_with_those_below(OuterRef(task))
    return Exists(steps.filter(progress__answerers__has_key=str(user.pk)))


def _steps_with_those_below(task: Any) -> QuerySet[TaskStep]:
    """Of the task with this key, and of those below it, in one query: pages ask it often."""
    found, way = Q(), "task"
    for _level in range(nesting.DEPTH_MAX + 2):
        found |= Q(**{way: task})
        way = f"{way}__parent__task"
    return TaskStep.objects.filter(found)


def with_answers(
    progress: Mapping[str, Any], answers: Mapping[str, Mapping[str, Any]], user: User
) -> dict[str, Any]:
    """The progress of a step that keeps these answers by key of the operation, given by ``user``,
    until they are approved and its operations done again."""
    return {
        **progress,
        "answers": {**progress.get("answers", {}), **answers},
        "answerers": {**progress.get("answerers", {}), str(user.pk): user.get_username()},
    }


def without_answers(progress: Mapping[str, Any], operation: str = "") -> dict[str, Any]:
    """Without those for this operation, or without any."""
    answers = dict(progress.get("answers", {}))
    answers.pop(operation, None)
    if operation and answers:
        return {**progress, "answers": answers}
    return {key: row for key, row in progress.items() if key not in ("answers", "answerers")}


def _changed(step: TaskStep, operation: Operation) -> dict[str, Any]:
    kind = KINDS.get(operation.kind)
    kept = step.progress.get("answers", {}).get(str(operation.pk), {})
    return {
        name: value
        for name, value in sorted({**operation.answers, **kept}.items())
        if value != operation.params.get(name) and (kind is None or name not in kind.approvals)
    }


def _is_of_its_version(steps: Sequence[TaskStep]) -> bool:
    """Whether something that is still to be done joins machines in the version that the cluster has
    then, because nobody chose one."""
    left = [each for each in steps if each.status not in (Status.SUCCEEDED, Status.SKIPPED)]
    trees = [nesting.below(each.params) for each in left if each.kind == nesting.KIND]
    below = [spec for tree in trees for _place, spec in nesting.walk(tree)]
    every = [each.params for each in left] + [each.params for each in below]
    return any(map(_takes_version, every))


def _takes_version(params: Mapping[str, Any]) -> bool:
    """Of a step; only operations have a kind."""
    kind = KINDS.get(params.get("kind", ""))
    if kind is None or params.get("params", {}).get("kubernetes_version"):
        return False
    # A field, or for kinds that let nobody choose one, a property.
    fields = kind.params.model_fields
    return "kubernetes_version" in fields or hasattr(kind.params, "kubernetes_version")


def digest_of(plan: Plan) -> str:
    text = json.dumps(plan, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def changes(order: WorkOrder, plan: Plan, task: AutoOperationTask) -> list[Sentence]:
    """How ``plan`` differs from what was asked; empty when the approval covers it."""
    asked: Plan = order.plan
    found: list[Sentence] = []
    if order.digest == digest_of(plan):
        return found
    before, now = asked.get("machines", {}), plan["machines"]
    if added := sorted(set(now) - set(before)):
        found.append(Sentence("Machines were added: %(names)s.", names=", ".join(added)))
    if other := sorted(name for name in set(now) & set(before) if now[name] != before[name]):
        found.append(
            Sentence("These machines are not what they were: %(names)s.", names=", ".join(other))
        )
    known, given = asked.get("answers", {}), plan.get("answers", {})
    if new := [name for name in given if given[name] != known.get(name)]:
        texts = [f"{name} ({_listed(given[name])})" for name in new]
        found.append(
            Sentence("Answers were given to operations: %(answers)s.", answers=", ".join(texts))
        )
    if "version" in plan and plan["version"] != asked.get("version"):
        found.append(
            Sentence(
                "The cluster has another version: %(now)s, no longer %(before)s.",
                now=plan["version"],
                before=str(asked.get("version", "")),
            )
        )
    sentences = {
        "cluster": Sentence("The cluster has another name."),
        "params": Sentence("The parameters were changed."),
        "steps": Sentence("The steps were changed."),
        "playbooks": Sentence("The playbooks are of another version."),
        "overrides": Sentence("The playbook variables of the cluster were changed."),
        "policy": Sentence("The preCheck policy of the cluster was changed."),
        "artifact_source": Sentence("The artifact source of the cluster was changed."),
        "by": Sentence(
            "Somebody else carries it on: %(now)s, no longer %(before)s.",
            now=plan["by"],
            before=str(asked.get("by", "")),
        ),
    }
    found += [text for name, text in sentences.items() if asked.get(name) != plan[name]]
    return found


def _listed(answers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {json.dumps(value)}" for name, value in answers.items())


def end_order(order: WorkOrder, why: Sequence[str]) -> None:
    """The approval (or the question) holds no more."""
    is_open = order.status == WorkOrder.Status.OPEN
    to = WorkOrder.Status.CLOSED if is_open else WorkOrder.Status.OUTDATED
    change_status(order, to=to, reason=joined(why))
    close_request(order)


def close_request(order: WorkOrder) -> None:
    """What a ticket system was asked about it is waited for no more."""
    for request in SiteRequest.objects.filter(order=order, ended_at=None):
        requests.close(request)
