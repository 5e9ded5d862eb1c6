"""``Lab``: one fleet of hosts, clusters and back ends, started together and removed together."""

import json
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import artifacts, binaries, cluster, controlplane, hosts, kwok, network, state
from lab.artifacts import ArtifactServer
from lab.cluster import ClusterPlan, LabCluster
from lab.errors import LabError
from lab.hostimage import ensure_host_image
from lab.hosts import Host
from lab.images import Image
from lab.paths import locked
from lab.process import run, start_server, stop_recorded
from lab.services.elasticsearch import restart_elasticsearch, start_elasticsearch
from lab.services.endpoint import Endpoint, accepts
from lab.services.opensearch import start_opensearch
from lab.services.postgres import restart_postgres, start_postgres
from lab.services.prometheus import start_node_exporter, start_prometheus
from lab.services.redis import start_redis
from lab.services.registry import push, start_registry
from lab.services.s3 import start_s3
from lab.system import raise_limits
from lab.versions import DEFAULT_MINOR, release

log = logging.getLogger("lab")

ARTIFACT_PORT = 8080
PARALLEL_BOOTS = 4
CHROMIUM = "/usr/bin/chromium"

CALM_KUBELET = {
    "nodeStatusUpdateFrequency": "60s",
    "syncFrequency": "5m",
    "housekeepingInterval": "60s",
}

BACK_ENDS: dict[str, Callable[[state.LabRecord, str], Endpoint]] = {
    "postgres": start_postgres,
    "redis": start_redis,
    "elasticsearch": start_elasticsearch,
    "opensearch": start_opensearch,
    "s3": start_s3,
    "registry": start_registry,
    "node-exporter": start_node_exporter,
}


class Lab:
    """One lab with a network of its own; use it as a context manager or call ``stop``."""

    def __init__(self, record: state.LabRecord) -> None:
        self._record = record
        self._lock = threading.RLock()
        self._simulated: dict[str, int] = {}

    @classmethod
    def start(cls, name: str, *, keep: bool = False) -> Self:
        """Start an empty lab; leftovers of dead labs are removed first.

        ``keep``: the lab outlives this process, until ``down`` or ``stop``.
        """
        remove_dead_labs()
        lab = cls(state.claim(name, keep=keep))
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab-{name}", "-f", lab._key)
        return lab

    @classmethod
    def attach(cls, name: str) -> Self:
        """Open a living lab that this or another process has started."""
        record = state.find(name)
        if record is None or not record.is_alive():
            raise LabError(f"No lab {name} is running.")
        return cls(record)

    @property
    def name(self) -> str:
        return self._record.name

    @property
    def folder(self) -> Path:
        """The lab's own folder; tests may put files there, they go with the lab."""
        return self._record.folder

    @property
    def gateway(self) -> str:
        """The address under which hosts reach this machine."""
        return self._record.gateway

    @property
    def _key(self) -> Path:
        return self.folder / "ssh_key"

    @property
    def ssh_key(self) -> str:
        """The private key that signs in as root on every host of the lab."""
        return self._key.read_text()

    @property
    def ssh_public_key(self) -> str:
        return self._key.with_suffix(".pub").read_text().strip()

    # Hosts

    def host(self, name: str, *, memory: str | None = None) -> Host:
        """Start one host and wait until it can be used; ``memory`` limits it (e.g. "512m")."""
        self._ensure_network()
        image = ensure_host_image()
        log.info("Starting host %s.", name)
        return Host.boot(
            self._record, name, image=image, authorized_key=self.ssh_public_key, memory=memory
        )

    def hosts(self, count: int, *, prefix: str = "host") -> list[Host]:
        """Start several hosts at once, named prefix-1 to prefix-N."""
        return self._boot([f"{prefix}-{number}" for number in range(1, count + 1)])

    def find_hosts(self) -> list[Host]:
        """All hosts of this lab, running or not, whoever started them."""
        return hosts.find_hosts(self._record)

    def _boot(self, names: Sequence[str]) -> list[Host]:
        self._ensure_network()
        ensure_host_image()
        with ThreadPoolExecutor(max_workers=PARALLEL_BOOTS) as pool:
            return list(pool.map(self.host, names))

    def _ensure_network(self) -> None:
        if os.getuid() != 0:
            raise LabError("Hosts are containers of root; run the lab as root.")
        raise_limits()
        with locked("network", folder=self.folder):
            network.ensure_network(self._record)

    # Clusters

    def cluster(
        self,
        name: str,
        *,
        control_planes: int = 1,
        workers: int = 1,
        version: str = DEFAULT_MINOR,
        kubelet: Mapping[str, str] | None = None,
    ) -> LabCluster:
        """Make a kubeadm cluster on new hosts named after it; returns when all of it is ready.

        ``kubelet`` adds settings to every kubelet's configuration, also of machines that join
        later; CALM_KUBELET makes twenty of them bearable on two cores.
        """
        chosen = release(version)
        source = self.artifacts(version)
        control_names = [f"{name}-control-{number + 1}" for number in range(control_planes)]
        worker_names = [f"{name}-worker-{number + 1}" for number in range(workers)]
        booted = self._boot([*control_names, *worker_names])
        index = self._claim_cluster(name)
        plan = ClusterPlan(
            name=name,
            release=chosen,
            control_planes=booted[:control_planes],
            workers=booted[control_planes:],
            pod_subnet=f"10.{128 + index}.0.0/16",
            service_subnet=f"10.{192 + index}.0.0/16",
            folder=self._cluster_folder(name),
            kubelet=kubelet or {},
        )
        log.info("Making cluster %s (Kubernetes %s).", name, chosen.version)
        made = cluster.create_cluster(plan, source, self._kubectl(chosen.version))
        return self._record_cluster(made)

    def kwok_cluster(
        self,
        name: str = "kwok",
        *,
        nodes: int = 200,
        pods: int = 1000,
        version: str = DEFAULT_MINOR,
        controllers: bool = False,
    ) -> LabCluster:
        """Make a cluster of fake nodes and pods on a real API server on 127.0.0.1.

        ``controllers`` starts controller manager and scheduler as well, for Deployments and the
        like; without them nothing but the API server, etcd and kwok takes a core.
        """
        index = self._claim_cluster(name)
        log.info("Making kwok cluster %s of %s nodes and %s pods (%s).", name, nodes, pods, index)
        folder = self._cluster_folder(name)
        plane = controlplane.start_control_plane(self._record, name, folder, release(version))
        # Their garbage collector would remove pods whose owner is not there.
        kwok.fill(plane, nodes=nodes, pods=pods, owned=not controllers)
        if controllers:
            controlplane.start_controllers(self._record, plane)
        plane.servers.append(kwok.start_kwok(self._record, plane.cluster))
        return self._record_cluster(plane.cluster)

    def simulate_nodes(self, cluster: LabCluster, count: int) -> None:
        """Have kwok add nodes to a kubeadm cluster until it simulates ``count``."""
        there = self._simulated.get(cluster.name)
        if there is None:
            kwok.keep_off(cluster)
            kwok.start_kwok(self._record, cluster)
        kwok.add_beside(cluster, range(there or 0, count))
        self._simulated[cluster.name] = max(there or 0, count)

    def _record_cluster(self, made: LabCluster) -> LabCluster:
        """Write down what another process needs to find the cluster."""
        record = {"version": made.version, "server": made.server}
        record["nodes"] = " ".join(host.name for host in made.nodes)
        (self._cluster_folder(made.name) / "cluster.json").write_text(json.dumps(record))
        return made

    def find_cluster(self, name: str) -> LabCluster:
        """A cluster of this lab that another process has made."""
        folder = self._cluster_folder(name)
        if not (folder / "cluster.json").exists():
            raise LabError(f"The lab {self.name} has no cluster {name}.")
        record = json.loads((folder / "cluster.json").read_text())
        existing = {host.name: host for host in self.find_hosts()}
        return LabCluster(
            name=name,
            version=record["version"],
            server=record["server"],
            kubeconfig_path=folder / "kubeconfig",
            kubectl_path=self._kubectl(record["version"]),
            nodes=[existing[node] for node in record["nodes"].split() if node in existing],
        )

    def cluster_names(self) -> list[str]:
        return sorted(path.parent.name for path in self.folder.glob("clusters/*/cluster.json"))

    def _cluster_folder(self, name: str) -> Path:
        return self.folder / "clusters" / name

    def _claim_cluster(self, name: str) -> int:
        """Make the cluster's folder and return its number in this lab, which decides its ranges."""
        with locked("clusters", folder=self.folder):
            folder = self._cluster_folder(name)
            if folder.exists():
                raise LabError(f"The lab {self.name} has a cluster {name} already.")
            index = len(list(folder.parent.glob("*")))
            if index >= 60:
                raise LabError(f"The lab {self.name} has made 60 clusters; start another lab.")
            folder.mkdir(parents=True)
            return index

    def _kubectl(self, version: str) -> Path:
        return binaries.kubernetes_folder(release(version)) / "kubectl"

    # Artifacts

    def is_serving_artifacts(self) -> bool:
        """Whether ``artifacts`` has been called in this lab."""
        return (self.folder / "artifacts").exists()

    def artifacts(self, *versions: str) -> ArtifactServer:
        """Serve what hosts install from; the same server at each call.

        It has the named releases, the default one, and every other that is built already.
        """
        self._ensure_network()
        root = self.folder / "artifacts"
        wanted = [release(version) for version in (DEFAULT_MINOR, *versions)]
        with self._lock, locked("artifacts", folder=self.folder):
            is_served = self.is_serving_artifacts()
            for one in (*wanted, *artifacts.built_releases()):
                artifacts.add_release(root, one)
            if not is_served:
                self._serve_files(root, "artifacts", ARTIFACT_PORT)
        return ArtifactServer(url=f"http://{self.gateway}:{ARTIFACT_PORT}", root=root)

    def serve(self, root: Path, *, port: int) -> str:
        """Serve a folder over HTTP to the hosts (and this machine); return its URL.

        ``port`` is any free one of the gateway address except 8080, the artifact server's.
        """
        self._require_free(port)
        self._serve_files(root, f"files-{port}", port)
        return f"http://{self.gateway}:{port}"

    def balance(self, urls: Sequence[str], *, port: int) -> str:
        """Lead hosts (and this machine) to those of several servers that answer their URL with
        success; return where, as ``host:port``.

        The servers need not run yet; what does not answer is left out until it does.
        """
        self._require_free(port)
        self._start_at_gateway(
            f"balancer-{port}", port, "lab.balancer", self.gateway, str(port), *urls
        )
        return f"{self.gateway}:{port}"

    def _require_free(self, port: int) -> None:
        self._ensure_network()
        if accepts(port, self.gateway):
            raise LabError(f"Port {port} of {self.gateway} is taken by another server already.")

    def _serve_files(self, root: Path, name: str, port: int) -> None:
        self._start_at_gateway(name, port, "lab.fileserver", root, self.gateway, str(port))

    def _start_at_gateway(self, name: str, port: int, module: str, *arguments: str | Path) -> None:
        """Start a server of ours, which hosts reach; it ends with the lab."""
        server = start_server(
            name,
            sys.executable,
            "-m",
            module,
            *arguments,
            folder=self.folder,
            env={"PYTHONPATH": str(Path(__file__).parent.parent)},
        )
        server.wait_until(lambda: accepts(port, self.gateway), timeout=30)

    # Back ends

    def postgres(self) -> str:
        """The URL of a PostgreSQL database, empty when first asked for."""
        return self.endpoint("postgres").url

    def restart_postgres(self) -> None:
        """End its sessions and start it again, with the data and the address it had."""
        self._restart("postgres", restart_postgres)

    def restart_elasticsearch(self) -> None:
        """Kill it and start it again, with the data and the address it had."""
        self._restart("elasticsearch", restart_elasticsearch)

    def _restart(
        self, kind: str, restart: Callable[[state.LabRecord, str, Endpoint], Endpoint]
    ) -> None:
        with self._lock, locked(f"endpoint-{kind}", folder=self.folder):
            written = self.folder / "endpoints" / f"{kind}.json"
            endpoint = Endpoint.read(written)
            if endpoint is None:
                raise LabError(f"No {kind} is running to be started again.")
            name = max(path.name for path in self.folder.glob(f"{kind}-[0-9]*"))
            restart(self._record, name, endpoint).write(written)

    def redis(self) -> str:
        """The URL of a Redis server."""
        return self.endpoint("redis").url

    def elasticsearch(self) -> str:
        """The URL of an Elasticsearch node without security."""
        return self.endpoint("elasticsearch").url

    def opensearch(self) -> str:
        """The URL of an OpenSearch node without security."""
        return self.endpoint("opensearch").url

    def registry(self) -> str:
        """The URL of an empty OCI registry."""
        return self.endpoint("registry").url

    def push(self, image: Image) -> None:
        """Put an image into the registry, where a mirror of the registry that it names has it."""
        push(self.registry(), image)

    def s3(self) -> Endpoint:
        """An S3 server; its region is us-east-1."""
        return self.endpoint("s3")

    def node_exporter(self) -> str:
        """The URL of an exporter of this machine's figures (``/metrics`` below it)."""
        return self.endpoint("node-exporter").url

    def prometheus(self, targets: Sequence[str] = ()) -> str:
        """The URL of a Prometheus that scrapes the targets ("host:port") of its first call."""
        return self._endpoint(
            "prometheus", lambda name: start_prometheus(self._record, name, targets)
        ).url

    def endpoint(self, name: str) -> Endpoint:
        """A back end by name, started when it does not run; its process may be stopped."""
        start = BACK_ENDS.get(name)
        if start is None:
            raise LabError(f"The lab has no back end {name}; it has {', '.join(BACK_ENDS)}.")
        return self._endpoint(name, lambda folder: start(self._record, folder))

    @property
    def chromium(self) -> Path:
        """The browser; start it with the switches of ``docs/lab.md``."""
        if not Path(CHROMIUM).exists():
            raise LabError("Chromium is missing; `python -m lab setup` installs it.")
        return Path(CHROMIUM)

    def _endpoint(self, name: str, start: Callable[[str], Endpoint]) -> Endpoint:
        """Return the running server of this name; one that was stopped is followed by a new one."""
        with self._lock, locked(f"endpoint-{name}", folder=self.folder):
            written = self.folder / "endpoints" / f"{name}.json"
            endpoint = Endpoint.read(written)
            if endpoint is None:
                log.info("Starting %s.", name)
                generation = len(list(self.folder.glob(f"{name}-[0-9]*"))) + 1
                endpoint = start(f"{name}-{generation}")
                endpoint.write(written)
            return endpoint

    # The end

    def stop(self) -> None:
        """Remove everything the lab started; harmless when it is stopped already."""
        remove_lab(self._record)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def remove_lab(record: state.LabRecord) -> None:
    """Remove hosts, servers, network and folder of a lab, living or dead."""
    if podman_is_installed():
        hosts.remove_hosts(record.name)
    stop_recorded(record.folder)
    if podman_is_installed():
        network.remove_network(record.name)
    state.forget(record)


def remove_dead_labs() -> None:
    """Remove what labs left behind whose owner is gone."""
    for record in state.records():
        if not record.is_alive():
            with locked(f"remove-{record.name}"):
                if state.find(record.name) == record:
                    log.info("Removing what the dead lab %s left behind.", record.name)
                    remove_lab(record)


def podman_is_installed() -> bool:
    """Without podman a lab can still have back ends, but no hosts."""
    return shutil.which("podman") is not None
