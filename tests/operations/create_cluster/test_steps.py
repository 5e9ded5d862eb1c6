"""The steps with a made-up cluster and made-up playbooks: who goes on, who does not, and why."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from beidou.base.errors import PermanentError
from clusters.drivers import errors
from clusters.drivers.applying import UnknownKind
from clusters.models import Cluster, ClusterCredential
from machines.models import Machine
from operations.kinds import playbook
from operations.kinds.create_cluster import (
    adopt,
    control_plane,
    join,
    kind,
    members,
    network,
    post_check,
    pre_check,
)
from operations.kinds.create_cluster.params import CreateClusterParams
from operations.kinds.playbook import PlaybookResults
from operations.models import MachineStep, Operation
from operations.services import create_cluster
from tests import factories

pytestmark = pytest.mark.django_db
ARTIFACTS = {True: [{"name": "control"}], False: [{"name": "worker"}]}


class Run:
    """A step of the operation, as its functions see it; keeps what was said of each machine."""

    unit_prefix = "beidou-x-2"
    timeout_seconds = 60
    number = 1

    def __init__(self, operation: Operation, step: str, params: Any) -> None:
        self.operation, self.cluster, self.step_name = operation, operation.cluster, step
        self.params = params
        self.open = list(operation.machines.order_by("pk"))
        self.done: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.evidence: dict[str, Any] = {}

    @property
    def targets(self):
        return list(self.open)

    def succeed(self, target, *, message="", evidence=None, checks=()):
        self.open.remove(target)
        self.done[target.hostname], self.evidence[target.hostname] = message, evidence

    def fail(self, target, message, **_more):
        self.open.remove(target)
        self.failed[target.hostname] = message

    def pass_step(self, name: str, *hostnames: str) -> None:
        """Let machines have passed an earlier step."""
        MachineStep.objects.filter(step__name=name, machine__hostname__in=hostnames).update(
            status="succeeded"
        )

    def say(self, *_args, **_more): ...
    def note(self, *_args): ...
    def should_stop(self):
        return False

    def stop_if_asked(self): ...


@pytest.fixture
def run(wish, maker, free, django_capture_on_commit_callbacks):
    def make(step, *, planes=1, **params):
        roles = {machine.pk: "ControlPlane" for machine in free[:planes]}
        with django_capture_on_commit_callbacks():
            operation = create_cluster.create(
                wish=wish(roles=roles, params=params), acting_user=maker
            )
        typed = CreateClusterParams(**{"kubernetes_version": "v1.36.3", **params})
        return Run(operation, step, typed)

    return make


@pytest.fixture
def played(monkeypatch):
    """Which playbooks were run, on whom and with what; ``failing`` hostnames fail in them."""

    class Played:
        def __init__(self):
            self.runs, self.failing, self.answers = [], {}, {}

        def __call__(self, run, name, *, variables, per_machine=None, members=None):
            chosen = list(run.targets if members is None else members)
            named = {each.pk: each.hostname for each in chosen}
            own = {named[key]: value for key, value in (per_machine or {}).items() if key in named}
            self.runs.append((name, list(named.values()), dict(variables), own))
            results = PlaybookResults()
            for key, hostname in named.items():
                if why := self.failing.get((name, hostname)):
                    results.failed[key] = why
                results.tasks[key] = {"task": self.answers.get(name, {})}
            return results

        def names(self):
            return [(name, hosts) for name, hosts, _variables, _own in self.runs]

        def own(self, playbook_name):
            return next(own for name, _hosts, _vars, own in self.runs if name == playbook_name)

    played = Played()
    monkeypatch.setattr(playbook, "run_playbook", played)
    monkeypatch.setattr(pre_check, "artifacts_for", lambda *_: ARTIFACTS)
    monkeypatch.setattr(control_plane, "artifacts_for", lambda *_: ARTIFACTS)
    return played


class FakeCluster:
    """The API of the new cluster: nodes by name, and what was done to it."""

    def __init__(self, operation, *ready):
        self.items = {
            member.hostname: SimpleNamespace(
                name=member.hostname,
                uid=f"uid-{member.hostname}",
                addresses=(("InternalIP", member.address),),
                roles=("control-plane",) if member.role == "ControlPlane" else (),
                is_ready=member.hostname in ready,
                conditions=(SimpleNamespace(type="Ready", message="cni plugin not initialized"),),
                kubelet_version="v1.36.3",
            )
            for member in operation.machines.all()
        }
        self.labels: dict[str, Any] = {}
        self.applied: list[str] = []
        self.applier = self
        self.unknown = 0

    def get_node(self, name):
        if name not in self.items:
            raise errors.NotFound(f"no node {name}")
        return self.items[name]

    def list_nodes(self):
        return list(self.items.values())

    def patch_node(self, name, *, labels):
        self.labels[name] = labels

    def cluster_info(self):
        return SimpleNamespace(server="https://10.0.0.1:6443", ca_cert_hashes=("sha256:ab",))

    def delete_bootstrap_token(self, _token_id):
        return True

    def apply(self, item):
        if self.unknown:
            self.unknown -= 1
            raise UnknownKind("not yet")
        self.applied.append(item["kind"])


@pytest.fixture
def cluster(monkeypatch):
    def use(run, *ready):
        fake = FakeCluster(run.operation, *ready)
        for module in (control_plane, join, network, post_check):
            monkeypatch.setattr(module, "client_for", lambda *_a, **_k: nullcontext(fake))
        monkeypatch.setattr(join.join_tokens, "token", lambda *_: nullcontext("a.b"))
        monkeypatch.setattr(network.time, "sleep", lambda _: None)
        return fake

    return use


# --- preCheck ------------------------------------------------------------------------------------


def test_control_planes_are_checked_for_more(run, played):
    step = run("preCheck")
    pre_check.pre_check(step)
    own = played.own("pre_check")
    assert own["free-1"]["artifacts"] == ARTIFACTS[True]
    assert {6443, 2379, 10250} <= set(own["free-1"]["policy"]["ports"])
    assert own["free-1"]["policy"]["disks_gib"] == {"/var/lib/etcd": 2}
    assert own["free-2"]["artifacts"] == ARTIFACTS[False]
    assert own["free-2"]["policy"] == {}


def test_each_is_compared_with_the_others(run, played):
    step = run("preCheck")
    pre_check.pre_check(step)
    own = played.own("pre_check")
    assert [node["name"] for node in own["free-2"]["cluster_nodes"]] == ["free-1", "free-3"]


def test_the_site_s_own_policy_is_kept():
    plane: Any = SimpleNamespace(role="ControlPlane")
    policy = {"ports": [10250], "disks_gib": {"/var/lib/etcd": 50}, "min_cpus": 8}
    found = pre_check.policy_for(plane, policy)
    assert found["disks_gib"] == {"/var/lib/etcd": 50}
    assert found["min_cpus"] == 8
    assert 10250 in found["ports"]
    assert 10248 not in found["ports"]


# --- createControlPlane --------------------------------------------------------------------------


@pytest.fixture
def signed_in(monkeypatch):
    """The new API server lets us in."""

    def store(*, cluster, text):
        cluster.uid, cluster.server = "real", "https://10.0.0.1:6443"
        return SimpleNamespace(version=SimpleNamespace(git_version="v1.36.3"))

    monkeypatch.setattr(control_plane.creation, "store_access", store)
    monkeypatch.setattr(control_plane, "_admin_kubeconfig", lambda *_: "text")


def test_only_the_first_control_plane_is_told_to_create_one(run, played):
    step = run("createControlPlane", planes=3)
    control_plane.create_control_plane(step)
    own = played.own("create_control_plane")
    told = [name for name, values in own.items() if "kubeadm_configuration" in values]
    assert told == ["free-1"]
    assert set(Machine.objects.values_list("state", flat=True)) == {"joining"}


def test_nothing_is_begun_while_a_control_plane_is_missing(run, played):
    step = run("createControlPlane", planes=3)
    step.open.pop(1)  # failed in preCheck
    with pytest.raises(PermanentError, match="free-2 is not ready to take part"):
        control_plane.create_control_plane(step)
    assert played.runs == []
    assert set(Machine.objects.values_list("state", flat=True)) == {"reserved"}


def test_the_others_go_on_once_the_first_is_proven(run, played, cluster, signed_in):
    step = run("createControlPlane")
    cluster(step)
    played.failing["create_control_plane", "free-3"] = "disk full"
    control_plane.confirm_create_control_plane(step, control_plane.create_control_plane(step))
    assert set(step.done) == {"free-1", "free-2"}
    assert step.failed == {"free-3": "disk full"}
    assert step.evidence["free-1"]["server"] == "https://10.0.0.1:6443"


def test_nobody_goes_on_without_the_first(run, played, cluster):
    step = run("createControlPlane")
    cluster(step)
    played.failing["create_control_plane", "free-1"] = "kubeadm init failed"
    control_plane.confirm_create_control_plane(step, control_plane.create_control_plane(step))
    assert step.done == {}
    assert step.failed["free-1"] == "kubeadm init failed"
    assert "The first control plane, free-1, was not created" in step.failed["free-2"]


def test_an_api_server_that_does_not_let_us_in_is_none(run, played, cluster, monkeypatch):
    step = run("createControlPlane")
    cluster(step)

    def refuse(**_values):
        raise errors.Unauthorized("not accepted")

    monkeypatch.setattr(control_plane.creation, "store_access", refuse)
    monkeypatch.setattr(control_plane, "_admin_kubeconfig", lambda *_: "text")
    control_plane.confirm_create_control_plane(step, control_plane.create_control_plane(step))
    assert step.failed["free-1"] == "not accepted"
    assert not ClusterCredential.objects.exists()


def test_an_api_server_of_another_version_is_refused(run, played, cluster, signed_in):
    step = run("createControlPlane")
    cluster(step)
    step.params = CreateClusterParams(kubernetes_version="v1.35.4")
    control_plane.confirm_create_control_plane(step, PlaybookResults())
    assert step.failed["free-1"] == "The API server runs v1.36.3, wanted v1.35.4."


def test_a_worker_alone_is_retried_without_creating_once_more(run, played, cluster):
    step = run("createControlPlane")
    cluster(step)
    step.pass_step("createControlPlane", "free-1", "free-2")
    step.open = step.open[2:]
    control_plane.confirm_create_control_plane(step, control_plane.create_control_plane(step))
    assert "kubeadm_configuration" not in played.own("create_control_plane")["free-3"]
    assert set(step.done) == {"free-3"}


# --- join ----------------------------------------------------------------------------------------


ALL_MEMBERS = {
    "members": [
        {"name": f"free-{number}", "is_healthy": True, "is_learner": False} for number in (1, 2, 3)
    ]
}


def test_control_planes_join_one_by_one_and_then_the_workers_together(run, played, cluster):
    step = run("join", planes=1)
    cluster(step)
    join.join(step)
    assert played.names() == [("join_cluster", ["free-2", "free-3"])]


def test_each_further_control_plane_joins_by_itself_with_the_uploaded_certificates(
    run, played, cluster
):
    step = run("join", planes=3)
    cluster(step)
    played.answers["etcd_members"] = ALL_MEMBERS
    join.join(step)
    assert played.names() == [
        ("upload_certificates", ["free-1"]),
        ("join_cluster", ["free-2"]),
        ("etcd_members", ["free-1"]),
        ("join_cluster", ["free-3"]),
        ("etcd_members", ["free-1"]),
    ]
    own = played.own("join_cluster")["free-2"]
    assert len(own["certificate_key"]) == 64
    assert own["node_taints"] == []  # no worker would take the pods


def test_control_planes_that_cannot_be_joined_keep_no_worker_from_joining(run, played, cluster):
    step = run("join", planes=3)
    cluster(step)
    step.operation.machines.filter(hostname="free-3").update(role="Compute")
    step.open = list(step.operation.machines.order_by("pk"))
    played.failing["upload_certificates", "free-1"] = "no room"
    results = join.join(step)
    assert played.names()[-1] == ("join_cluster", ["free-3"])
    assert list(results.failed.values()) == ["no room"]


@pytest.fixture
def of_two_planes(run, played, cluster, monkeypatch):
    """free-2 joins as a control plane, free-3 as a worker; ``members`` is what etcd says of free-1
    and free-2 afterwards."""
    monkeypatch.setattr(join, "MEMBER_SECONDS", -1)
    step = run("join", planes=3)
    cluster(step)
    step.operation.machines.filter(hostname="free-3").update(role="Compute")
    step.open = list(step.operation.machines.order_by("pk"))

    def go(**second):
        found = [dict(member) for member in ALL_MEMBERS["members"][:2]]
        found[1] |= second
        played.answers["etcd_members"] = {"members": found}
        return step, join.join(step)

    return go


def joiners(played):
    return [hosts for name, hosts in played.names() if name == "join_cluster"]


def test_after_a_control_plane_that_failed_the_next_is_not_begun_with(run, played, cluster):
    step = run("join", planes=3)
    cluster(step)
    played.failing["join_cluster", "free-2"] = "no room"
    results = join.join(step)
    assert joiners(played) == [["free-2"]]
    assert list(results.failed.values()) == ["no room"]
    assert "free-2 did not join; this machine is prepared" in step.failed["free-3"]


def test_a_control_plane_that_does_not_become_a_member_keeps_the_next_waiting(
    run, played, cluster, monkeypatch
):
    monkeypatch.setattr(join, "MEMBER_SECONDS", -1)
    step = run("join", planes=3)
    cluster(step)
    found = [dict(member) for member in ALL_MEMBERS["members"][:2]]
    found[1]["is_healthy"] = False
    played.answers["etcd_members"] = {"members": found}
    results = join.join(step)
    assert joiners(played) == [["free-2"]]
    assert "free-2 is no healthy member of etcd" in next(iter(results.failed.values()))
    assert "was not begun with" in step.failed["free-3"]


def test_where_nothing_can_be_written_no_worker_is_begun_with(of_two_planes, played):
    step, results = of_two_planes(is_healthy=False)
    assert joiners(played) == [["free-2"]]
    assert len(results.failed) == 1
    assert "etcd lacks a majority" in step.failed["free-3"]


def test_a_learner_that_failed_keeps_no_worker_from_joining(of_two_planes, played):
    step, results = of_two_planes(is_healthy=False, is_learner=True)
    assert joiners(played) == [["free-2"], ["free-3"]]
    assert len(results.failed) == 1
    assert step.failed == {}


def test_where_etcd_does_not_answer_no_worker_is_begun_with(of_two_planes, played):
    played.failing["etcd_members", "free-1"] = "no answer"
    step, results = of_two_planes()
    assert list(results.failed.values()) == ["no answer"]
    assert "no answer" in step.failed["free-3"]


def test_joined_is_who_the_cluster_knows(run, played, cluster):
    step = run("join")
    fake = cluster(step)
    played.answers["etcd_members"] = ALL_MEMBERS
    del fake.items["free-3"]
    step.should_stop = lambda: True  # do not wait for it
    join.confirm_join(step, PlaybookResults())
    assert set(step.done) == {"free-1", "free-2"}
    assert step.failed == {"free-3": "no node free-3"}
    assert fake.labels["free-2"]["beidou.io/role"] == "Compute"


def test_a_node_at_another_address_is_another_machine_s(run, played, cluster):
    step = run("join")
    fake = cluster(step)
    played.answers["etcd_members"] = ALL_MEMBERS
    fake.items["free-2"].addresses = (("InternalIP", "10.250.0.9"),)
    join.confirm_join(step, PlaybookResults())
    assert "is another machine" in step.failed["free-2"]


@pytest.mark.parametrize("sick", [{"is_healthy": False}, {"is_learner": True}, {"name": "other"}])
def test_a_control_plane_is_a_healthy_member_of_etcd(run, played, cluster, sick):
    step = run("join", planes=3)
    cluster(step)
    found = [dict(member) for member in ALL_MEMBERS["members"]]
    found[1] |= sick
    played.answers["etcd_members"] = {"members": found}
    join.confirm_join(step, PlaybookResults())
    assert set(step.done) == {"free-1", "free-3"}
    assert "free-2 is no healthy member of etcd" in step.failed["free-2"]


def test_a_control_plane_that_joined_as_a_worker_is_refused(run, played, cluster):
    step = run("join", planes=3)
    fake = cluster(step)
    played.answers["etcd_members"] = ALL_MEMBERS
    fake.items["free-2"].roles = ()
    join.confirm_join(step, PlaybookResults())
    assert "not as a control plane" in step.failed["free-2"]


# --- network -------------------------------------------------------------------------------------


def test_the_routed_network_is_granted_and_set_up_on_each_node(run, played, cluster):
    step = run("network")
    fake = cluster(step, "free-1", "free-2", "free-3")
    network.confirm_network(step, network.set_up_network(step))
    assert fake.applied == ["ConfigMap", "ClusterRole", "ClusterRoleBinding"]
    assert played.names() == [("routed_network", ["free-1", "free-2", "free-3"])]
    assert len(step.done) == 3


def test_a_manifest_is_applied_and_nothing_is_done_on_hosts(run, played, cluster):
    text = "{apiVersion: example.com/v1, kind: Widget, metadata: {name: x}}"
    step = run("network", network="manifest", network_manifest=text)
    fake = cluster(step)
    fake.unknown = 2  # its definition takes a moment
    network.set_up_network(step)
    assert fake.applied == ["Widget"]
    assert played.runs == []


def test_nodes_that_do_not_become_ready_say_why(run, played, cluster, monkeypatch):
    step = run("network")
    cluster(step, "free-1")
    monkeypatch.setattr(network, "READY_SECONDS", -1)
    network.confirm_network(step, PlaybookResults())
    assert set(step.done) == {"free-1"}
    assert step.failed["free-2"].endswith("cni plugin not initialized")


# --- postCheck, adopt ----------------------------------------------------------------------------


def test_without_dns_nothing_is_proven(run, cluster, monkeypatch):
    step = run("postCheck")
    fake = cluster(step)
    monkeypatch.setattr(post_check, "DNS_SECONDS", -1)
    fake.workloads = SimpleNamespace(get=lambda *_: SimpleNamespace(ready=0))
    with pytest.raises(PermanentError, match="No pod of coredns was ready"):
        post_check.confirm_post_check(step, PlaybookResults())


def test_a_single_node_has_nobody_to_be_tested_against(run, played, cluster):
    step = run("postCheck")
    fake = cluster(step)
    fake.workloads = SimpleNamespace(get=lambda *_: SimpleNamespace(ready=2))
    fake.items = {"free-1": fake.items["free-1"]}
    step.open = step.open[:1]
    results = PlaybookResults()
    good = {"check": "a", "ok": True, "found": "", "wanted": "", "advice": ""}
    results.tasks[step.open[0].pk] = {"task": {"checks": [good]}}
    post_check.confirm_post_check(step, results)
    assert "the only node" in step.done["free-1"]


@pytest.fixture
def finished(monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(
        adopt.creation, "finish", lambda *, cluster, reason: done.append(cluster.name)
    )
    monkeypatch.setattr(adopt.time, "sleep", lambda _: None)
    return done


def test_the_cluster_is_taken_over_without_a_worker_that_failed(run, finished):
    step = run("adopt")
    step.pass_step("postCheck", "free-1", "free-2")
    adopt.adopt(step)
    assert finished == ["fresh"]


def test_a_cluster_that_lacks_a_control_plane_is_not_taken_over(run, finished):
    step = run("adopt", planes=3)
    step.pass_step("postCheck", "free-1", "free-2")
    with pytest.raises(PermanentError, match="Control plane free-3 is not through"):
        adopt.adopt(step)
    assert finished == []


def test_it_is_proven_by_the_collector_that_sees_the_nodes(run, finished, monkeypatch):
    step = run("adopt")
    monkeypatch.setattr(adopt, "SEEN_SECONDS", -1)
    factories.make_node(step.cluster, "free-1")
    factories.make_node(step.cluster, "free-2", is_ready=False)
    adopt.confirm_adopt(step, None)
    assert set(step.done) == {"free-1"}
    assert "The collector has not reported node free-2" in step.failed["free-2"]


def test_it_waits_until_the_collector_calls_the_cluster_healthy(run, finished, monkeypatch):
    step = run("adopt")
    waited: list[float] = []

    def grow_well(seconds: float) -> None:
        waited.append(seconds)
        Cluster.objects.filter(pk=step.cluster.pk).update(health="healthy", health_reason="")

    monkeypatch.setattr(adopt.time, "sleep", grow_well)
    Cluster.objects.filter(pk=step.cluster.pk).update(
        health="degraded", health_reason="etcd: 0 of 1 ready."
    )
    for target in step.targets:
        factories.make_node(step.cluster, target.hostname)
    adopt.confirm_adopt(step, None)
    assert len(waited) == 1
    assert set(step.done.values()) == {"in service"}


def test_a_cluster_that_does_not_become_well_is_made_and_says_what_is_wrong(
    run, finished, monkeypatch
):
    step = run("adopt")
    monkeypatch.setattr(adopt, "SEEN_SECONDS", -1)
    Cluster.objects.filter(pk=step.cluster.pk).update(
        health="degraded", health_reason="etcd: 0 of 1 ready."
    )
    factories.make_node(step.cluster, "free-1")
    adopt.confirm_adopt(step, None)
    assert step.done["free-1"] == "in service; etcd: 0 of 1 ready."


def test_the_first_control_plane_is_the_first_that_was_chosen(run):
    step = run("join", planes=3)
    assert members.first_of(step.operation).hostname == "free-1"
    assert members.takes_pods(step.operation)


# --- what machines are afterwards ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "has_cluster", "expected"),
    [
        ("reserved", False, "available"),  # it waited for a first control plane that never began
        ("reserved", True, "faulty"),  # a retry that ended before it came to this machine
        ("joining", True, "faulty"),
    ],
)
def test_a_machine_on_which_nothing_was_begun_is_as_delivered(run, state, has_cluster, expected):
    step = run("createControlPlane")
    member = step.operation.machines.select_related("machine", "operation").last()
    member.machine.state = state
    member.machine.cluster = step.cluster if has_cluster else None
    move = kind.release(member, "createControlPlane")
    assert move is not None
    assert move.to == expected


def test_a_machine_that_is_through_is_linked_to_its_node(run):
    step = run("adopt")
    member = step.operation.machines.select_related("machine", "operation").last()
    member.state = "succeeded"
    move = kind.release(member, "adopt")
    assert (move.to, move.node) == ("in_service", "free-3")
