"""Reaching an API server step by step, on real sockets that misbehave."""

import os
import socket
import ssl
import time
from collections.abc import Iterator

import pytest

from clusters.drivers import errors, tls
from clusters.drivers.connection import Connection
from tests.fakes.kube_api import FakeKubeApi, authority, intermediate_authority


def check(connection: Connection, timeout: float = 5) -> tls.ServerCertificate:
    return tls.check_server_certificate(connection, cluster_name="prod-1", timeout=timeout)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose queue is full: connections to it are neither accepted nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        yield port
        for filler in fillers:
            filler.close()


def test_a_server_that_answers_is_reached_and_described():
    with FakeKubeApi() as api:
        reached = tls.reach(api.connection(), cluster_name="prod-1", timeout=5)
        found = check(api.connection())
    assert reached.address == f"127.0.0.1:{api.port}"
    assert found.is_verified
    assert found.subject == "CN=kube-apiserver"
    assert found.names == ("localhost", "kubernetes", "127.0.0.1")
    assert found.not_before < found.not_after


def test_a_name_that_does_not_exist_is_named():
    connection = Connection(server="https://no-such-host.invalid:6443", ca_pem=authority().ca_pem)
    with pytest.raises(
        errors.Unreachable, match=r"the name no-such-host\.invalid was not resolved"
    ):
        tls.reach(connection, cluster_name="prod-1", timeout=5)


def test_a_closed_port_is_named_with_the_cluster():
    with FakeKubeApi() as api:
        connection = api.connection()
    with pytest.raises(errors.Unreachable) as caught:
        tls.reach(connection, cluster_name="prod-1", timeout=5)
    assert caught.value.code == "connection_refused"
    assert caught.value.message.startswith("Cluster prod-1: could not connect to the API server: ")
    assert f"127.0.0.1:{api.port} refused the connection after 0.0 s." in caught.value.message


def test_an_address_that_never_answers_is_given_up_in_time(silent_port: int):
    connection = Connection(
        server=f"https://127.0.0.1:{silent_port}", ca_pem=authority().ca_pem, token="x"
    )
    begun = time.monotonic()
    with pytest.raises(
        errors.Unreachable, match=r"did not answer within 0\.3 s \(tried for 0\.3 s"
    ):
        tls.reach(connection, cluster_name="prod-1", timeout=0.3)
    assert time.monotonic() - begun < 2


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time():
    with FakeKubeApi(speaks="nothing") as api, pytest.raises(errors.Unreachable) as caught:
        check(api.connection(), timeout=0.3)
    assert caught.value.code == "timed_out"


def test_a_server_without_tls_is_named():
    with FakeKubeApi(speaks="plain") as api, pytest.raises(errors.CertificateProblem) as caught:
        check(api.connection())
    assert caught.value.code == "not_tls"
    assert caught.value.message.endswith(f"127.0.0.1:{api.port} does not speak TLS.")


@pytest.mark.parametrize(
    ("certificate", "code", "words"),
    [
        ("expired", "expired", "has expired (certificate has expired). It ended on 20"),
        ("not_yet_valid", "not_yet_valid", "is not valid yet"),
        ("wrong_name", "wrong_name", "It names elsewhere.example, 10.0.0.1, not 127.0.0.1."),
        ("other_ca", "unknown_ca", "It was issued by “CN=some-other-ca”."),
    ],
)
def test_a_wrong_certificate_is_explained(certificate: str, code: str, words: str):
    with (
        FakeKubeApi(certificate=certificate) as api,
        pytest.raises(errors.CertificateProblem) as caught,
    ):
        check(api.connection())
    assert caught.value.code == code
    assert words in caught.value.message
    assert isinstance(caught.value.__cause__, ssl.SSLError)


def test_a_wrong_certificate_can_still_be_read():
    with FakeKubeApi(certificate="expired") as api:
        found = tls.read_server_certificate(api.connection(), cluster_name="a", timeout=5)
    assert not found.is_verified
    assert found.subject == "CN=kube-apiserver"


def test_the_server_may_be_called_by_another_name():
    with FakeKubeApi() as api:
        assert check(api.connection(tls_server_name="kubernetes")).is_verified
        with pytest.raises(errors.CertificateProblem, match="not other-name"):
            check(api.connection(tls_server_name="other-name"))


def test_an_intermediate_ca_is_an_anchor_as_for_kubectl():
    with FakeKubeApi(certificate="intermediate_ca") as api:
        assert check(api.connection(ca_pem=intermediate_authority().ca_pem)).is_verified


def test_an_insecure_connection_reads_without_verifying():
    with FakeKubeApi(certificate="other_ca") as api:
        found = check(api.connection(ca_pem=None, insecure_skip_tls_verify=True))
    assert not found.is_verified


def test_no_step_shows_the_credential():
    with FakeKubeApi(certificate="other_ca") as api:
        with pytest.raises(errors.CertificateProblem):
            check(api.connection(token=None))
        tls.read_server_certificate(api.connection(token=None), cluster_name="a", timeout=5)
    assert api.requests == []


def test_a_context_leaves_neither_file_nor_descriptor_behind(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with FakeKubeApi() as api:
        connection = api.connection(token=None)
        before = os.listdir("/proc/self/fd")
        context = tls.make_context(connection)
        assert os.listdir("/proc/self/fd") == before
    assert os.listdir(str(tmp_path)) == []
    assert context.verify_mode == ssl.CERT_REQUIRED
