"""The image of a lab host: Debian with systemd and sshd, as a company would deliver a machine.

containerd is installed but neither configured nor started; there is no kubelet, no kubeadm and
no image.  The image holds no host key and no authorized key: keys are made at first boot, and each
lab brings its own key to sign in with.
"""

import logging
import os
import shutil
import tempfile
from pathlib import Path

from lab.errors import LabError
from lab.paths import cache_root, content_key, locked
from lab.process import run, run_logged

log = logging.getLogger("lab")

SUITE = "bookworm"
PACKAGES = (
    "openssh-server",
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "python3-apt",
    "sudo",
    "iproute2",
    "iputils-ping",
    "procps",
    "kmod",
    "ca-certificates",
    "curl",
    "iptables",
    "nftables",
    "conntrack",
    "socat",
    "ethtool",
    "pciutils",
    "containerd",
    "containernetworking-plugins",
)

KEYGEN_UNIT = """\
[Unit]
Description=Make this host's own SSH keys at its first boot
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key
ExecStart=/usr/bin/ssh-keygen -q -t ecdsa -N "" -f /etc/ssh/ssh_host_ecdsa_key

[Install]
WantedBy=multi-user.target
"""

# Stands for what real iron has by itself: shared mounts, cgroups without the container's own
# release agent (runc fails on it), and a default route (the lab's network leads nowhere).
IRON_UNIT = """\
[Unit]
Description=Make this container stand for a real machine
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target containerd.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-iron

[Install]
WantedBy=sysinit.target
"""

IRON_SCRIPT = """\
#!/bin/sh
if mountpoint -q /sys/fs/cgroup/systemd/release_agent; then
    umount /sys/fs/cgroup/systemd/release_agent
fi
mount --make-rshared /
if ! ip -4 route show default | grep -q .; then
    network=$(ip -4 -o address show dev eth0 | awk '{split($4, a, "."); print a[1]"."a[2]"."a[3]}')
    ip route add default via "$network.1" dev eth0
fi
"""


def image_name() -> str:
    """The name of the image this code makes; a changed recipe has another name."""
    key = content_key(SUITE, " ".join(PACKAGES), KEYGEN_UNIT, IRON_UNIT, IRON_SCRIPT, _RECIPE)
    return f"localhost/beidou-lab-host:{key}"


_RECIPE = "3"


def ensure_host_image() -> str:
    """Build the host image unless podman has it already (one to three minutes); return its name."""
    name = image_name()
    if _exists(name):
        return name
    with locked("host-image"):
        if not _exists(name):
            _build(name)
    return name


def _exists(name: str) -> bool:
    return bool(run("podman", "images", "--quiet", "--filter", f"reference={name}").strip())


def _build(name: str) -> None:
    if os.getuid() != 0:
        raise LabError("The host image can only be built by root.")
    log.info("Building the host image %s (one to three minutes).", name)
    folder = Path(tempfile.mkdtemp(prefix="host-image-", dir=_image_folder()))
    root = folder / "root"
    try:
        run_logged(
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(PACKAGES)}",
            SUITE,
            root,
            debian_mirror(),
            log_file=cache_root() / "logs" / "debootstrap.log",
            timeout=1800,
        )
        _shape(root)
        archive = folder / "root.tar"
        run("tar", "--numeric-owner", "-C", root, "-cf", archive, ".", timeout=300)
        run("podman", "import", "--quiet", archive, name, timeout=300)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _shape(root: Path) -> None:
    """Turn a bare Debian tree into a delivered machine."""
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    units = root / "etc/systemd/system"
    (units / "sshd-keygen.service").write_text(KEYGEN_UNIT)
    (units / "lab-iron.service").write_text(IRON_UNIT)
    script = root / "usr/local/sbin/lab-iron"
    script.write_text(IRON_SCRIPT)
    script.chmod(0o755)
    (root / "etc/machine-id").write_text("")
    enabled = ("sshd-keygen.service", "lab-iron.service", "ssh.service")
    run("chroot", root, "systemctl", "enable", *enabled)
    run("chroot", root, "systemctl", "disable", "containerd.service", "nftables.service")
    for archive in (root / "var/cache/apt/archives").glob("*.deb"):
        archive.unlink()
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)


def _image_folder() -> Path:
    folder = cache_root() / "host-image"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def debian_mirror() -> str:
    """The first Debian mirror of this machine's own apt sources, which it surely reaches."""
    for source in sorted(Path("/etc/apt").glob("sources.list.d/*.sources")):
        for line in source.read_text().splitlines():
            if line.startswith("URIs:") and line.rstrip("/ ").endswith("/debian"):
                return line.split()[1]
    for source in (Path("/etc/apt/sources.list"), *Path("/etc/apt").glob("sources.list.d/*.list")):
        for line in source.read_text().splitlines() if source.exists() else []:
            words = [word for word in line.split() if not word.startswith("[")]
            if len(words) > 2 and words[0] == "deb" and words[1].rstrip("/").endswith("/debian"):
                return words[1]
    raise LabError("No Debian mirror is named in /etc/apt; the host image cannot be built.")
