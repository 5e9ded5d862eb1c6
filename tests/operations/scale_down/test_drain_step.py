"""What the step does around the drain itself: proof, additional copies, a cluster that is away."""

from typing import Any

import pytest

from beidou.base.errors import PermanentError, TemporaryError
from clusters.drivers.errors import Forbidden, NotFound
from clusters.services.connections import client_for
from operations.kinds import patience
from operations.kinds.base import Stopped
from operations.kinds.draining.leaving import Leaving
from operations.kinds.draining.raising import RAISED_BY, REPLICAS_BEFORE
from operations.kinds.names import name_of
from operations.kinds.scale_down import drain
from tests.operations.draining.running import Run
from tests.operations.scale_down.looking import cell_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0)


# --- the proof ------------------------------------------------------------------------------------


@pytest.fixture
def why(cluster, kube):
    def look(**values):
        with client_for(cluster, timeout=5) as client:
            target: Any = "n1"
            return drain._why_not_empty(client, Leaving(target, "n1", **values))

    kube.nodes["n1"]["spec"]["unschedulable"] = True
    return look


def test_a_cordoned_node_with_what_stays_on_it_is_empty(kube, why):
    kube.add_pod("proxy", "n1", owner={"kind": "DaemonSet", "name": "proxy", "controller": True})
    assert why() == ""


def test_a_node_that_somebody_opened_is_not_done(kube, why):
    kube.nodes["n1"]["spec"]["unschedulable"] = False
    assert "uncordoned" in why()


def test_pods_that_came_after_it_was_empty_are_named(kube, why):
    kube.deploy("late", on=["n1"])
    assert "Pods came to node n1 after it was empty: shop/late-1" in why()


def test_what_a_dead_node_keeps_is_no_failure(kube, why):
    kube.deploy("web", on=["n1"])
    assert why(evidence={"left_behind": ["shop/web-1"]}) == ""


# --- additional copies ----------------------------------------------------------------------------


def test_a_copy_that_an_earlier_attempt_added_goes_even_if_no_more_are_to_be_added(
    kube, scale_down, machine, work
):
    kube.deploy("web", on=["n2", "n2", "n2"])
    operation = scale_down(machine)
    kube.workloads["Deployment", "web"]["metadata"]["annotations"] = {
        RAISED_BY: name_of(operation), REPLICAS_BEFORE: "2",
    }  # fmt: skip
    work(limit=3)
    assert cell_of(operation, "drain").status == "succeeded"
    assert kube.replicas("web") == 2


def test_a_cluster_that_is_away_when_copies_are_taken_back_costs_time_only(
    kube, scale_down, machine, work
):
    kube.deploy("web", on=["n1", "n2"])
    kube.budget("web", minAvailable=2)
    operation = scale_down(machine, raise_owner=True)
    work(limit=2)
    original, seen = kube.answer, []

    def flaky(request):
        if request.method == "PATCH" and "deployments" in request.path:
            seen.append(request)
            kube.down = len(seen) == 2  # the first raised it
        answered = original(request)
        kube.down = False
        return answered

    kube.answer = flaky
    work(limit=1)
    assert cell_of(operation, "drain").status == "succeeded"
    assert len(seen) == 3
    assert kube.replicas("web") == 2


# --- patience -------------------------------------------------------------------------------------


def any_run() -> Any:
    return Run()


def failing(*errors):
    left = list(errors)

    def call():
        if left:
            raise left.pop(0)
        return "there"

    return call


def test_what_is_away_for_a_moment_is_asked_again_and_said_once():
    run: Any = Run()
    call = failing(TemporaryError("No answer."), TemporaryError("No answer."))
    assert patience.patiently(run, call) == "there"
    assert run.lines == ["No answer. It is tried again."]


def test_a_refusal_of_an_api_server_that_has_just_begun_is_not_believed_yet():
    assert patience.patiently(any_run(), failing(Forbidden("may not"))) == "there"


def test_a_refusal_that_lasts_is_believed(monkeypatch):
    monkeypatch.setattr(patience, "BELIEVE_SECONDS", -1)
    with pytest.raises(Forbidden, match="may not"):
        patience.patiently(any_run(), failing(Forbidden("may not")))


def test_what_stays_away_is_an_error(monkeypatch):
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", -1)
    with pytest.raises(TemporaryError, match="No answer"):
        patience.patiently(any_run(), failing(TemporaryError("No answer.")))


@pytest.mark.parametrize("error", [PermanentError("no"), NotFound("gone")])
def test_an_answer_is_not_asked_for_again(error):
    with pytest.raises(type(error)):
        patience.patiently(any_run(), failing(error))


def test_a_cancel_ends_the_waiting():
    run: Any = Run()
    run.is_stopped = True
    with pytest.raises(Stopped):
        patience.patiently(run, failing(TemporaryError("No answer.")))


def test_a_refusal_after_a_long_absence_is_believed_only_when_it_lasts(monkeypatch):
    """An API server that was away for minutes has not read its roles when it is back."""
    clock = iter(range(0, 10**6, 20))
    monkeypatch.setattr(patience.time, "monotonic", lambda: float(next(clock)))
    answers = iter([TemporaryError("away"), TemporaryError("away"), Forbidden("no"), "here"])

    def ask():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    run: Any = Run()
    assert patience.patiently(run, ask) == "here"
