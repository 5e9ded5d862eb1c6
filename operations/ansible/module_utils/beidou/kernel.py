"""Kernel modules and settings: what is there, what can be had."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence

from ansible.module_utils.beidou.checks import Check
from ansible.module_utils.beidou.host_facts import search_path
from ansible.module_utils.beidou.host_files import HostFiles
from ansible.module_utils.beidou.sentences import Sentence

PROVIDED_BY = {"net.bridge.": "br_netfilter"}
"""Settings that appear only with a module: prefix -> module."""
SIGNS = {"br_netfilter": "/proc/sys/net/bridge", "nf_conntrack": "/proc/sys/net/netfilter"}
"""Where a module shows that it is in, on kernels that name no built-in modules."""


def is_module_present(host: HostFiles, module: str) -> bool:
    """Loaded or built in; every kernel tells it in another place."""
    name = module.replace("-", "_")
    loaded = {line.split()[0] for line in host.text("/proc/modules").splitlines() if line}
    file_systems = {
        line.split()[-1] for line in host.text("/proc/filesystems").splitlines() if line
    }
    release = host.text("/proc/sys/kernel/osrelease").strip()
    built_in = host.text(f"/lib/modules/{release}/modules.builtin").replace("-", "_")
    return (
        name in loaded
        or name in file_systems
        or host.exists(f"/sys/module/{name}")
        or (name in SIGNS and host.is_dir(SIGNS[name]))
        or f"/{name}.ko" in built_in
    )


def can_load_module(module: str) -> bool:
    """Ask modprobe whether it would find the module, without loading it."""
    return _modprobe("--dry-run", "--quiet", module) == ""


def load_module(module: str) -> str:
    """Load it; what modprobe says when it cannot, empty when it could."""
    return _modprobe(module)


def _modprobe(*arguments: str) -> str:
    program = shutil.which("modprobe", path=search_path())
    if program is None:
        return Sentence("modprobe is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    return done.stderr.strip() or Sentence("modprobe ended with %(code)d", code=done.returncode)


def setting_path(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


def read_setting(host: HostFiles, name: str) -> str | None:
    """The value with single spaces; None when the kernel has no such setting."""
    path = setting_path(name)
    return " ".join(host.text(path).split()) if host.exists(path) else None


def check_modules(available: Mapping[str, bool]) -> list[Check]:
    return [
        Check(
            f"kernel-module:{module}",
            ok,
            Sentence("there") if ok else Sentence("neither loaded, built in nor loadable"),
            Sentence("loaded, built in or loadable"),
            Sentence("install the kernel's module package"),
        )
        for module, ok in available.items()
    ]


def check_settings(
    host: HostFiles, names: Sequence[str], available_modules: Mapping[str, bool]
) -> list[Check]:
    return [_check_setting(host, name, available_modules) for name in names]


def _check_setting(host: HostFiles, name: str, available_modules: Mapping[str, bool]) -> Check:
    path = setting_path(name)
    module = next((m for prefix, m in PROVIDED_BY.items() if name.startswith(prefix)), None)
    if host.exists(path):
        ok = host.is_writable(path)
        found = Sentence("can be set") if ok else Sentence("is read-only")
    else:
        ok = module is not None and available_modules.get(module, False)
        found = (
            Sentence("comes with module %(module)s", module=module)
            if ok
            else Sentence("the kernel has no such setting")
        )
    advice = Sentence("use a kernel with this setting, and make sure /proc/sys is writable")
    return Check(f"kernel-setting:{name}", ok, found, Sentence("can be set"), advice)
