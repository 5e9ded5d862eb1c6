"""Two machines of one name in one cluster: the plan refuses, and no step takes the node of the one
for that of the other."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from machines.models import MachineAddress
from operations.kinds import joining, scale_up
from operations.kinds.playbook import PlaybookResults
from operations.kinds.scale_up import ScaleUpParams
from operations.models import ClusterSettings, MachineStep
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def namesake(machines, operators):
    """Another machine with the name of the first."""
    return factories.make_machine(
        owner_team=operators,
        hostname=machines[0].hostname.upper(),
        credential=factories.make_credential(),
        host_key="ssh-ed25519 AAAA",
    )


@pytest.fixture
def blocked(cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="https://files.example")

    def ask(*machines):
        return [row.reason for row in scale_up.blockers(cluster_a, machines, ScaleUpParams())]

    return ask


def test_a_name_is_blocked_while_an_operation_works_on_another_machine_of_it(
    toy, begin, blocked, machines, namesake
):
    assert blocked(namesake) == []
    operation = begin()
    (reason,) = blocked(namesake)
    expected = f"operation {operation.name} works on another machine called {machines[0].hostname}"
    assert reason == expected


def test_a_name_is_free_again_when_the_operation_has_ended(toy, begin, work, blocked, namesake):
    begin()
    work()
    assert blocked(namesake) == []


def test_a_name_in_another_cluster_blocks_nothing(toy, begin, blocked, namesake, cluster_b, admin):
    begin(cluster=cluster_b, acting_user=admin)
    assert blocked(namesake) == []


@pytest.fixture
def joined(toy, begin, work, machines, monkeypatch):
    """Confirm that the first machine joined as a node with these addresses."""

    def confirm(*addresses):
        node = SimpleNamespace(
            name=machines[0].hostname,
            uid="u",
            kubelet_version="v1.36.3",
            unschedulable=True,
            addresses=(("Hostname", machines[0].hostname), *addresses),
        )
        client = SimpleNamespace(get_node=lambda _name: node)
        monkeypatch.setattr(scale_up, "client_for", lambda *_args, **_limits: nullcontext(client))
        toy.during = lambda run: scale_up.confirm_scale_up(run, PlaybookResults())
        operation = begin(machines=machines[:1])
        work(limit=2)
        return MachineStep.objects.get(step__operation=operation, step__name="first")

    return confirm


def test_the_node_at_the_machine_s_address_is_its_own(joined, machines):
    assert joined(("InternalIP", machines[0].address)).status == MachineStep.Status.SUCCEEDED


def test_a_node_at_another_address_is_another_machine_s(joined):
    cell = joined(("InternalIP", "10.250.0.9"))
    assert cell.status == MachineStep.Status.FAILED
    assert "is another machine: it has the address 10.250.0.9" in cell.message


def test_an_address_that_a_visit_found_on_the_machine_is_its_own(joined, machines):
    MachineAddress.objects.create(machine=machines[0], address="10.250.0.9")
    assert joined(("InternalIP", "10.250.0.9")).status == MachineStep.Status.SUCCEEDED


def test_addresses_that_pre_check_saw_are_the_machine_s_own(toy, begin, machines):
    operation = begin(machines=machines[:1])
    operation.steps.filter(name="first").update(name="preCheck")
    facts = {"addresses": ["10.250.0.9"]}
    MachineStep.objects.filter(step__name="preCheck").update(evidence={"facts": facts})
    member = operation.machines.get()
    run = cast("Any", SimpleNamespace(targets=[member]))
    assert joining.own_addresses(run) == {member.pk: {member.address, "10.250.0.9"}}


@pytest.mark.parametrize("said", [5, True, "10", {"a": 1}, None])
def test_whatever_else_a_host_calls_its_addresses_is_none(toy, begin, machines, said):
    operation = begin(machines=machines[:1])
    operation.steps.filter(name="first").update(name="preCheck")
    for evidence in ({"facts": {"addresses": said}}, {"facts": said}):
        MachineStep.objects.filter(step__name="preCheck").update(evidence=evidence)
        member = operation.machines.get()
        run = cast("Any", SimpleNamespace(targets=[member]))
        assert joining.own_addresses(run) == {member.pk: {member.address}}


def test_a_node_whose_addresses_come_late_is_waited_for():
    late = SimpleNamespace(addresses=(("Hostname", "n"), ("InternalIP", "10.250.0.9")))
    answers = iter([SimpleNamespace(addresses=(("Hostname", "n"),)), late])
    client: Any = SimpleNamespace(get_node=lambda _name: next(answers))
    run: Any = SimpleNamespace(should_stop=lambda: False)
    assert cast("Any", joining.wait_for_node(run, client, "n")) is late


def test_a_foreign_node_is_neither_cordoned_nor_labelled(toy, begin, work, machines):
    done = []
    node = SimpleNamespace(name="n", addresses=(("InternalIP", "10.250.0.9"),))
    client: Any = SimpleNamespace(
        get_node=lambda _name: node,
        set_unschedulable=lambda *args: done.append(args),
        patch_node=lambda *args, **values: done.append(args),
    )

    def cordon(run):
        for target in list(run.targets):
            scale_up._cordon_new_node(run, client, target, {target.address})

    toy.during = cordon
    operation = begin(machines=machines[:1])
    work()
    assert "is another machine" in operation.machines.get().message
    assert done == []
