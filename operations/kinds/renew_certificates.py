"""RenewCertificates: what kubeadm has issued on control planes, renewed before it ends.

preCheck   looks when each ends and whether its authority's key is there; changes nothing.
renew      the control planes one by one: ``kubeadm certs renew all``, then what works with an older
           certificate is restarted; the API server must show the new one.
postCheck  looks at every node once more, and says which certificates renew themselves.

The preCheck and the renewal itself need SSH alone: certificates that have ended already keep nobody
from renewing them.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from pydantic import BaseModel, ConfigDict, Field

from beidou.base.errors import BeidouError, PermanentError
from beidou.base.sentences import Sentence
from clusters.models import Cluster, ClusterCredential, Node
from clusters.services import adoption
from clusters.services.checking import Source
from clusters.services.connections import client_for
from machines.drivers import ssh
from machines.models import Machine
from operations.kinds import hosts, joining, playbook
from operations.kinds.base import Blocker, Check, Kind, StepKind, StepRun, check, register
from operations.kinds.control_planes import alone, etcd
from operations.kinds.create_cluster.members import merge
from operations.kinds.draining.budgets import listed
from operations.kinds.draining.plan import CONTROL_PLANE
from operations.kinds.patience import patiently
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_down.settling import evidence_of, settle
from operations.kinds.upgrade_cluster import facts, gate
from operations.models import OperationMachine

State = Machine.State
ADMIN = "kubernetes-admin"
SOON = timedelta(days=30)


class RenewCertificatesParams(BaseModel):
    model_config = ConfigDict(extra="forbid")

    gate_minutes: int = Field(default=10, ge=1, le=60)


def blockers(
    cluster: Cluster, machines: Sequence[Machine], params: RenewCertificatesParams
) -> list[Blocker]:
    """Not that the cluster is away: that may be the very reason."""
    settings = hosts.settings_of(cluster.pk)
    found = alone.blockers(cluster)
    for machine in machines:
        if machine.cluster_id != cluster.pk:
            found.append(Blocker(machine, gettext("it is not in this cluster")))
        elif machine.node_id is None:
            found.append(Blocker(machine, gettext("no node of the cluster is linked to it")))
        found += [Blocker(machine, reason) for reason in hosts.why_unreachable(machine, settings)]
    return found


def start_blockers(
    cluster: Cluster, machines: Sequence[Machine], params: RenewCertificatesParams
) -> list[Blocker]:
    found = blockers(cluster, machines, params)
    missing = Node.objects.filter(cluster=cluster).exclude(machine__in=machines)
    planes = [
        node
        for node in missing.select_related("machine")
        if any(role in CONTROL_PLANE for role in node.roles)
    ]
    if unknown := [node.name for node in planes if not hasattr(node, "machine")]:
        reason = gettext(
            "these control planes are no machines of the portal: %(nodes)s; register them first, "
            "on the cluster's page under Machines"
        ) % {"nodes": listed(unknown)}
        found.append(Blocker(None, reason))
    if left_out := [node.name for node in planes if hasattr(node, "machine")]:
        reason = gettext(
            "every control plane takes part; choose the machines of these too: %(nodes)s"
        ) % {"nodes": listed(left_out)}
        found.append(Blocker(None, reason))
    return found


def _variables(run: StepRun) -> dict[str, Any]:
    settings = hosts.settings_of(run.cluster.pk)
    return {**facts.BIN_DIR, **(settings.overrides if settings else {})}


# --- preCheck -------------------------------------------------------------------------------------


def pre_check(run: StepRun) -> PlaybookResults:
    alone.require(run)
    return look(run)


def look(run: StepRun) -> PlaybookResults:
    return playbook.run_playbook(run, "certificate_report", variables=_variables(run))


def confirm_pre_check(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    planes = facts.control_planes_of(run.targets)
    not_whole = _not_whole(run)
    for at, target in enumerate(list(run.targets)):
        run.stop_if_asked()
        found = _report(results, target)
        if found is None:
            run.fail(target, Sentence("The certificates were not told."))
            continue
        is_plane = target.pk in planes
        checks = [*_plane_checks(found)] if is_plane else []
        checks += _kubelet_checks(found)
        evidence = {
            "node": joining.linked_node_name(target),
            "control_plane": is_plane,
            "etcd": "etcd-server" in found["ends"],
            "certificates": found["ends"],
            "authorities": found["authorities"],
            "kubelet": found["kubelet"],
        }
        if at == 0:
            evidence["not_whole"] = not_whole
        count = len(found["ends"]) if is_plane else 0
        settle(run, target, checks, evidence, Sentence("%(count)s to renew", count=count))


def _not_whole(run: StepRun) -> list[str]:
    """Without the API nothing is known, and the gate waits for all."""
    try:
        with client_for(run.cluster, timeout=15) as client:
            return gate.not_whole(client)
    except BeidouError as error:
        run.say(Sentence("The cluster was not looked at: %(why)s", why=error.message),
                level="warning")  # fmt: skip
        return []


def _report(results: PlaybookResults, target: OperationMachine) -> dict[str, Any] | None:
    """What the host said, in one piece."""
    names = ("ends", "authorities", "kubelet", "missing_keys", "served", "older",
             "rotates_client", "rotates_server")  # fmt: skip
    found = {name: results.find(target, name) for name in names}
    return None if found["ends"] is None else found


def _plane_checks(found: Mapping[str, Any]) -> list[Check]:
    missing = found["missing_keys"] or []
    now = datetime.now(UTC)
    ending = {name: end for name, end in found["authorities"].items() if _at(end) < now + SOON}
    over = {name: end for name, end in ending.items() if _at(end) < now}
    return [
        check(
            "certificates",
            bool(found["ends"]),
            _soonest(found["ends"]),
            Sentence("certificates of kubeadm"),
            Sentence("only clusters of kubeadm have certificates that are renewed here"),
        ),
        check(
            "authority-keys",
            not missing,
            Sentence("missing: %(names)s", names=listed(missing))
            if missing
            else Sentence("all there"),
            Sentence("the keys of the cluster's authorities"),
            Sentence("renew these certificates where the authority is, and put them on the host"),
        ),
        check(
            "authorities",
            not ending,
            _soonest(ending or found["authorities"]),
            Sentence("authorities that last at least %(days)s days", days=SOON.days),
            Sentence("authorities are not renewed here: plan their exchange"),
            "error" if over else "warning",
        ),
    ]


def _kubelet_checks(found: Mapping[str, Any]) -> list[Check]:
    """What renews itself, or does not; nothing of it is renewed here."""
    own = found["kubelet"]
    checks = [
        check(
            "kubelet-client",
            bool(found["rotates_client"]),
            Sentence("renews itself; %(ends)s", ends=_soonest(_only(own, "kubelet-client")))
            if found["rotates_client"]
            else Sentence("does not renew itself; %(ends)s",
                          ends=_soonest(_only(own, "kubelet-client"))),
            Sentence("rotateCertificates in the kubelet's configuration"),
            Sentence("switch rotateCertificates on, or have the node join anew before it ends"),
            "warning",
        )
    ]  # fmt: skip
    serving = _only(own, "kubelet-server") or _only(own, "kubelet-self-signed")
    if serving:
        checks.append(
            check(
                "kubelet-serving",
                True,
                Sentence("from the cluster, which must approve each new one; %(ends)s",
                         ends=_soonest(serving))
                if found["rotates_server"]
                else Sentence("signed by the kubelet itself; %(ends)s", ends=_soonest(serving)),
                Sentence("nothing to do here"),
            )
        )  # fmt: skip
    return checks


def _only(ends: Mapping[str, str], name: str) -> dict[str, str]:
    return {name: ends[name]} if name in ends else {}


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _soonest(ends: Mapping[str, str]) -> str:
    if not ends:
        return Sentence("none")
    name, end = min(ends.items(), key=lambda item: _at(item[1]))
    return Sentence("%(name)s ends %(day)s", name=name, day=_at(end).date().isoformat())


# --- renew ----------------------------------------------------------------------------------------


def renew(run: StepRun) -> PlaybookResults:
    alone.require(run)
    planes = facts.control_planes_of(run.targets)
    results = PlaybookResults()
    for target in [each for each in run.targets if each.pk in planes]:  # one at a time
        run.stop_if_asked()
        run.note(target, Sentence("renewing, then restarting what works with the old ones"))
        more = playbook.run_playbook(
            run,
            "renew_certificates",
            variables=_variables(run),
            per_machine={target.pk: {"renewal_is_due": _is_due(run, target)}},
            members=[target],
        )
        merge(results, more)
        if target.pk in more.failed:
            break
        _renew_own_credential(run, target, _report(more, target))
    return results


def _is_due(run: StepRun, target: OperationMachine) -> bool:
    """Whether kubeadm has not been through yet, in an attempt that was lost.

    Where the preCheck was skipped nobody can tell, and renewing once more does no harm.
    """
    results = playbook.run_playbook(
        run, "certificate_report", variables=_variables(run), members=[target]
    )
    found = _report(results, target)
    before = _before(target)
    return found is None or not before or bool(_not_renewed(before, found["ends"]))


def _before(target: OperationMachine) -> dict[str, str]:
    return dict(evidence_of(target, "preCheck").get("certificates", {}))


def _not_renewed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Without a before, those that end soon still; every control plane has the API server's."""
    if not before:
        soon = datetime.now(UTC) + SOON
        return [
            name
            for name in sorted({"apiserver", *after})
            if name not in after or _at(after[name]) <= soon
        ]
    return [
        name
        for name, end in sorted(before.items())
        if name not in after or _at(after[name]) <= _at(end)
    ]


def _renew_own_credential(
    run: StepRun, target: OperationMachine, found: Mapping[str, Any] | None
) -> None:
    """The portal's own, where it is the administrator's of a cluster that was made here.

    That it could not be replaced is told by the postCheck: the old one goes on until its end.
    """
    credential = ClusterCredential.objects.filter(cluster=run.cluster).first()
    end = (found or {}).get("ends", {}).get("admin.conf")
    if credential is None or not is_own(run.cluster, credential) or end is None:
        return
    if credential.expires_at is not None and credential.expires_at >= _at(end):
        return
    try:
        reached = hosts.ssh_target(hosts.machine_of(target), hosts.settings_of(run.cluster.pk))
        answer = ssh.run(reached, "cat /etc/kubernetes/admin.conf", timeout=30)
        if answer.status != 0:
            raise PermanentError(
                Sentence("admin.conf cannot be read on %(machine)s.", machine=str(target)),
                code="no_admin_conf",
            )
        source = Source(kubeconfig=answer.stdout)
        reason = Sentence("%(operation)s renewed it", operation=run.operation.name)
        patiently(
            run,
            partial(adoption.replace_credential, cluster=run.cluster, source=source, reason=reason),
        )
        run.say(Sentence("The portal's own credential lasts until %(day)s now.",
                         day=_at(end).date().isoformat()))  # fmt: skip
    except BeidouError as error:
        run.say(
            Sentence("The portal's own credential was not renewed: %(why)s", why=error.message),
            level="warning",
        )


def is_own(cluster: Cluster, credential: ClusterCredential) -> bool:
    return cluster.type == Cluster.Type.NATIVE and credential.subject == ADMIN


def confirm_renew(run: StepRun, results: PlaybookResults) -> None:
    planes = facts.control_planes_of(run.targets)
    playbook.fail_unreached(run, results)
    left = [target for target in run.targets if target.pk in planes]
    why = _why_not_well(run) if any(target.pk in results.tasks for target in left) else ""
    for target in list(run.targets):
        if target.pk not in planes:
            run.succeed(target, message=Sentence("no control plane"))
            continue
        found = _report(results, target)
        if found is None:
            run.fail(target, Sentence("A control plane before it failed; it was not begun."))
            continue
        before = _before(target)
        names = sorted(before or found["ends"])
        evidence = {
            "certificates": [
                {"name": name, "before": before.get(name, ""), "after": found["ends"].get(name, "")}
                for name in names
            ],
            "served": found["served"],
        }
        problem = _problem(before, found) or why or _etcd_problem(run, target, found)
        if problem:
            run.fail(target, problem, evidence=evidence)
            continue
        message = Sentence("%(count)s renewed; %(ends)s", count=len(names),
                           ends=_soonest(found["ends"]))  # fmt: skip
        run.succeed(target, message=message, evidence=evidence)


def _problem(before: Mapping[str, str], found: Mapping[str, Any]) -> str:
    if names := _not_renewed(before, found["ends"]):
        return Sentence("Not renewed: %(names)s. See the output of kubeadm, then retry.",
                        names=listed(names))  # fmt: skip
    if found["older"]:
        return Sentence(
            "These still work with the old certificates: %(names)s. Retry restarts them.",
            names=listed(found["older"]),
        )
    if found["served"] != found["ends"].get("apiserver"):
        return Sentence(
            "The API server shows a certificate that ends %(served)s, not the new one. See its "
            "log, then retry.",
            served=found["served"] or "–",
        )
    return ""


def _why_not_well(run: StepRun) -> str:
    try:
        with client_for(run.cluster, timeout=15) as client:
            return gate.why_not_well(run, client)
    except BeidouError as error:
        return error.message


def _etcd_problem(run: StepRun, target: OperationMachine, found: Mapping[str, Any]) -> str:
    if "etcd-server" not in found["ends"]:
        return ""
    try:
        whole = etcd.whole_check(etcd.ask(run, target, _variables(run)))
    except PermanentError as error:
        return error.message
    return "" if whole["ok"] else Sentence("etcd: %(found)s", found=whole["found"])


# --- postCheck ------------------------------------------------------------------------------------


def confirm_post_check(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    planes = facts.control_planes_of(run.targets)
    own = _own_credential_check(run.cluster)
    for target in list(run.targets):
        run.stop_if_asked()
        found = _report(results, target)
        if found is None:
            run.fail(target, Sentence("The certificates were not told."))
            continue
        is_plane = target.pk in planes
        checks = [*_end_checks(found["ends"].items()), own] if is_plane else []
        checks += _kubelet_checks(found)
        evidence = {"certificates": found["ends"], "kubelet": found["kubelet"]}
        message = _soonest(found["ends"] if is_plane else found["kubelet"])
        settle(run, target, checks, evidence, message)


def _end_checks(ends: Iterable[tuple[str, str]]) -> list[Check]:
    now = datetime.now(UTC)
    return [
        check(
            f"certificate:{name}",
            _at(end) > now + SOON,
            Sentence("ends %(day)s", day=_at(end).date().isoformat()),
            Sentence("at least %(days)s days", days=SOON.days),
            Sentence("see certificateValidityPeriod in kubeadm's configuration"),
            "warning",
        )
        for name, end in ends
    ]


def _own_credential_check(cluster: Cluster) -> Check:
    """Nobody's certificate but the cluster's own is renewed; others are told in time."""
    credential = ClusterCredential.objects.filter(cluster=cluster).first()
    end = credential.expires_at if credential else None
    return check(
        "portal-credential",
        end is None or end > datetime.now(UTC) + SOON,
        Sentence("ends %(day)s", day=end.date().isoformat()) if end else Sentence("has no end"),
        Sentence("at least %(days)s days", days=SOON.days),
        Sentence("replace the portal's credential on the cluster's page under Access"),
        "warning",
    )


RENEW_CERTIFICATES = register(
    Kind(
        name="RenewCertificates",
        title=_("Renew certificates"),
        description=_("Renew what kubeadm has issued on the control planes, one by one."),
        icon="license",
        params=RenewCertificatesParams,
        whole_cluster=True,
        whole_only=True,
        stops_at_first=True,
        answers=frozenset({"gate_minutes"}),
        startable_states=frozenset({State.IN_SERVICE, State.CORDONED}),
        looks=frozenset({"preCheck"}),
        blockers=start_blockers,
        retry_blockers=blockers,
        steps=(
            StepKind(
                name="preCheck",
                title=_("Look at the certificates"),
                act=pre_check,
                confirm=confirm_pre_check,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
            StepKind(
                name="renew",
                title=_("Renew and restart, one control plane after the other"),
                act=renew,
                confirm=confirm_renew,
                timeout_seconds=6000,
                touches=True,
                cleanup=playbook.stop_units,
                part=facts.planes_of,
                wave=facts.one_control_plane,
            ),
            StepKind(
                name="postCheck",
                title=_("Prove the new certificates"),
                act=look,
                confirm=confirm_post_check,
                timeout_seconds=300,
                seconds_per_round=60,
            ),
        ),
    )
)
