"""What the collector makes of the events of one cluster, in memory."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from clusters.collector.state import NODES_PER_BATCH, Batch, ClusterState
from clusters.drivers import errors
from clusters.drivers.answers import ComponentHealth
from clusters.drivers.objects import NODES, PODS
from clusters.drivers.watch import Added, Deleted, Disconnected, Listed, Modified, Progress
from tests.fakes import kube_api

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=11)


def node(name, **values):
    return NODES.decode_object(msgspec.json.encode(kube_api.node(name, **values)))


def pod(name, **values):
    return PODS.decode_object(msgspec.json.encode(kube_api.pod(name, **values)))


@pytest.fixture
def state():
    """Two nodes, three pods, everything written."""
    state = ClusterState(now=NOW)
    state.on_nodes(Listed([node("n1"), node("n2")], "1"), NOW)
    pods = [pod("a"), pod("b"), pod("done", phase="Succeeded"), pod("c", node_name="n2")]
    state.on_pods(Listed(pods, "1"), NOW)
    return state


def names(batch):
    return sorted(info.name for info in batch.nodes)


def test_nothing_heard_is_nothing_to_write():
    assert ClusterState().take(NOW) is None


def test_the_first_list_replaces_what_the_database_had(state):
    batch = state.take(NOW)
    assert names(batch) == ["n1", "n2"]
    assert sorted(batch.all_names) == ["n1", "n2"]
    assert batch.usage.replace


def test_pods_are_summed_and_finished_ones_occupy_nothing(state):
    usage = state.take(NOW).usage
    on_n1 = usage.changed["n1", "default"]
    assert (on_n1.pods, on_n1.cpu_requested) == (2, 200)
    assert on_n1.phases == {"Running": 2, "Succeeded": 1}
    assert usage.per_node["n2"].memory_requested == 64 * 1024**2


def test_the_cluster_s_figures_are_the_sums_of_its_nodes(state):
    figures = state.take(NOW).figures
    assert (figures["nodes_total"], figures["nodes_ready"]) == (2, 2)
    assert (figures["cpu_allocatable"], figures["cpu_requested"]) == (7600, 300)
    assert figures["pods_count"] == 3


def test_a_written_state_is_written_once(state):
    state.take(NOW)
    assert state.take(NOW + timedelta(seconds=1)) is None


def test_a_changed_node_is_written_at_once(state):
    state.take(NOW)
    state.on_nodes(Modified(node("n1", version="2", unschedulable=True)), NOW)
    batch = state.take(NOW)
    assert names(batch) == ["n1"]
    assert batch.nodes[0].unschedulable


def test_a_heartbeat_without_news_writes_nothing(state):
    state.take(NOW)
    state.on_nodes(Modified(node("n1", version="2")), NOW)
    assert state.take(NOW) is None


def test_an_answer_is_confirmed_after_a_while_even_without_news(state):
    state.take(NOW)
    state.on_nodes(Progress("9"), LATER)
    batch = state.take(NOW + timedelta(seconds=16))
    assert batch.figures["observed_at"] == LATER
    assert not batch.has_nodes


def test_a_deleted_node_goes_and_a_new_one_of_its_name_stays(state):
    state.take(NOW)
    state.on_nodes(Deleted(node("n1")), NOW)
    assert state.take(NOW).deleted == ["n1"]
    state.on_nodes(Deleted(node("n2")), NOW)
    state.on_nodes(Added(node("n2", version="5")), NOW)
    batch = state.take(NOW)
    assert (batch.deleted, names(batch)) == ([], ["n2"])


def test_nodes_missing_from_a_new_list_are_deleted(state):
    state.take(NOW)
    state.on_nodes(Listed([node("n2")], "7"), NOW)
    batch = state.take(NOW)
    assert batch.deleted == ["n1"]
    assert batch.all_names == ["n2"]
    assert batch.figures["nodes_total"] == 1


def test_sums_are_written_at_most_every_ten_seconds(state):
    state.take(NOW)
    state.on_pods(Added(pod("d")), NOW)
    assert state.take(NOW + timedelta(seconds=5)) is None
    usage = state.take(LATER).usage
    assert usage.changed.keys() == {("n1", "default")}
    assert not usage.replace


def test_a_namespace_without_pods_is_removed(state):
    state.take(NOW)
    state.on_pods(Deleted(pod("c", node_name="n2")), NOW)
    usage = state.take(LATER).usage
    assert usage.gone == {("n2", "default")}
    assert usage.per_node["n2"].pods == 0


def test_many_nodes_are_written_in_portions():
    state = ClusterState(now=NOW)
    count = NODES_PER_BATCH + 5
    state.on_nodes(Listed([node(f"n{i}") for i in range(count)], "1"), NOW)
    first = state.take(NOW)
    assert (len(first.nodes), first.all_names, state.has_more) == (NODES_PER_BATCH, None, True)
    second = state.take(NOW)
    assert (len(second.nodes), len(second.all_names), state.has_more) == (5, count, False)


def test_what_could_not_be_written_is_given_again(state):
    state.give_back(state.take(NOW))
    again = state.take(LATER)
    assert names(again) == ["n1", "n2"]
    assert again.usage.replace
    assert again.verdict is not None


def test_only_what_could_not_be_written_is_given_again(state):
    batch = state.take(NOW)
    state.give_back(Batch(nodes=batch.nodes))
    again = state.take(NOW)
    assert names(again) == ["n1", "n2"]
    assert again.verdict is None


def test_newer_news_win_over_what_is_given_back(state):
    batch = state.take(NOW)
    state.on_nodes(Modified(node("n1", version="2", unschedulable=True)), NOW)
    state.give_back(batch)
    written = {info.name: info for info in state.take(NOW).nodes}
    assert written["n1"].unschedulable


# --- health ---------------------------------------------------------------------------------------


def health(state, now=NOW):
    found = state.verdict(now)
    return found.health, found.reason


def lost(sentence="c did not answer within 15 s.", since=NOW):
    return Disconnected(since, errors.Unreachable(sentence))


def test_a_cluster_whose_nodes_are_ready_is_healthy(state):
    assert health(state) == ("healthy", "")


def test_a_cluster_that_was_never_heard_of_has_no_health():
    assert ClusterState().verdict(NOW) is None


def test_a_node_that_is_not_ready_degrades_and_is_named(state):
    state.on_nodes(Modified(node("n2", version="3", ready="Unknown")), NOW)
    assert health(state) == ("degraded", "1 of 2 nodes not ready: n2.")


def test_a_node_that_has_just_joined_may_take_three_minutes_to_be_ready(state):
    raw = kube_api.node("n3", ready="False")
    raw["metadata"]["creationTimestamp"] = "2026-05-04T11:58:00Z"
    state.on_nodes(Added(NODES.decode_object(msgspec.json.encode(raw))), NOW)
    assert health(state) == ("healthy", "")
    later = NOW + timedelta(minutes=2)
    assert health(state, later) == ("degraded", "1 of 3 nodes not ready: n3.")


def test_a_component_that_is_down_degrades_and_an_unknown_one_does_not(state):
    unknown = ComponentHealth(name="network", is_healthy=None, message="Unknown: no rights.")
    down = ComponentHealth(name="coredns", is_healthy=False, message="0 of 2 ready.")
    state.on_components([unknown], {})
    assert health(state)[0] == "healthy"
    state.on_components([unknown, down], {})
    assert health(state) == ("degraded", "coredns: 0 of 2 ready.")


def test_silence_is_unreachable_since_the_last_answer_and_keeps_the_figures(state):
    state.take(NOW)
    state.on_nodes(lost(since=NOW), LATER)
    batch = state.take(LATER)
    assert (batch.verdict.health, batch.verdict.since) == ("unreachable", NOW)
    assert batch.verdict.reason == "c did not answer within 15 s."
    assert not batch.has_nodes
    assert not batch.figures


def test_the_next_answer_ends_it(state):
    state.on_nodes(lost(), NOW)
    state.on_nodes(Progress("9"), LATER)
    assert health(state)[0] == "healthy"


def test_pods_that_cannot_be_read_only_degrade(state):
    state.on_pods(Disconnected(NOW, errors.Forbidden("may not list the pods.")), NOW)
    assert health(state) == ("degraded", "may not list the pods.")


def test_a_credential_that_cannot_be_used_is_unreachable_with_its_reason():
    state = ClusterState(now=NOW)
    state.on_unusable(errors.Unauthorized("The token expired on 2026-01-01."))
    assert health(state) == ("unreachable", "The token expired on 2026-01-01.")
