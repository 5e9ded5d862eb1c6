"""What the values of a policy and of playbook variables must look like, inside lists and mappings
too.

They are checked when somebody saves them: on the hosts a wrong one would be a check that never
fails, or a step that fails on every machine.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Test = Callable[[Any], bool]


def text(pattern: str = r"[^\r\n]*") -> Test:
    wanted = re.compile(pattern)
    return lambda value: isinstance(value, str) and wanted.fullmatch(value) is not None


def whole(low: int, high: int = 2**31 - 1) -> Test:
    return lambda value: _is_whole(value) and low <= value <= high


def number(low: float, high: float = 1e9) -> Test:
    return lambda value: _is_number(value) and low <= value <= high


def one_of(*choices: Any) -> Test:
    return lambda value: any(type(value) is type(each) and value == each for each in choices)


def either(*tests: Test) -> Test:
    return lambda value: any(test(value) for test in tests)


def list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(test(each) for each in value)


def mapping(keys: Test, values: Test) -> Test:
    return lambda value: (
        isinstance(value, dict) and all(keys(k) and values(v) for k, v in value.items())
    )


def record(needed: Mapping[str, Test], optional: Mapping[str, Test] | None = None) -> Test:
    """A mapping with just these keys."""
    known = {**needed, **(optional or {})}
    return lambda value: (
        isinstance(value, dict)
        and needed.keys() <= value.keys() <= known.keys()
        and all(known[key](each) for key, each in value.items())
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def folder(value: Any) -> bool:
    """Below the root of the host, with no way back."""
    return text(r"/[^\r\n]*")(value) and ".." not in value.split("/")


switch: Final = one_of(True, False)
version: Final = text(r"v?\d{1,9}(\.\d{1,9}){0,5}")
words: Final = text(r"[^\r\n]+")
name: Final = text(r"[A-Za-z0-9._+-]{1,100}")
setting: Final = text(r"[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)+")
seconds: Final = whole(1, 86_400)

POLICY: Final[Mapping[str, Test]] = {
    "min_os_versions": mapping(name, version),
    "min_kernel": version,
    "architectures": list_of(name),
    "min_cpus": whole(0),
    "min_memory_mib": whole(0),
    "disks_gib": mapping(folder, number(0)),
    "swap_allowed": switch,
    "cgroup_v1_allowed": switch,
    "min_containerd": version,
    "containerd_from_artifacts": switch,
    "commands": list_of(either(name, folder)),
    "kernel_modules": list_of(name),
    "kernel_settings": mapping(setting, either(whole(-(2**63), 2**63), words)),
    "kernel_setting_minimums": mapping(setting, whole(0, 2**63)),
    "ports": list_of(whole(1, 65_535)),
    "max_clock_offset_seconds": number(0),
    "connect_timeout_seconds": number(0.1, 60),
    "warn_only": list_of(words),
}

_mirror: Final = record(
    {"url": text(r"https?://\S+")},
    {"capabilities": list_of(name), "ca": folder, "override_path": switch},
)
VARIABLES: Final[Mapping[str, Test]] = {
    "artifacts_bin_dir": folder,
    "artifacts_cni_bin_dir": folder,
    "artifacts_load_timeout_seconds": seconds,
    "artifacts_prefix_dir": folder,
    "artifacts_timeout_seconds": seconds,
    "cgroup_driver": one_of("systemd", "cgroupfs"),
    "containerd_cgroup_driver": one_of("systemd", "cgroupfs"),
    "containerd_cni_bin_dir": folder,
    "containerd_registry_mirrors": mapping(words, list_of(_mirror)),
    "containerd_restrict_oom_score_adj": one_of("auto", "true", "false", True, False),
    "containerd_sandbox_image": text(r"\S+"),
    "control_plane_bin_dir": folder,
    "control_plane_timeout_seconds": seconds,
    "etcd_snapshot_timeout_seconds": seconds,
    "join_cluster_bin_dir": folder,
    "join_cluster_ignore_preflight_errors": list_of(words),
    "join_cluster_kubelet_extra_args": list_of(
        record({"name": text(r"[A-Za-z0-9-]+"), "value": either(text(), number(-1e9), switch)})
    ),
    "join_cluster_node_ip": text(),
    "join_cluster_node_labels": mapping(words, text()),
    "join_cluster_node_taints": list_of(record({"key": words, "effect": words}, {"value": text()})),
    "join_cluster_timeout_seconds": seconds,
    "kubeadm_ignore_preflight_errors": list_of(words),
    "kubernetes_node_bin_dir": folder,
    "node_ip": text(),
    "node_processes": list_of(words),
    "pod_networks": list_of(words),
    "post_check_wait_seconds": seconds,
    "prepare_os_kernel_modules": list_of(name),
    "prepare_os_kernel_setting_minimums": POLICY["kernel_setting_minimums"],
    "prepare_os_kernel_settings": POLICY["kernel_settings"],
    "probe_image": text(r"\S+"),
    "reset_node_pod_networks": list_of(words),
    "reset_node_timeout_seconds": seconds,
    "routed_network_mtu": either(one_of(0), whole(576, 65_535)),
    "sandbox_image": text(r"\S+"),
    "upgrade_node_bin_dir": folder,
    "upgrade_node_ignore_preflight_errors": list_of(words),
    "upgrade_node_timeout_seconds": seconds,
}

EXAMPLES: Final[Mapping[str, Any]] = {
    "cgroup_driver": "systemd",
    "containerd_registry_mirrors": {"docker.io": [{"url": "https://mirror.example.com"}]},
    "join_cluster_kubelet_extra_args": [{"name": "v", "value": "4"}],
    "join_cluster_node_ip": "192.0.2.10",
    "join_cluster_node_labels": {"rack": "r12"},
    "join_cluster_node_taints": [{"key": "gpu", "value": "true", "effect": "NoSchedule"}],
    "join_cluster_ignore_preflight_errors": ["Swap"],
    "kubeadm_ignore_preflight_errors": ["Swap"],
    "node_ip": "192.0.2.10",
    "node_processes": ["kube-proxy"],
    "pod_networks": ["10.244.0.0/16"],
    "post_check_wait_seconds": 60,
    "prepare_os_kernel_setting_minimums": {"fs.inotify.max_user_instances": 8192},
    "probe_image": "registry.example.com/probe:1",
    "reset_node_pod_networks": ["10.244.0.0/16"],
    "sandbox_image": "registry.k8s.io/pause:3.10",
    "upgrade_node_ignore_preflight_errors": ["Swap"],
    "warn_only": ["leftover:*"],
}
"""Of those whose default shows nothing."""
