"""Hosts of a lab: containers with systemd and sshd that stand for delivered machines.

Podman is only the hypervisor here.  Whatever the product does with a host it does over SSH;
``Host.run`` is the remote console with which tests look and break things.
"""

import json
import socket
from dataclasses import asdict, dataclass, field
from typing import Self

from lab.errors import LabError
from lab.hostimage import INIT
from lab.network import LABEL, network_name
from lab.process import run, status_of, wait_for
from lab.state import LabRecord

BOOT_TIMEOUT = 120.0
"""Seconds a host may take to boot; it needs five alone, and longer when twenty start at once."""

ADDRESSES = range(11, 255)
VOLUMES = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd")
"""Not on overlay: the overlay snapshots of containerd cannot lie on another overlay."""


@dataclass(frozen=True)
class Host:
    """One running host; ``host_key`` is its public key line ("ssh-ed25519 AAAA…")."""

    name: str
    address: str
    container: str
    host_key: str = field(repr=False)
    ssh_port: int = 22
    user: str = "root"

    def run(self, command: str, *, timeout: float = 120, input_text: str | None = None) -> str:
        """Run a shell command on the host's console as root; LabError when it fails."""
        words = ["podman", "exec", "--interactive", self.container, "sh", "-c", command]
        return run(*words, timeout=timeout, input_text=input_text or "")

    def stop(self) -> None:
        """Power off in order; the disks stay."""
        run("podman", "stop", "--time", "20", self.container)

    def kill(self) -> None:
        """Pull the plug."""
        run("podman", "kill", "--signal", "KILL", self.container)

    def start(self) -> None:
        """Power on again and wait until the host has booted and answers on its SSH port."""
        run("podman", "start", self.container)
        wait_until_booted(self.container, self.name)
        wait_for_port(self.address, self.ssh_port, self.name)

    def pause(self) -> None:
        """Freeze every process: connections hang, as with a machine that swaps itself to death."""
        run("podman", "pause", self.container)

    def unpause(self) -> None:
        run("podman", "unpause", self.container)

    def destroy(self) -> None:
        """Remove the host with its disks."""
        remove_containers([self.container])

    def write(self, path: str, content: str, *, mode: str = "0644") -> None:
        """Write a file on the host, making its folder."""
        self.run(
            f"mkdir -p $(dirname {path}) && cat > {path} && chmod {mode} {path}",
            input_text=content,
        )

    @classmethod
    def boot(
        cls, record: LabRecord, name: str, *, image: str, authorized_key: str, memory: str | None
    ) -> Self:
        """Start a new host under a free address of the lab and wait until it can be used."""
        address = _reserve_address(record, name)
        container = f"{LABEL}-{record.name}-{name}"
        run(
            "podman", "--runtime", "runc", "run", "--detach",
            "--name", container,
            "--hostname", name,
            "--label", f"{LABEL}={record.name}",
            "--network", network_name(record),
            "--ip", address,
            "--mac-address", _mac(address),
            "--dns", record.gateway,
            "--privileged",
            "--systemd", "always",
            "--cgroupns", "private",
            "--ulimit", "nofile=20000:20000",
            "--ulimit", "nproc=4096:4096",
            *(("--memory", memory) if memory else ()),
            *(word for volume in VOLUMES for word in ("--volume", volume)),
            image, INIT,
        )  # fmt: skip
        wait_until_booted(container, name)
        key = run(
            "podman", "exec", "--interactive", container, "sh", "-c",
            "cat > /root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys"
            " && cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub",
            input_text=authorized_key + "\n",
        )  # fmt: skip
        host = cls(name=name, address=address, container=container, host_key=key.strip())
        wait_for_port(address, host.ssh_port, name)
        _write(record, host)
        return host


def find_hosts(record: LabRecord) -> list[Host]:
    """The hosts of a lab that have booted once, running or not, whoever started them."""
    label = f"label={LABEL}={record.name}"
    existing = run("podman", "ps", "--all", "--filter", label, "--format", "{{.Names}}").split()
    written = sorted((record.folder / "hosts").glob("*.json"), key=lambda one: one.stat().st_mtime)
    hosts = [Host(**json.loads(path.read_text())) for path in written]
    return [host for host in hosts if host.container in existing]


def _write(record: LabRecord, host: Host) -> None:
    """Write a host down for other processes; the file appears complete."""
    folder = record.folder / "hosts"
    folder.mkdir(exist_ok=True)
    new = folder / f"{host.name}.new"
    new.write_text(json.dumps(asdict(host)))
    new.rename(folder / f"{host.name}.json")


def remove_hosts(lab_name: str) -> None:
    """Remove every container of a lab with its volumes."""
    remove_containers(
        run("podman", "ps", "--all", "--quiet", "--filter", f"label={LABEL}={lab_name}").split()
    )


def remove_containers(containers: list[str]) -> None:
    """Remove containers whatever their state; nothing they hold is worth a graceful end."""
    if not containers:
        return
    command = ("podman", "rm", "--force", "--time", "0", "--volumes", *containers)

    def removed() -> bool:
        # On a busy machine podman gives up on processes that the kernel has not yet ended.
        status, _output = status_of(*command)
        return status == 0

    if not removed():
        wait_for("The removal of hosts", removed, timeout=120, interval=2.0)


def wait_until_booted(container: str, name: str) -> None:
    """Wait for systemd's own word; ``degraded`` names the units that failed."""

    def state() -> str:
        # The status of the command is not zero before the end of the boot; its word counts.
        script = "systemctl is-system-running 2>&1 || true"
        return run("podman", "exec", container, "sh", "-c", script).strip()

    def failed_units() -> str:
        script = "systemctl --failed --no-legend --plain; journalctl --no-pager -n 30 -p warning"
        return run("podman", "exec", container, "sh", "-c", script)

    wait_for(
        f"The boot of host {name}",
        lambda: state() == "running",
        timeout=BOOT_TIMEOUT,
        interval=0.3,
        details=failed_units,
    )


def wait_for_port(address: str, port: int, name: str) -> None:
    def is_open() -> bool:
        try:
            with socket.create_connection((address, port), timeout=2):
                return True
        except OSError:
            return False

    wait_for(f"Port {port} of host {name} ({address})", is_open, timeout=30)


def _mac(address: str) -> str:
    """A card keeps its hardware address over a restart, or neighbours would talk to the old one."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _reserve_address(record: LabRecord, name: str) -> str:
    """Claim an address by making its file; addresses are not reused while the lab lives.

    A reused address would meet stale neighbour entries and pinned host keys.
    """
    folder = record.folder / "addresses"
    folder.mkdir(exist_ok=True)
    for number in ADDRESSES:
        try:
            with (folder / str(number)).open("x") as claim:
                claim.write(name)
        except FileExistsError:
            continue
        return record.network(number)
    raise LabError(f"The lab {record.name} has used all {len(ADDRESSES)} addresses of its network.")
