"""``/api/v1/overview/`` tells programs what the home page tells people."""

import pytest
from django.urls import reverse

from beidou.base.models import User
from clusters.models import Cluster
from tests import factories
from tests.overview import rows

pytestmark = pytest.mark.django_db


def test_the_figures_are_those_of_the_reader(
    viewer: User, cluster_a: Cluster, cluster_b: Cluster, api
) -> None:
    factories.make_node(cluster_a, is_ready=False)
    factories.make_node(cluster_b)
    operation = rows.make_operation(cluster_a, status="running")
    body = api(viewer).get(reverse("overview")).json()
    assert body["clusters_total"]["count"] == 1
    assert {row["key"]: row["count"] for row in body["nodes"]} == {
        "ready": 0,
        "not_ready": 1,
        "cordoned": 0,
    }
    (running,) = body["running"]
    assert (running["id"], running["step"]) == (operation.pk, "scaleUp")
    assert running["cluster"] == "cluster-a"


def test_an_operation_between_two_steps_has_no_step(viewer: User, cluster_a: Cluster, api) -> None:
    rows.make_operation(cluster_a, status="running").steps.update(status="succeeded")
    assert api(viewer).get(reverse("overview")).json()["running"][0]["step"] == ""


def test_a_stranger_gets_zeros(stranger: User, cluster_a: Cluster, api) -> None:
    body = api(stranger).get(reverse("overview")).json()
    assert body["clusters_total"]["count"] == 0
    assert body["needs"] == []
    assert [row["percent"] for row in body["filling"]] == [None, None, None]


def test_nobody_gets_nothing_without_signing_in(db, api) -> None:
    response = api().get(reverse("overview"))
    assert response.status_code == 401
    assert response.json()["code"] == "not_authenticated"


def test_the_figures_can_only_be_read(admin: User, api) -> None:
    assert api(admin).post(reverse("overview")).status_code == 405
