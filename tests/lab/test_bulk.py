"""The objects of fake clusters, and what etcd says to a refused transaction."""

import http.server
import threading

import pytest

from lab import bulk
from lab.errors import LabError


def test_nodes_are_ready_and_of_the_cluster_s_version():
    status = bulk.node(7, version="v1.36.3")["status"]
    assert isinstance(status, dict)
    ready = [one for one in status["conditions"] if one["type"] == "Ready"]
    assert [one["status"] for one in ready] == ["True"]
    assert status["nodeInfo"]["kubeletVersion"] == "v1.36.3"


def test_thousands_of_nodes_have_names_and_addresses_of_their_own():
    nodes = [bulk.node(number, version="v1.36.3") for number in range(5000)]
    statuses = [node["status"] for node in nodes]
    addresses = {status["addresses"][0]["address"] for status in statuses}  # type: ignore[index]
    assert len(addresses) == 5000
    assert len({node["metadata"]["name"] for node in nodes}) == 5000  # type: ignore[index]


def test_pods_are_spread_over_the_nodes():
    hosts = {bulk.pod(number, nodes=3)["spec"]["nodeName"] for number in range(9)}  # type: ignore[index]
    assert hosts == {"node-00000", "node-00001", "node-00002"}


def test_an_object_keeps_its_uid():
    assert bulk.node(1, version="a")["metadata"] == bulk.node(1, version="b")["metadata"]


def test_pods_without_nodes_are_refused():
    with pytest.raises(LabError, match="at least one node"):
        bulk.write_objects("http://127.0.0.1:1", nodes=0, pods=5, version="v1.36.3")


class _Refusing(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(400, "too large")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_refused_transaction_is_an_error():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(LabError, match=r"etcd refused 20 objects \(400\)"):
            bulk.write_objects(url, nodes=1, pods=0, version="v1.36.3")
        server.shutdown()
