"""What may be asked of a new cluster: bounds, networks, additions to kubeadm's configuration."""

import ipaddress

import pytest
from pydantic import ValidationError

from operations.kinds.create_cluster.params import (
    CreateClusterParams,
    endpoint,
    nodes_at_most,
    overlapping,
    split_endpoint,
)


def params(**values):
    return CreateClusterParams(**{"kubernetes_version": "1.36.3", **values})


def why(**values):
    with pytest.raises(ValidationError) as refused:
        params(**values)
    return str(refused.value)


def test_what_is_left_out_has_a_sensible_value():
    made = params()
    assert made.kubernetes_version == "v1.36.3"
    assert (made.pod_network, made.service_network) == ("10.244.0.0/16", "10.96.0.0/16")
    assert made.network == "routed"


@pytest.mark.parametrize("version", ["1.32.0", "v1.99.1", "v2.36.3"])
def test_a_version_that_is_not_known_is_refused(version):
    assert "supported are 1.33, 1.34" in why(kubernetes_version=version)


@pytest.mark.parametrize("version", ["", "1.36", "../v1.36.3"])
def test_what_is_no_version_is_refused(version):
    assert "is no Kubernetes version" in why(kubernetes_version=version)


def test_an_unknown_parameter_is_refused():
    assert "Extra inputs" in why(podnetwork="10.0.0.0/16")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("api.example.com", ("api.example.com", 6443)),
        ("API.example.com:8443", ("api.example.com", 8443)),
        ("10.0.0.1", ("10.0.0.1", 6443)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("2001:db8::1", ("2001:db8::1", 6443)),
    ],
)
def test_an_endpoint_is_a_host_with_or_without_port(text, expected):
    assert split_endpoint(text) == expected
    assert split_endpoint(endpoint(*expected)) == expected


@pytest.mark.parametrize(
    "text", ["a b", "https://api:6443", "api:0", "api:65536", "api:x", "-api", "api/x", "a{{b}}"]
)
def test_what_is_no_endpoint_is_refused(text):
    assert "is no endpoint" in why(control_plane_endpoint=text)


@pytest.mark.parametrize("text", ["10.244.0.0/33", "10.244.0.1/16", "pods", ""])
def test_what_is_no_network_is_refused(text):
    assert "is no network" in why(pod_network=text)


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        ({"pod_network": "10.96.0.0/12"}, "overlap"),
        ({"pod_network": "fd00::/56"}, "one address family"),
        ({"pod_network": "10.244.0.0/24"}, "must be a /8 to a /23"),
        ({"pod_network": "10.0.0.0/7", "service_network": "172.16.0.0/16"}, "must be a /8"),
        ({"service_network": "10.96.0.0/11"}, "must be a /12 to a /28"),
        ({"service_network": "10.96.0.0/30"}, "must be a /12 to a /28"),
        ({"pod_network": "169.254.0.0/16"}, "for other purposes"),
        ({"pod_network": "127.0.0.0/16"}, "for other purposes"),
    ],
)
def test_networks_that_do_not_fit_are_refused(networks, expected):
    assert expected in why(**networks)


def test_networks_of_the_newer_family_are_taken():
    made = params(pod_network="fd00:10::/56", service_network="fd00:20::/112")
    assert nodes_at_most(made.pods) == 256


def test_a_pod_network_has_room_for_so_many_nodes():
    assert nodes_at_most(ipaddress.ip_network("10.244.0.0/16")) == 256
    assert nodes_at_most(ipaddress.ip_network("10.244.0.0/23")) == 2


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        (["10.0.0.0/8"], "10.0.0.0/8"),
        (["10.244.9.0/24"], "10.244.9.0/24"),
        (["192.168.0.0/16,10.244.0.0/17"], "10.244.0.0/17"),
        (["10.245.0.0/16"], ""),
        (["fd00::/8"], ""),
        (["", "none of that"], ""),
    ],
)
def test_a_network_is_compared_with_those_of_others(others, expected):
    assert overlapping(ipaddress.ip_network("10.244.0.0/16"), others) == expected


def test_a_manifest_belongs_to_the_network_called_manifest_alone():
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
    assert params(network="manifest", network_manifest=text).network_manifest == text
    assert "a manifest is given" in why(network_manifest=text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "There is no object in it"),
        ("a: [", "This is no YAML"),
        ("kind: ConfigMap", "Object 1 has no apiVersion"),
        ("- 1\n- 2", "Object 1 has no apiVersion"),
    ],
)
def test_a_manifest_that_cannot_be_applied_is_refused(text, expected):
    assert expected in why(network="manifest", network_manifest=text)


def test_documents_of_kubeadm_may_be_added_to():
    more = {"KubeletConfiguration": {"failSwapOn": False}}
    assert params(kubeadm_config=more).kubeadm_config == more


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"InitConfiguration": {}}, "cannot be added to"),
        ({"ClusterConfiguration": {"networking": {}}}, "networking of ClusterConfiguration"),
        ({"ClusterConfiguration": {"controlPlaneEndpoint": "x"}}, "is decided by the other"),
        ({"KubeletConfiguration": {"kind": "X"}}, "kind of KubeletConfiguration"),
    ],
)
def test_what_the_other_parameters_decide_cannot_be_added(more, expected):
    assert expected in why(kubeadm_config=more)


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"pod_network": "10.96.0.0/12"}, "service_network"),
        ({"pod_network": "10.244.0.0/24"}, "pod_network"),
        ({"service_network": "10.96.0.0/30"}, "service_network"),
        ({"network": "manifest", "network_manifest": ": x"}, "network_manifest"),
        ({"network": "manifest"}, "network_manifest"),
        ({"network_manifest": "a: b"}, "network_manifest"),
    ],
)
def test_a_mistake_is_named_at_its_field(given, place):
    with pytest.raises(ValidationError) as refused:
        params(**given)
    assert [item["loc"] for item in refused.value.errors()] == [(place,)]
