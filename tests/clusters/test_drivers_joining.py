"""What a kubeadm cluster tells about itself, and what it may leave out."""

from typing import Any

import pytest
import yaml

from beidou.base.errors import PermanentError
from clusters.drivers import certificates, errors
from clusters.drivers.kubernetes import KubernetesClient
from tests.fakes.kube_api import FakeKubeApi, Reply, authority, base64_text

INFO = "/api/v1/namespaces/kube-public/configmaps/cluster-info"
KUBELET = "/api/v1/namespaces/kube-system/configmaps/kubelet-config"
KUBEADM = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"


def ask(method: str, path: str, data: dict[str, str] | None) -> Any:
    with FakeKubeApi() as api:
        api.on("GET", path, Reply(body={"data": data}))
        with KubernetesClient(api.connection(), cluster_name="prod-1") as client:
            return getattr(client, method)()


def test_cluster_info_pins_the_ca_by_its_public_key():
    cluster = {
        "server": "https://10.0.0.1:6443",
        "certificate-authority-data": base64_text(authority().ca_pem),
    }
    text = yaml.safe_dump({"clusters": [{"name": "", "cluster": cluster}]})
    info = ask("cluster_info", INFO, {"kubeconfig": text})
    assert info.server == "https://10.0.0.1:6443"
    assert info.ca_pem == authority().ca_pem
    assert info.ca_cert_hashes == (certificates.public_key_hash(authority().certificate),)
    assert info.ca_cert_hashes[0].startswith("sha256:")
    assert len(info.ca_cert_hashes[0]) == 71


@pytest.mark.parametrize(
    "text",
    ["clusters: []", "clusters: [{cluster: {server: a}}]", "clusters: 5"],
)
def test_cluster_info_without_server_and_ca_is_refused(text: str):
    with pytest.raises(PermanentError, match="names no server with its CA certificate"):
        ask("cluster_info", INFO, {"kubeconfig": text})


@pytest.mark.parametrize("data", [None, {}, {"kubeconfig": "a: ["}])
def test_a_config_map_without_readable_content_is_refused(data: dict[str, str] | None):
    with pytest.raises(PermanentError, match=r"cluster-info has no readable “kubeconfig”\."):
        ask("cluster_info", INFO, data)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 60_000, id="deep"),
        pytest.param("{a: " * 60_000, id="deep mappings"),
        pytest.param("a: &x [1]\nb: [*x, *x]", id="aliases"),
        pytest.param("a: 2020-99-99", id="no date"),
    ],
)
def test_a_text_that_would_end_its_reader_is_refused(text: str):
    with pytest.raises(PermanentError, match=r"kubelet-config has no readable “kubelet”\."):
        ask("kubelet_config", KUBELET, {"kubelet": text})


@pytest.mark.parametrize("text", ["clusterDNS: 5", "clusterDNS: {a: b}", "clusterDNS: x"])
def test_a_dns_that_is_no_list_is_none(text: str):
    assert ask("kubelet_config", KUBELET, {"kubelet": text}).cluster_dns == ()


@pytest.mark.parametrize("text", ["networking: x", "networking: [1]", "networking: 5"])
def test_networks_that_are_no_mapping_are_none(text: str):
    config = ask("kubeadm_config", KUBEADM, {"ClusterConfiguration": text})
    assert (config.pod_subnet, config.service_subnet) == ("", "")


def test_a_config_map_with_a_plain_text_is_refused():
    with pytest.raises(PermanentError, match="is not a mapping"):
        ask("kubelet_config", KUBELET, {"kubelet": "hello"})


@pytest.mark.parametrize(
    ("text", "driver"), [("cgroupDriver: systemd", "systemd"), ("a: 1", "cgroupfs")]
)
def test_the_cgroup_driver_is_read_or_the_default(text: str, driver: str):
    assert ask("kubelet_config", KUBELET, {"kubelet": text}).cgroup_driver == driver


def test_the_kubelet_config_tells_the_dns():
    text = "clusterDomain: cluster.local\nclusterDNS: [10.96.0.10]"
    config = ask("kubelet_config", KUBELET, {"kubelet": text})
    assert (config.cluster_domain, config.cluster_dns) == ("cluster.local", ("10.96.0.10",))
    assert config.text == text


def test_the_kubeadm_config_tells_version_and_networks():
    text = yaml.safe_dump(
        {
            "kubernetesVersion": "v1.36.3",
            "controlPlaneEndpoint": "k8s:6443",
            "imageRepository": "registry.k8s.io",
            "networking": {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/12"},
        }
    )
    config = ask("kubeadm_config", KUBEADM, {"ClusterConfiguration": text})
    assert (config.kubernetes_version, config.control_plane_endpoint) == ("v1.36.3", "k8s:6443")
    assert (config.pod_subnet, config.service_subnet) == ("10.244.0.0/16", "10.96.0.0/12")
    assert config.dns_domain == ""


def test_a_cluster_made_without_kubeadm_has_no_such_config():
    with (
        FakeKubeApi() as api,
        KubernetesClient(api.connection(), cluster_name="prod-1") as client,
        pytest.raises(errors.NotFound, match="could not read the ConfigMap kube-system/kubeadm-co"),
    ):
        client.kubeadm_config()
