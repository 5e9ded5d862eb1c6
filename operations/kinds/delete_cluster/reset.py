"""reset: the workers side by side, then the control planes one by one.

All that the hosts must know was kept by preCheck, so that nobody asks an API that is going away.
Begun again at any point: a machine that is reset already is only looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from beidou.base.errors import PermanentError
from beidou.base.sentences import Sentence
from clusters.services import deletion
from machines.models import Machine
from operations.kinds import hosts, lifecycle, playbook
from operations.kinds.base import StepRun
from operations.kinds.checks import in_short
from operations.kinds.create_cluster.members import has_passed, merge
from operations.kinds.delete_cluster.pre_check import is_named, lacks_approval
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.machines import move
from operations.kinds.scale_down.settling import evidence_of, why_not_reached
from operations.models import Operation, OperationMachine

STEP = "reset"


@dataclass
class Reset:
    results: PlaybookResults = field(default_factory=PlaybookResults)
    given_up: dict[int, str] = field(default_factory=dict)
    """By key of the member: why its host was not reached."""


def reset(run: StepRun) -> Reset:
    _require_approval(run)
    _require_whole(run)
    reason = Sentence("%(operation)s takes it down", operation=run.operation.name)
    deletion.begin(cluster=run.cluster, reason=reason)
    done = Reset()
    _see_who_is_reached(run, done)
    move(run, run.targets, Machine.State.LEAVING)
    workers = [each for each in run.targets if not _is_plane(each)]
    _reset(run, workers, done)
    if waits_for := _worker_left(run, done):
        for plane in [each for each in run.targets if _is_plane(each)]:
            run.fail(
                plane,
                Sentence(
                    "Worker %(machine)s is not reset yet; control planes go last. Mend what is "
                    "wrong there, then retry.",
                    machine=str(waits_for),
                ),
            )
        return done
    for plane in [each for each in run.targets if _is_plane(each)]:
        run.stop_if_asked()
        _reset(run, [plane], done)
    return done


def _require_approval(run: StepRun) -> None:
    """Also when somebody skipped preCheck: a skip is no approval, and names no authority."""
    for target in run.targets:
        kept = evidence_of(target, "preCheck")
        if not kept.get("approved_by"):
            raise PermanentError(
                Sentence(
                    "Nobody has approved that %(machine)s is reset: preCheck was skipped. Start a "
                    "new operation.",
                    machine=str(target),
                ),
                code="not_approved",
            )
        if not kept.get("ca_cert_hashes"):
            raise PermanentError(
                Sentence(
                    "The cluster's authority is not known, so %(machine)s cannot be told from a "
                    "host of another cluster. Replace the credential by one with the CA "
                    "certificate, then start a new operation.",
                    machine=str(target),
                ),
                code="no_authority",
            )


def _require_whole(run: StepRun) -> None:
    """What joined or began after the plan was shown."""
    members = run.operation.machines.filter(machine__isnull=False).values("machine")
    stranger = Machine.objects.filter(cluster=run.cluster).exclude(pk__in=members).first()
    if stranger is not None:
        raise PermanentError(
            Sentence(
                "%(machine)s has come to the cluster meanwhile. Start a new operation.",
                machine=str(stranger),
            ),
            code="not_whole",
        )
    others = Operation.objects.filter(cluster=run.cluster, status__in=Operation.ACTIVE)
    other = others.exclude(pk=run.operation.pk).first()
    if other is not None:
        raise PermanentError(
            Sentence("Operation %(name)s is active on the cluster; retry when it has ended.",
                     name=other.name),
            code="not_alone",
        )  # fmt: skip


def _see_who_is_reached(run: StepRun, done: Reset) -> None:
    """Those that are not fail, unless they were given up by their names."""
    reasons = why_not_reached(run)
    for target in list(run.targets):
        reason = reasons.get(target.pk, "")
        if reason and is_named(target, _approved_to_give_up(run, target)):
            done.given_up[target.pk] = reason
        elif reason and is_named(target, run.params.given_up):
            told = Sentence("it was named in give_up after it was approved; %(why)s", why=reason)
            run.fail(
                target,
                Sentence(
                    "The host was not reached, and nobody has approved that it is given up. → "
                    "Somebody else retries with approved; or mend the connection, then retry."
                ),
                checks=[lacks_approval(told)],
            )
        elif reason:
            run.fail(
                target,
                Sentence(
                    "The host was not reached. %(why)s → Mend the connection; or, if the host is "
                    "lost, retry and name it in give_up.",
                    why=reason,
                ),
            )


def _approved_to_give_up(run: StepRun, target: OperationMachine) -> frozenset[str]:
    """What stood there when it was approved; or all, where that is approved with this retry."""
    given_up: frozenset[str] = run.params.given_up
    if run.params.approved:
        return given_up
    return given_up & frozenset(evidence_of(target, "preCheck").get("given_up", ()))


def _is_plane(target: OperationMachine) -> bool:
    return bool(evidence_of(target, "preCheck").get("is_control_plane"))


def _reset(run: StepRun, chosen: Sequence[OperationMachine], done: Reset) -> None:
    reached = [each for each in chosen if each.pk not in done.given_up]
    if not reached:
        return
    settings = hosts.settings_of(run.cluster.pk)
    kept = evidence_of(reached[0], "preCheck")
    variables: Mapping[str, Any] = {
        "is_control_plane": True,
        "ca_cert_hashes": list(kept.get("ca_cert_hashes", [])),
        "pod_networks": list(kept.get("pod_networks", [])),
        **(settings.overrides if settings else {}),
    }
    per_machine = {
        each.pk: {"node_name": evidence_of(each, "preCheck").get("node", "")} for each in reached
    }
    merge(
        done.results,
        playbook.run_playbook(
            run, "clean_up", variables=variables, per_machine=per_machine, members=reached
        ),
    )


def _worker_left(run: StepRun, done: Reset) -> OperationMachine | None:
    """A worker that is neither reset nor given up, now or by an earlier attempt.

    One that is no machine here any more takes part in no retry, so nobody waits for it.
    """
    targets = {target.pk for target in run.targets}
    for member in run.operation.machines.filter(machine__isnull=False):
        if _is_plane(member) or has_passed(member, STEP):
            continue
        if member.pk not in targets or member.pk in done.results.failed:
            return member
    return None


def confirm(run: StepRun, done: Reset) -> None:
    for target in list(run.targets):
        name = evidence_of(target, "preCheck").get("node", "")
        if why := done.given_up.get(target.pk):
            lifecycle.remember_residue(target)
            run.succeed(
                target,
                message=Sentence("given up; the host was not reset"),
                evidence={"node": name, "unreached": why},
            )
            continue
        checks = done.results.checks(target)
        bad = [each for each in checks if not each["ok"] and each.get("severity") != "warning"]
        if target.pk in done.results.failed:
            run.fail(target, done.results.failed[target.pk], checks=checks)
        elif bad or not checks:
            nothing = Sentence("The checks gave no result.")
            run.fail(target, in_short(bad) if bad else nothing, checks=checks)
        else:
            lifecycle.forget_residue(target)
            run.succeed(
                target,
                message=Sentence("as delivered"),
                checks=checks,
                evidence={"node": name, "done": done.results.find(target, "done") or []},
            )
