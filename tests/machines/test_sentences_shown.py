"""What the portal says about machines is stored once and read in every language."""

import pytest
from django.utils.translation import override

from beidou.base.sentences import Sentence, from_column, to_column
from clusters.services import removal
from machines.drivers import ssh
from machines.drivers.ssh_keys import HostKey
from machines.models import Machine, MachineFacts, SshCredential
from machines.services import credentials, facts, host_keys, lifecycle
from tests import factories

CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-hans"}
URL = "/api/v1/machines/"


@pytest.fixture
def machine(cluster_a):
    return factories.make_machine("10.8.3.20", hostname="w20", cluster=cluster_a)


def make_key(letter):
    return HostKey(
        type="ssh-ed25519", key=f"ssh-ed25519 AAA{letter}", fingerprint=f"SHA256:{letter}"
    )


def unreachable():
    return ssh.Unreachable(
        Sentence("No SSH connection to %(place)s: %(why)s.", place="10.8.3.20:22", why="no route")
    )


def test_why_a_visit_failed_is_read_in_the_language_of_the_reader(machine):
    facts.store_failure(machine, unreachable())
    assert MachineFacts.objects.get().error == "No SSH connection to 10.8.3.20:22: no route."
    with override("zh-hans"):
        assert MachineFacts.objects.get().error == "无法与 10.8.3.20:22 建立 SSH 连接：no route。"


def test_the_page_of_a_machine_tells_it_in_the_language_of_the_person(machine, client, admin):
    facts.store_failure(machine, unreachable())
    admin.language = "zh-hans"
    admin.save()
    client.force_login(admin)
    page = client.get(f"/machines/machine/{machine.pk}/change/").content.decode()
    assert "无法与 10.8.3.20:22 建立 SSH 连接：no route。" in page


def test_why_a_machine_lost_its_cluster_is_read_in_the_language_of_the_reader(machine, cluster_a):
    Machine.objects.filter(pk=machine.pk).update(state=Machine.State.IN_SERVICE)
    with override("zh-hans"):
        removal.unadopt(cluster=cluster_a, confirmation="cluster-a", reason="sold")
    assert machine.status_changes.get().reason == "cluster cluster-a un-adopted: sold"
    with override("zh-hans"):
        assert machine.status_changes.get().reason == "集群 cluster-a 已取消接管: sold"


def test_the_secrets_that_can_be_forgotten_have_chinese_names(client, admin):
    credential = factories.make_credential()
    admin.language = "zh-hans"
    admin.save()
    client.force_login(admin)
    page = client.get(f"/machines/sshcredential/{credential.pk}/change/")
    choices = dict(page.context["adminform"].form.fields["forget"].choices)
    assert str(choices["private_key"]) == "私钥"
    assert "private key" not in page.content.decode()


def test_the_reason_of_a_transition_is_told_in_the_language_of_the_request(machine, api, admin):
    with override("zh-hans"):
        lifecycle.transition(
            machine=machine, to=Machine.State.FAULTY, reason=Sentence("the node was cordoned")
        )
    client = api(admin)
    url = f"{URL}{machine.pk}/transitions/"
    assert client.get(url).json()[0]["reason"] == "the node was cordoned"
    chinese = client.get(url, **CHINESE).json()[0]["reason"]
    assert chinese == "节点已被封锁"


def test_the_reason_of_a_person_stays_as_it_was_written(machine, admin):
    reason = "<b>disk</b> 100 % %(node)s {0}"
    lifecycle.transition_by_hand(
        machine=machine, to=Machine.State.FAULTY, reason=reason, acting_user=admin
    )
    with override("zh-hans"):
        assert machine.status_changes.get().reason == reason


def test_history_tells_in_the_language_of_the_reader_why_a_key_was_pinned(machine):
    with override("zh-hans"):
        host_keys.pin(machine=machine, key=make_key("A"))
    english = machine.history.first().history_change_reason
    with override("zh-hans"):
        chinese = machine.history.first().history_change_reason
    assert english == "first contact"
    assert chinese == "首次接触"


def test_the_result_of_a_credential_s_test_is_told_in_two_languages(
    admin, ssh_machine, ssh_server, api
):
    credential = ssh_machine.credential
    ssh_server.keys.clear()
    with override("zh-hans"):
        credentials.test(credential=credential, machine=ssh_machine, acting_user=admin)
    client = api(admin)

    def result(**headers):
        rows = client.get("/api/v1/credentials/", **headers).json()["results"]
        return rows[0]["test_result"]

    assert "refused the sign-in of" in result()
    assert "拒绝了" in result(**CHINESE)
    assert "尝试了：密钥" in result(**CHINESE)


def test_a_machine_without_a_credential_is_told_so_in_every_language(machine):
    Machine.objects.filter(pk=machine.pk).update(credential=None, host_key="ssh-ed25519 AAAA")
    facts.gather([machine.pk])
    with override("zh-hans"):
        assert MachineFacts.objects.get().error == "w20 (10.8.3.20) 没有 SSH 凭据。"


def test_a_changed_host_key_is_told_with_both_keys_in_every_language():
    keys = [make_key("A"), make_key("B")]
    error = ssh.HostKeyChanged("h:22", pinned=keys[0], presented=keys[1])
    stored = to_column(error.message)
    with override("zh-hans"):
        read = from_column(stored)
    assert "主机密钥已改变" in read
    assert all(f"{key.fingerprint} (ssh-ed25519)" in read for key in keys)


def test_an_error_from_before_is_shown_as_it_is(machine):
    MachineFacts.objects.create(machine=machine, error="was away: 5 %")
    SshCredential.objects.update(test_result="works on w20")
    with override("zh-hans"):
        assert MachineFacts.objects.get().error == "was away: 5 %"
        assert {row.test_result for row in SshCredential.objects.all()} <= {"works on w20"}
