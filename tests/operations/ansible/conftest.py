"""The lab as the portal would see it: a cluster, an artifact source, SSH to delivered machines."""

import base64
import dataclasses
import hashlib
import itertools
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lab import Lab, site
from lab.cluster import LabCluster
from lab.hosts import Host
from tests.operations.ansible import host_code  # noqa: F401 - makes the hosts' code importable
from tests.operations.ansible.playbooks import Play, run_module, run_playbook

VERSION = "v1.36.3"
NAMES = itertools.count(1)


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.2)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The lab as the portal would see it: a cluster, its artifact source, and SSH to machines."""

    lab: Lab
    cluster: LabCluster
    folder: Path
    ca_cert_hashes: list[str]
    artifacts: list[dict[str, str]]

    def run_folder(self) -> Path:
        """Short: the path of a socket in it may have 108 characters at most."""
        return self.folder / f"r{next(NAMES)}"

    def write_key(self) -> Path:
        key = self.folder / "key"
        key.write_text(self.lab.ssh_key)
        key.chmod(0o600)
        return key

    def inventory(self, *hosts: Host, **variables: Any) -> dict[str, dict[str, Any]]:
        known = self.folder / "known_hosts"
        known.write_text("".join(f"{host.address} {host.host_key}\n" for host in hosts))
        common = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.folder / "key"),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
        }
        return {
            host.name: {
                **common,
                "ansible_host": host.address,
                "node_name": host.name,
                "node_ip": host.address,
                **variables,
            }
            for host in hosts
        }

    def variables(self, **changes: Any) -> dict[str, Any]:
        return {
            "policy": site.POLICY,
            "api_server_endpoint": self.cluster.server.removeprefix("https://"),
            "artifacts": self.artifacts,
            "kubernetes_version": VERSION,
            "ca_cert_hashes": self.ca_cert_hashes,
            "sandbox_image": "registry.k8s.io/pause:3.10.2",
            "cgroup_driver": "cgroupfs",
            **site.OVERRIDES,
            "unit_prefix": f"beidou-{next(NAMES)}-1",
            **changes,
        }

    def play(self, playbook: str, *hosts: Host, **changes: Any) -> Play:
        variables = self.variables(**changes)
        return run_playbook(self.run_folder(), playbook, self.inventory(*hosts), variables)

    def module(self, module: str, host: Host, /, **arguments: Any) -> Play:
        return run_module(self.run_folder(), module, self.inventory(host), arguments)

    def token(self) -> str:
        return self.cluster.nodes[0].run("kubeadm token create --ttl 15m").strip()

    def scale_up(self, *hosts: Host, **changes: Any) -> Play:
        return self.play("scale_up.yml", *hosts, **{"bootstrap_token": self.token(), **changes})

    def is_ready(self, name: str) -> bool:
        return name in self.cluster.ready_nodes()

    def forget(self, name: str) -> None:
        self.cluster.kubectl(["delete", "node", name, "--ignore-not-found"])


@pytest.fixture(scope="session")
def fleet(
    shared_lab: Lab, lab_cluster: LabCluster, tmp_path_factory: pytest.TempPathFactory
) -> Fleet:
    source = shared_lab.artifacts()
    folder = f"kubernetes/{VERSION}/amd64"
    sums = (line.split() for line in (source.root / folder / "SHA256SUMS").read_text().splitlines())
    fleet = Fleet(
        lab=shared_lab,
        cluster=lab_cluster,
        folder=tmp_path_factory.mktemp("fleet"),
        ca_cert_hashes=[ca_cert_hash(lab_cluster)],
        artifacts=[
            {"name": name, "sha256": sha256, "url": f"{source.url}/{folder}/{name}"}
            for sha256, name in sums
            if name != "control-plane-images.tar"
        ],
    )
    fleet.write_key()
    return fleet


@pytest.fixture(scope="module")
def delivered(fleet: Fleet) -> Iterator[Host]:
    """A machine as delivered, shared by the tests of a module that leave it as it was."""
    host = fleet.lab.host(f"m{next(NAMES)}")
    yield host
    host.destroy()


@pytest.fixture
def new_machine(fleet: Fleet) -> Iterator[Host]:
    """A machine of the test's own, taken out of the cluster afterwards."""
    host = fleet.lab.host(f"m{next(NAMES)}")
    yield host
    fleet.forget(host.name)
    host.destroy()


def ca_cert_hash(cluster: LabCluster) -> str:
    conf = cluster.kubectl(
        "get configmap cluster-info -n kube-public -o jsonpath={.data.kubeconfig}"
    )
    data = re.search(r"certificate-authority-data: (\S+)", conf)
    assert data is not None
    key = x509.load_pem_x509_certificate(base64.b64decode(data.group(1))).public_key()
    spki = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(spki).hexdigest()
