"""What kubeadm is told."""

import yaml

from operations.kinds.create_cluster import configuration
from operations.kinds.create_cluster.configuration import FirstNode
from operations.kinds.create_cluster.params import CreateClusterParams


def documents(params=None, **node):
    made = configuration.init_documents(
        cluster_name="new",
        endpoint="10.0.0.11:6443",
        params=params or CreateClusterParams(kubernetes_version="v1.36.3"),
        node=FirstNode(**{"name": "n1", "address": "10.0.0.11", "takes_pods": False, **node}),
        cgroup_driver="systemd",
        token="abcdef.0123456789abcdef",
    )
    read = list(yaml.safe_load_all(configuration.as_text(made)))
    assert read == made
    return {document["kind"]: document for document in read}


def test_the_cluster_has_what_was_asked_for():
    cluster = documents()["ClusterConfiguration"]
    assert cluster["clusterName"] == "new"
    assert cluster["kubernetesVersion"] == "v1.36.3"
    assert cluster["controlPlaneEndpoint"] == "10.0.0.11:6443"
    assert cluster["networking"] == {
        "podSubnet": "10.244.0.0/16",
        "serviceSubnet": "10.96.0.0/16",
    }


def test_a_control_plane_takes_no_pods_where_workers_do():
    assert documents()["InitConfiguration"]["nodeRegistration"]["taints"] == [
        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    ]
    alone = documents(takes_pods=True)["InitConfiguration"]
    assert alone["nodeRegistration"]["taints"] == []


def test_the_site_s_arguments_of_kubelets_hold_for_the_first_node_too():
    node = documents(extra_args=[{"name": "v", "value": 4}], ignored_checks=["Mem"])
    registration = node["InitConfiguration"]["nodeRegistration"]
    assert registration["kubeletExtraArgs"] == [{"name": "v", "value": "4"}]
    assert registration["ignorePreflightErrors"] == ["Mem"]


def test_additions_are_merged_key_by_key():
    params = CreateClusterParams(
        kubernetes_version="v1.36.3",
        kubeadm_config={
            "ClusterConfiguration": {"apiServer": {"certSANs": ["api.example.com"]}},
            "KubeletConfiguration": {"failSwapOn": False},
            "KubeProxyConfiguration": {"mode": "nftables"},
        },
    )
    made = documents(params)
    assert made["ClusterConfiguration"]["apiServer"] == {"certSANs": ["api.example.com"]}
    assert made["ClusterConfiguration"]["kubernetesVersion"] == "v1.36.3"
    assert made["KubeletConfiguration"]["failSwapOn"] is False
    assert made["KubeletConfiguration"]["cgroupDriver"] == "systemd"
    assert made["KubeProxyConfiguration"]["mode"] == "nftables"


def test_mappings_are_merged_and_everything_else_is_replaced():
    base = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert configuration.merged(base, {"a": {"c": [2]}, "d": {"e": 1}}) == {
        "a": {"b": 1, "c": [2]},
        "d": {"e": 1},
    }
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}


def test_kubelet_and_containerd_are_told_one_cgroup_driver():
    asked = CreateClusterParams(
        kubernetes_version="v1.36.3",
        kubeadm_config={"KubeletConfiguration": {"cgroupDriver": "cgroupfs"}},
    )
    assert configuration.cgroup_driver(asked, {}) == "cgroupfs"
    assert configuration.cgroup_driver(asked, {"cgroup_driver": "systemd"}) == "systemd"
    plain = CreateClusterParams(kubernetes_version="v1.36.3")
    assert configuration.cgroup_driver(plain, {}) == "systemd"


def test_certificates_are_uploaded_with_the_cluster_s_own_configuration():
    params = CreateClusterParams(kubernetes_version="v1.36.3")
    init, cluster = configuration.upload_documents(
        cluster_name="new", endpoint="api:6443", params=params, certificate_key="ab" * 32
    )
    assert init["certificateKey"] == "ab" * 32
    assert cluster == configuration.cluster_document("new", "api:6443", params)
