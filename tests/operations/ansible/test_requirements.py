import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.operations.ansible.host_code import checks, host_facts, requirements, versions
from tests.operations.ansible.playbooks import POLICY

GOOD = host_facts.HostFacts(
    hostname="bj-r12-07",
    system_uuid="4c4c4544-0042",
    os_id="debian",
    os_version="12",
    os_name="Debian GNU/Linux 12 (bookworm)",
    kernel="6.1.0-18-amd64",
    architecture="x86_64",
    cpus=8,
    memory_mib=15900,
    swap_mib=0,
    addresses=("10.8.3.11",),
    cgroup_version=2,
    containerd_version="1.6.20~ds1",
    effective_uid=0,
    can_raise_oom_score=True,
)


def blocking(**changes):
    found = requirements.judge(dataclasses.replace(GOOD, **changes), POLICY)
    return [check for check in found if check.blocks]


def test_a_machine_as_the_policy_wants_it_has_nothing_that_blocks():
    assert blocking() == []


@pytest.mark.parametrize(
    ("changes", "name", "found", "wanted"),
    [
        ({"effective_uid": 1000}, "privilege", "user id 1000", "root (user id 0)"),
        ({"os_version": "10", "os_name": "Debian 10"}, "os", "Debian 10", "debian >= 11"),
        ({"kernel": "4.18.0-553"}, "kernel", "4.18.0-553", ">= 4.19"),
        ({"architecture": "aarch64"}, "architecture", "aarch64", "x86_64"),
        ({"cpus": 1}, "cpus", "1", ">= 2"),
        ({"memory_mib": 1987}, "memory", "1987 MiB", ">= 2048 MiB"),
        ({"swap_mib": 512}, "swap", "512 MiB", "none"),
        ({"cgroup_version": 1}, "cgroup", "version 1", "version 2"),
        ({"containerd_version": ""}, "containerd", "not installed", ">= 1.6"),
        ({"containerd_version": "1.5.9"}, "containerd", "1.5.9", ">= 1.6"),
    ],
)
def test_each_failure_says_what_was_found_and_what_is_wanted(changes, name, found, wanted):
    (check,) = blocking(**changes)
    assert (check.check, check.found, check.wanted) == (name, found, wanted)
    assert check.advice


def test_an_unlisted_system_is_refused_with_the_whole_list():
    (check,) = blocking(os_id="alpine", os_version="3.20", os_name="Alpine Linux 3.20")
    assert check.found == "Alpine Linux 3.20"
    assert "debian >= 11 or openEuler >= 22.03" in check.wanted


def test_a_machine_without_containerd_will_do_when_the_artifacts_hold_it():
    facts = dataclasses.replace(GOOD, containerd_version="")
    policy = {**POLICY, "containerd_from_artifacts": True}
    assert requirements.check_containerd(facts, policy).ok


def test_several_failures_are_reported_together():
    assert [check.check for check in blocking(cpus=1, memory_mib=512)] == ["cpus", "memory"]


def test_folders_on_one_file_system_must_fit_together():
    gib = 1024**3
    free = {"/var/lib/containerd": (1, 25 * gib), "/var/lib/kubelet": (1, 25 * gib)}
    found = requirements.check_disks(free, {"/var/lib/containerd": 20, "/var/lib/kubelet": 10})
    assert [(check.check, check.ok) for check in found] == [
        ("disk:/var/lib/containerd", True),
        ("disk:/var/lib/kubelet", True),
        ("disk:/var/lib/containerd+/var/lib/kubelet", False),
    ]
    assert found[2].wanted == ">= 30 GiB free together"


def test_folders_with_file_systems_of_their_own_are_judged_one_by_one():
    gib = 1024**3
    free = {"/a": (1, 5 * gib), "/b": (2, 15 * gib)}
    found = requirements.check_disks(free, {"/a": 10, "/b": 10})
    assert [(check.check, check.ok, check.found) for check in found] == [
        ("disk:/a", False, "5.0 GiB free"),
        ("disk:/b", True, "15.0 GiB free"),
    ]


def test_a_taken_port_names_who_holds_it():
    (free, taken) = requirements.check_ports({10250: "kubelet (pid 7)"}, [10249, 10250])
    assert free.ok
    assert (taken.ok, taken.found) == (False, "taken by kubelet (pid 7)")


def test_a_node_name_that_the_cluster_has_already_is_refused():
    (valid, unique) = requirements.check_node_name("w1", [{"name": "w1"}])
    assert valid.ok
    assert (unique.ok, unique.found) == (False, "w1 is already a node of the cluster")


@pytest.mark.parametrize("name", ["", "Web_1", "web-", "-web", "a" * 254, "web..x"])
def test_a_name_that_kubernetes_would_refuse_is_refused(name):
    assert not requirements.check_node_name(name, [])[0].ok


def test_an_address_of_another_node_is_refused_with_its_name():
    nodes = [{"name": "w1", "addresses": ["10.8.3.11", "fd00::1"]}]
    check = requirements.check_addresses(["10.8.3.11"], nodes)
    assert (check.ok, check.found) == (False, "10.8.3.11 is the address of node w1")


def test_a_cloned_system_uuid_only_warns():
    check = requirements.check_system_uuid("ab-cd", [{"name": "w1", "system_uuid": "AB-CD"}])
    assert (check.ok, check.severity, check.blocks) == (False, "warning", False)


def test_an_unknown_system_uuid_is_no_twin_of_another_unknown_one():
    assert requirements.check_system_uuid("", [{"name": "w1", "system_uuid": ""}]).ok


@pytest.mark.parametrize(
    ("processes", "ufw", "found"),
    [
        ({"sshd"}, "", "none is active"),
        ({"sshd"}, "ENABLED=no\n", "none is active"),
        ({"firewalld"}, "", "firewalld is active"),
        (set(), "# ufw\nENABLED=yes\n", "ufw is active"),
    ],
)
def test_an_active_firewall_is_told_and_only_warned_of(processes, ufw, found):
    check = requirements.check_firewall(processes, ufw)
    assert (check.found, check.blocks) == (found, False)


def test_checks_named_by_the_policy_warn_instead_of_blocking():
    found = [
        checks.Check("leftover:mounts", False, "x", "nothing"),
        checks.Check("swap", True, "", ""),
    ]
    softened = checks.with_warnings_only(found, ["leftover:*"])
    assert [check.severity for check in softened] == ["warning", "error"]
    assert checks.blocking_sentence(softened) == ""


def test_what_blocks_becomes_one_sentence():
    found = [checks.Check("cpus", False, "1", ">= 2"), checks.Check("swap", False, "8 MiB", "none")]
    assert checks.blocking_sentence(found) == (
        "2 checks do not hold: cpus: found 1, wanted >= 2; swap: found 8 MiB, wanted none."
    )


def test_the_delivered_policy_is_usable():
    assert requirements.policy_problems(POLICY) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"min_cpu": 2}, "min_cpu is not a key of a policy."),
        ({"min_cpus": "two"}, "min_cpus must be a whole number, not 'two'."),
        ({"ports": "10250"}, "ports must be a list, not '10250'."),
        ({"swap_allowed": "no"}, "swap_allowed must be true or false, not 'no'."),
        ({"disks_gib": {"data": 500}}, "disks_gib: 'data' is no absolute path."),
        ({"ports": ["10250"]}, "ports: '10250' is no whole number."),
    ],
)
def test_a_mistake_in_a_policy_is_named(change, sentence):
    assert requirements.policy_problems({**POLICY, **change}) == [sentence]


def test_a_missing_key_of_a_policy_is_named():
    policy = {key: value for key, value in POLICY.items() if key != "ports"}
    assert requirements.policy_problems(policy) == ["ports is missing."]


numbers = st.lists(st.integers(0, 99), min_size=1, max_size=4)


@given(numbers, numbers)
def test_versions_are_ordered_as_their_numbers_are(left, right):
    longest = max(len(left), len(right))
    padded = [part + [0] * (longest - len(part)) for part in (left, right)]
    text = [".".join(map(str, part)) for part in (left, right)]
    assert versions.is_at_least(text[0], text[1]) == (padded[0] >= padded[1])


def test_an_unknown_version_is_older_than_every_other():
    assert not versions.is_at_least("", "0")


def test_no_version_reaches_a_minimum_that_is_none():
    assert not versions.is_at_least("6.1", "kernel 6.1")
    assert not versions.is_at_least("2.6.32", "latest")


def test_who_is_told_of_cgroups_is_told_the_key_that_allows_them():
    facts = dataclasses.replace(GOOD, cgroup_version=1)
    assert "cgroup_v1_allowed" in requirements.check_cgroup(facts, POLICY).advice
