"""ScaleUp on the lab: through the portal, and the same playbooks by plain ``ansible-playbook``.

Each brings two fresh hosts into the same cluster.  The plain run starts the three playbooks with
the variables that the portal would give them; it makes no checks through the API, no test pods, and
keeps nothing. The portal's steps run in this process, so that their CPU time can be told from
everything else.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from beidou.base.models import User
from bench.report import Measure, middle
from clusters.models import Cluster
from clusters.services import adoption
from clusters.services.checking import Source
from clusters.services.connections import client_for
from lab import Lab, site
from lab.hosts import Host
from machines.models import Machine, SshCredential
from operations.drivers import ansible, artifacts
from operations.kinds import versions
from operations.models import ClusterSettings, Operation
from operations.services import dispatch, engine, output, start

ROUNDS = 3
PLAYBOOKS = {"preCheck": "pre_check", "scaleUp": "scale_up", "postCheck": "post_check"}


@dataclass(frozen=True)
class Run:
    """Seconds; ``tasks`` is the greatest number of Ansible tasks of one playbook."""

    wall: float
    cpu: float
    tasks: int = 0


def run() -> Iterator[Measure]:
    with Lab.start("bench") as lab:
        site_under_test = _Site(lab)
        walls, cpus, pairs, singles = [], [], [], []
        for number in range(ROUNDS):
            mine = site_under_test.through_portal(lab.hosts(2, prefix=f"portal{number}"))
            plain = site_under_test.plainly(lab.hosts(2, prefix=f"plain{number}"))
            walls.append(mine.wall / plain.wall)
            cpus.append(mine.cpu / plain.cpu)
            pairs.append((mine.wall, plain.wall))
            singles.append(site_under_test.through_portal(lab.hosts(1, prefix=f"one{number}")))
    yield Measure(
        "ScaleUp of two machines, portal / plain ansible-playbook",
        f"wall {middle(walls):.2f}, CPU {middle(cpus):.2f}",
        f"{middle([p[0] for p in pairs]):.0f} s with API checks and test pods, "
        f"plain {middle([p[1] for p in pairs]):.0f} s without",
        "<= 1.10 wall and CPU",
        middle(walls) <= 1.10 and middle(cpus) <= 1.10,
    )
    seconds, tasks = middle([one.wall for one in singles]), max(one.tasks for one in singles)
    yield Measure(
        "ScaleUp of one machine, start to schedulable",
        f"{seconds:.0f} s, at most {tasks} Ansible tasks in a step",
        f"median of {ROUNDS}",
        "<= 90 s, <= 25 tasks per machine and step",
        seconds <= 90 and tasks <= 25,
    )


class _Site:
    """An adopted lab cluster with everything that ScaleUp needs."""

    def __init__(self, lab: Lab) -> None:
        self.lab_cluster = lab.cluster("bench", control_planes=1, workers=1)
        self.admin = User.objects.create_superuser("bench-scale-up")
        self.cluster: Cluster = adoption.adopt(
            source=Source(kubeconfig=self.lab_cluster.kubeconfig),
            details=adoption.Details(name="bench-scale-up"),
        )
        self.key = lab.ssh_key
        self.credential = SshCredential.objects.create(name="bench", private_key=self.key)
        self.source = lab.artifacts().url
        ClusterSettings.objects.update_or_create(
            cluster=self.cluster,
            defaults={
                "credential": self.credential,
                "artifact_source": self.source,
                "policy": site.POLICY,
                "overrides": site.OVERRIDES,
            },
        )

    def through_portal(self, hosts: list[Host]) -> Run:
        machines = [
            Machine.objects.create(
                address=host.address,
                hostname=host.name,
                host_key=host.host_key,
                state=Machine.State.AVAILABLE,
            )
            for host in hosts
        ]
        began, cpu = time.perf_counter(), _cpu_seconds()
        operation = start.start_operation(
            kind="ScaleUp", cluster=self.cluster, machines=machines, acting_user=self.admin
        )
        dispatch.dispatch()
        for step in operation.steps.order_by("position"):
            engine.run_step(step.pk)
        used = Run(time.perf_counter() - began, _cpu_seconds() - cpu, _tasks(operation))
        operation.refresh_from_db()
        if operation.status != Operation.Status.SUCCEEDED:
            raise RuntimeError(f"{operation}: {operation.status} {operation.message}")
        self._remove(hosts)
        return used

    def plainly(self, hosts: list[Host]) -> Run:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            folder = Path(name)
            with client_for(self.cluster) as client:
                token = client.create_bootstrap_token(
                    ttl=timedelta(minutes=10), description="bench"
                )
                variables = self._variables(client, token.token)
            (folder / "variables.json").write_text(json.dumps(variables))
            entries = [
                ansible.Host(
                    key=host.name,
                    address=host.address,
                    port=22,
                    user="root",
                    host_key=host.host_key,
                    private_key=self.key,
                    variables={"node_name": host.name},
                )
                for host in hosts
            ]
            inventory = ansible.write_inventory(entries, folder)
            environment = ansible.environment(folder, name, "bench", 600)
            began, cpu = time.perf_counter(), _cpu_seconds()
            for playbook in PLAYBOOKS.values():
                subprocess.run(
                    [
                        str(Path(sys.executable).parent / "ansible-playbook"),
                        *("-i", str(inventory), "--forks", "10"),
                        *("--extra-vars", f"@{folder / 'variables.json'}"),
                        str(ansible.ROOT / "playbooks" / f"{playbook}.yml"),
                    ],
                    env=environment,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
            used = Run(time.perf_counter() - began, _cpu_seconds() - cpu)
        self._remove(hosts)
        return used

    def _variables(self, client: Any, token: str) -> dict[str, Any]:
        """What the kind ``ScaleUp`` gives its playbooks."""
        info = client.cluster_info()
        version = self.cluster.version
        listed = artifacts.for_worker(self.source, version=version)
        return {
            "unit_prefix": "beidou-bench",
            "kubernetes_version": version,
            "api_server_endpoint": info.server.removeprefix("https://"),
            "artifacts": [artifact.as_variable() for artifact in listed],
            "policy": site.POLICY,
            "sandbox_image": versions.pause_image(version, ""),
            "cgroup_driver": client.kubelet_config().cgroup_driver,
            "ca_cert_hashes": list(info.ca_cert_hashes),
            "bootstrap_token": token,
            **site.OVERRIDES,
        }

    def _remove(self, hosts: list[Host]) -> None:
        for host in hosts:
            self.lab_cluster.kubectl(["delete", "node", host.name, "--ignore-not-found"])
            host.destroy()


def _cpu_seconds() -> float:
    """User and system time of this process and of all its ended children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (
            resource.getrusage(resource.RUSAGE_SELF),
            resource.getrusage(resource.RUSAGE_CHILDREN),
        )
    )


def _tasks(operation: Operation) -> int:
    """The greatest number of tasks that a playbook of the operation ran, from its output."""
    counts: Counter[int] = Counter()
    for chunk in operation.output.order_by("first"):
        counts[chunk.attempt_id] += sum(row[4].startswith("— ") for row in output.unpack(chunk))
    return max(counts.values(), default=0)
