"""What README and docs name exists: files, headings, commands, settings, rights, codes."""

import argparse
import importlib.util
import re
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands

from beidou.base import config
from clusters.services import capabilities
from lab.__main__ import _parser
from machines.files.resource import COLUMNS
from machines.models import Machine
from machines.services import lifecycle
from operations.kinds.base import KINDS
from operations.kinds.health import changes
from operations.services import manifests
from operations.services.cluster_settings import default_policy
from tests import factories
from tests.api_cases import ROUTES

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """The anchors a page has, by the rule of the usual viewers."""
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


def links(page: Path) -> Iterator[str]:
    prose = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return (link for link in LINK.findall(prose) if "://" not in link)


def is_dead(page: Path, link: str) -> bool:
    path, _hash, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return True
    return bool(anchor) and anchor not in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_picture_leads_somewhere(page):
    assert [link for link in links(page) if is_dead(page, link)] == []


def test_every_page_of_docs_is_reached_from_the_index():
    index = ROOT / "docs" / "index.md"
    named = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    pages = set((ROOT / "docs").glob("*.md")) - {index}
    assert sorted(page.name for page in pages - named) == []


def named_in_docs(pattern: str) -> set[str]:
    return set(chain.from_iterable(re.findall(pattern, page.read_text()) for page in PAGES))


def test_every_manage_command_exists():
    named = named_in_docs(r"(?:manage\.py|beidou-manage) ([a-z][a-z_]+)\b(?!\.py)")
    assert named - set(get_commands()) == set()


def test_the_table_of_addresses_has_every_one():
    table = re.findall(r"^\| (`.+?) \|", text_of("docs/api.md"), flags=re.MULTILINE)
    named = set(re.findall(r"`([a-z-]+)`", " ".join(table)))
    assert named == {route.prefix for route in ROUTES} | {"overview"}


def test_every_kind_and_field_of_a_manifest_is_named():
    text = text_of("docs/api.md").partition("## Manifests")[2].partition("\n## ")[0]
    fields = manifests.OperationDocument.typed.model_fields["spec"].annotation.model_fields
    assert [name for name in (*manifests.DOCUMENTS, *fields) if name not in text] == []


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", text_of("Makefile"), flags=re.MULTILINE))
    named = named_in_docs(r"(?:`|^    )make ([a-z-]+)")
    assert named - targets == set()


def test_every_command_of_the_lab_exists():
    actions: list[Any] = _parser()._actions
    known = next(each.choices for each in actions if isinstance(each, argparse._SubParsersAction))
    assert named_in_docs(r"python -m lab ([a-z-]+)") - set(known or ()) == set()


def test_every_setting_exists():
    known = {variable.environment for variable in config.VARIABLES}
    named = named_in_docs(r"\b(BEIDOU_[A-Z_]+)\b")
    assert {name for name in named - known if not name.startswith("BEIDOU_LAB")} == set()


# --- the tables of single pages --------------------------------------------------------------


def granted() -> dict[str, set[tuple[str, str, str, str]]]:
    """Of the two YAML texts in adopt.md: (verb, group, resource, namespace), "" for all."""
    texts = re.findall(r"```yaml\n(.*?)```", text_of("docs/adopt.md"), flags=re.DOTALL)
    found: dict[str, set[tuple[str, str, str, str]]] = {}
    for name, text in zip(("view", "operate"), texts, strict=True):
        found[name] = {
            (verb, group, resource, document["metadata"].get("namespace", ""))
            for document in yaml.safe_load_all(text)
            for rule in document.get("rules", ())
            for verb in rule["verbs"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
        }
    return found


def works_with(rights: set[tuple[str, str, str, str]]) -> set[str]:
    def allowed(access: Any) -> bool:
        name = f"{access.resource}/{access.subresource}".rstrip("/")
        here = (access.verb, access.group, name, access.namespace)
        return here in rights or (*here[:3], "") in rights

    return {item.key for item in capabilities.CAPABILITIES if all(map(allowed, item.accesses))}


def test_the_service_account_that_may_look_gets_what_the_page_says():
    assert works_with(granted()["view"]) == {"inventory", "components", "events", "inspection"}


def test_the_service_account_that_may_operate_gets_everything_but_deploying():
    both = granted()["view"] | granted()["operate"]
    assert works_with(both) == {item.key for item in capabilities.CAPABILITIES} - {"deploy"}


def test_the_test_pods_may_run_where_they_run_unless_told_otherwise():
    namespace = KINDS["ScaleUp"].params().model_dump()["probe_namespace"]
    assert {(verb, "", "pods", namespace) for verb in ("create", "get", "delete")} <= granted()[
        "operate"
    ]


def test_every_refusal_of_a_kubeconfig_is_explained():
    modules = ("kubeconfig", "kubeconfig_checks", "kubeconfig_text")
    code = "".join(text_of(f"clusters/drivers/{name}.py") for name in modules)
    page = text_of("docs/adopt.md")
    assert [c for c in re.findall(r'"(kubeconfig_\w+)"', code) if f"`{c}`" not in page] == []


def test_the_table_of_a_machines_life_is_that_of_the_code():
    labels = {str(state.label): state.value for state in Machine.State}
    rows = re.findall(r"^\| ([A-Z][a-z ]+) \| (.+?) \| ", text_of("docs/machines.md"), re.MULTILINE)
    shown = {
        labels[name]: {labels[word] for word in cell.split(", ") if word in labels}
        for name, cell in rows
        if name in labels
    }
    assert shown == {str(old): set(new) for old, new in lifecycle.BY_HAND.items()}


def test_the_columns_of_the_import_file_are_all_explained():
    page = text_of("docs/machines.md")
    assert [name for name in COLUMNS if f"`{name}`" not in page] == []


def test_every_key_of_the_policy_is_explained():
    page = text_of("docs/scale-up.md")
    assert [name for name in default_policy() if f"| `{name}` |" not in page] == []


def test_every_answer_to_a_scale_down_is_explained():
    page = text_of("docs/scale-down.md")
    assert [name for name in KINDS["ScaleDown"].answers if f"| `{name}` |" not in page] == []


def test_every_option_and_change_of_a_health_check_is_explained():
    page = text_of("docs/health-check.md")
    names = [*KINDS["HealthCheck"].params.model_fields, *filter(None, changes.Change)]
    assert [name for name in names if f"| `{name}` |" not in page] == []


def test_every_playbook_variable_exists():
    table = text_of("docs/scale-up.md").partition("## Playbook variables")[2]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in
             re.findall(r"`(\w+)`", row)}  # fmt: skip
    folder = ROOT / "operations"
    sources = [*folder.glob("ansible/roles/*/defaults/main.yml"), *folder.glob("kinds/*.py")]
    sources += folder.glob("ansible/playbooks/*.yml")
    code = "\n".join(source.read_text() for source in sources)
    assert named
    assert {name for name in named if not re.search(rf"\b{name}\b", code)} == set()


def source_text() -> str:
    """All texts of the product with their literals joined as the interpreter joins them."""
    files = chain.from_iterable(
        (ROOT / app).rglob("*.py") for app in ("beidou", "clusters", "machines", "operations")
    )
    joined = re.sub(r'"\s*f?"', "", "\n".join(file.read_text() for file in files))
    return re.sub(r"\s+", " ", joined)


def test_every_sentence_of_troubleshooting_stands_in_the_code():
    rows = re.findall(r"^\| (.+?) \| ", text_of("docs/troubleshooting.md"), re.MULTILINE)
    sentences = [s for row in rows for s in re.findall(r"\*(.{12,}?)\*|`([^`]* [^`]*)`", row)]
    parts = [p.strip(" .:*") for s in sentences for p in "".join(s).split("…")]
    code = source_text()
    strange = [part for part in parts if len(part) >= 10 and part not in code]
    assert strange == ["Address already in use"]  # the operating system's own words


@pytest.fixture
def screenshots() -> Any:
    spec = importlib.util.spec_from_file_location("screenshots", ROOT / "docs" / "screenshots.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["screenshots"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["screenshots"]


@pytest.mark.django_db
def test_the_pictures_are_of_what_the_api_finds_and_of_workers(screenshots, api, admin, cluster_a):
    in_service = {"cluster": cluster_a, "state": Machine.State.IN_SERVICE}
    older = factories.make_machine(node=factories.make_node(cluster_a), **in_service)
    newest = factories.make_machine(node=factories.make_node(cluster_a), **in_service)
    plane = factories.make_node(cluster_a, roles=["control-plane"])
    factories.make_machine(node=plane, role="ControlPlane", **in_service)
    addresses = {name: address for name, address, _page in screenshots.OBJECTS}
    addresses |= dict((screenshots.HEALTH, screenshots.TASK))
    found = {}
    for name, address in addresses.items():
        answer = api(admin).get(address)
        assert answer.status_code == 200, answer.content
        found[name] = [row["id"] for row in answer.json()["results"]]
    assert found["machine"] == [newest.pk, older.pk]
    assert found["node"] == [newest.node_id, older.node_id]
