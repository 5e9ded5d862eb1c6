"""Real ansible over real SSH: what proves a machine, what does not, and what a playbook cannot
see."""

import json

import pytest

from operations.drivers import processes
from operations.kinds.run_playbook import playing
from operations.models import Attempt, Operation, Step
from operations.services import engine, recovery
from operations.services.lines import forwards

pytestmark = pytest.mark.django_db
SECRET = "very-secret-1"


@pytest.fixture
def run(site, begin, two, admin, work):
    """Release what is in the folder, run it on both hosts, and give the operation when it ended."""

    def play(text, files=None, declare=None, machines=None, **params):
        site.write("greet.yml", text)
        for name, content in (files or {}).items():
            site.write(name, content)
        site.release(**(declare or {}))
        operation = begin(machines=machines or two, user=admin, **params)
        work()
        operation.refresh_from_db()
        return operation

    return play


def cells(operation, step="run"):
    """By hostname: status and message."""
    rows = operation.machines.order_by("pk")
    found = {}
    for member in rows:
        cell = member.cells.get(step__name=step)
        found[member.hostname] = (cell.status, str(cell.message))
    return found


def evidence(operation, hostname="web-1"):
    cell = operation.machines.get(hostname=hostname).cells.get(step__name="run")
    return cell.evidence


def output(operation):
    piece = forwards(operation, after=0, limit=5000)
    return "\n".join(line.text for line in piece.lines)


def play_of(*tasks, hosts="all", **more):
    play = {"name": "Play", "hosts": hosts, "gather_facts": False, "tasks": list(tasks), **more}
    return json.dumps([play])


def say(text, **more):
    return {"name": "Say", "ansible.builtin.debug": {"msg": text}, **more}


def command(text, **more):
    return {"name": "Do", "ansible.builtin.shell": text, **more}


def test_a_machine_passes_by_the_recap_and_a_second_run_changes_nothing(run, tmp_path):
    name = f"{tmp_path}/{{{{ beidou_machine.hostname }}}}"
    task = {"name": "Write", "ansible.builtin.copy": {"content": "x", "dest": name}}
    first = run(play_of(task))
    assert first.status == "succeeded", output(first)
    assert cells(first)["web-1"] == ("succeeded", "1 of 1 tasks changed something")
    assert evidence(first)["recap"]["changed"] == 1
    assert evidence(first)["revision"] == first.params["revision"]
    second = run(play_of(task))
    assert cells(second) == dict.fromkeys(
        ("web-1", "web-2"), ("succeeded", "nothing was changed (1 tasks)")
    )


def test_one_that_fails_stops_no_other(run):
    operation = run(play_of(command("false", when="beidou_machine.hostname == 'web-2'"), say("on")))
    assert operation.status == "partial"
    assert cells(operation)["web-1"][0] == "succeeded"
    status, message = cells(operation)["web-2"]
    assert status == "failed"
    assert message.startswith("Do: ")


def test_a_machine_that_no_play_reached_has_failed_although_ansible_succeeded(run):
    operation = run(play_of(say("x"), hosts="web-1"))
    assert cells(operation)["web-1"][0] == "succeeded"
    assert cells(operation)["web-2"] == ("failed", "The playbook did nothing on this machine.")


def test_a_machine_that_only_skipped_has_failed(run):
    operation = run(play_of(say("x", when="beidou_machine.hostname == 'web-1'")))
    assert cells(operation)["web-2"] == ("failed", "The playbook did nothing on this machine.")


def test_a_hostname_that_is_the_address_of_another_machine_means_no_other(run, two):
    two[0].hostname, two[1].hostname = two[1].address, ""
    for each in two:
        each.save()
    operation = run(play_of(say("{{ beidou_machine.address }} here")))
    assert operation.status == "succeeded", output(operation)
    for each in two:
        assert f"{each.address} here" in output(operation)


def _one_name_for_all(members, _declared):
    return {member.pk: "web-2" for member in members}


def test_a_machine_that_is_missing_in_the_recap_has_failed(run, monkeypatch):
    monkeypatch.setattr(playing, "_names", _one_name_for_all)
    operation = run(play_of(say("x")))
    assert cells(operation)["web-1"] == ("failed", "The playbook did nothing on this machine.")
    assert cells(operation)["web-2"][0] == "succeeded"


def test_a_machine_that_is_missing_in_the_recap_of_the_proof_is_not_proved(run, monkeypatch):
    named = iter([playing._names, _one_name_for_all])
    monkeypatch.setattr(playing, "_names", lambda *given: next(named)(*given))
    operation = run(play_of(say("x")), {"proof.yml": play_of(say("y"))}, {"verify": "proof.yml"})
    assert cells(operation)["web-1"] == (
        "failed", "It is done, but not proved: The playbook did nothing on this machine.",
    )  # fmt: skip
    assert cells(operation)["web-2"][0] == "succeeded"


def test_a_playbook_that_is_broken_fails_all_and_says_why(run):
    operation = run("- hosts: all\n  tasks:\n    - no_such_module: {}\n")
    assert operation.status == "failed"
    assert "no_such_module" in cells(operation)["web-1"][1]


def test_a_play_on_the_portal_itself_that_fails_fails_all(run):
    text = json.dumps(
        [
            {"hosts": "localhost", "gather_facts": False, "connection": "local",
             "tasks": [command("false")]},
            {"hosts": "all", "gather_facts": False, "tasks": [say("x")]},
        ]
    )  # fmt: skip
    operation = run(text)
    assert operation.status == "failed"
    assert "no machine of the operation" in cells(operation)["web-1"][1]


def test_groups_and_names_are_as_declared(run):
    text = play_of(
        say("{{ groups.planes }} {{ groups.workers }} {{ beidou_cluster.name }} {{ greeting }}"),
        hosts="planes:workers",
    )
    groups = {"planes": ["ControlPlane"], "workers": ["Compute"]}
    operation = run(text, declare={"groups": groups}, variables={"greeting": "{{ 1 + 1 }}"})
    assert operation.status == "succeeded"
    assert "['web-1'] ['web-2'] cluster-a {{ 1 + 1 }}" in output(operation)


def test_roles_of_the_source_are_its_own_and_its_settings_do_not_count(run):
    files = {
        "roles/own/tasks/main.yml": json.dumps([say("from the role, {{ own_value }}")]),
        "roles/own/defaults/main.yml": "own_value: 7",
        "ansible.cfg": "[defaults]\nroles_path = /nowhere\nstdout_callback = nonsense\n",
    }
    operation = run(json.dumps([{"hosts": "all", "gather_facts": False, "roles": ["own"]}]), files)
    assert operation.status == "succeeded", output(operation)
    assert "from the role, 7" in output(operation)


def test_how_a_host_is_reached_is_not_for_a_playbook_to_say(run):
    elsewhere = "-o ProxyCommand=false -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    names = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
    programs = {"ansible_ssh_executable": "/bin/false", "ansible_sftp_executable": "/bin/false"}
    reached = {**dict.fromkeys(names, elsewhere), **programs, "ansible_host_key_checking": False}
    operation = run(
        play_of(say("checked: {{ ansible_host_key_checking }}"), command("true"), vars=reached),
        {"group_vars/all": json.dumps({"ansible_ssh_common_args": elsewhere})},
    )
    assert operation.status == "succeeded", output(operation)
    assert "checked: True" in output(operation)


# --- proof -----------------------------------------------------------------------------------


def test_the_proof_has_the_last_word(run):
    proof = play_of(command("test {{ beidou_machine.hostname }} = web-1"))
    operation = run(play_of(say("x")), {"proof.yml": proof}, {"verify": "proof.yml"})
    assert cells(operation)["web-1"][0] == "succeeded"
    assert evidence(operation)["proof"]["ok"] == 1
    status, message = cells(operation)["web-2"]
    assert status == "failed"
    assert message.startswith("It is done, but not proved: ")


# --- batches ---------------------------------------------------------------------------------


def test_a_batch_that_failed_too_much_keeps_the_next_from_being_begun(run):
    operation = run(play_of(command("false")), declare={"serial": 1, "max_failed_percent": 0})
    assert cells(operation)["web-1"][1].startswith("Do: ")
    assert cells(operation)["web-2"][1].startswith("Not begun: 1 of 2 machines had failed")


def test_batches_come_one_after_the_other_and_all_machines_are_in_the_inventory(run):
    here = {"hosts": "localhost", "gather_facts": False, "tasks": [say("on the portal")]}
    plays = [here, *json.loads(play_of(say("{{ groups.all | length }} here")))]
    operation = run(json.dumps(plays), declare={"serial": 1})
    assert operation.status == "succeeded"
    said = output(operation)
    assert said.count("on the portal") == 2
    assert said.count("2 here") == 2
    assert "Machines 1 to 1 of 2" in said


# --- secrets and isolation -------------------------------------------------------------------


def test_no_secret_is_in_output_messages_or_evidence(run):
    tasks = (
        say("token is {{ token }} and {{ token | b64encode }}"),
        command("echo {{ token }}; echo {{ token }} >&2; false"),
    )
    operation = run(play_of(*tasks), variables={"token": SECRET})
    whole = output(operation) + json.dumps(cells(operation)) + json.dumps(evidence(operation))
    assert operation.status == "failed"
    assert "●●●" in whole
    assert SECRET not in whole
    assert "dmVyeS1zZWNyZXQtMQ" not in whole


def test_a_playbook_sees_neither_the_portals_files_nor_its_settings(run, settings, monkeypatch):
    monkeypatch.setenv("BEIDOU_SECRET_KEY", "x" * 60)
    (settings.DATA_DIR / "keys").write_text("do not look")
    look = (
        f"ls {settings.DATA_DIR}; cat {settings.DATA_DIR}/keys; cat ../keys ../../keys; env; "
        f"umount {settings.DATA_DIR}; unshare -Urm umount {settings.DATA_DIR}; "
        f"cat {settings.DATA_DIR}/keys; cat /proc/*/environ; true"
    )
    task = {"name": "Look", "ansible.builtin.shell": look, "delegate_to": "localhost",
            "vars": {"ansible_connection": "local"}}  # fmt: skip
    operation = run(
        play_of(task, say("{{ lookup('pipe', 'ls -A " + str(settings.DATA_DIR) + "') }}"))
    )
    said = output(operation)
    assert operation.status == "succeeded", said
    assert "do not look" not in said
    assert "x" * 60 not in said
    assert "BEIDOU_RUN" in said


def test_where_nothing_can_be_hidden_nothing_is_run(run, monkeypatch, settings):
    monkeypatch.setattr(processes, "_can_hide", lambda: False)
    operation = run(play_of(say("x")))
    assert operation.status == "failed"
    assert "cannot hide the portal's own files" in cells(operation)["web-1"][1]


def test_unless_a_setting_says_so(run, monkeypatch, settings):
    monkeypatch.setattr(processes, "_can_hide", lambda: False)
    settings.PLAYBOOK_ISOLATION = "preferred"
    assert run(play_of(say("x"))).status == "succeeded"


# --- before it ------------------------------------------------------------------------------


def test_a_host_that_lets_nobody_in_fails_in_the_first_step(run, hosts, two):
    hosts[1].keys.clear()
    operation = run(play_of(say("x")))
    assert operation.status == "partial"
    assert cells(operation, "preCheck")["web-2"][0] == "failed"
    assert cells(operation)["web-1"][0] == "succeeded"
    assert cells(operation)["web-2"][0] == "waiting"


# --- after a lost worker ---------------------------------------------------------------------


@pytest.fixture
def lost(site, begin, two, admin, work):
    """An operation whose worker died in the step ``run``."""

    def lose(**declare):
        site.release(**declare)
        operation = begin(machines=two, user=admin)
        work(limit=2)  # dispatch, preCheck
        step = operation.steps.get(name="run")
        attempt = engine.claim(step.pk)
        assert attempt is not None
        Step.objects.filter(pk=step.pk).update(lease_until="2020-01-01T00:00:00Z", holder="gone")
        recovery.reap()
        operation.refresh_from_db()
        return operation

    return lose


def test_one_that_is_idempotent_is_run_again(lost, work):
    operation = lost()
    assert operation.steps.get(name="run").status == "waiting"
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded"
    outcomes = Attempt.objects.filter(step__operation=operation, step__name="run")
    assert list(outcomes.values_list("outcome", flat=True).order_by("pk")) == ["lost", "done"]


def test_one_that_is_not_waits_for_a_person(lost):
    operation = lost(idempotent=False)
    assert operation.status == "failed"
    assert "must not be repeated unasked" in cells(operation)["web-1"][1]


def test_what_takes_longer_than_declared_is_ended(run, monkeypatch):
    monkeypatch.setattr("operations.kinds.run_playbook.playing.MINUTE", 0.02)
    operation = run(play_of(command("sleep 60")), declare={"timeout_minutes": 60})
    assert operation.status == "failed"
    assert cells(operation)["web-1"][1] == "Not done within 60 minutes; it was ended."
    assert Operation.objects.get().machines.filter(holds_machine=True).count() == 0


def test_after_its_time_no_further_batch_is_begun(run, monkeypatch):
    monkeypatch.setattr("operations.kinds.run_playbook.playing.MINUTE", 0.02)
    declare = {"timeout_minutes": 60, "serial": 1}
    operation = run(play_of(command("sleep 60")), declare=declare)
    assert cells(operation)["web-1"][1] == "Not done within 60 minutes; it was ended."
    assert cells(operation)["web-2"][1] == "Not begun: the 60 minutes of the playbook were over."
