"""A round of test pods on nodes that are as well or ill as each test says."""

import subprocess

import pytest

from beidou.base.errors import ExternalError
from clusters.drivers.kubernetes import KubernetesClient
from operations.kinds.base import Stopped
from operations.kinds.health import pairs, pods
from operations.kinds.probe import Probe
from tests.fakes.checked_cluster import CheckedCluster

NAMES = ("n1", "n2", "n3", "n4")


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    monkeypatch.setattr(pods, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(pods, "GONE_SECONDS", 0.2)


@pytest.fixture
def api():
    with CheckedCluster(*NAMES) as api:
        yield api


@pytest.fixture
def round_of(api):
    """Run one round; ``wait_seconds`` is what dead nodes cost the whole of it."""
    with KubernetesClient(api.connection(), cluster_name="c", timeout=5) as client:

        def run(*names, attempt=1, wait_seconds=20, stop=lambda: None, **values):
            probe = Probe("kube-system", "probe:1", "kubernetes.default.svc", wait_seconds)
            made = pods.PodRound(
                client, probe, prefix="beidou-x-1-1", attempt=attempt, stop_if_asked=stop, **values
            )
            return made.run(pairs.peers_of(names or NAMES))

        yield run


def test_well_nodes_start_reach_and_let_go(round_of, api):
    answers = round_of()
    assert set(answers) == set(NAMES)
    for name, answer in answers.items():
        assert answer.address.startswith("10.244.")
        assert answer.reached == {other: True for other in NAMES if other != name}
        assert (answer.service, answer.dns, answer.is_gone) == (True, True, True)
        assert answer.trouble == answer.ask_trouble == answer.pull_trouble == ""
        assert answer.pull_seconds is None
    assert api.pods == {}


def test_each_node_costs_two_pods_and_one_request_looks_at_all(round_of, api):
    round_of()
    assert len(api.made) == 2 * len(NAMES)
    lists = api.asked("GET", "/api/v1/namespaces/kube-system/pods")
    assert len(lists) < 10


def test_pods_are_placed_on_any_node_and_may_do_nothing_else(round_of, api):
    round_of("n1")
    spec = api.made[0]["spec"]
    assert spec["nodeName"] == "n1"
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["runAsNonRoot"]


def test_one_alone_has_nobody_to_ask(round_of):
    (answer,) = round_of("n1").values()
    assert answer.reached == {}
    assert answer.dns


def test_a_node_that_is_cut_off_is_seen_from_both_sides(round_of, api):
    api.cut.add("n3")
    answers = round_of()
    assert not any(answers["n3"].reached.values())
    assert pairs.to_blame(pairs.failed({n: a.reached for n, a in answers.items()})) == {"n3"}


def test_a_node_that_starts_nothing_is_waited_for_and_asked_by_nobody(round_of, api):
    api.dead.add("n2")
    answers = round_of(wait_seconds=0.3)
    assert "not ready within 0.3 s: Pending" in answers["n2"].trouble
    assert answers["n2"].is_gone is None
    assert answers["n1"].reached == {"n3": True, "n4": True}
    assert api.pods == {}


def test_a_pod_that_may_not_be_made_says_why(round_of, api):
    api.refusing.add("n2")
    answers = round_of()
    assert "quota exceeded" in answers["n2"].trouble
    assert answers["n1"].reached == {"n3": True, "n4": True}


def test_a_pod_that_was_evicted_while_it_asked_is_no_word_about_the_network(round_of, api):
    api.asking_fails.add("n1")
    answer = round_of()["n1"]
    assert "low on resource" in answer.ask_trouble
    assert (answer.reached, answer.dns, answer.service) == ({}, None, None)


def test_names_and_services_are_told_apart(round_of, api):
    api.without_dns.add("n1")
    api.without_service.add("n2")
    answers = round_of()
    assert (answers["n1"].dns, answers["n1"].service) == (False, True)
    assert (answers["n2"].dns, answers["n2"].service) == (True, False)


def test_a_pod_that_does_not_go_is_told_and_deleted_by_force(round_of, api):
    api.clinging.add("n4")
    answers = round_of()
    assert (answers["n4"].is_gone, answers["n1"].is_gone) == (False, True)
    assert api.pods == {}


def test_an_image_is_pulled_anew_and_nothing_of_it_is_run(round_of, api):
    answer = round_of("n1", pull_image="registry.example/app:2")["n1"]
    assert answer.pull_trouble == ""
    assert answer.pull_seconds is not None
    (pulling,) = [p for p in api.made if p["spec"]["containers"][0]["imagePullPolicy"] == "Always"]
    (container,) = pulling["spec"]["containers"]
    assert container["image"] == "registry.example/app:2"
    assert container["command"] == ["/beidou-health-check-runs-nothing"]
    assert api.pods == {}


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_says_why(round_of, api, reason):
    api.pulls = reason
    answer = round_of("n1", pull_image="registry.example/app:2")["n1"]
    assert answer.pull_trouble == f"probe: {reason} (no such host)"
    assert answer.address


def test_a_pull_that_does_not_end_is_given_up(round_of, api):
    api.pulls = "ContainerCreating"
    answer = round_of("n1", pull_image="registry.example/app:2", wait_seconds=0.3)["n1"]
    assert "not ready within" in answer.pull_trouble


def test_a_moment_without_the_api_server_costs_nothing(round_of, api):
    hiccups = [3]

    def stop():
        if hiccups:
            api.hiccups = hiccups.pop()

    assert all(a.address and a.dns and a.is_gone for a in round_of(stop=stop).values())


def test_whoever_stops_it_leaves_nothing_behind(round_of, api):
    def stop():
        raise Stopped("canceled")

    with pytest.raises(Stopped):
        round_of(stop=stop)
    assert len(api.made) == len(NAMES)
    assert api.pods == {}


def test_pods_of_a_lost_attempt_are_taken_away_first(round_of, api):
    api.dead.update(NAMES)
    seen = []

    def die():
        seen.extend(api.pods)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        round_of(stop=die)
    left = {name: {**api.made[0], "metadata": {**api.made[0]["metadata"], "name": name},
                   "status": {"phase": "Pending"}} for name in seen}  # fmt: skip
    api.pods.update(left)
    api.dead.clear()
    assert all(a.address for a in round_of(attempt=2).values())
    assert api.pods == {}


def test_an_attempt_that_was_taken_over_leaves_the_pods_of_the_next_one_alone(round_of, api):
    other = {"metadata": {"name": "theirs", "labels": {
        pods.STEP_LABEL: "beidou-x-1-1", pods.ATTEMPT_LABEL: "2"}},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running"}}  # fmt: skip

    def lose():
        api.pods["theirs"] = other
        raise Stopped("lost")

    with pytest.raises(Stopped):
        round_of(attempt=1, stop=lose)
    assert list(api.pods) == ["theirs"]


def test_two_rounds_at_once_do_not_disturb_each_other(api):
    with KubernetesClient(api.connection(), cluster_name="c", timeout=5) as client:
        probe = Probe("kube-system", "probe:1", "x", 1)
        others = [pods.PodRound(client, probe, prefix="b-2-1", stop_if_asked=lambda: None)]
        rounds = []

        def second():
            if others:
                rounds.append(others.pop().run(pairs.peers_of(NAMES)))

        first = pods.PodRound(client, probe, prefix="b-1-1", stop_if_asked=second)
        rounds.append(first.run(pairs.peers_of(NAMES)))
    assert len(rounds) == 2
    for each in rounds:
        assert all(a.dns and a.is_gone and all(a.reached.values()) for a in each.values())


def test_a_cluster_that_is_away_is_told_as_an_error(round_of, api):
    api.down = True
    with pytest.raises(ExternalError):
        round_of()


# --- what the asking pod does ---------------------------------------------------------------------


def run_script(addresses, folder, *, wget, nslookup="exit 1"):
    """The script as the pod's shell runs it, with programs of the test's own."""
    for name, body in {"wget": wget, "nslookup": nslookup, "sleep": "exit 0"}.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    log = folder / "log"
    script = pods.asking_script(addresses, "some.name").replace("/dev/termination-log", str(log))
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    subprocess.run(["sh", "-c", script], env=environment, check=True, timeout=30)
    return log.read_text().split()


def test_the_script_writes_down_who_answered_and_that_it_came_to_its_end(tmp_path):
    wget = 'case "$2" in http://10.0.0.2:18080/) echo beidou;; *) exit 1;; esac'
    said = run_script(["10.0.0.1", "10.0.0.2"], tmp_path, wget=wget)
    assert said == ["p1", "end"]


def test_the_script_asks_addresses_of_either_family(tmp_path):
    wget = 'case "$2" in "http://[fd00::7]:18080/") echo beidou;; *) exit 1;; esac'
    assert run_script(["fd00::7"], tmp_path, wget=wget) == ["p0", "end"]


def test_an_answer_of_somebody_else_is_no_answer(tmp_path):
    assert run_script(["10.0.0.1"], tmp_path, wget="echo something") == ["end"]


def test_the_api_server_is_heard_by_its_refusal_and_names_by_resolving(tmp_path):
    wget = (
        'case "$2" in "http://[fd00::1]:443/") '
        "echo 'wget: server returned error: HTTP/1.0 400 Bad Request' >&2; exit 1;; "
        "*) exit 1;; esac"
    )
    said = run_script([], tmp_path, wget=wget, nslookup="exit 0")
    assert (sorted(said[:-1]), said[-1]) == (["dns", "service"], "end")
