"""What an upgrade asks a cluster: deprecated APIs in use, APIs that are served, images."""

import pytest

from clusters.drivers import errors
from clusters.drivers.kubernetes import KubernetesClient
from clusters.drivers.upgrading import DeprecatedUse, parse_deprecated_uses
from tests.fakes.kube_api import FakeKubeApi, Reply, status_reply

METRICS = """\
# HELP apiserver_requested_deprecated_apis [STABLE] Gauge of deprecated APIs
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="policy",removed_release="1.36",resource="budgets",subresource="status",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="",removed_release="",resource="endpoints",subresource="",version="v1"} 1
apiserver_requested_deprecated_apis{group="old",removed_release="1.37",resource="things",subresource="",version="v1"} 0
apiserver_request_total{group="policy",version="v1"} 12
"""  # noqa: E501 - as the API server writes it
PROXY = "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy"


@pytest.fixture
def api():
    with FakeKubeApi() as server:
        yield server


@pytest.fixture
def upgrading(api):
    with KubernetesClient(api.connection(), cluster_name="fake", timeout=5) as client:
        yield client.upgrading


def test_what_was_asked_for_is_read_from_the_metrics(api, upgrading):
    api.on("GET", "/metrics", Reply(body=METRICS))
    assert upgrading.deprecated_uses() == [
        DeprecatedUse("policy/v1beta1", "budgets/status", (1, 36)),
        DeprecatedUse("v1", "endpoints", (0, 0)),
    ]


def test_a_release_is_told_as_people_write_it():
    assert DeprecatedUse("v1", "x", (1, 36)).release == "1.36"
    assert DeprecatedUse("v1", "x", (0, 0)).release == ""


def test_what_is_no_metric_is_no_use():
    assert parse_deprecated_uses("apiserver_requested_deprecated_apis{} 1\nnonsense {") != []
    assert parse_deprecated_uses("nonsense {\n\n") == []


def test_without_the_right_to_metrics_nothing_is_known(api, upgrading):
    api.on("GET", "/metrics", status_reply(403, "no"))
    with pytest.raises(errors.Forbidden, match="read the metrics of the API server"):
        upgrading.deprecated_uses()


def test_an_api_is_served_or_not(api, upgrading):
    api.on("GET", "/apis/storage.k8s.io/v1beta1", Reply({"kind": "APIResourceList"}))
    assert upgrading.serves("storage.k8s.io/v1beta1")
    assert not upgrading.serves("networking.k8s.io/v1beta1")


def test_the_images_of_a_daemon_set(api, upgrading):
    spec = {"template": {"spec": {"containers": [{"image": "registry/kube-proxy:v1.36.3"}]}}}
    api.on("GET", PROXY, Reply({"metadata": {"name": "kube-proxy"}, "spec": spec}))
    assert upgrading.daemon_set_images("kube-system", "kube-proxy") == (
        "registry/kube-proxy:v1.36.3",
    )


def test_a_daemon_set_that_is_not_there(api, upgrading):
    api.on("GET", PROXY, status_reply(404, "no"))
    with pytest.raises(errors.NotFound):
        upgrading.daemon_set_images("kube-system", "kube-proxy")
