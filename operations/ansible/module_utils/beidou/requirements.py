"""Judge a host's facts by a policy. Nothing here looks at the host."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible.module_utils.beidou.checks import WARNING, Check, listed
from ansible.module_utils.beidou.host_facts import HostFacts
from ansible.module_utils.beidou.sentences import Sentence
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
    problems: list[str] = [
        Sentence("%(name)s is missing.", name=name) for name in POLICY_TYPES if name not in policy
    ]
    problems += [
        Sentence("%(name)s is not a key of a policy.", name=name)
        for name in policy
        if name not in POLICY_TYPES
    ]
    for name, kind in POLICY_TYPES.items():
        value = policy.get(name)
        is_right = isinstance(value, kind) and not (kind is Sequence and isinstance(value, str))
        if name in policy and not is_right:
            problems.append(
                Sentence(
                    "%(name)s must be %(kind)s, not %(value)s.",
                    name=name,
                    kind=_kind_name(kind),
                    value=repr(value),
                )
            )
    return problems or _problems_inside(policy)


def _problems_inside(policy: Policy) -> list[str]:
    """What would look at nothing, and so never fail."""
    folders = [str(path) for path in policy["disks_gib"] if not str(path).startswith("/")]
    ports = [port for port in policy["ports"] if type(port) is not int]
    return [
        *(Sentence("disks_gib: %(value)s is no absolute path.", value=repr(p)) for p in folders),
        *(Sentence("ports: %(value)s is no whole number.", value=repr(p)) for p in ports),
    ]


def _kind_name(kind: type | tuple[type, ...]) -> str:
    names: Mapping[object, str] = {
        Mapping: Sentence("a mapping"),
        Sequence: Sentence("a list"),
        str: Sentence("a text"),
        int: Sentence("a whole number"),
        bool: Sentence("true or false"),
    }
    return names.get(kind, Sentence("a number"))


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
        Sentence("user id %(uid)d", uid=facts.effective_uid),
        Sentence("root (user id 0)"),
        Sentence("let the SSH user become root, or sign in as root"),
    )


def check_os(facts: HostFacts, policy: Policy) -> Check:
    minimums: Mapping[str, str] = policy["min_os_versions"]
    minimum = minimums.get(facts.os_id)
    choice = minimums if minimum is None else {facts.os_id: minimum}
    wanted = any_of([f"{name} >= {version}" for name, version in sorted(choice.items())])
    ok = minimum is not None and is_at_least(facts.os_version, minimum)
    found = facts.os_name or f"{facts.os_id} {facts.os_version}".strip() or Sentence("unknown")
    advice = Sentence("install a supported system or extend the policy")
    return Check("os", ok, found, wanted, advice)


def any_of(names: Sequence[str]) -> str:
    """Join alternatives for a sentence."""
    if len(names) < 2:
        return "".join(names)
    return Sentence("%(some)s or %(last)s", some=any_of(names[:-1]), last=names[-1])


def check_kernel(facts: HostFacts, policy: Policy) -> Check:
    minimum = policy["min_kernel"]
    ok = is_at_least(facts.kernel, minimum)
    advice = Sentence("update the kernel and restart")
    return Check("kernel", ok, facts.kernel, f">= {minimum}", advice)


def check_architecture(facts: HostFacts, policy: Policy) -> Check:
    allowed: Sequence[str] = policy["architectures"]
    return Check(
        "architecture",
        facts.architecture in allowed,
        facts.architecture,
        any_of(allowed),
        Sentence("use a machine of this architecture; the artifacts run on no other"),
    )


def check_cpus(facts: HostFacts, policy: Policy) -> Check:
    minimum = int(policy["min_cpus"])
    advice = Sentence("use a larger machine or change the policy")
    return Check("cpus", facts.cpus >= minimum, str(facts.cpus), f">= {minimum}", advice)


def check_memory(facts: HostFacts, policy: Policy) -> Check:
    minimum = int(policy["min_memory_mib"])
    return Check(
        "memory",
        facts.memory_mib >= minimum,
        f"{facts.memory_mib} MiB",
        f">= {minimum} MiB",
        Sentence("use a larger machine or change the policy"),
    )


def check_swap(facts: HostFacts, policy: Policy) -> Check:
    allowed = bool(policy["swap_allowed"])
    return Check(
        "swap",
        allowed or facts.swap_mib == 0,
        f"{facts.swap_mib} MiB",
        Sentence("any") if allowed else Sentence("none"),
        Sentence("run swapoff -a and remove the swap lines from /etc/fstab"),
    )


def check_cgroup(facts: HostFacts, policy: Policy) -> Check:
    allowed = bool(policy["cgroup_v1_allowed"])
    return Check(
        "cgroup",
        allowed or facts.cgroup_version == 2,
        Sentence("version %(version)s", version=facts.cgroup_version),
        Sentence("version 1 or 2") if allowed else Sentence("version %(version)s", version=2),
        Sentence(
            "boot with systemd.unified_cgroup_hierarchy=1: a kubelet of 1.35 or later refuses"
            " version 1 unless its configuration says failCgroupV1: false; if this cluster's does,"
            " set cgroup_v1_allowed in the preCheck policy"
        ),
    )


def check_containerd(facts: HostFacts, policy: Policy) -> Check:
    minimum = policy["min_containerd"]
    found = facts.containerd_version or Sentence("not installed")
    if not facts.containerd_version and policy["containerd_from_artifacts"]:
        wanted = Sentence("installed from the artifact source")
        return Check("containerd", ok=True, found=found, wanted=wanted)
    ok = is_at_least(facts.containerd_version, minimum)
    advice = Sentence("install a newer containerd")
    return Check("containerd", ok, found, f">= {minimum}", advice)


def check_disks(
    free: Mapping[str, tuple[int, int]], wanted_gib: Mapping[str, float]
) -> list[Check]:
    """``free`` is path -> (device, free bytes); paths on one device must fit together."""
    checks = [
        Check(
            f"disk:{path}",
            free[path][1] >= gib * GIB,
            Sentence("%(gib)s GiB free", gib=f"{free[path][1] / GIB:.1f}"),
            Sentence("%(gib)s GiB free", gib=f">= {gib}"),
            Sentence("free or add space, or change the policy"),
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
            Sentence(
                "%(gib)s GiB free on their common file system",
                gib=f"{free[paths[0]][1] / GIB:.1f}",
            ),
            Sentence(
                "%(gib)s GiB free together",
                gib=f">= {sum(wanted_gib[path] for path in paths)}",
            ),
            Sentence("free or add space, or give the folders file systems of their own"),
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
            Sentence("taken by %(owner)s", owner=listening[port])
            if port in listening
            else Sentence("free"),
            Sentence("free"),
            Sentence("stop what listens there"),
        )
        for port in ports
    ]


def check_commands(missing: Sequence[str], wanted: Sequence[str]) -> Check:
    return Check(
        "commands",
        not missing,
        Sentence("missing: %(names)s", names=", ".join(missing))
        if missing
        else Sentence("all there"),
        ", ".join(wanted),
        Sentence("install the packages that hold them"),
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
        Sentence("%(names)s is active", names=listed(names))
        if names
        else Sentence("none is active"),
        Sentence("none, or one that lets the cluster's traffic through"),
        Sentence("open the kubelet's port and the pod network, or switch it off"),
        WARNING,
    )


def check_node_name(name: str, nodes: ClusterNodes) -> list[Check]:
    taken = any(node.get("name") == name for node in nodes)
    valid = bool(NODE_NAME.fullmatch(name)) and len(name) <= 253
    return [
        Check(
            "node-name",
            valid,
            name or Sentence("none"),
            Sentence("lower-case letters, digits, '-' and '.', at most 253"),
            Sentence("rename the host, or give the machine another node name"),
        ),
        Check(
            "node-name-unique",
            not taken,
            Sentence("%(name)s is already a node of the cluster", name=name)
            if taken
            else Sentence("%(name)s is not taken", name=name),
            Sentence("a name no node of the cluster has"),
            Sentence("rename the host, or remove the stale node from the cluster first"),
        ),
    ]


def check_addresses(own: Sequence[str], nodes: ClusterNodes) -> Check:
    taken = [
        Sentence(
            "%(address)s is the address of node %(node)s", address=address, node=node.get("name")
        )
        for node in nodes
        for address in node.get("addresses", [])
        if address in own
    ]
    return Check(
        "addresses-unique",
        not taken,
        listed(taken) if taken else listed(own) or Sentence("no address"),
        Sentence("addresses no node of the cluster has"),
        Sentence("give the machine an address of its own, or remove the stale node first"),
    )


def check_system_uuid(own: str, nodes: ClusterNodes) -> Check:
    """A warning: cloned machines share it, and Kubernetes itself works all the same."""
    twins = [str(n.get("name")) for n in nodes if own and n.get("system_uuid", "").lower() == own]
    return Check(
        "system-uuid-unique",
        not twins,
        Sentence("same as node %(twins)s", twins=listed(twins))
        if twins
        else own or Sentence("unknown"),
        Sentence("an id no node of the cluster has"),
        Sentence("give the clone a new system UUID"),
        WARNING,
    )
