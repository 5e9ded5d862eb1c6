"""What a person may see but not do is refused by a page as by the API: a 403, and noted."""

import ast
from pathlib import Path

import pytest
from django.urls import reverse

from beidou.base import attempts, permissions
from beidou.base.models import AuditEntry
from machines.models import Machine
from operations.models import Operation
from tests import factories, rows
from tests.admin_cases import CASES
from tests.test_admin_addresses import own_addresses

pytestmark = pytest.mark.django_db
HERE = Path(__file__).resolve().parent.parent
APPS = ("beidou", "clusters", "events", "machines", "notifications", "operations")


def refusals() -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(verb=attempts.REFUSED))


def queue_post(operation: Operation, **values: str) -> tuple[str, dict[str, object]]:
    return reverse("operations:queue"), {"operation": operation.pk, **values}


def test_a_viewer_who_cancels_in_the_queue_is_refused(viewer, browser, cluster_a):
    operation = rows.make_row(Operation, cluster_a)
    address, values = queue_post(operation, do="cancel")
    assert browser(viewer).post(address, values).status_code == 403
    (entry,) = refusals()
    assert (entry.object_type, entry.object_id) == ("operations.operation", str(operation.pk))


def test_an_operator_who_gives_high_priority_in_the_queue_is_refused(operator, browser, cluster_a):
    operation = rows.make_row(Operation, cluster_a)
    address, values = queue_post(operation, do="priority", priority="high")
    assert browser(operator).post(address, values).status_code == 403
    assert len(refusals()) == 1


@pytest.mark.parametrize("step", ["plan", "start"])
def test_an_operator_who_would_delete_a_cluster_is_refused(step, operator, browser, cluster_a):
    machine = factories.make_machine(
        cluster=cluster_a, state=Machine.State.IN_SERVICE, role="ControlPlane"
    )
    values = {
        "kind": "DeleteCluster", "cluster": cluster_a.pk, "machines": machine.address,
        "step": step, "params-confirm": cluster_a.name, "params-accept_data_loss": "on",
        "max_failed_percent": 100, "forks": 10, "priority": "normal", "reason": "x",
    }  # fmt: skip
    answer = browser(operator).post(reverse("operations:start"), values)
    assert answer.status_code == 403
    (entry,) = refusals()
    assert entry.object_type == "clusters.cluster"


def test_a_reader_of_playbooks_who_releases_is_refused(auditor, browser):
    revision = factories.make_source_revision()
    address = reverse("admin:operations_sourcerevision_release", args=[revision.pk])
    answer = browser(auditor).post(address, {"digest": revision.digest, "reason": "x"})
    assert answer.status_code == 403
    assert len(refusals()) == 1


def _audited(client, address: str, values: dict[str, object]) -> None:
    """Whatever is answered: a 403 has its entry, and nothing else has one."""
    before = len(refusals())
    status = client.post(address, values).status_code
    assert status in (403, 404, 405), f"{address} {values}: {status}"
    assert len(refusals()) - before == (status == 403), address


def is_reading(word: str) -> bool:
    """What whoever sees the rows may do."""
    return "export" in word


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("who", ["viewer", "auditor"])
def test_every_verb_of_a_page_that_is_refused_is_noted(case, who, cast, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    client = browser(cast[who])
    digest = getattr(row, "digest", "")
    if isinstance(row, Machine):
        row.drift.create(pk=1, field="cpus", intended="1", observed="")  # as its address says
    for address in own_addresses(case, row):
        if not is_reading(address):
            _audited(client, address, {"reason": "x", "post": "yes", "digest": digest})
    for name, args in (("add", []), ("change", [row.pk]), ("delete", [row.pk])):
        _audited(client, case.url(name, *args), {"post": "yes"})


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("who", ["viewer", "auditor"])
def test_every_action_of_a_list_that_is_refused_is_noted(case, who, cast, browser, cluster_a):
    row = rows.make_row(case.model, cluster_a)
    if not permissions.may(cast[who], row):
        return
    client = browser(cast[who])
    for _function, action, _description in case.page._get_base_actions():
        wish = {"action": action, "_selected_action": [row.pk], "post": "yes", "reason": "x"}
        if not is_reading(action):
            _audited(client, case.url("changelist"), wish)


def _pages() -> list[Path]:
    return [
        path
        for app in APPS
        for path in sorted((HERE / app).rglob("*.py"))
        if {"admin", "views", "admin.py", "views.py", "account.py"} & set(path.parts)
        and "api" not in path.parts
    ]


def test_no_page_makes_a_missing_right_a_sentence_among_others():
    """In a loop over many rows each refusal is said; elsewhere it ends the request."""
    found = []
    for path in _pages():
        tree = ast.parse(path.read_text())
        in_loops = {
            id(inner)
            for loop in ast.walk(tree)
            if isinstance(loop, ast.For)
            for inner in ast.walk(loop)
        }
        for handler in ast.walk(tree):
            if isinstance(handler, ast.ExceptHandler) and id(handler) not in in_loops:
                names = {each.id for each in ast.walk(handler.type) if isinstance(each, ast.Name)}
                if names & {"BeidouError", "Exception"}:
                    found.append(f"{path.relative_to(HERE)}:{handler.lineno}")
    assert found == []
    assert len(_pages()) > 30
