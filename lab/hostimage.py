"""The image of a lab host: Debian with systemd and sshd, as a company would deliver a machine.

containerd is installed but neither configured nor started; there is no kubelet, no kubeadm and
no image.  The image holds no host key and no authorized key: keys are made at first boot, and each
lab brings its own key to sign in with.
"""

import logging
import os
import tempfile
from pathlib import Path

from lab.errors import LabError
from lab.paths import cache_root, content_key, locked
from lab.process import run, run_logged, status_of

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

INIT = "/usr/local/sbin/lab-iron"
"""The first process of a host; it becomes systemd."""

_SHAPE = Path(__file__).parent / "host"


def base_name() -> str:
    """The name of the bare Debian image, which takes minutes to make."""
    return f"localhost/beidou-lab-base:{content_key(SUITE, *PACKAGES)}"


def image_name() -> str:
    """The name of the image this code makes; a changed recipe has another name."""
    shape = [path.read_bytes() for path in sorted(_SHAPE.iterdir())]
    return f"localhost/beidou-lab-host:{content_key(base_name(), *shape)}"


def ensure_host_image() -> str:
    """Build the host image unless podman has it already (one to three minutes); return its name."""
    name = image_name()
    if _exists(name):
        return name
    if os.getuid() != 0:
        raise LabError("The host image can only be built by root.")
    with locked("host-image"):
        if not _exists(base_name()):
            _build_base(base_name())
        if not _exists(name):
            log.info("Building the host image %s.", name)
            run(
                "podman", "--runtime", "runc", "build", "--quiet", "--network", "none",
                "--build-arg", f"BASE={base_name()}", "--tag", name, _SHAPE,
                timeout=300,
            )  # fmt: skip
    return name


def remove_unused_images() -> list[str]:
    """Remove images of other recipes; those that a host runs from stay."""
    removed = []
    listing = run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    for name in sorted(listing, key=lambda one: "base" in one):  # a base after what stands on it
        is_ours = name.startswith(("localhost/beidou-lab-host:", "localhost/beidou-lab-base:"))
        if is_ours and name not in (image_name(), base_name()):
            status, _ = status_of("podman", "rmi", name, timeout=120)
            if status == 0:
                removed.append(name)
    return removed


def _exists(name: str) -> bool:
    return bool(run("podman", "images", "--quiet", "--filter", f"reference={name}").strip())


def _build_base(name: str) -> None:
    log.info("Building the base image %s (one to three minutes).", name)
    scratch = cache_root() / "host-image"
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
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
        for package in (root / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
        run("tar", "--numeric-owner", "-C", root, "-cf", archive, ".", timeout=300)
        run("podman", "import", "--quiet", archive, name, timeout=300)


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
