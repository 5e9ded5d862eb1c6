"""When a member of etcd may leave, and that it leaves once."""

import pytest

from tests.operations.ansible.host_code import etcd, load_file

Member = etcd.Member


@pytest.fixture
def module():
    return load_file("library/etcd_members.py")


def members(*health, learners=()):
    return [
        Member(
            id=str(number),
            name=f"cp-{number}",
            url=f"https://10.0.0.{number}:2379",
            peer_urls=(f"https://10.0.0.{number}:2380",),
            is_learner=number in learners,
            is_healthy=is_healthy,
        )
        for number, is_healthy in enumerate(health, start=1)
    ]


class FakeEtcd:
    """Members that leave when told to; ``refusals`` times it says no first."""

    def __init__(self, found, refusals=0):
        self.found, self.refusals, self.removed = list(found), refusals, []

    def members(self):
        return list(self.found)

    def remove(self, member):
        if self.refusals:
            self.refusals -= 1
            raise etcd.EtcdProblem("unhealthy cluster")
        self.removed.append(member.name)
        self.found = [each for each in self.found if each.id != member.id]


def ask(**values):
    return {"leaving": "", "leaving_address": "", "remove": False, "patience_seconds": 0, **values}


# --- the guard ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("health", "leaving"),
    [
        ((True, True, True), 1),
        ((True, True, False), 3),  # the dead one
        ((True, True), 2),
        ((True, True, True, False, False), 4),
        ((True, True, True, True, False), 1),
    ],
)
def test_a_member_may_leave_when_most_of_the_others_are_healthy(health, leaving):
    found = members(*health)
    assert etcd.why_it_stays(found, found[leaving - 1]) == ""


@pytest.mark.parametrize(
    ("health", "leaving", "healthy", "needed"),
    [
        ((True, True, False), 1, 1, 2),  # a healthy one of three, one of which is dead
        ((True, False), 1, 0, 1),
        ((True, True, True, False, False), 1, 2, 3),
    ],
)
def test_a_member_stays_when_the_others_would_lose_their_majority(health, leaving, healthy, needed):
    found = members(*health)
    why = etcd.why_it_stays(found, found[leaving - 1])
    assert f"{healthy} of {len(health) - 1} members" in why
    assert f"needs {needed}" in why


def test_the_last_member_stays():
    (only,) = members(True)
    assert "last member" in etcd.why_it_stays([only], only)


def test_a_learner_counts_for_nothing_and_may_always_leave():
    found = members(True, False, learners={2})
    assert etcd.why_it_stays(found, found[1]) == ""
    assert "last member" in etcd.why_it_stays(found, found[0])


# --- whose member it is ---------------------------------------------------------------------------


def test_a_member_is_known_by_its_name():
    found = members(True, True)
    assert etcd.find(found, "cp-2", "10.0.0.1") is found[1]
    assert etcd.find(found, "cp-3", "10.0.0.1") is None


def test_one_that_has_never_started_is_known_by_its_address():
    nameless = Member(id="9", peer_urls=("https://10.0.0.9:2380",), is_learner=True)
    found = [*members(True), nameless]
    assert etcd.find(found, "cp-9", "10.0.0.9") is nameless
    assert etcd.find(found, "cp-9", "10.0.0.8") is None


# --- what the module does -------------------------------------------------------------------------


def test_nothing_is_changed_unasked(module):
    fake = FakeEtcd(members(True, True, True))
    answer = module.work(fake, ask(leaving="cp-3"))
    assert (answer["changed"], answer["found"], answer["why_it_stays"]) == (False, True, "")
    assert fake.removed == []


def test_a_member_leaves_and_the_rest_is_told(module):
    fake = FakeEtcd(members(True, True, False))
    answer = module.work(fake, ask(leaving="cp-3", remove=True))
    assert fake.removed == ["cp-3"]
    assert answer["changed"]
    assert [each["name"] for each in answer["members"]] == ["cp-1", "cp-2"]


def test_one_that_is_gone_already_is_no_failure(module):
    fake = FakeEtcd(members(True, True))
    answer = module.work(fake, ask(leaving="cp-3", remove=True))
    assert (answer["changed"], answer["found"]) == (False, False)


def test_a_member_that_is_needed_is_not_removed(module):
    fake = FakeEtcd(members(True, True, False))
    answer = module.work(fake, ask(leaving="cp-1", remove=True))
    assert fake.removed == []
    assert not answer["changed"]
    assert "cp-1" in answer["why_it_stays"]


def test_a_refusal_is_asked_again_for_a_while(module, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    fake = FakeEtcd(members(True, True, True), refusals=2)
    module.work(fake, ask(leaving="cp-3", remove=True, patience_seconds=60))
    assert fake.removed == ["cp-3"]


def test_a_refusal_that_lasts_is_a_failure(module, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    fake = FakeEtcd(members(True, True, True), refusals=9)
    with pytest.raises(etcd.EtcdProblem, match="unhealthy cluster"):
        module.work(fake, ask(leaving="cp-3", remove=True, patience_seconds=-1))


def test_an_etcd_without_certificates_says_so(tmp_path):
    with pytest.raises(etcd.EtcdProblem, match="did not answer as it should"):
        etcd.Etcd(str(tmp_path), 1)
