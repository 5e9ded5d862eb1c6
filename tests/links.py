"""No page leads its reader to a page that is refused to them, or that is not there.

The pages are those of the navigation and of every kind of row; every address of our own found in
them is opened.  What a page shows depends on the rows, so the fleet of this test has one of each
kind, and between them all the references that cross from what one may see to what one may not.
"""

from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

import pytest

from beidou.base import audit, context
from beidou.base.models import ApiToken
from clusters.models import ClusterCredential
from machines.models import Drift, MachineFacts
from operations.models import ClusterSettings, Operation, OperationMachine
from tests import factories, rows
from tests.admin_cases import CASES

TABS = ("overview", "nodes", "components", "machines", "operations", "access", "history")
MAIN = ["/", "/account/", "/operations/start/", "/machines/machine/register/"]
# They end the session, or are files.
LEFT_OUT = (
    "/logout/", "/static/", "/machines/machine/export.", "/base/auditentry/export/",
    "/events/event/export/",
)  # fmt: skip


class Links(HTMLParser):
    """Every address in a page: links, and forms that only ask."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag == "a" and given.get("href"):
            self.found.append(given["href"])
        if tag == "form" and (given.get("method") or "get").lower() == "get":
            self.found.append(given.get("action") or "")


def links_of(address: str, page: str) -> set[str]:
    parser = Links()
    parser.feed(page)
    found = set()
    for link in parser.found:
        place = urlsplit(urljoin(f"http://testserver{address}", link))
        is_ours = place.scheme == "http" and place.netloc == "testserver"
        # The page itself, sorted or filtered otherwise, asks for no other right.
        is_other = place.path != urlsplit(address).path
        if is_ours and is_other and not place.path.startswith(LEFT_OUT):
            found.add(f"{place.path}?{place.query}" if place.query else place.path)
    return found


@pytest.fixture
def linked_fleet(cluster_a, cluster_b, operators, viewers, operator, viewer, admin):
    """Cluster A with everything that a page can lead to, much of it of a team of nobody's."""
    others = factories.make_team("others")
    foreign = factories.make_credential("foreign-key", team=others)
    cluster_a.team = others
    cluster_a.save()
    ClusterCredential.objects.create(cluster=cluster_a, kubeconfig="x")
    node = factories.make_node(cluster_a, is_ready=False)
    factories.make_node(cluster_a, unschedulable=True)
    machine = factories.make_machine(
        cluster=cluster_a, node=node, owner_team=others, credential=foreign, state="in_service"
    )
    elsewhere = factories.make_machine(cluster=cluster_b)
    MachineFacts.objects.create(machine=machine)
    Drift.objects.create(machine=machine, field="vendor", intended="A", observed="B")
    ClusterSettings.objects.create(cluster=cluster_a, credential=foreign)
    operation = Operation.objects.create(name="up-1", kind="ScaleUp", cluster=cluster_a)
    for each in (machine, elsewhere):
        OperationMachine.objects.create(operation=operation, machine=each, address=each.address)
    for user in (operator, viewer):
        factories.make_credential(f"key-of-{user}", team=user.groups.get())
        token, _key = ApiToken.issue(user=user, name="robot")
        factories.make_machine(owner_team=user.groups.get(), credential=foreign)
        with context.acting(actor_id=user.pk, actor_name=str(user)):
            audit.record("sign in", user)
            audit.record("create token", token)
    gone = factories.make_machine(cluster=cluster_a)
    for obj in (
        cluster_a,
        node,
        machine,
        operation,
        others,
        foreign,
        gone,
        *cluster_a.grants.all(),
    ):
        audit.record("change", obj, before={"x": 1}, after={"x": 2})
    gone.delete()
    for case in CASES:
        rows.make_row(case.model, cluster_a)
    return cluster_a


def pages_of(client, fleet) -> list[str]:
    """Those of the main pages and rows that this reader may open."""
    wanted = [*MAIN, *(f"/clusters/cluster/{fleet.pk}/change/?tab={tab}" for tab in TABS)]
    for case in CASES:
        wanted.append(case.url("changelist"))
        for row in case.model._default_manager.order_by("pk")[:5]:
            wanted.append(case.url("change", row.pk))
        wanted.append(case.url("history", row.pk))
    return wanted


def follow_every_link(client, fleet) -> None:
    """Open all pages and whatever they lead to."""
    answers: dict[str, int] = {}
    dead = set()
    for address in pages_of(client, fleet):
        answer = client.get(address, follow=True)
        answers[address] = answer.status_code
        if answer.status_code != 200:
            continue
        for link in links_of(address, answer.content.decode()):
            if link not in answers:
                answers[link] = client.get(link, follow=True).status_code
            if answers[link] >= 400:
                dead.add(f"{address} → {link}: {answers[link]}")
    assert len(answers) > 20
    assert not dead, "\n".join(sorted(dead))
