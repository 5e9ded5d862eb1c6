"""ScaleUp on the lab: through the portal, and the same playbooks by plain ``ansible-playbook``.

Each brings two fresh hosts into the same cluster.  The plain run starts the three playbooks with
the variables that the portal would give them, then makes the portal's own proofs on each node at
the same time (Ready, test pods, uncordon) and keeps nothing: the rest is what the engine costs.
The portal's steps run in this process, so that their CPU time can be told from everything else.
"""

import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.db import connection

from beidou.base.models import User
from bench.report import Measure, middle
from clusters.drivers.kubernetes import KubernetesClient
from clusters.models import Cluster
from clusters.services import adoption
from clusters.services.checking import Source
from clusters.services.connections import client_for
from lab import Lab, site
from lab.hosts import Host
from machines.models import Machine, SshCredential
from operations.drivers import ansible, artifacts
from operations.kinds import versions
from operations.kinds.probe import IMAGE, Probe, check_node
from operations.kinds.scale_up import ScaleUpParams
from operations.models import ClusterSettings, Operation
from operations.services import control, dispatch, engine, output, start

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
        site_under_test = Site(lab, "bench-scale-up")
        walls, cpus, pairs, singles, canceled = [], [], [], [], []
        for number in range(ROUNDS):
            mine = site_under_test.through_portal(lab.hosts(2, prefix=f"portal{number}"))
            plain = site_under_test.plainly(lab.hosts(2, prefix=f"plain{number}"))
            walls.append(mine.wall / plain.wall)
            cpus.append(mine.cpu / plain.cpu)
            pairs.append((mine.wall, plain.wall))
            singles.append(site_under_test.through_portal(lab.hosts(1, prefix=f"one{number}")))
            (host,) = lab.hosts(1, prefix=f"cancel{number}")
            canceled.append(site_under_test.canceled(host))
    yield Measure(
        "ScaleUp of two machines, portal / plain ansible-playbook",
        f"wall {middle(walls):.2f}, CPU {middle(cpus):.2f}",
        f"{middle([p[0] for p in pairs]):.1f} s, plain {middle([p[1] for p in pairs]):.1f} s, both "
        "with test pods",
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

    yield Measure(
        "cancel of a playbook in its middle, until nothing of it runs here or on the host",
        f"{max(canceled):.1f} s at most",
        f"of {ROUNDS}",
        "<= 5 s",
        max(canceled) <= 5,
    )


class Site:
    """An adopted lab cluster with everything that ScaleUp needs."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab_cluster = lab.cluster("bench", control_planes=1, workers=1)
        self.admin = User.objects.create_superuser(name)
        self.cluster: Cluster = adoption.adopt(
            source=Source(kubeconfig=self.lab_cluster.kubeconfig),
            details=adoption.Details(name=name),
        )
        self.key = lab.ssh_key
        self.credential = SshCredential.objects.create(name=name, private_key=self.key)
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
        machines = register(hosts)
        began, cpu = time.perf_counter(), _cpu_seconds()
        operation = self._start(machines)
        for step in operation.steps.order_by("position"):
            engine.run_step(step.pk)
        used = Run(time.perf_counter() - began, _cpu_seconds() - cpu, _tasks(operation))
        operation.refresh_from_db()
        if operation.status != Operation.Status.SUCCEEDED:
            raise RuntimeError(f"{operation}: {operation.status} {operation.message}")
        self._remove(hosts)
        return used

    def canceled(self, host: Host) -> float:
        """Seconds from the request to the end of everything, while the host's join runs."""
        operation = self._start(register([host]))
        first, second = operation.steps.order_by("position")[:2]
        engine.run_step(first.pk)
        thread = threading.Thread(target=_run_step, args=(second.pk,), name="step")
        thread.start()
        while not _units(host):
            if not thread.is_alive():
                raise RuntimeError(f"{operation} ended before it could be canceled.")
            time.sleep(0.1)
        began = time.perf_counter()
        control.cancel(operation, acting_user=self.admin, reason="bench")
        thread.join(timeout=60)
        operation.refresh_from_db()
        if operation.status != Operation.Status.CANCELED or _units(host):
            raise RuntimeError(f"{operation}: {operation.status}, {_units(host)}")
        took = time.perf_counter() - began
        self._remove([host])
        return took

    def _start(self, machines: list[Machine]) -> Operation:
        operation = start.start_operation(
            kind="ScaleUp", cluster=self.cluster, machines=machines, acting_user=self.admin
        )
        dispatch.dispatch()
        return operation

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
            environment = ansible.environment(folder, name, "bench")
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
            self._prove([host.name for host in hosts])
            used = Run(time.perf_counter() - began, _cpu_seconds() - cpu)
        self._remove(hosts)
        return used

    def _prove(self, nodes: list[str]) -> None:
        """What the portal proves through the API, for all nodes at once."""
        with client_for(self.cluster, timeout=15) as client, ThreadPoolExecutor() as pool:
            for done in [pool.submit(self._prove_one, client, node) for node in nodes]:
                done.result()

    def _prove_one(self, client: KubernetesClient, node: str) -> None:
        while not client.get_node(node).is_ready:
            time.sleep(0.5)
        peer = self.lab_cluster.nodes[0].name
        probe = Probe(
            namespace=ScaleUpParams().probe_namespace,
            image=str(site.OVERRIDES.get("probe_image", IMAGE)),
            dns_name="kubernetes.default.svc.cluster.local",
            wait_seconds=60,
        )
        check_node(
            client, prefix=f"bench-{node}", node=node, peer_node=peer, probe=probe,
            should_stop=lambda: False,
        )  # fmt: skip
        client.set_unschedulable(node, False)

    def _variables(self, client: Any, token: str) -> dict[str, Any]:
        """What the kind ``ScaleUp`` gives its playbooks."""
        info = client.cluster_info()
        version = self.cluster.version
        listed = artifacts.for_worker(self.source, version=version, folders=[])
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


def register(hosts: list[Host]) -> list[Machine]:
    return [
        Machine.objects.create(
            address=host.address,
            hostname=host.name,
            host_key=host.host_key,
            state=Machine.State.AVAILABLE,
        )
        for host in hosts
    ]


def _run_step(step: int) -> None:
    """As a worker does, in a thread with a database connection of its own."""
    try:
        engine.run_step(step)
    finally:
        connection.close()


def _units(host: Host) -> str:
    """The portal's transient units on the host."""
    return host.run("systemctl list-units --no-legend 'beidou-*'").strip()


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
