"""Which hosts are emptied; what that does to them is proved in the lab."""

import pytest

from tests.operations.ansible.host_code import load_file
from tests.operations.ansible.made_up_host import MadeUpHost
from tests.operations.ansible.test_membership import join, make_certificate, pin

remains = load_file("library/node_remains.py")


@pytest.fixture(scope="module")
def authority():
    return make_certificate("kubernetes")


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


@pytest.fixture
def refusal(host):
    def ask(**values):
        known = {"ca_cert_hashes": [], "any_cluster": False, "node_name": "w1"}
        return remains.refusal(host.files, {**known, "control_plane": True, **values})

    return ask


def test_a_host_that_belongs_to_no_cluster_is_emptied(refusal, host):
    host.write("/etc/kubernetes/pki/ca.crt")
    assert refusal() == ""


def test_without_pins_a_node_of_any_cluster_is_left_alone(refusal, host, authority):
    join(host, authority, "w1")
    assert "already a node of another cluster" in refusal()


def test_a_node_of_the_pinned_cluster_is_emptied(refusal, host, authority):
    join(host, authority, "w1")
    assert refusal(ca_cert_hashes=[pin(authority)]) == ""


def test_whichever_cluster_it_belongs_to_has_to_be_said(refusal, host, authority):
    join(host, authority, "another-name")
    assert refusal(any_cluster=True) == ""


def test_a_control_plane_is_left_alone_unless_that_is_said_too(refusal, host):
    host.write("/etc/kubernetes/manifests/etcd.yaml")
    assert "is a control plane" in refusal(any_cluster=True, control_plane=False)
