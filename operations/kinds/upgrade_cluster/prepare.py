"""prepare: images and programs reach every node before any of them is touched."""

from typing import Any

from django.conf import settings as conf

from beidou.base.sentences import Sentence
from clusters.services.connections import client_for
from operations.drivers import artifacts
from operations.drivers.artifacts import Artifact
from operations.kinds import hosts, playbook
from operations.kinds.base import StepRun
from operations.kinds.playbook import PlaybookResults
from operations.kinds.upgrade_cluster import facts


def listed_for(run: StepRun, *, control_plane: bool) -> list[Artifact]:
    """What is needed of the new version: programs of Kubernetes and images.

    Not containerd, runc and the programs of the network: those are no part of Kubernetes.
    """
    source = hosts.require_settings(run.cluster).artifact_source
    ask = artifacts.for_control_plane if control_plane else artifacts.for_worker
    found = ask(source, version=run.params.kubernetes_version, folders=conf.ARTIFACT_FOLDERS)
    return [each for each in found if each.name in facts.PROGRAMS or each.name.endswith(".tar")]


def prepare(run: StepRun) -> PlaybookResults:
    settings = hosts.require_settings(run.cluster)
    with client_for(run.cluster, timeout=15) as client:
        planes, _workers = facts.planes_and_workers(run, client)
    listed = {
        is_plane: [each.as_variable() for each in listed_for(run, control_plane=is_plane)]
        for is_plane in (True, False)
    }
    per_machine: dict[int, dict[str, Any]] = {
        target.pk: {"artifacts": listed[target in planes]} for target in run.targets
    }
    # Not where programs lie: one that is restarted meanwhile must still be the old one.
    variables = {**settings.overrides, "artifacts_bin_dir": facts.STAGED}
    return playbook.run_playbook(
        run, "upgrade_prepare", variables=variables, per_machine=per_machine
    )


def confirm(run: StepRun, results: PlaybookResults) -> None:
    """Each artifact's checksum was compared on the host; one that fails ends the playbook there."""
    playbook.fail_unreached(run, results)
    for target in list(run.targets):
        loaded = results.find(target, "answer")
        if loaded is None:
            run.fail(target, Sentence("The machine did not say what it has loaded."))
            continue
        run.succeed(
            target,
            message=Sentence("programs and images of %(version)s are there",
                             version=run.params.kubernetes_version),
            evidence={"loaded": loaded.get("changed") or []},
        )  # fmt: skip
