"""ScaleUp on bad days, for real: what a machine installs from is wrong or gone, its disk is full,
it is started anew in the middle, and the portal's credential ends between two looks."""

import base64
import concurrent.futures
import functools
import http.server
import json
import threading
from pathlib import Path

import pytest

from lab.fileserver import FileServer
from tests.operations.lab.leaving import cell
from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab
FIRST, LATER = "kubelet", "images.tar"
"""What a machine fetches at once, and what when it is in the middle."""


class Source(FileServer):
    """The lab's artifacts as they are, unless a test has something else happen to one that is asked
    for: ``hooks`` are called once, ``spoiled`` has another last byte, ``gone`` breaks off."""

    def __init__(self, address, folder):
        super().__init__((address, 0), functools.partial(Handler, directory=folder))
        self.hooks = {}
        self.spoiled = set()
        self.gone = set()
        self.url = f"http://{address}:{self.server_port}"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Source

    def do_GET(self):
        name = Path(self.path).name
        if hook := self.server.hooks.pop(name, None):
            hook()
        if name in self.server.gone:
            self.close_connection = True
        elif name in self.server.spoiled:
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:-1] + bytes([content[-1] ^ 1]))
        else:
            super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def source(portal, shared_lab):
    """From where the portal's cluster installs during the test."""
    settings = f"operation-settings/{portal.cluster['id']}/"
    before = portal.api.get(settings)["artifact_source"]
    server = Source(shared_lab.gateway, str(shared_lab.artifacts().root))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    portal.api.patch(settings, {"artifact_source": server.url})
    yield server
    portal.api.patch(settings, {"artifact_source": before})
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def machine(portal, deliver):
    (host,) = deliver(1)
    (key,) = portal.register(host)
    return host, key


def ends(portal, operation, status, seconds=300):
    row = portal.api.wait_for(operation, seconds=seconds)
    assert row["status"] == status, row
    return row


def goes_on(portal, operation, reason):
    portal.api.post(f"operations/{operation}/retry/", {"reason": reason})
    wait_until(
        lambda: portal.api.get(f"operations/{operation}/")["status"] != "failed", "the retry"
    )
    return ends(portal, operation, "succeeded", 400)


def state(portal, key):
    return portal.api.get(f"machines/{key}/")["state"]


def is_schedulable(lab_cluster, host):
    node = json.loads(lab_cluster.kubectl(["get", "node", host.name, "-o", "json"]))
    return not node["spec"].get("unschedulable")


def test_a_program_with_another_checksum_is_not_installed(portal, lab_cluster, source, machine):
    host, key = machine
    source.spoiled.add(FIRST)
    operation = portal.start_operation("ScaleUp", [key])
    row = ends(portal, operation, "failed")
    said = cell(row, "scaleUp")["message"]
    assert f"{source.url}/" in said
    assert "has the checksum" in said
    assert "it is not installed" in said
    assert "kubelet" not in host.run("ls -A /usr/local/bin")
    assert state(portal, key) == "faulty"
    source.spoiled.clear()
    goes_on(portal, operation, "the file is whole again")
    assert is_schedulable(lab_cluster, host)


def test_a_source_that_goes_away_in_the_middle_is_named(portal, lab_cluster, source, machine):
    host, key = machine
    source.gone.add(LATER)
    operation = portal.start_operation("ScaleUp", [key])
    row = ends(portal, operation, "failed")
    said = cell(row, "scaleUp")["message"]
    assert f"{source.url}/" in said
    assert f"{LATER} cannot be fetched" in said
    source.gone.clear()
    goes_on(portal, operation, "the source is back")
    assert is_schedulable(lab_cluster, host)


def test_a_disk_that_fills_up_in_the_middle_is_named_with_its_folder(
    portal, lab_cluster, source, machine
):
    host, key = machine
    folder = "/var/lib/beidou/images"

    def fill():
        host.run(f"mkdir -p {folder} && mount -t tmpfs -o size=1m tmpfs {folder}")

    source.hooks[LATER] = fill
    operation = portal.start_operation("ScaleUp", [key])
    row = ends(portal, operation, "failed")
    said = cell(row, "scaleUp")["message"]
    assert f"The disk of {folder} is full: {LATER} does not fit" in said
    host.run(f"umount {folder}")
    goes_on(portal, operation, "made room")
    assert is_schedulable(lab_cluster, host)


def test_a_disk_that_is_full_in_the_middle_of_the_join_is_named_too(
    portal, lab_cluster, source, machine
):
    host, key = machine
    folder = "/var/lib/kubelet"
    source.hooks[LATER] = lambda: host.run(f"mount -t tmpfs -o size=4k,nr_inodes=2 tmpfs {folder}")
    operation = portal.start_operation("ScaleUp", [key])
    row = ends(portal, operation, "failed")
    assert "no space left on device" in cell(row, "scaleUp")["message"].lower()
    host.run(f"umount {folder}")
    goes_on(portal, operation, "made room")
    assert is_schedulable(lab_cluster, host)


# When kubeadm has the cluster's authority and asks for the node's certificate.
UNTIL_IT_JOINS = (
    "until systemctl is-active -q 'beidou-*-join.service' && [ -e /etc/kubernetes/pki/ca.crt ];"
    " do sleep .02; done"
)


def test_a_host_that_loses_its_power_in_the_middle_of_the_join_joins_all_the_same(
    portal, lab_cluster, source, machine
):
    """Ansible looks for it again for half a minute; one that needs longer is named and retried."""
    host, key = machine

    def pull_the_plug():
        host.run(UNTIL_IT_JOINS)
        host.kill()
        host.start()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pulling = pool.submit(pull_the_plug)
        operation = portal.start_operation("ScaleUp", [key])
        pulling.result(300)
    row = portal.api.wait_for(operation, seconds=600)
    if row["status"] == "failed":
        said = cell(row, "scaleUp")["message"]
        assert host.address in said or "restart" in said, said
        goes_on(portal, operation, "it is up again")
    else:
        assert row["status"] == "succeeded", row
    assert is_schedulable(lab_cluster, host)
    assert state(portal, key) == "in_service"


def join_tokens(lab_cluster):
    """What the bootstrap tokens of the cluster say of themselves."""
    secrets = json.loads(lab_cluster.kubectl("get secrets -n kube-system -o json"))["items"]
    return [
        base64.b64decode(secret["data"].get("description", "")).decode()
        for secret in secrets
        if secret["type"] == "bootstrap.kubernetes.io/token"
    ]


def test_a_credential_that_ends_in_the_middle_is_named_and_no_token_outlives_it(
    portal, lab_cluster, source, machine, borrowed
):
    host, key = machine
    source.hooks[LATER] = borrowed.end
    operation = portal.start_operation("ScaleUp", [key])
    row = ends(portal, operation, "failed", 400)
    said = cell(row, "scaleUp")["message"]
    assert "credential" in said
    borrowed.put_back()
    goes_on(portal, operation, "the credential is renewed")
    assert is_schedulable(lab_cluster, host)
    assert not [text for text in join_tokens(lab_cluster) if f" {row['name']}," in text]
