"""Every address and action of our own in the admin × the people who may not use it on a row.

Addresses are taken from the pages themselves, so that a new one is covered as it is registered.
"""

import re
from collections.abc import Iterator

import pytest

from beidou.base import audit
from clusters.models import Cluster
from tests import rows
from tests.admin_cases import CASES, Case

pytestmark = pytest.mark.django_db
STREAMS = {"events_event_tail"}
"""They have no end, and give the database back: ``tests/events/test_tail.py`` asks for their rights
on a real server."""
DJANGOS = {"changelist", "add", "history", "delete", "change", "autocomplete"}
WORDS = {
    "action": "faulty", "decision": "accept", "verdict": "accept", "kind": "csv", "step": "parse",
}  # fmt: skip


def own_addresses(case: Case, row) -> Iterator[str]:
    """The page's addresses but Django's, filled in for ``row``."""
    meta = case.model._meta
    for url in case.page.get_urls():
        if not url.name or url.name.removeprefix(f"{meta.app_label}_{meta.model_name}_") in DJANGOS:
            continue
        if url.name in STREAMS:
            continue
        path = str(url.pattern).replace("<str:key>", str(row.pk))
        path = re.sub(r"<str:(\w+)>", lambda found: WORDS.get(found[1], "x"), path)
        path = re.sub(r"<int:drift_pk>", "1", path)
        yield f"/{meta.app_label}/{meta.model_name}/{re.sub('<[^>]+>', str(row.pk), path)}"


def stored(case: Case, row) -> dict[str, object]:
    return audit.snapshot(case.model._default_manager.get(pk=row.pk))


def answers(client, case: Case, row, cluster: Cluster) -> Iterator[tuple[str, int, bytes]]:
    """Each address asked and posted to, and each action done to ``row``."""
    for address in own_addresses(case, row):
        yield address, *_answer(client.get(address, {"cluster": cluster.pk}))
        yield address, *_answer(client.post(address, {"reason": "x", "post": "yes"}))
    for each in case.page.actions or ():
        action = each if isinstance(each, str) else each.__name__
        wish = {"action": action, "_selected_action": [row.pk], "post": "yes", "reason": "x"}
        yield action, *_answer(client.post(case.url("changelist"), wish))


def _answer(answer) -> tuple[int, bytes]:
    body = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return answer.status_code, body


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_no_address_or_action_shows_or_changes_a_foreign_row(
    case, who, cast, browser, cluster_a, cluster_b
):
    row = rows.make_row(case.model, cluster_b)
    client = browser(cast[who])
    client.raise_request_exception = False
    before = stored(case, row)
    for address, status, body in answers(client, case, row, cluster_b):
        assert status < 500, address
        assert status != 200 or str(row).encode() not in body, address
        assert stored(case, row) == before, address


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("who", ["viewer", "stranger", "auditor"])
def test_no_address_or_action_changes_anything_for_who_may_only_look(
    case, who, cast, browser, cluster_a
):
    row = rows.make_row(case.model, cluster_a)
    client = browser(cast[who])
    client.raise_request_exception = False
    before = stored(case, row)
    for address, status, _body in answers(client, case, row, cluster_a):
        assert status < 500, address
        assert stored(case, row) == before, address


def test_the_addresses_of_the_pages_are_found(cluster_a):
    found = [
        each for case in CASES for each in own_addresses(case, rows.make_row(case.model, cluster_a))
    ]
    assert len(found) > 10
    assert not [each for each in found if "<" in each]
    assert "/machines/machine/export.csv" in found
