"""The kind Network by routes of our own: every node to the pods of all others."""

from typing import Any

import pytest
from django_q.models import OrmQ

from beidou.base import tasks
from clusters.drivers.objects import NodeInfo
from clusters.models import Node
from machines.models import Machine
from operations.kinds import playbook
from operations.kinds.network import routes
from operations.kinds.playbook import PlaybookResults
from operations.models import Freeze, MachineStep, Operation
from operations.services import dispatch, start
from tests.fakes.kube_api import Reply, list_reply, node, status_reply
from tests.operations.network.conftest import RBAC, node_with_range

pytestmark = pytest.mark.django_db
MARKER = "/api/v1/namespaces/kube-system/configmaps/beidou-routed-network"
SHOWN = {
    "10.0.0.1": "10.244.2.0/24 via 10.0.0.2 dev eth0\n10.244.3.0/24 via 10.0.0.3 dev eth0\n",
    "10.0.0.2": "10.244.1.0/24 via 10.0.0.1 dev eth0\n10.244.3.0/24 via 10.0.0.3 dev eth0\n",
}


@pytest.fixture
def played(monkeypatch):
    """Instead of the playbook: what it was given; hosts show the routes in ``shown``."""

    class Played:
        def __init__(self):
            self.shown, self.failed = dict(SHOWN), {}
            self.variables: dict[str, Any] = {}
            self.own: dict[str, Any] = {}

        def __call__(self, run, name, *, variables, per_machine=None, members=None):
            assert name == "pod_routes"
            self.variables = dict(variables)
            results = PlaybookResults()
            for target in run.targets:
                self.own[target.address] = (per_machine or {})[target.pk]
                if why := self.failed.get(target.address):
                    results.failed[target.pk] = why
                results.tasks[target.pk] = {"look": {"stdout": self.shown[target.address]}}
            return results

    made = Played()
    monkeypatch.setattr(playbook, "run_playbook", made)
    return made


def six(number):
    """A node of IPv6 alone; its host is signed in to by IPv4."""
    item = node_with_range(f"n{number}", number)
    ranges = [f"fd00:244:0:{number}::/64"]
    item["spec"] |= {"podCIDR": ranges[0], "podCIDRs": ranges}
    item["status"]["addresses"] += [{"type": "InternalIP", "address": f"fd00::{number}"}]
    return item


@pytest.fixture
def network(begin, cluster, members):
    return lambda **params: begin(kind="Network", cluster=cluster, machines=members, params=params)


def results(operation):
    rows = MachineStep.objects.filter(step__operation=operation).select_related("machine")
    return {row.machine.address: (row.status, str(row.message)) for row in rows}


def test_routes_are_work_for_workers(begin, cluster, members, control):
    begin(kind="Network", cluster=cluster, machines=members, params={"driver": "routes"})
    control(dispatch.dispatch)
    assert OrmQ.objects.filter(key=tasks.WORK).count() == 1


def test_every_node_is_told_the_way_to_the_pods_of_all_others(network, work, played):
    operation = network()
    work()
    assert results(operation) == {
        "10.0.0.1": ("succeeded", "2 routes to pods of others"),
        "10.0.0.2": ("succeeded", "2 routes to pods of others"),
    }
    assert played.own["10.0.0.1"] == {
        "node_name": "n1",
        "wanted_routes": {"10.244.2.0/24": "10.0.0.2", "10.244.3.0/24": "10.0.0.3"},
    }


def test_a_cluster_with_a_network_of_its_own_gets_the_routes_alone(network, work, played, kube):
    network()
    work()
    assert played.variables["routed_network_routes_only"] is True
    assert kube.asked("PATCH", f"{RBAC}/clusterroles/beidou-pod-routes")
    assert kube.asked("PATCH", f"{RBAC}/clusterrolebindings/beidou-pod-routes")


def test_in_a_cluster_with_the_routed_network_the_service_stays_what_it_is(
    network, work, played, kube
):
    kube.on("GET", MARKER, Reply(body={"data": {}}))
    network()
    work()
    assert played.variables["routed_network_routes_only"] is False
    assert not kube.asked("PATCH", f"{RBAC}/clusterroles/beidou-pod-routes")


def test_a_host_without_one_of_the_routes_has_failed_and_names_it(network, work, played):
    played.shown["10.0.0.2"] = "10.244.1.0/24 via 10.0.0.1 dev eth0\n"
    operation = network()
    work()
    state, message = results(operation)["10.0.0.2"]
    assert state == "failed"
    assert "No route to 10.244.3.0/24 yet" in message
    assert results(operation)["10.0.0.1"][0] == "succeeded"


def test_a_route_through_another_address_is_not_the_one(network, work, played):
    played.shown["10.0.0.1"] = SHOWN["10.0.0.1"].replace("via 10.0.0.2", "via 10.0.0.77")
    operation = network()
    work()
    assert "No route to 10.244.2.0/24" in results(operation)["10.0.0.1"][1]


def test_a_node_that_came_meanwhile_is_asked_for_too(network, work, played, kube):
    before = [node_with_range(f"n{n}", n) for n in (1, 2, 3)]
    kube.on(
        "GET", "/api/v1/nodes", list_reply(before), list_reply([*before, node_with_range("n4", 4)])
    )
    operation = network()
    work()
    assert "No route to 10.244.4.0/24" in results(operation)["10.0.0.1"][1]


def test_a_host_on_which_the_playbook_failed_says_why(network, work, played):
    played.failed["10.0.0.1"] = "disk full"
    operation = network()
    work()
    assert results(operation)["10.0.0.1"] == ("failed", "disk full")


def test_where_pods_have_no_ranges_there_is_nothing_to_route(network, work, played, kube):
    kube.on("GET", "/api/v1/nodes", list_reply([node("n1", podCIDRs=[]), node("n2", podCIDRs=[])]))
    operation = network()
    work()
    assert "has no range for its pods" in results(operation)["10.0.0.1"][1]
    assert played.own == {}


def test_a_machine_without_a_node_has_failed(network, work, played, kube):
    kube.on("GET", "/api/v1/nodes", list_reply([node_with_range("n1", 1)]))
    operation = network()
    work()
    assert results(operation)["10.0.0.2"] == ("failed", "There is no node n2.")


def test_a_cluster_that_lets_nobody_write_roles_says_so(network, work, played, kube):
    refused = status_reply(403, "clusterroles is forbidden", "Forbidden")
    kube.on("PATCH", f"{RBAC}/clusterroles/beidou-pod-routes", refused)
    operation = network()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.FAILED
    assert played.own == {}


def test_routes_are_removed_with_the_node_and_by_nothing_else(cluster, members, admin):
    plan = start.plan_operation(
        kind="Network",
        cluster=cluster,
        machines=members,
        params={"action": "remove"},
        acting_user=admin,
    )
    assert "routes need not be removed" in plan.blockers[0].reason


def test_it_changes_the_cluster_and_waits_for_the_end_of_a_freeze(network, work, played, cluster):
    Freeze.objects.create(cluster=cluster, reason="year's end")
    operation = network()
    work()
    operation.refresh_from_db()
    assert operation.waiting_for == "the end of the freeze “year's end”"
    assert played.own == {}


def test_it_works_beside_another_operation_with_the_same_machines(
    network, work, played, cluster, members
):
    other = Operation.objects.create(
        name="other", kind="ScaleDown", cluster=cluster, status=Operation.Status.RUNNING
    )
    for machine in members:
        other.machines.create(machine=machine, address=machine.address, holds_machine=True)
    operation = network()
    work()
    operation.refresh_from_db()
    assert operation.status == Operation.Status.SUCCEEDED


def test_machines_keep_their_state(network, work, played, members):
    network()
    work()
    rows = Machine.objects.filter(pk__in=[machine.pk for machine in members])
    assert set(rows.values_list("state", flat=True)) == {"cordoned"}


def test_a_range_goes_through_an_address_of_its_own_family():
    def with_addresses(name, ranges, *addresses):
        pairs = tuple(("InternalIP", each) for each in addresses)
        made: Any = type("N", (), {"name": name, "pod_cidrs": ranges, "addresses": pairs})()
        return made

    nodes: dict[str, NodeInfo] = {
        "a": with_addresses("a", ("10.1.0.0/24", "fd00:1::/64"), "10.0.0.1", "fd00::1"),
        "b": with_addresses("b", ("10.2.0.0/24", "fd00:2::/64"), "fd00::2", "10.0.0.2"),
        "half": with_addresses("half", ("fd00:3::/64",), "10.0.0.3"),
    }
    assert routes.wanted("a", nodes) == {"10.2.0.0/24": "10.0.0.2", "fd00:2::/64": "fd00::2"}


def test_a_route_is_asked_for_as_the_kernel_shows_it():
    pairs = (("InternalIP", "FD00:0::2"),)
    made: Any = type(
        "N", (), {"name": "b", "pod_cidrs": ("fd00:0:0:2:0::/64",), "addresses": pairs}
    )()
    assert routes.wanted("a", {"b": made}) == {"fd00:0:0:2::/64": "fd00::2"}
    shown = "fd00:0:0:2::/64 via fd00::2 dev eth0 metric 1024 pref medium\n"
    assert routes.there(shown) == {"fd00:0:0:2::/64": "fd00::2"}


def test_nodes_with_ranges_of_ipv6_get_routes_of_ipv6(network, work, played, kube):
    kube.on("GET", "/api/v1/nodes", list_reply([six(1), six(2)]))
    played.shown = {
        "10.0.0.1": "fd00:244:0:2::/64 via fd00::2 dev eth0 metric 1024 pref medium\n",
        "10.0.0.2": "fd00:244:0:1::/64 via fd00::1 dev eth0 metric 1024 pref medium\n",
    }
    operation = network()
    work()
    assert {state for state, _said in results(operation).values()} == {"succeeded"}
    assert played.own["10.0.0.1"]["wanted_routes"] == {"fd00:244:0:2::/64": "fd00::2"}


def test_a_node_without_an_address_of_the_family_of_its_range_has_failed(
    network, work, played, kube
):
    lame = six(2)
    lame["status"]["addresses"] = lame["status"]["addresses"][:1]
    kube.on("GET", "/api/v1/nodes", list_reply([six(1), lame]))
    played.shown = {"10.0.0.1": ""}
    operation = network()
    work()
    state, said = results(operation)["10.0.0.2"]
    assert state == "failed"
    assert "no internal address of the family of fd00:244:0:2::/64" in said
    assert results(operation)["10.0.0.1"][0] == "succeeded"


def test_the_preview_says_where_no_route_can_lead(cluster, members, admin):
    Node.objects.filter(name="n1").update(
        pod_cidrs=["10.244.1.0/24", "fd00:244:0:1::/64"],
        addresses=[{"type": "InternalIP", "address": "10.0.0.1"}],
    )
    plan = start.plan_operation(
        kind="Network", cluster=cluster, machines=members, params={}, acting_user=admin
    )
    (blocker,) = plan.blockers
    assert blocker.machine == members[0]
    assert "the family of fd00:244:0:1::/64" in blocker.reason


def test_lines_of_the_kernel_without_a_way_are_passed_over():
    assert routes.there("default dev x\n10.1.0.0/24 via 10.0.0.1 dev x\nvia\n") == {
        "10.1.0.0/24": "10.0.0.1"
    }
