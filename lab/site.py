"""What an operator has to set in the portal for the lab's hosts, because they are no real iron."""

from typing import Any

POLICY: dict[str, Any] = {
    "cgroup_v1_allowed": True,
    "min_memory_mib": 512,
    "disks_gib": {
        "/var/lib/containerd": 2,
        "/var/lib/kubelet": 1,
        "/var/log": 1,
        "/usr/local/bin": 1,
    },
}
"""Operation settings, preCheck policy: small hosts on the older cgroup hierarchy."""

OVERRIDES: dict[str, Any] = {
    "containerd_cni_bin_dir": "/usr/lib/cni",
    "kubeadm_ignore_preflight_errors": ["all"],
}
"""Operation settings, playbook variables: Debian's CNI plugins, a kernel without a config file."""

KUBEADM_CONFIG: dict[str, Any] = {
    "KubeletConfiguration": {
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "featureGates": {"KubeletInUserNamespace": True},
        "localStorageCapacityIsolation": False,
    },
    "KubeProxyConfiguration": {
        "mode": "nftables",
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpCloseWaitTimeout": "0s",
            "tcpEstablishedTimeout": "0s",
        },
    },
}
"""Parameter ``kubeadm_config`` of a new cluster: kubelets and kube-proxies in containers."""
