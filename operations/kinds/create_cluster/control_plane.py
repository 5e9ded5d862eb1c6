"""createControlPlane: everything is installed everywhere, and the first control plane is made.

It is made when its API server lets us in with the administrator's credential, in the wanted
version, and knows the machine's own node.  Without it nobody goes on.
"""

import secrets
from typing import Any

from beidou.base.errors import BeidouError, ExternalError, PermanentError
from beidou.base.sentences import Sentence
from clusters.drivers.joining import token_id_for
from clusters.services import creation
from clusters.services.connections import client_for
from machines.drivers import ssh
from operations.kinds import hosts, joining, names, playbook, versions
from operations.kinds.base import StepRun
from operations.kinds.create_cluster import configuration, members
from operations.kinds.create_cluster.pre_check import artifacts_for, policy_for
from operations.kinds.playbook import PlaybookResults
from operations.models import ClusterSettings, OperationMachine

STEP = "createControlPlane"
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


def create_control_plane(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    first = members.first_of(run.operation)
    targets = {target.pk for target in run.targets}
    is_due = not members.has_passed(first, STEP)
    if is_due:
        _require_all_control_planes(run, targets)
    joining.to_joining(run)
    listed = artifacts_for(run, settings)
    per_machine: dict[int, dict[str, Any]] = {
        target.pk: {
            "node_name": joining.node_name(target),
            "artifacts": listed[members.is_control_plane(target)],
            "policy": policy_for(target, settings.policy),
        }
        for target in run.targets
    }
    if is_due:
        per_machine[first.pk]["kubeadm_configuration"] = _init_text(run, first, settings)
    repository = run.params.kubeadm_config.get("ClusterConfiguration", {}).get("imageRepository")
    variables = members.site_variables(
        settings,
        sandbox_image=versions.pause_image(run.params.kubernetes_version, repository or ""),
        cgroup_driver=configuration.cgroup_driver(run.params, settings.overrides),
    )
    return playbook.run_playbook(
        run, "create_control_plane", variables=variables, per_machine=per_machine
    )


def _require_all_control_planes(run: StepRun, targets: set[int]) -> None:
    """Nothing is begun with fewer than were asked for: two members of etcd are worse than one."""
    missing = [each for each in members.control_planes(run.operation) if each.pk not in targets]
    if missing:
        raise PermanentError(
            Sentence(
                "Control plane %(machine)s is not ready to take part, so nothing was begun. Mend "
                "what is wrong with it, then retry all machines.",
                machine=str(missing[0]),
            ),
            code="control_plane_missing",
        )


def _init_text(run: StepRun, first: OperationMachine, settings: ClusterSettings) -> str:
    overrides = settings.overrides
    documents = configuration.init_documents(
        cluster_name=run.cluster.name,
        endpoint=members.endpoint_of(run),
        params=run.params,
        node=configuration.FirstNode(
            name=joining.node_name(first),
            address=first.address,
            takes_pods=members.takes_pods(run.operation),
            extra_args=overrides.get("join_cluster_kubelet_extra_args", ()),
            ignored_checks=overrides.get("kubeadm_ignore_preflight_errors", ()),
        ),
        cgroup_driver=configuration.cgroup_driver(run.params, overrides),
        token=f"{_token_id(run)}.{''.join(secrets.choice(_ALPHABET) for _ in range(16))}",
    )
    return configuration.as_text(documents)


def _token_id(run: StepRun) -> str:
    return token_id_for(f"{names.name_of(run.operation)}/{STEP}")


def confirm_create_control_plane(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    first = members.first_of(run.operation)
    if not members.has_passed(first, STEP):
        target = next((each for each in run.targets if each.pk == first.pk), None)
        if target is None or not _is_made(run, target):
            _nobody_goes_on(run, first)
            return
    for target in list(run.targets):
        # Each artifact's checksum was compared on the host before it was put in its place.
        run.succeed(target, message=Sentence("programs and images are installed"))


def _is_made(run: StepRun, target: OperationMachine) -> bool:
    try:
        evidence = _prove(run, target)
    except BeidouError as error:
        run.stop_if_asked()
        run.fail(target, error.message)
        return False
    run.succeed(
        target,
        message=Sentence("the API server answers at %(server)s", server=evidence["server"]),
        evidence=evidence,
    )
    return True


def _prove(run: StepRun, target: OperationMachine) -> dict[str, Any]:
    run.note(target, Sentence("signing in at the new API server"))
    findings = creation.store_access(cluster=run.cluster, text=_admin_kubeconfig(run, target))
    found = findings.version.git_version if findings.version else ""
    if found != run.params.kubernetes_version:
        raise PermanentError(
            Sentence(
                "The API server runs %(found)s, wanted %(wanted)s.",
                found=found,
                wanted=run.params.kubernetes_version,
            ),
            code="wrong_version",
        )
    with client_for(run.cluster, timeout=15) as client:
        node = joining.wait_for_node(run, client, joining.node_name(target))
        joining.require_own(node, joining.own_addresses(run)[target.pk])
        client.patch_node(node.name, labels=joining.role_labels(target.role, {}))
        try:
            client.delete_bootstrap_token(_token_id(run))
        except ExternalError as error:
            run.say(
                Sentence("The token of kubeadm init expires by itself: %(why)s", why=error.message),
                level="warning",
            )
    return {
        "server": run.cluster.server, "uid": run.cluster.uid, "version": found, "node": node.name,
    }  # fmt: skip


def _admin_kubeconfig(run: StepRun, target: OperationMachine) -> str:
    """Read through SSH by itself: what a playbook reads could end up in the output."""
    reached = hosts.ssh_target(hosts.machine_of(target), hosts.settings_of(run.cluster.pk))
    answer = ssh.run(reached, "cat /etc/kubernetes/admin.conf", timeout=30)
    if answer.status != 0:
        raise PermanentError(
            Sentence("admin.conf cannot be read on %(machine)s.", machine=str(target)),
            code="no_admin_conf",
        )
    return answer.stdout


def _nobody_goes_on(run: StepRun, first: OperationMachine) -> None:
    why = Sentence(
        "The first control plane, %(machine)s, was not created; this machine is prepared and waits "
        "for it. Mend what is wrong there, then retry.",
        machine=str(first),
    )
    for target in list(run.targets):
        run.fail(target, why)
