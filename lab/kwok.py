"""kwok: nodes and pods that behave like real ones towards the API server, and run nothing."""

from pathlib import Path

from lab import binaries, bulk
from lab.controlplane import LocalControlPlane
from lab.process import Server, start_server
from lab.state import LabRecord, claim_port

LEASE_SECONDS = 600
"""How long a node's lease holds; the default of 40 s makes 500 writes a second of 5,000 nodes."""


def start_kwok(record: LabRecord, plane: LocalControlPlane) -> Server:
    """Let kwok manage all nodes annotated ``kwok.x-k8s.io/node: fake`` and their pods."""
    program = binaries.ensure_binary("kwok")
    port = claim_port(record)
    server = start_server(
        f"{plane.cluster.name}-kwok",
        program,
        f"--kubeconfig={plane.cluster.kubeconfig_path}",
        f"--config={stages(program)}",
        "--manage-all-nodes=false",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--node-lease-duration-seconds={LEASE_SECONDS}",
        f"--server-address=127.0.0.1:{port}",
        "--v=WARN",
        folder=record.folder,
    )
    plane.servers.append(server)
    return server


def stages(program: Path) -> Path:
    """The behaviour of nodes and pods; kwok built from its module has none by itself."""
    return program.parent / "stages.yaml"


def fill(plane: LocalControlPlane, *, nodes: int, pods: int, owned: bool = True) -> None:
    """Write the nodes and pods of a cluster of the given size."""
    version = plane.cluster.version
    bulk.write_objects(plane.etcd_url, nodes=nodes, pods=pods, version=version, owned=owned)
