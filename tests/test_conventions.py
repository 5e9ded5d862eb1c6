"""Rules of the code base that no tool checks: each one sentence, each with its few exceptions."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import get_commands, load_command_class

from beidou.base import verbs
from beidou.base.admin import ObjectPermissionAdmin
from beidou.base.api.rights import ObjectPermissions
from beidou.base.display import NOTHING
from beidou.base.errors import BeidouError
from beidou.base.permissions import Access
from beidou.base.state import Stateful, StatusChange
from tests.api_cases import ROUTES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [
    name
    for name in (
        "beidou",
        "clusters",
        "machines",
        "operations",
        "notifications",
        "inspection",
        "appcenter",
        "events",
    )
    if (ROOT / name).is_dir()
]
OURS = [
    model
    for model in apps.get_models()
    if model.__module__.split(".")[0] in PACKAGES and not model.__name__.startswith("Historical")
]


def sources(*suffixes: str, folders: list[str] = PACKAGES) -> list[Path]:
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes
        and "ansible" not in path.relative_to(ROOT).parts[:2]
        and "migrations" not in path.parts
        and "vendor" not in path.parts
    )


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node


# --- state --------------------------------------------------------------------------------

STATE_WRITERS = {
    "beidou/base/state.py": "change_status itself",
    "operations/flows": "machines of a task: no lifecycle of their own",
    "operations/services": "cells and parts of an operation: no lifecycle of their own, fenced by "
    "the attempt's number and written many at a time",
    "notifications/services/sending.py": "messages: fenced by the number of the try",
}


def test_a_state_is_written_by_change_status_alone():
    guarded = {model.STATUS_FIELD for model in OURS if issubclass(model, Stateful)}
    found = []
    for path in sources(".py"):
        if name_of(path).startswith(tuple(STATE_WRITERS)):
            continue
        for call in calls(path):
            if isinstance(call.func, ast.Attribute) and call.func.attr in ("update", "bulk_update"):
                named = {keyword.arg for keyword in call.keywords}
                if named & guarded:
                    found.append(f"{name_of(path)}:{call.lineno}")
    assert found == []


@pytest.mark.parametrize(
    "model", [m for m in OURS if issubclass(m, Stateful)], ids=lambda m: m._meta.label
)
def test_every_state_is_in_the_table_of_transitions(model):
    field = model._meta.get_field(model.STATUS_FIELD)
    states = {value for value, _label in field.choices}
    assert set(model.TRANSITIONS) == states
    assert set().union(*model.TRANSITIONS.values()) <= states
    assert issubclass(model._meta.get_field("status_changes").related_model, StatusChange)


# --- audit --------------------------------------------------------------------------------


def calls_of(statement: ast.AST) -> set[str]:
    return {ast.unparse(call.func) for call in ast.walk(statement) if isinstance(call, ast.Call)}


def test_in_a_transaction_the_audit_entry_comes_last():
    """What composes several writes uses ``audit.entries_last``; see there."""
    found = []
    for path in sources(".py"):
        for block in ast.walk(ast.parse(path.read_text())):
            if not isinstance(block, ast.With) or "transaction.atomic" not in {
                name for item in block.items for name in calls_of(item)
            }:
                continue
            recorded = False
            for statement in block.body:
                names = calls_of(statement)
                if recorded and names - {"audit.record", "enqueue_on_commit", "str"}:
                    found.append(f"{name_of(path)}:{statement.lineno}")
                recorded = recorded or "audit.record" in names
    assert found == []


# --- rights -------------------------------------------------------------------------------

WITHOUT_ACCESS = {
    "base.User": "administrators alone",
    "base.AuditHead": "internal: the end of the audit chain",
    "base.AuditWords": "internal: searched through its entry",
    "clusters.ClusterCredential": "write-only; asked for through its cluster",
    "clusters.CollectorLease": "internal: which collector watches what",
    "clusters.Collector": "internal: living collectors",
    "events.ReasonsLearned": "internal: up to when events were looked at",
    "events.EventArchiving": "internal: which process archives events",
    "events.EventForgetting": "internal: which process deletes old events",
    "clusters.ClusterGroupObjectPermission": "guardian's rows, derived from grants",
}


def test_every_model_says_who_may_see_its_rows():
    missing = {
        model._meta.label
        for model in OURS
        if not isinstance(getattr(model, "access", None), Access)
    }
    assert missing == set(WITHOUT_ACCESS) & {model._meta.label for model in OURS}


def test_every_page_of_the_admin_asks_for_object_permissions():
    others = [
        model._meta.label
        for model, page in admin.site._registry.items()
        if not isinstance(page, ObjectPermissionAdmin)
    ]
    assert others == []


def test_what_is_empty_has_one_sign_on_all_pages():
    signs = {page.get_empty_value_display() for page in admin.site._registry.values()}
    assert signs == {NOTHING}
    other = re.compile(r"""\|default(_if_none)?:["'](-|—|n/a)["']""")
    pages = (ROOT / "templates").rglob("*.html")
    assert [path for path in pages if other.search(path.read_text())] == []


BUTTONS = ("actions_list", "actions_row", "actions_detail", "actions_submit_line")


def test_every_action_of_the_admin_declares_the_right_it_needs():
    open_to_all = []
    for model, page in admin.site._registry.items():
        functions = [function for function, _name, _text in page._get_base_actions()]
        functions += [page.get_action(name)[0] for kind in BUTTONS for name in getattr(page, kind)]
        open_to_all += [
            f"{model._meta.label}: {function.__name__}"
            for function in functions
            if not getattr(function, "allowed_permissions", None)
        ]
    assert open_to_all == []


VIEWSETS_OF_THEIR_OWN = {
    "manifests": "no model: the services ask for the right on each named cluster",
    "operation-kinds": "no model: what kinds there are is no secret",
    "task-templates": "ready-made ones have no row: what there is, is no secret; writing is asked "
    "for by the services",
}


def test_every_viewset_asks_for_object_permissions():
    others = {
        route.prefix
        for route in ROUTES
        if ObjectPermissions not in route.viewset.permission_classes
    }
    assert others <= set(VIEWSETS_OF_THEIR_OWN)


# --- talking to others --------------------------------------------------------------------

INSECURE = re.compile(
    r"verify=False|CERT_NONE|shell=True|StrictHostKeyChecking=no|known_hosts=None|AutoAddPolicy"
)
INSECURE_ALLOWED = {
    "clusters/drivers/tls.py": "reads the certificate that is not trusted, to say why; and "
    "insecure-skip-tls-verify where a setting allows it",
}


def test_no_certificate_and_no_host_key_goes_unchecked():
    found = [
        f"{name_of(path)}: {match.group()}"
        for path in sources(".py", ".cfg", ".yml")
        if name_of(path) not in INSECURE_ALLOWED
        for match in INSECURE.finditer(path.read_text())
    ]
    assert found == []


def test_every_request_to_others_has_a_timeout():
    found = []
    for path in sources(".py"):
        for call in calls(path):
            function = ast.unparse(call.func)
            if function in ("urllib.request.urlopen", "urlopen", "socket.create_connection") or (
                re.fullmatch(r"(requests|httpx)\.(get|post|put|patch|delete|request)", function)
            ):
                named = {keyword.arg for keyword in call.keywords}
                if "timeout" not in named and len(call.args) < 2:
                    found.append(f"{name_of(path)}:{call.lineno}")
    assert found == []


# --- pages --------------------------------------------------------------------------------

PAGES = sources(".html", folders=["templates", *PACKAGES])
ASSETS = sources(".css", ".js", folders=["static"])
FOREIGN = re.compile(
    r"""(?:\b(?:src|href|action|srcset|poster)\s*=\s*["']?|url\(["']?|@import\s+["']|"""
    r"""(?:fetch|EventSource|import)\(\s*["'])\s*(?:https?:)?//""",
    re.IGNORECASE,
)
INLINE_SCRIPT = re.compile(r"<script(?![^>]*\bsrc=)(?![^>]*type=[\"']application/json)", re.I)
HANDLER = re.compile(
    r"\son(?:click|change|load|submit|input|error|keyup|keydown|focus|blur)\s*=", re.I
)


@pytest.mark.parametrize("path", [*PAGES, *ASSETS], ids=name_of)
def test_nothing_is_loaded_from_another_host(path):
    assert FOREIGN.findall(path.read_text()) == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_page_has_no_script_of_its_own(path):
    text = path.read_text()
    assert INLINE_SCRIPT.findall(text) == []
    assert HANDLER.findall(text) == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_a_page_marks_text_as_safe_only_where_it_is_known_to_be(path):
    safe = {"templates/account/second_factor_on.html": "the QR code, made by us"}
    if name_of(path) not in safe:
        assert "|safe" not in path.read_text()


# --- sentences ----------------------------------------------------------------------------

WORDS = re.compile(r"[a-z]{2}.*[ .:]|[ :].*[a-z]{2}")  # names of fields and verbs are none
STORED = {"reason", "message", "action", "waiting_for", "msg", "found", "wanted", "advice"}
SPOKEN_BY = {"fail", "note"}  # of a step: the second argument


def errors_of_ours(kind: type[BeidouError] = BeidouError) -> set[str]:
    return {kind.__name__}.union(*(errors_of_ours(each) for each in kind.__subclasses__()))


def is_bare(node: ast.AST | None) -> bool:
    """Whether words of ours stand there that nobody will translate."""
    if isinstance(node, ast.JoinedStr | ast.BoolOp):
        return any(is_bare(part) for part in node.values)
    if isinstance(node, ast.IfExp):
        return is_bare(node.body) or is_bare(node.orelse)
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and WORDS.search(node.value) is not None
    )


def stored_texts(call: ast.Call, errors: set[str]) -> Iterator[ast.AST]:
    """What this call stores or raises, as far as it stands in the call itself."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    yield from (each.value for each in call.keywords if each.arg in STORED)
    if name in errors:
        yield from call.args[:1]
    elif name in SPOKEN_BY:
        yield from call.args[1:2]
    elif name == "Check":
        yield from (each for each in call.args[2:5] if " " in ast.unparse(each).strip("'\""))


UNSTORED = {
    "beidou/base/management/commands/web.py": "the warning that is filtered out",
}


def test_what_is_stored_can_be_read_in_every_language():
    """Texts that end in a row are sentences; see ``beidou.base.sentences``."""
    errors = errors_of_ours()
    hosts = sorted((ROOT / "operations" / "ansible").glob("*/**/*.py"))
    found = []
    for path in [*sources(".py"), *(each for each in hosts if "roles" not in each.parts)]:
        below = path.relative_to(ROOT).parts
        raised = errors if {"drivers", "kinds", "collector"} & set(below) else set()
        if name_of(path) in UNSTORED:
            continue
        for call in calls(path):
            if any(is_bare(text) for text in stored_texts(call, raised)):
                found.append(f"{name_of(path)}:{call.lineno}")
    assert found == []


def refused_texts(call: ast.Call, errors: set[str]) -> Iterator[ast.AST]:
    """What a refusal tells the person who asked: its sentence, and those of its fields."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in errors or name == "ValidationError":
        fields = [each.value for each in call.keywords if each.arg == "fields"]
        for given in [*call.args[:1], *fields]:
            yield from given.values if isinstance(given, ast.Dict) else [given]


def test_every_refusal_is_in_the_language_of_the_person_who_asked():
    """Commands are English: they are read in terminals and logs."""
    errors = errors_of_ours()
    found = []
    for path in sources(".py"):
        if "management" in path.parts or name_of(path) == "beidou/base/rotation.py":
            continue
        for call in calls(path):
            if any(is_bare(text) for text in refused_texts(call, errors)):
                found.append(f"{name_of(path)}:{call.lineno}")
    assert found == []


def test_every_sentence_stands_in_the_code_and_names_what_is_put_into_it():
    """Else it would not be collected for translation, or show its pattern to people."""
    found = []
    files = [*sources(".py"), *sorted((ROOT / "operations" / "ansible").glob("*/**/*.py"))]
    for path in files:
        for call in calls(path):
            if getattr(call.func, "id", "") != "Sentence" or path.stem == "sentences":
                continue
            text = call.args[0] if call.args else None
            given = {each.arg for each in call.keywords}
            pattern = text.value if isinstance(text, ast.Constant) else None
            if not isinstance(pattern, str) or len(call.args) > 1:
                found.append(f"{name_of(path)}:{call.lineno}: no text of its own")
            elif None not in given and set(re.findall(r"%\((\w+)\)", pattern)) != given:
                found.append(f"{name_of(path)}:{call.lineno}: {pattern}")
    assert found == []


def recorded_verbs(call: ast.Call) -> Iterator[str]:
    """The verbs that this call puts into the audit trail, up to the first part that varies."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if name in ("record", "record_all") and call.args:
        given = call.args[0]
        for part in (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,):
            if isinstance(part, ast.JoinedStr):
                part = part.values[0]
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part.value


def test_every_deed_in_the_audit_trail_has_a_name_in_every_language():
    found = {
        verb for path in sources(".py") for call in calls(path) for verb in recorded_verbs(call)
    }
    assert {verb for verb in found if not verb.endswith(" ")} <= verbs.VERBS
    assert {verb.strip() for verb in found if verb.endswith(" ")} <= verbs.PATTERNS.keys()


# --- the code itself ----------------------------------------------------------------------


def test_no_module_is_named_after_nothing():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [name_of(path) for path in sources(".py") if path.stem in vague] == []


def test_every_command_says_what_it_does():
    silent = [
        name
        for name, app in get_commands().items()
        if str(app).split(".")[0] in PACKAGES and not load_command_class(str(app), name).help
    ]
    assert silent == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX"])
def test_nothing_is_left_to_do_in_the_code(word):
    assert [name_of(path) for path in sources(".py", ".html") if word in path.read_text()] == []
