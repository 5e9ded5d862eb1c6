import base64
import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from tests.operations.ansible.host_code import certificates, membership
from tests.operations.ansible.made_up_host import MadeUpHost


def make_certificate(common_name, key=None):
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubernetes")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


def pin(certificate):
    spki = certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return "sha256:" + hashlib.sha256(spki).hexdigest()


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def authority():
    return make_certificate("kubernetes")


@pytest.fixture
def host(tmp_path):
    return MadeUpHost(tmp_path)


def join(host, authority, node_name, server="https://10.8.0.1:6443"):
    data = base64.b64encode(pem(authority).encode()).decode()
    path = "/var/lib/kubelet/pki/kubelet-client-current.pem"
    host.write(path, pem(make_certificate(f"system:node:{node_name}")))
    host.write(
        "/etc/kubernetes/kubelet.conf",
        "apiVersion: v1\nclusters:\n- cluster:\n"
        f"    certificate-authority-data: {data}\n    server: {server}\n"
        f"  name: default-cluster\nusers:\n- name: default-auth\n  user:\n"
        f"    client-certificate: {path}\n    client-key: {path}\nkind: Config\n",
    )


@pytest.mark.parametrize(
    "key", [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]
)
def test_pin_and_name_are_those_a_library_reads(key):
    certificate = make_certificate("system:node:bj-1", key)
    der = certificate.public_bytes(serialization.Encoding.DER)
    assert certificates.public_key_pin(der) == pin(certificate)
    assert certificates.common_name(der) == "system:node:bj-1"


@pytest.mark.parametrize("data", [b"", b"\x30", b"\x30\x03\x02\x01\x01", b"hello world, no DER"])
def test_what_is_no_certificate_is_refused(data):
    with pytest.raises(ValueError, match="not an X.509 certificate"):
        certificates.public_key_pin(data)


def test_a_machine_without_credentials_belongs_to_no_cluster(host):
    assert membership.read_membership(host.files, ["sha256:00"], "w1").state == "none"


def test_a_machine_of_this_cluster_under_its_name_is_joined(host, authority):
    join(host, authority, "w1")
    found = membership.read_membership(host.files, [pin(authority)], "w1")
    assert (found.state, found.server, found.node_name) == ("joined", "https://10.8.0.1:6443", "w1")


def test_a_machine_of_another_cluster_is_told_which_one(host, authority):
    join(host, authority, "w1", server="https://10.9.0.1:6443")
    found = membership.read_membership(host.files, ["sha256:00"], "w1")
    assert found.state == "other"
    assert "already a node of another cluster: API server https://10.9.0.1:6443" in found.reason


def test_a_machine_under_another_name_is_refused(host, authority):
    join(host, authority, "w2")
    found = membership.read_membership(host.files, [pin(authority)], "w1")
    assert found.reason == (
        "The machine is already in this cluster under the node name w2, not w1."
    )


@pytest.mark.parametrize(
    "trace", ["/etc/kubernetes/bootstrap-kubelet.conf", "/etc/kubernetes/pki/ca.crt"]
)
def test_an_interrupted_join_is_recognised(host, trace):
    host.write(trace)
    assert membership.read_membership(host.files, ["sha256:00"], "w1").state == "partial"


@pytest.mark.parametrize("conf", ["not yaml at all", "certificate-authority-data: '%%%'\n"])
def test_credentials_nobody_can_read_count_as_those_of_another_cluster(host, conf):
    host.write("/etc/kubernetes/kubelet.conf", conf)
    found = membership.read_membership(host.files, ["sha256:00"], "w1")
    assert found.state == "other"
    assert "authority unreadable" in found.reason
