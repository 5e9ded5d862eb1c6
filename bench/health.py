"""HealthCheck on the lab, and the same looks at the same hosts by ``ansible -m script``.

Who does it by hand has a script per subject (services, logs, resources, disks, certificates,
network, clock) and sends each to all hosts; what one script with all of it costs is told beside.
Scripts only look: judging, comparing and keeping is on the portal's side alone, and so are the test
pods, which no script on a host can start.  ``BENCH_NODES`` is the number of nodes, 20 by
default.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from beidou.base.models import User
from bench.report import Measure, middle
from clusters.models import Cluster
from clusters.services import adoption
from clusters.services.checking import Source
from lab import Lab, site
from lab.fleet import CALM_KUBELET
from machines.models import Machine, SshCredential
from operations.drivers import ansible
from operations.models import ClusterSettings, MachineStep, Operation
from operations.services import dispatch, engine, start

ROUNDS = 3
FORKS = 10
SCRIPTS = {
    "services": """
        systemctl is-active containerd kubelet
        ctr version
        curl --silent --max-time 5 http://127.0.0.1:10248/healthz
        pgrep -l kube-proxy
    """,
    "logs": """
        journalctl --unit=kubelet --since=-30min --no-pager | grep -E ' [EF][0-9]{4} ' | tail -n 5
        journalctl --unit=containerd --since=-30min --no-pager | grep level=error | tail -n 5
        tail -c 1000000 /var/log/pods/kube-system_kube-proxy-*/kube-proxy/*.log | grep ' E[0-9]'
    """,
    "resources": """
        cat /proc/meminfo /proc/loadavg /proc/sys/fs/file-nr /proc/swaps
    """,
    "disks": """
        df -P / /var/lib/kubelet /var/lib/containerd /var/lib/etcd /var/log
        df -Pi / /var/lib/kubelet /var/lib/containerd /var/lib/etcd /var/log
    """,
    "certificates": """
        for file in $(find /var/lib/kubelet/pki /etc/kubernetes/pki -name '*.crt' -o -name '*.pem')
        do openssl x509 -noout -enddate -in $file; done
    """,
    "network": """
        for server in $(awk '$1 == "nameserver" {print $2}' /etc/resolv.conf)
        do timeout 3 bash -c "</dev/udp/$server/53"; done
        for place in PLACES
        do timeout 3 bash -c "</dev/tcp/$place" & done
        wait
    """,
    "clock": """
        date +%s.%N
    """,
}


def run() -> Iterator[Measure]:
    count = int(os.environ.get("BENCH_NODES", "20"))
    with Lab.start("bench-health") as lab, tempfile.TemporaryDirectory(prefix="bench-") as name:
        bench = _Site(lab, count, Path(name))
        by_us, by_scripts, by_one, whole, beyond = [], [], [], [], []
        for _ in range(ROUNDS):
            by_us.append(bench.checked(test_pods=False))
            by_scripts.append(sum(bench.sent(text) for text in SCRIPTS.values()))
            by_one.append(bench.sent("".join(SCRIPTS.values())))
            whole.append(bench.checked(test_pods=True))
            beyond.append(whole[-1] - bench.pod_seconds)
        load = os.getloadavg()[0]
    ratios = [ours / theirs for ours, theirs in zip(by_us, by_scripts, strict=True)]
    yield Measure(
        f"HealthCheck of {count} machines / the same looks by ansible -m script",
        f"{middle(ratios):.2f}",
        f"{middle(by_us):.1f} s without test pods, {len(SCRIPTS)} scripts {middle(by_scripts):.1f} "
        f"s, all in one script {middle(by_one):.1f} s",
        "<= 0.5",
        middle(ratios) <= 0.5,
    )
    seconds = middle(beyond)
    yield Measure(
        f"HealthCheck of {count} nodes beyond the start of the test pods",
        f"{seconds:.1f} s",
        f"{middle(whole):.1f} s in all; load of the machine {load:.0f}",
        "<= 60 s",
        seconds <= 60,
    )


class _Site:
    """An adopted lab cluster, each of its nodes registered."""

    def __init__(self, lab: Lab, count: int, folder: Path) -> None:
        self.folder = folder
        made = lab.cluster("bench", control_planes=1, workers=count - 1, kubelet=CALM_KUBELET)
        self.hosts = made.nodes
        self.key = lab.ssh_key
        self.admin = User.objects.create_superuser("bench-health")
        self.cluster: Cluster = adoption.adopt(
            source=Source(kubeconfig=made.kubeconfig),
            details=adoption.Details(name="bench-health"),
        )
        credential = SshCredential.objects.create(name="bench-health", private_key=lab.ssh_key)
        ClusterSettings.objects.update_or_create(
            cluster=self.cluster,
            defaults={"credential": credential, "overrides": site.OVERRIDES},
        )
        self.machines = [
            Machine.objects.create(
                address=host.address,
                hostname=host.name,
                host_key=host.host_key,
                state=Machine.State.IN_SERVICE,
                cluster=self.cluster,
            )
            for host in self.hosts
        ]
        self.pod_seconds = 0.0

    def checked(self, *, test_pods: bool) -> float:
        """Seconds of one HealthCheck of all; ``pod_seconds`` is until the last pod served."""
        operation = start.start_operation(
            kind="HealthCheck",
            cluster=self.cluster,
            machines=self.machines,
            params={"test_pods": test_pods},
            forks=FORKS,
            acting_user=self.admin,
        )
        dispatch.dispatch()
        began = time.perf_counter()
        engine.run_step(operation.steps.get().pk)
        took = time.perf_counter() - began
        operation.refresh_from_db()
        if operation.status not in (Operation.Status.SUCCEEDED, Operation.Status.PARTIAL):
            raise RuntimeError(f"{operation}: {operation.status} {operation.message}")
        cells = MachineStep.objects.filter(step__operation=operation)
        self.pod_seconds = max(float(cell.evidence.get("pod_seconds", 0)) for cell in cells)
        return took

    def sent(self, text: str) -> float:
        """Seconds of one script that is sent to all hosts and run there."""
        entries = [
            ansible.Host(
                key=host.name, address=host.address, port=22, user="root",
                host_key=host.host_key, private_key=self.key,
            )
            for host in self.hosts
        ]  # fmt: skip
        inventory = ansible.write_inventory(entries, self.folder)
        script = self.folder / "look.sh"
        places = " ".join(f"{host.address}/10250" for host in self.hosts)
        script.write_text(f"#!/bin/sh\n{text.replace('PLACES', places)}\ntrue\n")
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="bd-") as sockets:
            subprocess.run(
                [
                    str(Path(sys.executable).parent / "ansible"),
                    *("all", "-i", str(inventory), "--forks", str(FORKS)),
                    *("-m", "script", "-a", str(script)),
                ],
                env=ansible.environment(self.folder, sockets, "bench"),
                check=True,
                stdout=subprocess.DEVNULL,
            )
        return time.perf_counter() - began
