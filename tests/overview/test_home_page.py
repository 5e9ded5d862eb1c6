"""The home page: real figures, through the reader's rights, in a constant number of queries."""

import re

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from beidou.base.models import User
from clusters.models import Cluster
from machines.models import Machine
from tests import factories
from tests.overview import rows

pytestmark = pytest.mark.django_db


def numbers(page: str, name: str) -> int:
    """The number of the figure called ``name``."""
    found = re.search(
        rf'id="figure-{name}"[^>]*>\s*<span class="bd-figure-number[^>]*>([\d,]+)<', page
    )
    assert found, f"no figure {name}"
    return int(found[1].replace(",", ""))


def home(client) -> str:
    response = client.get(reverse("admin:index"))
    assert response.status_code == 200
    return str(response.content.decode())


def queries_of_home(client) -> int:
    client.get(reverse("admin:index"))  # what is looked up once per process
    with CaptureQueriesContext(connection) as captured:
        home(client)
    return len(captured)


def test_an_empty_portal_tells_an_administrator_to_adopt_a_cluster(admin: User, browser) -> None:
    page = home(browser(admin))
    assert "Start here" in page
    assert "Adopt one: paste its kubeconfig" in page


def test_somebody_without_grants_is_told_whom_to_ask(stranger: User, cluster_a, browser) -> None:
    page = home(browser(stranger))
    assert "Ask the owner of a cluster" in page
    assert cluster_a.name not in page
    assert "Adopt a cluster" not in page


def test_a_running_operation_of_a_cluster_without_verified_tls_is_marked(
    viewer: User, cluster_a: Cluster, browser
) -> None:
    rows.make_operation(cluster_a, status="running")
    assert "TLS not verified" not in home(browser(viewer))
    Cluster.objects.filter(pk=cluster_a.pk).update(insecure_tls=True)
    running = home(browser(viewer)).split('id="running-title"')[1].split("</section>")[0]
    assert "TLS not verified" in running


def test_figures_count_only_what_one_may_see(
    admin: User, viewer: User, cluster_a: Cluster, cluster_b: Cluster, browser
) -> None:
    for cluster, count in ((cluster_a, 2), (cluster_b, 3)):
        for _ in range(count):
            factories.make_node(cluster)
        factories.make_machine(cluster=cluster, state=Machine.State.IN_SERVICE)
    mine, all_of_it = home(browser(viewer)), home(browser(admin))
    assert cluster_b.name not in mine
    assert cluster_b.name in all_of_it
    for name, seen, whole in (("clusters-all", 1, 2), ("nodes-all", 2, 5), ("machines-all", 1, 2)):
        assert (numbers(mine, name), numbers(all_of_it, name)) == (seen, whole)


def test_one_cluster_is_not_called_clusters(viewer: User, cluster_a: Cluster, browser) -> None:
    page = home(browser(viewer))
    assert '<span class="bd-figure-label">cluster</span>' in page
    assert '<span class="bd-figure-label">nodes</span>' in page


@pytest.mark.parametrize("who", ["admin", "operator"])
def test_the_number_of_queries_does_not_grow_with_the_fleet(
    who: str, cast: dict[str, User], operators: Group, cluster_a: Cluster, browser
) -> None:
    fill(cluster_a)
    client = browser(cast[who])
    one = queries_of_home(client)
    for _ in range(49):
        cluster = factories.make_cluster()
        factories.grant(operators, cluster, "operator")
        fill(cluster)
    many = queries_of_home(client)
    assert many == one
    assert many <= 26


def fill(cluster: Cluster) -> None:
    """Something of every kind that the page speaks of."""
    Cluster.objects.filter(pk=cluster.pk).update(
        health=Cluster.Health.DEGRADED, health_reason="1 of 2 nodes not ready"
    )
    factories.make_node(cluster, is_ready=False)
    machine = factories.make_machine(cluster=cluster, state=Machine.State.FAULTY)
    machine.drift.create(field="cpus", intended="4", observed="2")
    for status in ("running", "waiting", "failed"):
        rows.make_operation(cluster, status=status)


def test_the_refresh_gives_the_inner_part_alone(viewer: User, cluster_a, browser) -> None:
    response = browser(viewer).get(reverse("admin:overview_now"))
    page = response.content.decode()
    assert "Needs you" in page
    assert "<html" not in page
    assert response["Cache-Control"] == "no-store"


def test_the_refresh_of_a_signed_out_page_asks_for_a_reload_instead_of_a_form(client) -> None:
    response = client.get(reverse("admin:overview_now"))
    assert response.status_code == 401
    assert response["HX-Refresh"] == "true"


def test_every_figure_leads_to_a_list_with_as_many_rows(
    admin: User, cluster_a: Cluster, browser
) -> None:
    fill(cluster_a)
    factories.make_node(cluster_a, unschedulable=True)
    factories.make_machine(state=Machine.State.AVAILABLE)
    client = browser(admin)
    page = home(client)
    figure = r'id="figure-[^"]+" href="([^"]+)">\s*<span class="bd-figure-number[^>]*>([\d,]+)<'
    links = re.findall(figure, page)
    assert len(links) > 8
    for address, number in links:
        response = client.get(address.replace("&amp;", "&"))
        assert response.status_code == 200, address
        assert len(response.context["cl"].result_list) == int(number), address
