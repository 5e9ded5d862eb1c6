"""What the playbooks ask for is written down, and what is written down is asked for."""

import ast
import re

import pytest
import yaml

from tests.operations.ansible.playbooks import ANSIBLE

README = (ANSIBLE / "README.md").read_text()
PLAYBOOKS = sorted((ANSIBLE / "playbooks").glob("*.yml"))
ROLES = sorted(path for path in (ANSIBLE / "roles").iterdir() if path.is_dir())
DOCUMENTED = set(re.findall(r"`(\w+)`(?:, `\w+`)*(?: \*per machine\*)? \|", README)) | {
    name
    for line in README.splitlines()
    if line.startswith("| `")
    for name in re.findall(r"`(\w+)`", line.split("|")[1])
}
WORDS_OF_JINJA = {"default", "omit", "combine", "map", "select", "list", "attribute", "recursive"}
OWN = {"default_policy", "effective_policy", "join_cluster_membership", "artifacts_installed"}


def variables_of(playbook):
    """Names in the expressions of a playbook that are neither Jinja's nor made by itself."""
    expressions = re.findall(r"\{\{(.*?)\}\}", playbook.read_text())
    names = {n for e in expressions for n in re.findall(r"(?<![\w.'])[a-z]\w*(?!')", e)}
    return names - WORDS_OF_JINJA - OWN - {"in", "true", "false"}


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_variable_of_a_playbook_is_in_the_contract(playbook):
    assert variables_of(playbook) - DOCUMENTED == set()


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_every_playbook_is_in_the_readme_and_gathers_no_facts(playbook):
    assert f"| `{playbook.name}` |" in README
    assert all(play["gather_facts"] is False for play in yaml.safe_load(playbook.read_text()))


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_default_of_a_role_is_checked_as_an_argument_and_begins_with_its_name(role):
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text())
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())
    arguments = set(specs["argument_specs"]["main"]["options"])
    assert set(defaults) <= arguments
    assert all(name.startswith(f"{role.name}_") for name in defaults)


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_role_tells_what_it_does(role):
    assert (role / "README.md").read_text().startswith(f"# {role.name}\n")


def test_the_token_is_marked_as_a_secret_wherever_it_is_an_argument():
    specs = yaml.safe_load((ANSIBLE / "roles/join_cluster/meta/argument_specs.yml").read_text())
    assert specs["argument_specs"]["main"]["options"]["join_cluster_bootstrap_token"]["no_log"]


HOST_CODE = sorted(
    path
    for place in ("library", "module_utils", "roles")
    for path in (ANSIBLE / place).rglob("*.py")
)


@pytest.mark.parametrize("path", HOST_CODE, ids=lambda path: path.stem)
def test_what_runs_on_hosts_is_python_3_9(path):
    ast.parse(path.read_text(), feature_version=(3, 9))


def test_host_keys_are_always_checked():
    configuration = (ANSIBLE / "ansible.cfg").read_text()
    assert "host_key_checking = true" in configuration
    assert "StrictHostKeyChecking=yes" in configuration
