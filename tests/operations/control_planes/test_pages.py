"""Where pages offer what changes control planes, and for which machines."""

import pytest
from django.urls import reverse

from beidou.base.page_head import buttons
from clusters.models import Node
from machines.models import Machine

pytestmark = pytest.mark.django_db
TITLE = "Remove a control plane"


def offered(machine, user):
    found = buttons.of(machine, user)
    return {button.label for button in (*found.everyday, *found.others)}


def test_a_control_plane_s_page_offers_to_remove_it(planes, operator):
    assert TITLE in offered(planes[0], operator)


def test_a_worker_s_page_does_not(planes, operator):
    Node.objects.filter(name="n1").update(roles=["worker"])
    planes[0].refresh_from_db()
    assert TITLE not in offered(planes[0], operator)


def test_what_may_have_joined_half_way_can_be_removed_from_its_page(planes, operator):
    Machine.objects.filter(pk=planes[0].pk).update(state="faulty", node=None)
    planes[0].refresh_from_db()
    assert TITLE in offered(planes[0], operator)


def test_the_form_offers_control_planes_alone(browser, operator, planes, cluster):
    Node.objects.filter(name="n3").update(roles=["worker"])
    address = reverse("operations:start") + f"?kind=RemoveControlPlane&cluster={cluster.pk}"
    text = browser(operator).get(address).content.decode()
    assert planes[1].address in text
    assert planes[2].address not in text


def test_a_viewer_is_offered_nothing(planes, viewer):
    assert offered(planes[0], viewer) == set()


def test_the_form_of_a_deletion_asks_for_the_name_and_offers_no_approval(
    browser, admin, planes, cluster
):
    address = reverse("operations:start") + f"?kind=DeleteCluster&cluster={cluster.pk}"
    text = browser(admin).get(address).content.decode()
    assert 'name="params-confirm"' in text
    assert 'name="params-give_up"' in text
    assert "params-approved" not in text


def test_the_tab_access_leads_owners_to_the_deletion_and_operators_not(
    browser, admin, operator, planes, cluster
):
    address = reverse("admin:clusters_cluster_change", args=[cluster.pk]) + "?tab=access"
    assert f"kind=DeleteCluster&amp;cluster={cluster.pk}" in (
        browser(admin).get(address).content.decode()
    )
    assert "DeleteCluster" not in browser(operator).get(address).content.decode()
