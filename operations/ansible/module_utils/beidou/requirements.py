"""Judge a host's facts by a policy. Nothing here looks at the host."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible.module_utils.beidou.checks import WARNING, Check, listed
from ansible.module_utils.beidou.host_facts import HostFacts
from ansible.module_utils.beidou.versions import is_at_least

Policy = Mapping[str, Any]
ClusterNodes = Sequence[Mapping[str, Any]]
GIB = 1024**3
NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

POLICY_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "min_os_versions": Mapping,
    "min_kernel": str,
    "architectures": Sequence,
    "min_cpus": int,
    "min_memory_mib": int,
    "disks_gib": Mapping,
    "swap_allowed": bool,
    "cgroup_v1_allowed": bool,
    "min_containerd": str,
    "containerd_from_artifacts": bool,
    "commands": Sequence,
    "kernel_modules": Sequence,
    "kernel_settings": Mapping,
    "kernel_setting_minimums": Mapping,
    "ports": Sequence,
    "max_clock_offset_seconds": (int, float),
    "connect_timeout_seconds": (int, float),
    "warn_only": Sequence,
}


def policy_problems(policy: Policy) -> list[str]:
    """Sentences about keys that are missing, unknown or of the wrong kind; empty for a good one."""
    problems = [f"{name} is missing." for name in POLICY_TYPES if name not in policy]
    problems += [f"{name} is not a key of a policy." for name in policy if name not in POLICY_TYPES]
    for name, kind in POLICY_TYPES.items():
        value = policy.get(name)
        is_right = isinstance(value, kind) and not (kind is Sequence and isinstance(value, str))
        if name in policy and not is_right:
            problems.append(f"{name} must be {_kind_name(kind)}, not {value!r}.")
    return problems


def _kind_name(kind: type | tuple[type, ...]) -> str:
    names = {Mapping: "a mapping", Sequence: "a list", str: "a text", int: "a whole number"}
    return {**names, bool: "true or false"}.get(kind, "a number")


def judge(facts: HostFacts, policy: Policy) -> list[Check]:
    return [
        check_privilege(facts),
        check_os(facts, policy),
        check_kernel(facts, policy),
        check_architecture(facts, policy),
        check_cpus(facts, policy),
        check_memory(facts, policy),
        check_swap(facts, policy),
        check_cgroup(facts, policy),
        check_containerd(facts, policy),
    ]


def check_privilege(facts: HostFacts) -> Check:
    return Check(
        "privilege",
        facts.effective_uid == 0,
        f"user id {facts.effective_uid}",
        "root (user id 0)",
        "let the SSH user become root, or sign in as root",
    )


def check_os(facts: HostFacts, policy: Policy) -> Check:
    minimums: Mapping[str, str] = policy["min_os_versions"]
    minimum = minimums.get(facts.os_id)
    choice = minimums if minimum is None else {facts.os_id: minimum}
    wanted = " or ".join(f"{name} >= {version}" for name, version in sorted(choice.items()))
    ok = minimum is not None and is_at_least(facts.os_version, minimum)
    found = facts.os_name or f"{facts.os_id} {facts.os_version}".strip() or "unknown"
    return Check("os", ok, found, wanted, "install a supported system or extend the policy")


def check_kernel(facts: HostFacts, policy: Policy) -> Check:
    minimum = policy["min_kernel"]
    ok = is_at_least(facts.kernel, minimum)
    return Check("kernel", ok, facts.kernel, f">= {minimum}", "update the kernel and restart")


def check_architecture(facts: HostFacts, policy: Policy) -> Check:
    allowed: Sequence[str] = policy["architectures"]
    return Check(
        "architecture",
        facts.architecture in allowed,
        facts.architecture,
        " or ".join(allowed),
        "use a machine of this architecture; the artifacts run on no other",
    )


def check_cpus(facts: HostFacts, policy: Policy) -> Check:
    minimum = int(policy["min_cpus"])
    advice = "use a larger machine or change the policy"
    return Check("cpus", facts.cpus >= minimum, str(facts.cpus), f">= {minimum}", advice)


def check_memory(facts: HostFacts, policy: Policy) -> Check:
    minimum = int(policy["min_memory_mib"])
    return Check(
        "memory",
        facts.memory_mib >= minimum,
        f"{facts.memory_mib} MiB",
        f">= {minimum} MiB",
        "use a larger machine or change the policy",
    )


def check_swap(facts: HostFacts, policy: Policy) -> Check:
    allowed = bool(policy["swap_allowed"])
    return Check(
        "swap",
        allowed or facts.swap_mib == 0,
        f"{facts.swap_mib} MiB",
        "any" if allowed else "none",
        "run swapoff -a and remove the swap lines from /etc/fstab",
    )


def check_cgroup(facts: HostFacts, policy: Policy) -> Check:
    allowed = bool(policy["cgroup_v1_allowed"])
    return Check(
        "cgroup",
        allowed or facts.cgroup_version == 2,
        f"version {facts.cgroup_version}",
        "version 1 or 2" if allowed else "version 2",
        "boot with systemd.unified_cgroup_hierarchy=1: a kubelet of 1.35 or later refuses"
        " version 1 unless its configuration says failCgroupV1: false",
    )


def check_containerd(facts: HostFacts, policy: Policy) -> Check:
    minimum = policy["min_containerd"]
    found = facts.containerd_version or "not installed"
    if not facts.containerd_version and policy["containerd_from_artifacts"]:
        wanted = "installed from the artifact source"
        return Check("containerd", ok=True, found=found, wanted=wanted)
    ok = is_at_least(facts.containerd_version, minimum)
    return Check("containerd", ok, found, f">= {minimum}", "install a newer containerd")


def check_disks(
    free: Mapping[str, tuple[int, int]], wanted_gib: Mapping[str, float]
) -> list[Check]:
    """``free`` is path -> (device, free bytes); paths on one device must fit together."""
    checks = [
        Check(
            f"disk:{path}",
            free[path][1] >= gib * GIB,
            f"{free[path][1] / GIB:.1f} GiB free",
            f">= {gib} GiB free",
            "free or add space, or change the policy",
        )
        for path, gib in sorted(wanted_gib.items())
    ]
    by_device: dict[int, list[str]] = {}
    for path in sorted(wanted_gib):
        by_device.setdefault(free[path][0], []).append(path)
    checks.extend(
        Check(
            f"disk:{'+'.join(paths)}",
            free[paths[0]][1] >= sum(wanted_gib[path] for path in paths) * GIB,
            f"{free[paths[0]][1] / GIB:.1f} GiB free on their common file system",
            f">= {sum(wanted_gib[path] for path in paths)} GiB free together",
            "free or add space, or give the folders file systems of their own",
        )
        for paths in by_device.values()
        if len(paths) > 1
    )
    return checks


def check_ports(listening: Mapping[int, str], ports: Sequence[int]) -> list[Check]:
    """``listening`` is port -> who holds it."""
    return [
        Check(
            f"port:{port}",
            port not in listening,
            f"taken by {listening[port]}" if port in listening else "free",
            "free",
            "stop what listens there",
        )
        for port in ports
    ]


def check_commands(missing: Sequence[str], wanted: Sequence[str]) -> Check:
    return Check(
        "commands",
        not missing,
        f"missing: {', '.join(missing)}" if missing else "all there",
        ", ".join(wanted),
        "install the packages that hold them",
    )


def check_firewall(processes: Collection[str], ufw: str) -> Check:
    """A warning: which rules a cluster needs depends on its network.

    ``ufw`` is the text of /etc/ufw/ufw.conf: ufw leaves no process behind.
    """
    names = ["firewalld"] if "firewalld" in processes else []
    if re.search(r"^ENABLED=yes$", ufw, re.MULTILINE):
        names.append("ufw")
    return Check(
        "firewall",
        not names,
        f"{listed(names)} is active" if names else "none is active",
        "none, or one that lets the cluster's traffic through",
        "open the kubelet's port and the pod network, or switch it off",
        WARNING,
    )


def check_node_name(name: str, nodes: ClusterNodes) -> list[Check]:
    taken = any(node.get("name") == name for node in nodes)
    valid = bool(NODE_NAME.fullmatch(name)) and len(name) <= 253
    return [
        Check(
            "node-name",
            valid,
            name or "none",
            "lower-case letters, digits, '-' and '.', at most 253",
            "rename the host, or give the machine another node name",
        ),
        Check(
            "node-name-unique",
            not taken,
            f"{name} is already a node of the cluster" if taken else f"{name} is not taken",
            "a name no node of the cluster has",
            "rename the host, or remove the stale node from the cluster first",
        ),
    ]


def check_addresses(own: Sequence[str], nodes: ClusterNodes) -> Check:
    taken = [
        f"{address} is the address of node {node.get('name')}"
        for node in nodes
        for address in node.get("addresses", [])
        if address in own
    ]
    return Check(
        "addresses-unique",
        not taken,
        listed(taken) if taken else listed(own) or "no address",
        "addresses no node of the cluster has",
        "give the machine an address of its own, or remove the stale node first",
    )


def check_system_uuid(own: str, nodes: ClusterNodes) -> Check:
    """A warning: cloned machines share it, and Kubernetes itself works all the same."""
    twins = [str(n.get("name")) for n in nodes if own and n.get("system_uuid", "").lower() == own]
    return Check(
        "system-uuid-unique",
        not twins,
        f"same as node {listed(twins)}" if twins else own or "unknown",
        "an id no node of the cluster has",
        "give the clone a new system UUID",
        WARNING,
    )
