"""preCheck: the machines as for ScaleUp, and what control planes need besides."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings as conf

from operations.drivers import artifacts
from operations.kinds import hosts, joining, playbook, scale_up
from operations.kinds.base import StepRun
from operations.kinds.create_cluster import members
from operations.kinds.playbook import PlaybookResults
from operations.models import ClusterSettings, OperationMachine

NODE_PORTS = [10248, 10249, 10250, 10256]
CONTROL_PLANE_PORTS = [6443, 2379, 2380, 2381, 10257, 10259]
ETCD_GIB = 2


def policy_for(member: OperationMachine, policy: Mapping[str, Any]) -> dict[str, Any]:
    """The site's policy, and for a control plane its ports and room for etcd."""
    if not members.is_control_plane(member):
        return dict(policy)
    ports = [*policy.get("ports", NODE_PORTS), *CONTROL_PLANE_PORTS]
    disks = {"/var/lib/etcd": ETCD_GIB, **policy.get("disks_gib", {})}
    return {**policy, "ports": sorted(set(ports)), "disks_gib": disks}


def artifacts_for(run: StepRun, settings: ClusterSettings) -> dict[bool, list[dict[str, str]]]:
    """What to install, by whether the machine is a control plane; the source is asked once or
    twice per step."""
    source, version = settings.artifact_source, run.params.kubernetes_version
    listed = {
        True: artifacts.for_control_plane(source, version=version, folders=conf.ARTIFACT_FOLDERS),
        False: artifacts.for_worker(source, version=version, folders=conf.ARTIFACT_FOLDERS),
    }
    return {key: [artifact.as_variable() for artifact in each] for key, each in listed.items()}


def pre_check(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    listed = artifacts_for(run, settings)
    everybody = list(run.operation.machines.all())
    per_machine = {
        target.pk: {
            "node_name": joining.node_name(target),
            "artifacts": listed[members.is_control_plane(target)],
            "policy": policy_for(target, settings.policy),
            "cluster_nodes": [
                {"name": joining.node_name(other), "addresses": [other.address]}
                for other in everybody
                if other.pk != target.pk
            ],
        }
        for target in run.targets
    }
    variables = members.site_variables(settings, api_server_endpoint="")
    return playbook.run_playbook(run, "pre_check", variables=variables, per_machine=per_machine)


confirm_pre_check = scale_up.confirm_pre_check
