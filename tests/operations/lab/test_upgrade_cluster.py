"""UpgradeCluster on a real cluster: a workload behind a Service that loses no request meanwhile."""

import json
import signal

import pytest

from lab import site
from lab.versions import release
from lab.workloads import web_deployment
from tests.operations.lab.leaving import budget
from tests.operations.lab.portal import Portal, wait_until

pytestmark = pytest.mark.lab
OLD, NEW = release("1.35").version, release("1.36").version
SECONDS = 1800
ASK = """\
while :; do
    if curl --silent --fail --max-time 3 --output /dev/null http://{address}/; then echo ok; else echo lost; fi
    sleep 0.1
done >> /run/requests
"""  # noqa: E501 - one line of shell


@pytest.fixture(scope="module")
def cluster(shared_lab):
    made = shared_lab.cluster("upgraded", control_planes=1, workers=2, version="1.35")
    yield made
    for host in made.nodes:
        host.destroy()


@pytest.fixture(scope="module")
def portal(tmp_path_factory, shared_lab, cluster):
    with Portal(tmp_path_factory.mktemp("upgrading")) as portal:
        portal.adopt(
            name=cluster.name, kubeconfig=cluster.kubeconfig, ssh_key=shared_lab.ssh_key,
            artifact_source=shared_lab.artifacts("1.36").url, policy=site.POLICY,
            overrides=site.OVERRIDES,
        )  # fmt: skip
        yield portal


@pytest.fixture(scope="module")
def machines(portal, cluster):
    """The nodes as machines of the portal, in service."""
    names = [host.name for host in cluster.nodes]

    def seen():
        rows = portal.api.get(f"nodes/?cluster={portal.cluster['id']}")["results"]
        return len(rows) == len(names)

    wait_until(seen, "the collector to see the nodes", 60)
    wish = {
        "cluster": portal.cluster["id"], "nodes": names, "credential": portal.credential["id"],
    }  # fmt: skip
    found = portal.api.post("machines/register/", wish)
    keys = [*found["created"], *found["linked"]]
    portal.api.post("machines/gather-facts/", {"machines": keys})

    def pinned():
        return all(portal.api.get(f"machines/{key}/")["host_key"] for key in keys)

    wait_until(pinned, "the host keys to be pinned", 60)
    return keys


@pytest.fixture
def requests(cluster):
    """A workload with two copies and a budget behind a Service, asked all the time from a node;
    ``requests()`` is how often it answered and how often not."""
    manifest = web_deployment("shop", replicas=2)
    # Its program goes on until it is killed, as one that ends in an orderly way does.
    cluster.apply(manifest.replace("PeriodSeconds: 1\n", "PeriodSeconds: 8\n", 1))
    cluster.apply(budget("shop", minAvailable=1))
    cluster.kubectl(["rollout", "status", "deployment/shop", "--timeout=90s"])
    service = json.loads(cluster.kubectl(["get", "service", "shop", "-o", "json"]))
    asking = cluster.nodes[0]
    asking.write("/run/ask.sh", ASK.format(address=service["spec"]["clusterIP"]))
    asking.run("systemd-run --unit=asking sh /run/ask.sh")
    wait_until(lambda: "ok" in asking.run("cat /run/requests || true"), "the Service", 60)
    asking.run(": > /run/requests")

    def count():
        lines = asking.run("cat /run/requests").split()
        return lines.count("ok"), lines.count("lost")

    yield count
    asking.run("systemctl stop asking")


def begun(host, unit):
    """How often a unit of the portal was begun on the host, by its own journal."""
    return int(host.run(f"journalctl --no-pager -q | grep -c 'Started beidou-.*-{unit}' || true"))


def nodes_of(cluster):
    return json.loads(cluster.kubectl(["get", "nodes", "-o", "json"]))["items"]


def cells(row, step):
    return {
        machine["hostname"]: cell
        for machine in row["machines"]
        for cell in machine["steps"]
        if cell["step"] == step
    }


def told(row):
    """What went wrong, in short."""
    return [row["message"]] + [
        (machine["hostname"], cell["step"], cell["status"], cell["message"])
        for machine in row["machines"]
        for cell in machine["steps"]
        if cell["status"] not in ("succeeded", "waiting")
    ]


def test_a_cluster_is_upgraded_without_a_lost_request_and_with_a_killed_worker(
    portal, cluster, machines, requests
):
    control, *workers = cluster.nodes
    params = {"kubernetes_version": NEW, "allow_single_copy": True}
    operation = portal.start_operation("UpgradeCluster", [], params=params)
    portal.wait_until_begun(operation, "controlPlanes", SECONDS)
    wait_until(lambda: begun(control, "upgrade") == 1, "kubeadm upgrade to begin", 300)
    killed = portal.program("work")
    killed.send_signal(signal.SIGKILL)
    portal.wait_for_program("work", other_than=killed.pid)
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)

    # What was under way went on without its worker, and was not begun again.
    assert begun(control, "upgrade") == 1
    wait_until(lambda: portal.marked() == [], "the processes to be gone", 10)

    nodes = nodes_of(cluster)
    assert {node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes} == {NEW}
    assert [node["metadata"]["name"] for node in nodes if node["spec"].get("unschedulable")] == []
    assert all("beidou.io/upgrading" not in node["metadata"]["labels"] for node in nodes)
    answered, lost = requests()
    assert lost == 0
    assert answered > 200

    # One wave after the other, the control plane first.
    ends = cells(row, "workers")
    first, second = sorted(
        (ends[worker.name] for worker in workers), key=lambda c: c["finished_at"]
    )
    assert first["finished_at"] <= second["started_at"]
    assert cells(row, "controlPlanes")[control.name]["finished_at"] <= first["started_at"]

    taken = cells(row, "snapshot")[control.name]["evidence"]
    sums = control.run(f"sha256sum {taken['path']}").split()[0]
    assert sums == taken["sha256"]
    assert taken["total_keys"] > 100
    assert control.run(f"stat -c %a {taken['path']}").strip() == "600"
    assert control.run("ls -A /var/lib/beidou/upgrade 2>/dev/null || true") == ""


def served_end(host):
    """When the certificate ends that the API server shows."""
    command = "openssl s_client -connect 127.0.0.1:6443 </dev/null 2>/dev/null"
    return host.run(f"{command} | openssl x509 -noout -enddate").strip()


def programs(host):
    """Process ids of the control plane's parts."""
    names = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return {name: host.run(f"pgrep -x {name[:15]}").split() for name in names}


def test_certificates_are_renewed_and_what_works_with_them_is_restarted(
    portal, cluster, machines, requests
):
    control, *workers = cluster.nodes
    before, began = served_end(control), programs(control)
    operation = portal.start_operation("RenewCertificates", [])
    row = portal.api.wait_for(operation, seconds=SECONDS)
    assert row["status"] == "succeeded", told(row)
    assert served_end(control) != before
    ended = programs(control)
    assert {name for name in began if set(began[name]) & set(ended[name])} == set()
    rows = cells(row, "renew")[control.name]["evidence"]["certificates"]
    assert {"apiserver", "etcd-peer", "admin.conf"} <= {each["name"] for each in rows}
    assert all(each["after"] > each["before"] for each in rows)
    checks = {each["check"]: each for each in cells(row, "postCheck")[workers[0].name]["checks"]}
    assert checks["kubelet-client"]["found"].startswith("renews itself")
    assert begun(control, "renew") == 1
    assert requests()[1] == 0
