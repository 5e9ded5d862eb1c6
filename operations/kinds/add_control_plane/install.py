"""install: what control planes need is on the machines, before one becomes a member of etcd."""

from django.conf import settings as conf

from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from operations.drivers import artifacts
from operations.kinds import hosts, joining, playbook, versions
from operations.kinds.base import StepRun
from operations.kinds.create_cluster import members
from operations.kinds.create_cluster.pre_check import policy_for
from operations.kinds.playbook import PlaybookResults


def install(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    joining.to_joining(run)
    with client_for(run.cluster, timeout=15) as client:
        kubeadm = client.kubeadm_config()
        cgroup_driver = client.kubelet_config().cgroup_driver
    version = versions.canonical(kubeadm.kubernetes_version)
    listed = artifacts.for_control_plane(
        settings.artifact_source, version=version, folders=conf.ARTIFACT_FOLDERS
    )
    variables = members.site_variables(
        settings,
        artifacts=[each.as_variable() for each in listed],
        sandbox_image=versions.pause_image(version, kubeadm.image_repository),
        cgroup_driver=cgroup_driver,
    )
    per_machine = {
        target.pk: {
            "node_name": joining.node_name(target),
            "policy": policy_for(target, settings.policy),
        }
        for target in run.targets
    }
    return playbook.run_playbook(
        run, "create_control_plane", variables=variables, per_machine=per_machine
    )


def confirm(run: StepRun, results: PlaybookResults) -> None:
    playbook.fail_unreached(run, results)
    for target in list(run.targets):
        # Each artifact's checksum was compared on the host before it was put in its place.
        run.succeed(target, message=Sentence("programs and images are installed"))
