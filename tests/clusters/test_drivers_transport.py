"""What an API server can do to a call, and how each call ends: in time and with a reason."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from beidou.base.errors import PermanentError
from clusters.drivers import errors
from clusters.drivers.kubernetes import KubernetesClient
from tests.fakes.kube_api import Cut, FakeKubeApi, Hang, Reply, Trickle, status_reply


@pytest.fixture
def api() -> Iterator[FakeKubeApi]:
    with FakeKubeApi() as server:
        yield server


@pytest.fixture
def client(api: FakeKubeApi) -> Iterator[KubernetesClient]:
    with KubernetesClient(api.connection(), cluster_name="prod-1", timeout=5) as made:
        yield made


def impatient(api: FakeKubeApi) -> KubernetesClient:
    return KubernetesClient(api.connection(), cluster_name="prod-1", timeout=0.4)


# --- failures, the same for every call ------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (401, errors.Unauthorized, "(HTTP 401): Unauthorized. Replace the credential."),
        (403, errors.Forbidden, "the credential may not do this (HTTP 403)"),
        (404, errors.NotFound, "it does not exist (HTTP 404)"),
        (409, errors.Conflict409, "it exists already or has changed meanwhile (HTTP 409)"),
        (410, errors.Gone, "the list position is too old (HTTP 410)"),
        (422, PermanentError, "the API server answered HTTP 422"),
        (429, errors.ServerTrouble, "the API server has too much to do (HTTP 429)"),
        (302, PermanentError, "the API server answered HTTP 302"),
        (500, errors.ServerTrouble, "the API server answered HTTP 500"),
        (503, errors.ServerTrouble, "the API server answered HTTP 503"),
    ],
)
def test_a_refusal_becomes_its_own_error(
    api: FakeKubeApi, client: KubernetesClient, status: int, kind: type[Exception], words: str
):
    api.on("GET", "/version", status_reply(status, "Unauthorized"))
    with pytest.raises(kind) as caught:
        client.version()
    assert str(caught.value).startswith("Cluster prod-1: could not read the version: ")
    assert words in str(caught.value)


def test_the_server_says_when_to_come_back(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/version", Reply(status=429, headers={"Retry-After": "17"}))
    with pytest.raises(errors.ServerTrouble) as caught:
        client.version()
    assert caught.value.retry_after == 17


@pytest.mark.parametrize("header", ["soon", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_an_unreadable_time_to_come_back_is_five_seconds(
    api: FakeKubeApi, client: KubernetesClient, header: str
):
    api.on("GET", "/version", Reply(status=429, headers={"Retry-After": header}))
    with pytest.raises(errors.ServerTrouble) as caught:
        client.version()
    assert caught.value.retry_after == 5


def test_a_redirect_is_not_followed(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/version", Reply(status=302, headers={"Location": "/elsewhere"}))
    with pytest.raises(PermanentError):
        client.version()
    assert api.asked("GET", "/elsewhere") == []


def test_no_message_contains_the_token(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/version", status_reply(403, "token test-token is not known"))
    with pytest.raises(errors.Forbidden, match=r"token \*\*\* is not known"):
        client.version()


def test_the_page_of_a_proxy_is_cut_to_a_readable_length(
    api: FakeKubeApi, client: KubernetesClient
):
    api.on("GET", "/version", Reply(status=502, body="<html>Bad gateway " * 10_000))
    with pytest.raises(errors.ServerTrouble, match="<html>Bad gateway") as caught:
        client.version()
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    "answer",
    [
        Hang(),
        pytest.param(Trickle(seconds_per_byte=0.05), id="cut in the status line"),
        pytest.param(Trickle(seconds_per_byte=0.012), id="cut in the headers"),
        pytest.param(Trickle("x" * 1000, seconds_per_byte=0.003), id="cut in the body"),
    ],
)
def test_a_call_ends_in_time_whatever_the_server_does(api: FakeKubeApi, answer: Any):
    api.on("GET", "/version", answer)
    begun = time.monotonic()
    with impatient(api) as client, pytest.raises(errors.Unreachable) as caught:
        client.version()
    assert time.monotonic() - begun < 2
    assert caught.value.code == "timed_out"
    assert f"127.0.0.1:{api.port} did not answer within 0.4 s" in caught.value.message


def test_an_answer_that_breaks_off_is_temporary(api: FakeKubeApi, client: KubernetesClient):
    api.on("GET", "/api/v1/nodes", Cut())
    with pytest.raises(errors.Unreachable, match=r"could not list the nodes: .* failed after"):
        client.list_nodes()


@pytest.mark.parametrize("body", ["<html>hello</html>", "[]", '{"gitVersion": 5}', b"\xff\xfe", ""])
def test_an_answer_of_another_shape_is_temporary(
    api: FakeKubeApi, client: KubernetesClient, body: Any
):
    api.on("GET", "/version", Reply(body=body))
    with pytest.raises(errors.BadAnswer, match="is not what Kubernetes promises"):
        client.version()


def test_a_server_that_fell_is_unreachable_and_then_back(
    client: KubernetesClient, api: FakeKubeApi
):
    version = Reply(body={"gitVersion": "v1.36.3", "major": "1", "minor": "36"})
    api.on("GET", "/version", version)
    client.version()
    port = api.port
    api.stop()
    with pytest.raises(errors.Unreachable):
        client.version()
    with FakeKubeApi(port=port) as again:
        again.on("GET", "/version", version)
        assert client.version().minor == 36


def test_a_wrong_ca_sends_no_request():
    with (
        FakeKubeApi(certificate="other_ca") as api,
        KubernetesClient(api.connection(), cluster_name="prod-1") as client,
        pytest.raises(errors.CertificateProblem, match="was not signed by the given CA"),
    ):
        client.version()
    assert api.requests == []


def test_a_client_certificate_that_the_server_refuses_is_named():
    with (
        FakeKubeApi(require_client_certificate=True) as api,
        KubernetesClient(api.connection(), cluster_name="prod-1") as client,
        pytest.raises(errors.CertificateProblem, match="does not accept our client certificate"),
    ):
        client.version()


def test_proxies_of_the_environment_are_not_used(api: FakeKubeApi, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    api.on("GET", "/version", Reply(body={"gitVersion": "v1", "major": "1", "minor": "1"}))
    with KubernetesClient(api.connection(), cluster_name="prod-1") as client:
        assert client.version().major == 1


# --- many at once ---------------------------------------------------------------------------------


def test_a_hanging_call_does_not_delay_calls_of_other_threads(
    api: FakeKubeApi, client: KubernetesClient
):
    api.on("GET", "/api/v1/nodes", Hang())
    api.on("GET", "/version", Reply(body={"gitVersion": "v1", "major": "1", "minor": "1"}))
    failed: list[errors.Unreachable] = []

    def hang() -> None:
        try:
            client.list_nodes()
        except errors.Unreachable as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    api.wait_for("GET", "/api/v1/nodes")
    assert client.version().major == 1
    assert failed == []
    api.drop_connections()
    thread.join(10)
    assert len(failed) == 1
