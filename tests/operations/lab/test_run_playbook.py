"""A site's own role from git on real hosts: changes, no changes, one that fails, a cancel."""

import json
import subprocess
import time

import pytest

from tests.operations.lab.portal import wait_until

pytestmark = pytest.mark.lab

DECLARATION = """
version: 1
playbooks:
  - name: banner
    playbook: banner.yml
    verify: proof.yml
    title: Set the banner
    states: [available]
    groups: {web: [Compute]}
    parameters:
      properties:
        text: {type: string, maxLength: 100}
        token: {type: string, format: password}
        fail_on: {type: string, default: ""}
        wait_seconds: {type: integer, default: 0, maximum: 300}
      required: [text]
"""
BANNER = """
- name: Set the banner
  hosts: web
  gather_facts: false
  roles: [banner]
"""
ROLE = """
- name: Write the text
  ansible.builtin.copy:
    content: "{{ text }} {{ token | default('') }}\\n"
    dest: /etc/banner
    mode: "0644"

- name: Run what can be told from others
  ansible.builtin.command: sleep {{ wait_seconds }}.25
  changed_when: false

- name: Fail where it is asked for
  ansible.builtin.fail:
    msg: "asked to, with {{ token | default('') }}"
  when: beidou_machine.hostname == fail_on
"""
PROOF = """
- name: Prove the banner
  hosts: web
  gather_facts: false
  tasks:
    - name: Read it
      ansible.builtin.command: grep -q "{{ text }}" /etc/banner
      changed_when: false
"""
SECRET = "lab-secret-value"


@pytest.fixture
def repository(tmp_path, portal):
    """A bare repository with one commit, where the portal may read."""
    work, bare = tmp_path / "work", portal.folder / "playbooks" / "site.git"
    (work / "roles/banner/tasks").mkdir(parents=True)
    for name, text in {
        "beidou.yaml": DECLARATION,
        "banner.yml": BANNER,
        "proof.yml": PROOF,
        "roles/banner/tasks/main.yml": ROLE,
    }.items():
        (work / name).write_text(text)
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for arguments in (
        ["init", "--quiet", "--initial-branch=main"],
        ["add", "--all"],
        ["commit", "--quiet", "--message=site"],
        ["clone", "--quiet", "--bare", ".", str(bare)],
    ):
        subprocess.run([*git, *arguments], check=True)
    return bare


def release(portal, repository):
    """Read the repository, look at what was read, release it."""
    body = {"name": "site", "kind": "git", "location": f"file://{repository}", "ref": "main"}
    source = portal.api.post("playbook-sources/", body)
    portal.api.post(f"playbook-sources/{source['id']}/read/", {})

    def read():
        row = portal.api.get(f"playbook-sources/{source['id']}/")
        assert not row["problem"], row
        return row["read_at"]

    wait_until(read, "the source to be read", 60)
    (revision,) = portal.api.get(f"playbook-revisions/?source={source['id']}")["results"]
    url = f"playbook-revisions/{revision['id']}/release/"
    portal.api.post(url, {"digest": revision["digest"]})
    return revision


def test_a_role_from_git_changes_hosts_once_and_says_who_failed(portal, repository, deliver):
    revision = release(portal, repository)
    hosts = deliver(2)
    machines = portal.register(*hosts)

    def begin(**variables):
        params = {"playbook": "site/banner", "variables": {"text": "hello", **variables}}
        return portal.start_operation("RunPlaybook", machines, params=params)

    def result(operation, seconds=90):
        row = portal.api.wait_for(operation, seconds=seconds)
        cells = {
            each["hostname"]: next(cell for cell in each["steps"] if cell["step"] == "run")
            for each in row["machines"]
        }
        return row, cells

    row, cells = result(begin(token=SECRET))
    assert row["status"] == "succeeded", row
    assert row["params"]["revision"] == revision["revision"]
    assert {cell["evidence"]["recap"]["changed"] for cell in cells.values()} == {1}
    assert all(cell["evidence"]["proof"]["ok"] == 1 for cell in cells.values())
    assert hosts[0].run("cat /etc/banner").strip() == f"hello {SECRET}"

    row, cells = result(begin(token=SECRET))
    assert {cell["evidence"]["recap"]["changed"] for cell in cells.values()} == {0}

    operation = begin(token=SECRET, fail_on=hosts[1].name)
    row, cells = result(operation)
    assert row["status"] == "partial"
    assert cells[hosts[0].name]["status"] == "succeeded"
    assert cells[hosts[1].name]["status"] == "failed"
    assert "asked to, with ●●●" in cells[hosts[1].name]["message"]
    assert SECRET not in json.dumps(row) + "\n".join(portal.output(operation))

    operation = begin(wait_seconds=300)
    wait_until(
        lambda: any("Run what can be told" in line for line in portal.output(operation)),
        "the long task", 60,
    )  # fmt: skip
    began = time.monotonic()
    portal.api.post(f"operations/{operation}/cancel/", {"reason": "enough"})
    row, _cells = result(operation, seconds=30)
    assert time.monotonic() - began <= 10  # five seconds of ours, and what a shared machine adds
    assert row["status"] == "canceled"
    wait_until(lambda: not portal.marked(), "every process of the run to end", 10)
    assert portal.api.get(f"machines/{machines[0]}/")["state"] == "available"
