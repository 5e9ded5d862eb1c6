"""A real kubeadm cluster on hosts of the lab.

The lab installs kubelet, kubeadm and images on *these* hosts itself, from the artifact source; for
hosts that join later that is the product's work.  What kubeadm stores in the cluster (the kubelet's
configuration, kube-proxy's mode) fits the lab's hosts, so an ordinary ``kubeadm join`` does.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab import artifacts, cni
from lab.artifacts import ArtifactServer
from lab.hosts import Host
from lab.process import run, status_of, wait_for
from lab.versions import REGISTRY, KubernetesRelease

log = logging.getLogger("lab")

READY_TIMEOUT = 240.0
"""Seconds until all nodes and the add-ons must be ready after the last join."""

CONTAINERD_CONFIG = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{registry}/pause:{pause_tag}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"""

KUBELET_UNIT = """\
[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target
After=network-online.target containerd.service

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=2

[Install]
WantedBy=multi-user.target
"""

KUBEADM_DROP_IN = """\
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"""  # noqa: E501 - as kubeadm's packages ship it

# --retry: twenty hosts may start to download at the same moment.
INSTALL_SCRIPT = """\
set -e
mkdir -p /var/tmp/lab-install && cd /var/tmp/lab-install
for name in kubelet kubeadm kubectl {archives} SHA256SUMS; do
    curl --fail --silent --show-error --retry 5 --retry-connrefused -O {source}/$name
done
sha256sum --check --quiet --ignore-missing SHA256SUMS
install -m 755 kubelet kubeadm kubectl /usr/local/bin/
echo net.ipv4.ip_forward=1 > /etc/sysctl.d/90-kubernetes.conf
sysctl --quiet -p /etc/sysctl.d/90-kubernetes.conf
systemctl daemon-reload
systemctl enable --quiet --now containerd
for archive in {archives}; do ctr --namespace k8s.io images import $archive > /dev/null; done
systemctl enable --quiet kubelet
rm -rf /var/tmp/lab-install
"""

INIT_CONFIG = """\
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}}}
nodeRegistration: {{name: {name}, criSocket: "unix:///run/containerd/containerd.sock"}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: {cluster}
kubernetesVersion: {version}
controlPlaneEndpoint: "{address}:6443"
networking: {{podSubnet: {pod_subnet}, serviceSubnet: {service_subnet}}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
featureGates: {{KubeletInUserNamespace: true}}
localStorageCapacityIsolation: false
{kubelet}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
conntrack: {{maxPerCore: 0, min: 0, tcpCloseWaitTimeout: 0s, tcpEstablishedTimeout: 0s}}
"""


@dataclass(frozen=True)
class LabCluster:
    """A running cluster; ``kubeconfig`` is the text of an administrator's, ``server`` its URL."""

    name: str
    version: str
    server: str
    kubeconfig_path: Path
    kubectl_path: Path = field(repr=False)
    nodes: list[Host] = field(default_factory=list)

    @property
    def kubeconfig(self) -> str:
        return self.kubeconfig_path.read_text()

    def kubectl(
        self, command: str | Sequence[str], *, input_text: str | None = None, timeout: float = 120
    ) -> str:
        """Run kubectl as administrator; a string is split at blanks, a list taken as it is."""
        return run(*self._kubectl(command), input_text=input_text, timeout=timeout)

    def try_kubectl(self, command: str | Sequence[str]) -> tuple[int, str]:
        """Run kubectl where failure is an answer; return its status and output."""
        return status_of(*self._kubectl(command))

    def _kubectl(self, command: str | Sequence[str]) -> list[str | Path]:
        words = command.split() if isinstance(command, str) else command
        return [
            self.kubectl_path,
            f"--kubeconfig={self.kubeconfig_path}",
            f"--cache-dir={self.kubeconfig_path.parent / 'kubectl-cache'}",
            *words,
        ]

    def apply(self, manifest: str) -> None:
        """Create or change the objects of a manifest."""
        self.kubectl(["apply", "-f", "-"], input_text=manifest)

    def ready_nodes(self) -> list[str]:
        """Names of the nodes whose condition Ready is true."""
        found = json.loads(self.kubectl("get nodes -o json"))["items"]
        return [
            node["metadata"]["name"]
            for node in found
            for condition in node["status"].get("conditions", [])
            if condition["type"] == "Ready" and condition["status"] == "True"
        ]

    def wait_for_nodes(self, *names: str, timeout: float = READY_TIMEOUT) -> None:
        """Wait until the named nodes (all of the cluster's own without names) are Ready."""
        wanted = set(names) or {host.name for host in self.nodes}
        wait_for(
            f"Ready of the nodes {', '.join(sorted(wanted))} in cluster {self.name}",
            lambda: wanted <= set(self.ready_nodes()),
            timeout=timeout,
            interval=0.5,
            details=lambda: self.kubectl("get nodes,pods -A -o wide"),
        )

    def join_command(self) -> str:
        """A fresh ``kubeadm join …`` command for a worker."""
        first = self.nodes[0]
        return first.run("kubeadm token create --print-join-command 2>/dev/null").strip()

    def wait_until_ready(self) -> None:
        """Wait for the nodes, kube-proxy, the pod network and the name service."""
        self.wait_for_nodes()
        for workload in ("daemonset/kube-proxy", "daemonset/lab-cni", "deployment/coredns"):
            wait = (
                f"--namespace kube-system rollout status {workload} --timeout={READY_TIMEOUT:.0f}s"
            )
            self.kubectl(wait, timeout=READY_TIMEOUT + 10)


@dataclass(frozen=True)
class ClusterPlan:
    """What a cluster is to be; the first of ``control_planes`` is initialised, the rest join."""

    name: str
    release: KubernetesRelease
    control_planes: list[Host]
    workers: list[Host]
    pod_subnet: str
    service_subnet: str
    folder: Path
    kubelet: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> list[Host]:
        return [*self.control_planes, *self.workers]


def create_cluster(plan: ClusterPlan, source: ArtifactServer, kubectl: Path) -> LabCluster:
    """Install and join the hosts of a plan; returns when every node and add-on is ready."""
    first, *other_control_planes = plan.control_planes
    with ThreadPoolExecutor(max_workers=4) as pool:
        installs = {
            host.name: pool.submit(install_kubernetes, host, plan.release, source, host_is_control)
            for host_is_control, hosts in ((True, plan.control_planes), (False, plan.workers))
            for host in hosts
        }
        installs[first.name].result()
        certificate_key = _init(plan, first)
        cluster = LabCluster(
            name=plan.name,
            version=plan.release.version,
            server=f"https://{first.address}:6443",
            kubeconfig_path=plan.folder / "kubeconfig",
            kubectl_path=kubectl,
            nodes=plan.hosts,
        )
        cluster.kubeconfig_path.write_text(first.run("cat /etc/kubernetes/admin.conf"))
        cluster.kubeconfig_path.chmod(0o600)
        cluster.apply(cni.manifest(api_address=first.address))
        join = cluster.join_command()
        for host in other_control_planes:  # etcd members join one after the other
            installs[host.name].result()
            _join(host, f"{join} --control-plane --certificate-key {certificate_key}")
        joins = [
            pool.submit(_join_when_installed, host, installs[host.name].result, join)
            for host in plan.workers
        ]
        for done in joins:
            done.result()
    if not plan.workers:
        taint = "node-role.kubernetes.io/control-plane:NoSchedule-"
        cluster.kubectl(f"taint nodes --all {taint}")
    cluster.wait_until_ready()
    return cluster


def install_kubernetes(
    host: Host, release: KubernetesRelease, source: ArtifactServer, control_plane: bool
) -> None:
    """Bring containerd's configuration, kubelet, kubeadm and the images to a delivered host."""
    host.write(
        "/etc/containerd/config.toml",
        CONTAINERD_CONFIG.format(registry=REGISTRY, pause_tag=release.pause_tag),
    )
    host.write("/etc/systemd/system/kubelet.service", KUBELET_UNIT)
    host.write("/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", KUBEADM_DROP_IN)
    archives = [artifacts.IMAGES]
    if control_plane:
        archives.append(artifacts.CONTROL_PLANE_IMAGES)
    script = INSTALL_SCRIPT.format(
        archives=" ".join(archives), source=f"{source.url}/{artifacts.release_path(release)}"
    )
    host.run(script, timeout=300)


def _init(plan: ClusterPlan, first: Host) -> str:
    """Initialise the first control plane; return the key other control planes decrypt with."""
    config = INIT_CONFIG.format(
        address=first.address,
        name=first.name,
        cluster=plan.name,
        version=plan.release.version,
        pod_subnet=plan.pod_subnet,
        service_subnet=plan.service_subnet,
        kubelet="\n".join(f"{name}: {value}" for name, value in plan.kubelet.items()),
    )
    first.write("/etc/kubernetes/lab-init.yaml", config)
    first.run(
        "kubeadm init --config /etc/kubernetes/lab-init.yaml --ignore-preflight-errors=all 2>&1",
        timeout=300,
    )
    if len(plan.control_planes) == 1:
        return ""
    upload = "kubeadm init phase upload-certs --upload-certs 2>/dev/null"
    return first.run(upload).split()[-1]


def _join_when_installed(host: Host, installed: Callable[[], None], join: str) -> None:
    installed()
    _join(host, join)


def _join(host: Host, join: str) -> None:
    host.run(f"{join} --node-name {host.name} --ignore-preflight-errors=all 2>&1", timeout=300)
