"""What the machine itself must have: Debian packages and a few kernel limits, set as root.

``setup`` is quick when everything is there, and leaves no service running: the lab starts its own
servers on free ports.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.errors import LabError
from lab.process import run, run_logged

log = logging.getLogger("lab")

PACKAGES = (
    # hosts
    "podman",
    "runc",
    "netavark",
    "aardvark-dns",
    "uidmap",
    "iproute2",
    "iptables",
    "nftables",
    "conntrack",
    "debootstrap",
    "containernetworking-plugins",
    "openssh-client",
    "openssl",
    # images and binaries
    "busybox-static",
    "gcc",
    "libc6-dev",
    # back ends
    "postgresql",
    "redis-server",
    "prometheus",
    "prometheus-node-exporter",
    # browser
    "chromium",
    "fonts-noto-cjk",
)

MAVEN_AND_JAVA = {"mvn": "maven", "java": "openjdk-17-jre-headless"}

EXTRA_PACKAGES = {"elasticsearch": MAVEN_AND_JAVA, "opensearch": MAVEN_AND_JAVA}
"""Packages only some back ends need; big ones.  A program that is there already, by whatever way it
came, needs no package."""

SERVICES = ("postgresql", "redis-server", "prometheus", "prometheus-node-exporter")
"""Services Debian starts by itself on installation; the lab wants the programs only."""

LIMITS = {
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 524288,
    "kernel.keys.maxkeys": 20000,
    "kernel.keys.maxbytes": 2000000,
}
"""Kernel limits that more than fifteen systemd hosts exceed otherwise (systemd exits with 255)."""

POLICY = Path("/usr/sbin/policy-rc.d")


def setup(*extras: str) -> list[str]:
    """Install what is missing and raise the limits; return the packages that were installed.

    ``extras`` names back ends of EXTRA_PACKAGES.
    """
    if os.getuid() != 0:
        raise LabError("`python -m lab setup` must be run by root: it installs packages.")
    missing = missing_packages(*extras)
    if missing:
        _install(missing)
    raise_limits()
    return missing


def missing_packages(*extras: str) -> list[str]:
    """Those of the lab's packages that this machine does not have."""
    if not shutil.which("dpkg-query"):
        raise LabError("The lab runs on Debian; this machine has no dpkg.")
    listing = run("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    installed = {line.split()[0] for line in listing.splitlines() if line.endswith(" installed")}
    wanted = {
        program: package for one in extras for program, package in EXTRA_PACKAGES[one].items()
    }
    lacking = [package for program, package in wanted.items() if not shutil.which(program)]
    return [package for package in (*PACKAGES, *lacking) if package not in installed]


def raise_limits() -> None:
    """Raise kernel limits that are too low; higher ones stay."""
    for name, wanted in LIMITS.items():
        path = Path("/proc/sys") / name.replace(".", "/")
        if int(path.read_text()) < wanted:
            path.write_text(str(wanted))


def _install(packages: list[str]) -> None:
    log.info("Installing %s.", ", ".join(packages))
    log_file = Path("/var/log/beidou-lab-setup.log")
    apt = ("apt-get", "--yes", "--quiet", "-o", "DPkg::Lock::Timeout=600")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_service_starts():
        run_logged(*apt, "update", log_file=log_file, timeout=900, env=env)
        run_logged(
            *apt,
            "install",
            "--no-install-recommends",
            *packages,
            log_file=log_file,
            timeout=3600,
            env=env,
        )
    if Path("/run/systemd/system").exists():  # not at the next start of the machine either
        for service in SERVICES:
            if service in packages:
                run("systemctl", "disable", "--quiet", service)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own switch: an existing policy stays, ours is removed again."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
