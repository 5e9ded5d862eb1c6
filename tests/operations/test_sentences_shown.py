"""What the engine says is stored once and shown to everybody in their own language."""

import asyncio
import json

import pytest
from django.utils.translation import override

from beidou.base.sentences import Sentence, spoken
from operations.drivers import ansible
from operations.kinds import playbook
from operations.kinds.checks import describe
from operations.models import MachineStep, Operation
from operations.services import broadcast, live
from tests.operations.ansible.host_code import checks, load_file, requirements
from tests.operations.ansible.host_code import sentences as host_sentences

CHINESE = {"HTTP_ACCEPT_LANGUAGE": "zh-hans"}
URL = "/api/v1/operations/"
clock = load_file("action_plugins/host_check.py")


@pytest.fixture
def half_failed(toy, begin, work, machines):
    """An operation one of whose machines failed in its first step."""
    toy.failing = {("first", machines[0].address)}
    operation = begin()
    work()
    operation.refresh_from_db()
    return operation


def test_the_api_answers_in_the_language_of_the_request(half_failed, api, operator):
    client = api(operator)
    url = f"{URL}{half_failed.pk}/"
    assert client.get(url).json()["message"] == "1 of 3 machines failed."
    assert client.get(url, **CHINESE).json()["message"] == "3 台机器中有 1 台失败。"


def test_a_person_reads_the_page_in_the_language_they_chose(half_failed, client, operator):
    operator.language = "zh-hans"
    operator.save()
    client.force_login(operator)
    page = client.get(f"/operations/operation/{half_failed.pk}/change/").content.decode()
    assert json.loads(f'"{_told(page)}"') == "3 台机器中有 1 台失败。"


def _told(page):
    """The operation's message in the page's data."""
    data = page.split('"operation": {', 1)[1]
    return data.split('"message": "', 1)[1].split('"', 1)[0]


def test_what_a_person_writes_as_the_reason_harms_no_page(
    half_failed, api, client, operator, machines
):
    reason = "<script>alert(1)</script> %(user)s %s {x} 100%"
    asked = {"step": "first", "machines": [machines[0].address], "reason": reason}
    assert api(operator).post(f"{URL}{half_failed.pk}/skip/", asked).status_code == 202
    cell = MachineStep.objects.get(step__name="first", machine__machine=machines[0])
    with override("zh-hans"):
        cell.refresh_from_db()
    assert cell.message == f"由 operator 跳过：{reason}"
    client.force_login(operator)
    page = client.get(f"/operations/{half_failed.pk}/evidence/?machine={cell.machine_id}")
    assert "Skipped by operator: &lt;script&gt;alert(1)&lt;/script&gt; %(user)s %s {x} 100%" in (
        page.content.decode()
    )


def test_a_message_from_before_is_shown_as_it_is(half_failed, api, operator):
    Operation.objects.filter(pk=half_failed.pk).update(message="written by an older portal: 5 %")
    answer = api(operator).get(f"{URL}{half_failed.pk}/", **CHINESE).json()
    assert answer["message"] == "written by an older portal: 5 %"


def test_snapshots_are_in_the_language_of_the_reader(half_failed):
    with override("zh-hans"):
        taken = live.snapshot(half_failed.pk, expected={})
    assert taken.operation["message"] == "3 台机器中有 1 台失败。"


@pytest.mark.django_db(transaction=True)
def test_two_watchers_of_one_operation_read_their_own_language(half_failed):
    async def first_message(language):
        parts = broadcast.stream(
            half_failed.pk, after=None, tail=1, may_still_see=lambda: True, language=language
        )
        return [part async for part in parts if part.startswith("event: snapshot")][0]

    async def both():
        return await asyncio.gather(first_message("en"), first_message("zh-hans"))

    english, chinese = asyncio.run(both())
    assert "1 of 3 machines failed." in english
    assert "3 台机器中有 1 台失败。" in chinese


# --- what hosts answer ----------------------------------------------------------------------------


def test_a_check_of_a_host_is_read_in_the_language_of_the_reader():
    sent = json.loads(json.dumps(requirements.check_ports({10250: "nginx"}, [10250])[0].as_dict()))
    with override("zh-hans"):
        read = spoken(sent)
        assert (read["found"], read["wanted"]) == ("已被 nginx 占用", "空闲")
        assert describe(read) == "port:10250：已被 nginx 占用，要求 空闲 → 停止在该端口监听的程序"
    assert spoken(sent)["found"] == "taken by nginx"


def test_on_the_host_a_check_is_plain_english():
    check = requirements.check_ports({10250: "nginx"}, [10250])[0]
    assert checks.blocking_sentence([check]) == (
        "1 check does not hold: port:10250: found taken by nginx, wanted free."
    )


def test_names_and_numbers_are_sent_as_they_are():
    assert requirements.check_commands([], ["tar"]).as_dict()["wanted"] == "tar"


def test_the_portal_says_in_english_what_the_host_says():
    nodes = [{"name": f"w{n}", "addresses": [f"10.8.3.{n}"]} for n in range(6)]
    own = [f"10.8.3.{n}" for n in range(6)]
    check = requirements.check_addresses(own, nodes)
    assert spoken(check.as_dict())["found"] == check.found
    assert check.found.endswith("10.8.3.3 is the address of node w3 and 2 more")


def test_a_check_of_the_caller_is_read_in_the_language_of_the_reader():
    with override("zh-hans"):
        assert spoken(clock.clock_check(2.5, 3.5, 2))["wanted"] == "偏差不超过 2 秒"


def test_why_a_module_of_ours_failed_is_read_in_the_language_of_the_reader():
    sent = host_sentences.failure(
        host_sentences.Sentence("Still running: %(units)s.", units="beidou-1-1.scope")
    )
    assert sent["msg"] == ansible.message_of(sent) == "Still running: beidou-1-1.scope."
    with override("zh-hans"):
        assert ansible.message_of(sent) == "仍在运行：beidou-1-1.scope。"


@pytest.mark.parametrize("odd", [None, "text", 7, {"text": 1, "params": {}}, {"text": "t"}])
def test_an_odd_sentence_of_a_host_is_passed_over_for_its_message(odd):
    assert ansible.message_of({"sentence": odd, "msg": "it broke"}) == "it broke"


def test_what_ansible_itself_says_stays_as_it_is():
    with override("zh-hans"):
        assert ansible.message_of({"msg": "Failed to connect: 100 %s"}) == (
            "Failed to connect: 100 %s"
        )


def test_results_of_a_playbook_have_sentences(half_failed):
    member = half_failed.machines.first()
    sent = requirements.check_ports({1: "x"}, [1])[0].as_dict()
    results = playbook.PlaybookResults(tasks={member.pk: {"look": {"checks": [sent]}}})
    (check,) = results.find(member, "checks")
    assert isinstance(check["found"], Sentence)


def test_checks_are_stored_once_and_told_by_the_api_in_two_languages(half_failed, api, operator):
    cell = half_failed.machines.first().cells.get(step__name="first")
    check = spoken(requirements.check_ports({1: "x"}, [1])[0].as_dict())
    MachineStep.objects.filter(pk=cell.pk).update(checks=[check])
    client = api(operator)

    def found(**headers):
        machines = client.get(f"{URL}{half_failed.pk}/", **headers).json()["machines"]
        (step,) = [each for each in machines[0]["steps"] if each["step"] == "first"]
        return step["checks"][0]["found"]

    assert (found(), found(**CHINESE)) == ("taken by x", "已被 x 占用")
