"""Bad days of what was asked for, on real hosts: a machine that two want, an approval that is
withdrawn, a requester who is removed and a template that is written anew in the meantime."""

import json

import pytest

from lab.client import PortalError
from tests.operations.lab.deciding import asking, say_yes
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
