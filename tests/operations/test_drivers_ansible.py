"""What reaches a playbook is data, and what ansible says becomes events."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from beidou.base.errors import InvalidInput, PermanentError
from beidou.base.storable import is_storable
from operations.drivers import ansible, artifacts, processes
from operations.kinds.scale_up import ScaleUpParams
from operations.services.cluster_settings import overridable
from tests.operations.portal import until

TRAP = "{{ lookup('pipe', 'echo broken into') }}"
PLAY = """
- name: Show
  hosts: all
  gather_facts: false
  tasks:
    - name: Show
      ansible.builtin.debug:
        msg: "{{ label }} {{ nested.deep[0] }} {{ node_name }}"
"""
LOOPS = """
- name: Loop
  hosts: all
  gather_facts: false
  tasks:
    - name: Show the keys as values
      ansible.builtin.debug:
        msg: "{{ item.key }} has {{ item.value | string }}"
      loop: "{{ mirrors | dict2items + own | dict2items + mirrors.inner | dict2items }}"
      loop_control:
        label: "{{ item.key }}"
"""


def play(folder: Path, text: str, values: dict[str, Any], host: dict[str, Any]) -> str:
    """What ansible-playbook prints for the play, with files as the driver writes them."""
    (folder / "variables.yml").write_text(ansible.as_plain_yaml(values))
    (folder / "hosts.yml").write_text(ansible.as_inventory({"h": host}))
    (folder / "play.yml").write_text(text)
    done = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("-i", "hosts.yml", "-e", "@variables.yml", "play.yml"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_no_value_is_ever_taken_for_a_template(tmp_path: Path) -> None:
    values = {"label": TRAP, "nested": {"deep": [TRAP]}}
    printed = play(tmp_path, PLAY, values, {"ansible_connection": "local", "node_name": TRAP})
    assert printed.count("lookup('pipe'") == 3
    assert "broken into\n" not in printed


def test_no_key_is_ever_taken_for_a_template_even_where_it_becomes_a_value(tmp_path: Path) -> None:
    proof = tmp_path / "broken-into"
    trap = f"{{{{ lookup('pipe', 'touch {proof}') }}}}"
    values = {"mirrors": {trap: ["https://x"], "inner": {trap: {trap: 1}}}}
    host = {"ansible_connection": "local", "own": {trap: [{trap: 1}]}}
    printed = play(tmp_path, LOOPS, values, host)
    assert printed.count(f"touch {proof}") > 3
    assert not proof.exists()


def test_the_keys_of_an_inventory_still_say_how_to_reach_a_host(tmp_path: Path) -> None:
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    text = "- hosts: h\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n"
    assert "ok=1" in play(tmp_path, text, {}, host)


@pytest.mark.parametrize("labels", [{"a": TRAP}, {TRAP: "a"}, {"a b": "c"}, {"a": "b c"}])
def test_a_label_that_kubernetes_would_refuse_is_refused(labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no label"):
        ScaleUpParams(labels=labels)


@pytest.mark.parametrize("taint", ["a=b", f"{TRAP}:NoSchedule", "a=b c:NoSchedule", ":NoSchedule"])
def test_a_taint_that_kubernetes_would_refuse_is_refused(taint: str) -> None:
    with pytest.raises(ValueError, match="no taint"):
        ScaleUpParams(taints=[taint])


def test_a_taint_may_have_no_value() -> None:
    assert ScaleUpParams(taints=["dedicated:NoExecute"]).taints == ["dedicated:NoExecute"]


@pytest.mark.parametrize(
    "name", ["ansible_connection", "ansible_ssh_common_args", "bootstrap_token", "artifacts_list"]
)
def test_a_site_may_not_set_what_decides_where_and_how_to_run(name: str) -> None:
    assert name not in overridable()


@pytest.mark.parametrize(
    "name",
    [
        "join_cluster_joining_taint",
        "kubernetes_node_is_joined",
        "kubernetes_node_has_new_kubelet",
    ],
)
def test_a_site_may_not_set_what_the_steps_of_a_join_rely_on(name: str) -> None:
    assert name not in overridable()


@pytest.mark.parametrize("name", ["containerd_cni_bin_dir", "probe_image", "sandbox_image"])
def test_a_site_may_set_the_variables_of_our_roles(name: str) -> None:
    assert name in overridable()


@pytest.mark.parametrize(
    "source",
    ["ftp://x/y", "http://u:p@x/y", "http://x/y?z=", "relative/folder", "http://x/#a",
     "http://[::1", "http://x:port/y"],
)  # fmt: skip
def test_an_address_that_is_no_artifact_source_is_refused_without_repeating_it(source: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        artifacts.check_source(source, folders=[])
    assert source not in caught.value.message


def test_a_bad_line_of_checksums_is_named_by_number_only() -> None:
    with pytest.raises(PermanentError, match="Line 2") as caught:
        artifacts.parse_sums(f"{'0' * 64}  kubelet\nsecret answer\n")
    assert "secret" not in caught.value.message


def test_artifacts_of_a_folder_are_found_with_their_checksums(tmp_path: Path) -> None:
    folder = tmp_path / "kubernetes/v1.36.3/amd64"
    folder.mkdir(parents=True)
    names = (*artifacts.REQUIRED, "images.tar", "unknown.bin")
    (folder / "SHA256SUMS").write_text("".join(f"{'a' * 64}  {name}\n" for name in names))
    found = artifacts.for_worker(str(tmp_path), version="v1.36.3", folders=[tmp_path])
    assert [one.name for one in found] == [*artifacts.REQUIRED, "images.tar"]
    assert found[0].src == str(folder / "kubelet")


def test_an_artifact_source_without_the_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="no readable"):
        artifacts.for_worker(str(tmp_path), version="v1.36.3", folders=[tmp_path])


def test_processes_are_found_by_their_mark_and_ended() -> None:
    process = subprocess.Popen(["sleep", "60"], env={processes.MARK: "test-mark"})
    # It is there a moment before the system shows with which environment.
    until(lambda: psutil.Process(process.pid).environ(), "its environment")
    assert processes.end_marked("test-mark") == 1
    assert process.poll() is not None


@pytest.fixture
def through(tmp_path: Path) -> Callable[..., ansible.Outcome]:
    """``through(script)``: a playbook on one host, to which this shell script is the way."""

    def run(
        script: str,
        on_event: Callable[[ansible.Event], None] = lambda _event: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> ansible.Outcome:
        ssh = tmp_path / "ssh"
        ssh.write_text(f"#!/bin/sh\n{script}\n")
        ssh.chmod(0o700)
        host = ansible.Host(
            key="m1",
            address="127.0.0.1",
            port=22,
            user="root",
            host_key="ssh-ed25519 AAAA",
            variables={"ansible_ssh_executable": str(ssh)},
        )
        return ansible.run_playbook(
            playbook="stop_units",
            hosts=[host],
            variables={"unit_prefix": "beidou-1-1"},
            folder=tmp_path / "run",
            mark=tmp_path.name,
            forks=1,
            on_event=on_event,
            should_stop=should_stop,
        )

    return run


def test_a_run_is_asked_whether_to_stop_while_a_host_hangs(through, tmp_path: Path) -> None:
    """More often than a connection hangs for two seconds; ansible-runner's own pace is five."""
    asked = iter(range(1000))
    tried = tmp_path / "tried"
    through(f"echo >> {tried}; sleep 2; exit 255", should_stop=lambda: next(asked) < 0)
    assert next(asked) > len(tried.read_text())


def test_bytes_that_are_no_text_reach_nobody_as_half_characters(through) -> None:
    events: list[ansible.Event] = []
    outcome = through("printf '\\260\\241\\n' >&2; exit 255", on_event=events.append)
    assert "\ufffd" in outcome.failed["m1"]
    assert is_storable(outcome.failed["m1"])
    assert all(is_storable(str(event)) for event in events)


def test_the_sockets_of_a_run_are_found_by_its_mark_while_it_runs(through, tmp_path: Path) -> None:
    seen: set[str] = set()

    def look(_event: ansible.Event) -> None:
        seen.update(mark for mark, _folder in ansible.socket_folders())

    through("exit 255", on_event=look)
    assert tmp_path.name in seen
    assert tmp_path.name not in dict(ansible.socket_folders())


def built(base: Path) -> dict[str, int]:
    """Files of modules that were built in runs below ``base``, and which file each is."""
    found = (path for path in (base / "built-modules").rglob("*") if path.is_file())
    return {path.name: path.stat().st_ino for path in found if path.suffix != ".lock"}


def test_a_module_is_built_once_for_many_runs(through, tmp_path: Path) -> None:
    through("exit 255")
    first = built(tmp_path)
    through("exit 255")
    assert any("unit_stop" in name for name in first)
    assert built(tmp_path) == first


def test_a_run_goes_on_where_nothing_can_be_kept(through, tmp_path: Path) -> None:
    (tmp_path / "built-modules").touch()
    assert "m1" in through("exit 255").failed
