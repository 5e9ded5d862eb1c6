"""HealthCheck through the engine.  What is done on hosts and by pods is proved in the lab."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusters.drivers.objects import NODES
from clusters.models import ClusterCredential
from machines.models import Machine
from operations.kinds import health_check as kind
from operations.kinds.health import last
from operations.kinds.hosts import api_endpoint
from operations.models import ClusterSettings, MachineStep, Operation, OperationMachine
from operations.services import control as controls
from operations.services import output, start
from tests import factories
from tests.operations.health.conftest import cell_of, checks_of, host_check
from tests.operations.toy import toy_kind

pytestmark = pytest.mark.django_db


def failing(operation, machine, severity="error"):
    return {
        name
        for name, each in checks_of(operation, machine).items()
        if not each["ok"] and each["severity"] == severity
    }


def said(operation):
    return [row[4] for chunk in operation.output.order_by("first") for row in output.unpack(chunk)]


# --- what is found --------------------------------------------------------------------------------


def test_a_well_cluster_passes_with_all_that_was_looked_at(check, machines, kube):
    operation = check()
    assert operation.status == Operation.Status.SUCCEEDED
    for machine in machines:
        found = checks_of(operation, machine)
        assert all(each["ok"] for each in found.values())
        assert {
            "service:kubelet", "condition:Ready", "kubelet-version", "daemonset-pods", "pod",
            "pod-service", "pod-dns", "pod-gone", "node-network", "pod-network",
        } <= set(found)  # fmt: skip
        tried = [each for each in found.values() if "not_tried" not in each]
        assert cell_of(operation, machine).message == f"{len(tried)} checks, 0 warnings"
    assert kube.pods == {}


def test_the_proof_holds_both_rows_of_the_matrices(check, machines):
    evidence = cell_of(check(), machines[0]).evidence
    assert evidence["node"] == "n1"
    assert evidence["nodes_reached"] == evidence["pods_reached"] == {"n2": True, "n3": True}
    assert evidence["log_samples"] == {"kubelet": ["E1 bad"]}


def test_the_hosts_are_told_the_runtime_and_whom_to_reach(check, hosts, machines):
    check(log_minutes=7)
    (asked,) = hosts.asked
    assert asked["playbook"] == "health_check"
    assert (asked["log_minutes"], asked["node_processes"]) == (7, ["kube-proxy"])
    one = list(asked["machines"].values())[0]
    assert one["runtime"] == "containerd://1.6.20"
    assert one["neighbours"] == {"n2": "10.0.0.2:10250", "n3": "10.0.0.3:10250"}


def test_a_warning_fails_nobody(check, hosts, machines):
    hosts.checks["10.0.0.1"] = [host_check("load", ok=False, severity="warning")]
    operation = check()
    assert operation.status == Operation.Status.SUCCEEDED
    assert cell_of(operation, machines[0]).message.endswith("1 warnings")


def test_the_operation_says_how_many_errors_and_warnings_there_are(check, hosts, machines):
    hosts.checks["10.0.0.1"] = [host_check("load", ok=False, severity="warning")]
    assert check().message == "Errors: 0, warnings: 1."
    hosts.checks["10.0.0.2"] = [host_check("disk:/", ok=False), host_check("swap", ok=False)]
    assert check().message == "1 of 3 machines failed. Errors: 2, warnings: 1."


def test_an_operation_that_found_nothing_says_nothing(check, machines):
    assert check().message == ""


def test_an_error_fails_its_machine_alone_and_says_what_to_do(check, hosts, machines):
    hosts.checks["10.0.0.2"] = [host_check("disk:/", ok=False), host_check("swap", ok=False)]
    operation = check()
    assert operation.status == Operation.Status.PARTIAL
    message = cell_of(operation, machines[1]).message
    assert message == "disk:/: this, wanted that → do so (and 1 more)"
    assert operation.machines.get(machine=machines[0]).state == "succeeded"


def test_a_machine_with_a_bad_disk_has_its_network_tested_all_the_same(check, hosts, machines):
    hosts.checks["10.0.0.2"] = [host_check("disk:/", ok=False)]
    assert checks_of(check(), machines[1])["pod-network"]["ok"]


def test_a_host_that_is_silent_is_judged_by_what_the_cluster_knows_too(check, hosts, machines):
    hosts.silent.add("10.0.0.1")
    operation = check()
    assert failing(operation, machines[0]) == {"reachable"}
    assert checks_of(operation, machines[0])["pod-dns"]["ok"]


def test_a_machine_without_a_credential_is_a_finding_and_no_blocker(check, machines, hosts):
    Machine.objects.filter(pk=machines[0].pk).update(credential=None)
    machines[0].refresh_from_db()
    operation = check()
    assert failing(operation, machines[0]) == {"sign-in"}
    assert checks_of(operation, machines[0])["pod"]["ok"]
    assert len(hosts.asked[0]["machines"]) == 2


def test_a_host_without_any_answer_says_so(check, hosts, machines):
    hosts.checks["10.0.0.1"] = []
    assert "host" in failing(check(), machines[0])


def test_a_condition_of_the_node_fails_its_machine(check, kube, machines):
    kube.condition("n2", "DiskPressure", "True")
    operation = check()
    assert failing(operation, machines[1]) == {"condition:DiskPressure"}


def test_a_node_that_is_not_ready_gets_no_pods_and_is_asked_by_nobody(check, kube, machines):
    kube.condition("n3", "Ready", "Unknown")
    operation = check()
    assert failing(operation, machines[2]) == {"condition:Ready", "pod"}
    assert not any(pod["spec"]["nodeName"] == "n3" for pod in kube.made)
    assert operation.machines.get(machine=machines[0]).state == "succeeded"


def test_a_node_that_is_cut_off_is_named_and_the_others_are_warned(check, kube, machines):
    kube.cut.add("n3")
    operation = check()
    assert operation.status == Operation.Status.PARTIAL
    assert failing(operation, machines[2]) == {"pod-network"}
    for machine in machines[:2]:
        assert failing(operation, machine) == set()
        assert "n3" in checks_of(operation, machine)["pod-network"]["found"]


def test_a_host_that_reaches_nobody_is_named(check, hosts, machines):
    hosts.cut.add("n1")
    operation = check()
    assert failing(operation, machines[0]) == {"node-network"}
    assert "no answer" in checks_of(operation, machines[0])["node-network"]["found"]
    assert failing(operation, machines[1]) == set()


def test_a_node_that_is_gone_is_told_and_its_host_looked_at(check, kube, machines):
    del kube.nodes["n3"]
    operation = check()
    assert failing(operation, machines[2]) == {"node"}
    assert "no node n3" in checks_of(operation, machines[2])["node"]["found"]
    assert checks_of(operation, machines[2])["service:kubelet"]["ok"]


def test_the_node_of_another_machine_is_not_taken_for_ones_own(check, cluster, machines):
    other = factories.make_machine(
        "10.9.9.9", hostname="N1", cluster=cluster, state=Machine.State.FAULTY,
        credential=machines[0].credential, host_key=machines[0].host_key,
    )  # fmt: skip
    operation = check(other)
    assert "node" in failing(operation, other)
    assert "10.0.0.1" in checks_of(operation, other)["node"]["found"]


def test_a_daemon_set_that_is_not_ready_fails_its_node(check, kube, machines):
    kube.daemon_set_pod("kube-proxy", "n1", ready=False, namespace="kube-system")
    assert failing(check(), machines[0]) == {"daemonset-pods"}


def test_a_cluster_without_kube_proxy_is_not_asked_for_it(check, kube, hosts):
    kube.has_kube_proxy = False
    check()
    assert hosts.asked[0]["node_processes"] == []


def test_while_the_api_server_is_away_the_hosts_are_looked_at(check, kube, machines):
    kube.down = True
    operation = check()
    assert operation.status == Operation.Status.FAILED
    for machine in machines:
        assert failing(operation, machine) == {"api"}
        assert checks_of(operation, machine)["service:kubelet"]["ok"]


def test_a_cluster_without_a_credential_is_told_and_the_hosts_looked_at(check, machines, cluster):
    ClusterCredential.objects.filter(cluster=cluster).delete()
    operation = check()
    assert "no credential" in checks_of(operation, machines[0])["api"]["found"]
    assert checks_of(operation, machines[0])["service:kubelet"]["ok"]


def test_test_pods_that_break_are_a_finding_of_every_node(check, monkeypatch, machines, caplog):
    def broken(*_):
        raise KeyError("x")

    monkeypatch.setattr(kind.pods.PodRound, "run", broken)
    operation = check()
    assert failing(operation, machines[0]) == {"pod"}
    assert "KeyError" in checks_of(operation, machines[0])["pod"]["found"]
    assert "test_pods_errored" in caplog.text


def test_without_test_pods_nothing_is_made_in_the_cluster(check, kube, machines):
    operation = check(test_pods=False)
    assert operation.status == Operation.Status.SUCCEEDED
    assert kube.made == []
    assert not any(name.startswith("pod") for name in checks_of(operation, machines[0]))


def test_an_image_that_is_named_has_to_be_pulled(check, kube, machines):
    kube.pulls = "ErrImagePull"
    operation = check(pull_image="registry.example/app:2")
    assert failing(operation, machines[0]) == {"image-pull"}


def pulled(kube):
    containers = [pod["spec"]["containers"][0] for pod in kube.made]
    return {each["image"] for each in containers if each["imagePullPolicy"] == "Always"}


def test_without_a_registry_of_which_anything_is_known_none_is_pulled_and_that_is_seen(
    check, kube, machines
):
    operation = check()
    found = checks_of(operation, machines[0])
    assert pulled(kube) == set()
    assert found["image-pull"]["not_tried"]
    assert cell_of(operation, machines[0]).message == f"{len(found) - 1} checks, 0 warnings"


def mirrored(cluster, *registries, **overrides):
    mirrors = {name: [{"url": "https://mirror.example"}] for name in registries}
    overrides = {"containerd_registry_mirrors": mirrors, **overrides}
    ClusterSettings.objects.create(cluster=cluster, overrides=overrides)


@pytest.mark.parametrize("registry", ["_default", "registry.k8s.io"])
def test_where_its_registry_has_a_mirror_the_test_image_is_pulled(
    registry, check, kube, machines, cluster
):
    mirrored(cluster, registry)
    found = checks_of(check(), machines[0])["image-pull"]
    assert pulled(kube) == {"registry.k8s.io/beidou/probe:1"}
    assert found["ok"]
    assert "not_tried" not in found


def test_a_mirror_that_does_not_have_it_is_a_warning_of_each_node(check, kube, machines, cluster):
    mirrored(cluster, "_default")
    kube.pulls = "ErrImagePull"
    operation = check()
    assert operation.status == Operation.Status.SUCCEEDED
    found = checks_of(operation, machines[0])["image-pull"]
    assert (found["ok"], found["severity"]) == (False, "warning")


def test_a_mirror_of_another_registry_says_nothing_of_the_test_image(
    check, kube, machines, cluster
):
    mirrored(cluster, "docker.io")
    assert checks_of(check(), machines[0])["image-pull"]["not_tried"]
    assert pulled(kube) == set()


def test_the_test_image_of_the_site_is_pulled_by_its_own_registry(check, kube, machines, cluster):
    mirrored(cluster, "docker.io", probe_image="library/busybox:1.36")
    check()
    assert pulled(kube) == {"library/busybox:1.36"}


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("busybox:1.36", "docker.io"),
        ("library/busybox", "docker.io"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io"),
        ("localhost/app", "localhost"),
        ("registry:5000/app@sha256:ab", "registry:5000"),
    ],
)
def test_the_registry_of_an_image_is_in_its_name(image, registry):
    assert kind.registry_of(image) == registry


def test_a_few_chosen_nodes_are_helped_by_others(check, kube, machines):
    operation = check(machines[0])
    assert {pod["spec"]["nodeName"] for pod in kube.made} == {"n1", "n2", "n3"}
    assert operation.machines.count() == 1
    assert cell_of(operation, machines[0]).evidence["pods_reached"] == {"n2": True, "n3": True}


def test_helpers_are_open_workers_before_others(check, kube, machines):
    kube.nodes["n2"]["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = ""
    kube.nodes["n3"]["spec"]["unschedulable"] = True
    seen = kind.Seen(nodes={})
    for name, item in kube.nodes.items():
        seen.nodes[name] = kind_node(item)
    assert kind._helpers(seen, ["n1"]) == ["n2", "n3"]
    assert kind._helpers(seen, ["n1", "n2"]) == ["n3"]
    assert kind._helpers(seen, ["n1", "n2", "n3"]) == []


def kind_node(item):
    return NODES.decode_object(json.dumps(item).encode())


@pytest.mark.parametrize(
    ("server", "endpoint"),
    [
        ("https://10.0.0.1:6443", "10.0.0.1:6443"),
        ("https://api.example/k8s", "api.example:443"),
        ("https://[fd00::1]:6443", "[fd00::1]:6443"),
        ("https://[fd00::1]", "[fd00::1]:443"),
    ],
)
def test_the_endpoint_is_a_host_and_a_port(server, endpoint):
    assert api_endpoint(server) == endpoint


# --- what has changed -----------------------------------------------------------------------------


def test_a_failure_is_new_then_still_there_then_repaired(check, hosts, machines):
    check()
    hosts.checks["10.0.0.1"] = [host_check("disk:/", ok=False)]
    new = checks_of(check(), machines[0])["disk:/"]
    assert new["change"] == "new"
    still = checks_of(check(), machines[0])["disk:/"]
    assert (still["change"], still["since"]) == ("still", new["since"])
    hosts.checks["10.0.0.1"] = [host_check("disk:/")]
    repaired = checks_of(check(), machines[0])["disk:/"]
    assert (repaired["change"], repaired["since"]) == ("repaired", new["since"])
    assert checks_of(check(), machines[0])["disk:/"]["change"] == ""


def test_the_first_time_nothing_has_changed(check, hosts, machines):
    hosts.checks["10.0.0.1"] = [host_check("disk:/", ok=False)]
    assert checks_of(check(), machines[0])["disk:/"]["change"] == ""


def test_a_retry_is_compared_with_the_operation_before_and_not_with_itself(
    check, hosts, machines, operator, work, control
):
    check()
    hosts.checks["10.0.0.1"] = [host_check("disk:/", ok=False)]
    operation = check()
    control(controls.retry, operation, acting_user=operator)
    work()
    assert checks_of(operation, machines[0])["disk:/"]["change"] == "new"


def test_only_the_same_machine_in_the_same_cluster_is_compared(check, hosts, machines, cluster_b):
    hosts.checks["10.0.0.1"] = [host_check("disk:/", ok=False)]
    operation = check()
    assert checks_of(check(machines[1]), machines[1])["pod"]["change"] == ""
    Operation.objects.filter(pk=operation.pk).update(cluster=cluster_b)
    assert checks_of(check(machines[0]), machines[0])["disk:/"]["change"] == ""


def test_an_attempt_without_any_result_is_no_last_time(check, machines, kube):
    operation = check()
    lost = Operation.objects.create(name="lost", kind="HealthCheck", cluster=operation.cluster)
    member = OperationMachine.objects.create(
        operation=lost, machine=machines[0], address="10.0.0.1"
    )
    step = lost.steps.create(position=1, name="healthCheck")
    MachineStep.objects.create(step=step, machine=member, status="failed")
    kube.without_dns.add("n1")
    assert checks_of(check(), machines[0])["pod-dns"]["change"] == "new"


# --- beside others --------------------------------------------------------------------------------


@pytest.mark.parametrize("state", sorted(kind.STATES))
def test_it_begins_from_every_state_in_which_there_is_a_node(check, machines, state):
    Machine.objects.filter(pk=machines[0].pk).update(state=state)
    machines[0].refresh_from_db()
    operation = check(machines[0])
    assert operation.status == Operation.Status.SUCCEEDED
    machines[0].refresh_from_db()
    assert machines[0].state == state


@pytest.mark.parametrize("state", sorted(set(Machine.State) - kind.STATES))
def test_it_does_not_begin_where_there_is_none(cluster, machines, operator, state):
    Machine.objects.filter(pk=machines[0].pk).update(state=state)
    machines[0].refresh_from_db()
    plan = start.plan_operation(
        kind="HealthCheck", cluster=cluster, machines=machines[:1], params={}, acting_user=operator
    )
    assert plan.ready == ()


def test_it_runs_beside_a_change_of_the_same_machine_and_takes_no_slot(
    check, cluster, machines, operator, control
):
    with toy_kind() as _script:
        Machine.objects.update(state=Machine.State.AVAILABLE)
        for machine in machines:
            machine.refresh_from_db()
        control(
            start.start_operation,
            kind="Toy", cluster=cluster, machines=machines, acting_user=operator,
        )  # fmt: skip
        Machine.objects.update(state=Machine.State.IN_SERVICE)
        for machine in machines:
            machine.refresh_from_db()
        operation = check(machines[0])
        assert operation.slot is None
        assert operation.status == Operation.Status.SUCCEEDED
    assert not operation.machines.filter(holds_machine=True).exists()


def test_machines_of_elsewhere_are_left_to_their_own_cluster(cluster, machines, operator):
    stranger = factories.make_machine(state=Machine.State.FAULTY)
    plan = start.plan_operation(
        kind="HealthCheck", cluster=cluster, machines=[stranger], params={}, acting_user=operator
    )
    (blocker,) = plan.blockers
    assert "it is not in this cluster" in blocker.reasons


def test_missing_rights_block_test_pods_and_nothing_else(cluster, machines, operator):
    cluster.capabilities = [
        {"key": "health_check", "ok": False, "missing": ["create pods in kube-system"]}
    ]
    cluster.save()
    common = {
        "kind": "HealthCheck", "cluster": cluster, "machines": machines, "acting_user": operator,
    }  # fmt: skip
    (blocker,) = start.plan_operation(params={}, **common).whole_blockers
    assert "create pods in kube-system" in blocker.reason
    assert start.plan_operation(params={"test_pods": False}, **common).blockers == ()


# --- its end --------------------------------------------------------------------------------------


def test_a_cancel_leaves_no_pods(check, hosts, kube, operator):
    def cancel(run):
        controls.cancel(run.operation, acting_user=operator)
        run._look()
        run.stop_if_asked()

    hosts.during = cancel
    operation = check()
    assert operation.status == Operation.Status.CANCELED
    assert kube.pods == {}


def test_pods_of_a_lost_worker_go_when_the_step_is_given_up(check, kube, cluster):
    run: Any = SimpleNamespace(
        cluster=cluster, params=kind.HealthCheckParams(), unit_prefix="beidou-x-1-1"
    )
    for name, prefix in (("ours", "beidou-x-1-1"), ("theirs", "beidou-y-1-1")):
        kube.pods[name] = {
            "metadata": {"name": name, "labels": {kind.pods.STEP_LABEL: prefix}},
            "spec": {"nodeName": "n1"},
            "status": {"phase": "Running"},
        }
    kind.remove_pods(run)
    assert list(kube.pods) == ["theirs"]


# --- a whole cluster ------------------------------------------------------------------------------


def test_nodes_without_a_machine_are_named_in_plan_and_output(check, cluster, machines, operator):
    factories.make_node(cluster, "unknown-1")
    plan = start.plan_operation(
        kind="HealthCheck", cluster=cluster, machines=machines, params={}, acting_user=operator
    )
    (remark,) = plan.remarks
    assert remark.machine is None
    assert "unknown-1" in remark.text
    assert any("were not checked: unknown-1" in line for line in said(check()))


def test_who_chose_some_machines_is_not_told_of_other_nodes(check, cluster, machines):
    factories.make_node(cluster, "unknown-1")
    assert not any("unknown-1" in line for line in said(check(machines[0])))


def test_none_named_means_all_that_can_be_checked(cluster, machines, operator):
    Machine.objects.filter(pk=machines[2].pk).update(state=Machine.State.JOINING)
    factories.make_machine(state=Machine.State.FAULTY)
    found = start.machines_of("HealthCheck", cluster, user=operator)
    assert [machine.pk for machine in found] == [machine.pk for machine in machines[:2]]


def test_the_last_results_cost_two_queries_for_few_and_many(check, cluster, machines):
    operation = check()
    for chosen in (machines[:1], machines):
        with CaptureQueriesContext(connection) as captured:
            last.before([m.pk for m in chosen], operation=operation.pk + 1, cluster=cluster.pk)
        assert len(captured) == 2
