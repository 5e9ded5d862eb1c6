"""Bad days of what was asked for, on real hosts: a machine that two want, or that is another
cluster's, the last control plane, a credential that ends in the meantime, an approval that is
withdrawn, a requester who is removed and a template that is written anew."""

import json

import pytest

from lab.client import PortalError
from tests.operations.lab.deciding import asking, say_yes
from tests.operations.lab.leaving import cell, retry
from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab


@pytest.fixture
def machine(portal, deliver):
    (host,) = deliver(1)
    (key,) = portal.register(host)
    return host, key


@pytest.fixture
def freeze(portal):
    """``freeze()`` until ``freeze.end()``: no change of the cluster begins."""
    ended = []

    class Freeze:
        def __call__(self):
            wish = {"cluster": portal.cluster["id"], "reason": "quarter end"}
            ended.append(portal.api.post("freezes/", wish)["id"])

        def end(self):
            portal.api.request("DELETE", f"freezes/{ended.pop()}/")

    made = Freeze()
    yield made
    if ended:
        made.end()


def is_as_delivered(host):
    return host.run("ls -A /usr/local/bin; ls -A /etc/kubernetes 2>/dev/null || true") == ""


def state(portal, key):
    return portal.api.get(f"machines/{key}/")["state"]


def test_a_machine_is_in_one_operation_at_a_time_and_the_second_is_told_which(
    portal, machine, freeze
):
    host, key = machine
    freeze()
    first = portal.start_operation("ScaleUp", [key])
    name = portal.api.get(f"operations/{first}/")["name"]
    with pytest.raises(PortalError) as refused:
        portal.start_operation("ScaleUp", [key])
    assert refused.value.status == 400
    assert name in str(refused.value)
    portal.api.post(f"operations/{first}/cancel/", {"reason": "not today"})
    assert portal.api.wait_for(first, seconds=60)["status"] == "canceled"
    assert state(portal, key) == "available"
    assert is_as_delivered(host)


def newest_operation(portal, key):
    """The operation of the task's step, once it is there."""
    return portal.api.get(f"operations/?machine={key}&ordering=-id")["results"][:1]


def test_a_task_is_done_as_it_was_approved_or_asks_again_whatever_happens_meanwhile(
    portal, lab_cluster, machine, freeze, approver, signed_in
):
    """Written anew, withdrawn while its operation waits, its requester removed: the host is not
    touched, and in the end it is done with the steps that it was begun with."""
    host, key = machine
    requester = signed_in("leaving")
    steps = [
        {"key": "ask", "step": "WorkOrder"},
        {"key": "join", "step": "ScaleUp", "needs": ["ask"]},
        {"key": "open", "step": "UncordonNodes", "needs": ["join"]},
    ]
    wish = {"name": "lab-join", "content": {"title": "Join", "steps": steps}}
    portal.api.post("task-templates/", wish)
    wish = {"template": "lab-join", "cluster": portal.cluster["id"], "machines": [key]}
    task = requester.post("auto-operation-tasks/", wish)["id"]

    def row():
        return portal.api.get(f"auto-operation-tasks/{task}/")

    order = wait_until(lambda: asking(portal, task), "the question")
    shorter = {"base": 1, "content": {"title": "Join", "steps": steps[:2]}}
    portal.api.post("task-templates/lab-join/versions/", shorter)

    freeze()
    say_yes(portal, approver, task, order)
    waiting = wait_until(lambda: newest_operation(portal, key), "the operation in the queue")[0]
    assert waiting["status"] == "waiting"
    withdrawn = {"order": order["id"], "reason": "alarm in the rack"}
    approver.post(f"auto-operation-tasks/{task}/withdraw/", withdrawn)
    order = wait_until(lambda: asking(portal, task), "the question to be asked again")
    freeze.end()
    taken_out = portal.api.wait_for(waiting["id"], seconds=60)
    assert taken_out["status"] == "canceled"
    assert (state(portal, key), is_as_delivered(host)) == ("available", True)

    (leaving,) = portal.api.get("users/?search=leaving")["results"]
    portal.api.request("DELETE", f"users/{leaving['id']}/")
    approver.post(
        f"auto-operation-tasks/{task}/approve/", {"order": order["id"], "digest": order["digest"]}
    )
    wait_until(lambda: row()["status"] == "failed", "the task to stop")
    assert "has no account any more" in row()["message"]
    assert (state(portal, key), is_as_delivered(host)) == ("available", True)

    portal.api.post(f"auto-operation-tasks/{task}/retry/", {"reason": "I carry it on"})
    wait_until(lambda: row()["status"] != "failed", "the retry")
    order = wait_until(lambda: asking(portal, task), "the question about who carries it on")
    assert any("admin" in change for change in order["changes"])
    say_yes(portal, approver, task, order)
    wait_until(lambda: row()["status"] in ("succeeded", "failed", "partial"), "the end", 400)
    assert row()["status"] == "succeeded", row()
    assert [step["key"] for step in row()["steps"]] == ["ask", "join", "open"]
    node = json.loads(lab_cluster.kubectl(["get", "node", host.name, "-o", "json"]))
    assert not node["spec"].get("unschedulable")
    assert state(portal, key) == "in_service"


# --- what must not be touched ---------------------------------------------------------------------


def registered(portal, cluster, name):
    """The machine of a node of the lab's own, in service."""
    rows = f"nodes/?cluster={cluster}&name={name}"
    wait_until(lambda: portal.api.get(rows)["results"], f"the collector to see {name}")
    wish = {"cluster": cluster, "nodes": [name], "credential": portal.credential["id"]}
    found = portal.api.post("machines/register/", wish)
    key = (found["created"] + found["linked"])[0]
    portal.api.post("machines/gather-facts/", {"machines": [key]})
    wait_until(lambda: portal.api.get(f"machines/{key}/")["host_key"], "its host key to be pinned")
    return key


@pytest.fixture
def foreign(portal, shared_lab):
    """A cluster of somebody else: its control plane, its kubeconfig; unknown to the portal."""
    cluster = shared_lab.cluster("foreign", control_planes=1, workers=0)
    yield cluster
    for host in cluster.nodes:
        host.destroy()


def test_a_machine_of_another_cluster_is_refused_by_the_host_and_once_known_by_the_plan(
    portal, foreign
):
    (host,) = foreign.nodes
    (key,) = portal.register(host)
    row = portal.api.wait_for(portal.start_operation("ScaleUp", [key]), seconds=120)
    assert row["status"] == "failed", row
    said = cell(row, "preCheck")
    assert "/etc/kubernetes" in str(said["checks"]), said
    assert state(portal, key) == "available"

    other = portal.api.post("clusters/", {"name": foreign.name, "kubeconfig": foreign.kubeconfig})[
        "cluster"
    ]["id"]
    assert registered(portal, other, host.name) == key
    with pytest.raises(PortalError) as caught:
        portal.start_operation("ScaleUp", [key])
    assert caught.value.status == 400
    assert "it is In service; must be Available" in str(caught.value)
    assert foreign.ready_nodes() == [host.name]
    portal.api.request("DELETE", f"clusters/{other}/?confirm={foreign.name}&reason=seen")
    portal.api.request("DELETE", f"machines/{key}/")


def test_the_last_control_plane_is_not_taken_out(portal, lab_cluster):
    host = lab_cluster.nodes[0]
    key = registered(portal, portal.cluster["id"], host.name)
    with pytest.raises(PortalError) as caught:
        portal.start_operation("RemoveControlPlane", [key])
    assert caught.value.status == 400
    said = "it is the last control plane; DeleteCluster takes a whole cluster down"
    assert said in str(caught.value)
    assert host.name in lab_cluster.ready_nodes()
    assert state(portal, key) == "in_service"
    portal.api.request("DELETE", f"machines/{key}/")


# --- credentials that end between two steps -------------------------------------------------------


@pytest.fixture
def between(portal, machine):
    """A ScaleUp that has passed its preCheck and is paused; ``go_on()`` lets it run to its end."""
    _host, key = machine
    operation = portal.start_operation("ScaleUp", [key])
    portal.wait_until_begun(operation, "preCheck")
    portal.api.post(f"operations/{operation}/pause/", {"reason": "a word with the owner"})

    def step():
        return cell(portal.api.get(f"operations/{operation}/"), "preCheck")["status"]

    wait_until(lambda: step() == "succeeded", "preCheck to pass", 120)

    def go_on():
        portal.api.post(f"operations/{operation}/resume/")
        return portal.api.wait_for(operation, seconds=300)

    return operation, go_on


def refused(portal):
    """An API server knows an account for a while after it was deleted."""
    try:
        portal.api.post(f"clusters/{portal.cluster['id']}/capabilities/refresh/")
    except PortalError as error:
        return "HTTP 401" in str(error)
    return False


def done_again(portal, operation):
    retry(portal, operation)
    row = portal.api.wait_for(operation, seconds=400)
    assert row["status"] == "succeeded", row
    return row


def test_a_credential_of_the_cluster_that_ends_before_the_join_is_named_and_can_be_renewed(
    portal, lab_cluster, machine, borrowed, between
):
    host, key = machine
    operation, go_on = between
    borrowed.end()
    wait_until(lambda: refused(portal), "the API server to forget the credential", 60)
    row = go_on()
    assert row["status"] == "failed", row
    said = cell(row, "scaleUp")["message"]
    assert "the credential was not accepted (HTTP 401)" in said
    assert "Replace the credential." in said
    assert is_as_delivered(host)
    borrowed.put_back()
    done_again(portal, operation)
    assert state(portal, key) == "in_service"
    assert host.name in lab_cluster.ready_nodes()


def test_an_ssh_credential_that_ends_before_the_join_is_named_and_can_be_let_in_again(
    portal, lab_cluster, machine, between
):
    host, key = machine
    operation, go_on = between
    host.run("mv /root/.ssh/authorized_keys /root/.ssh/taken-away")
    row = go_on()
    assert row["status"] == "failed", row
    (bad,) = [each for each in cell(row, "scaleUp")["checks"] if not each["ok"]]
    assert bad["check"] == "sign-in", bad
    assert bad["advice"] == "correct the SSH credential, or let its user in on the host"
    assert is_as_delivered(host)
    host.run("mv /root/.ssh/taken-away /root/.ssh/authorized_keys")
    done_again(portal, operation)
    assert state(portal, key) == "in_service"
    assert host.name in lab_cluster.ready_nodes()
