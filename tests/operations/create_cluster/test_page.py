"""The page that creates a cluster."""

import pytest
from django.urls import reverse

from clusters.models import Cluster
from operations.models import Operation

pytestmark = pytest.mark.django_db
URL = "/operations/create-cluster/"


@pytest.fixture
def form(free, makers):
    return {
        "name": "fresh",
        "team": makers.pk,
        f"role-{free[1].pk}": "ControlPlane",
        f"role-{free[0].pk}": "Compute",
        "params-kubernetes_version": "v1.36.3",
        "params-pod_network": "10.244.0.0/16",
        "params-service_network": "10.96.0.0/16",
        "params-network": "routed",
        "params-probe_namespace": "kube-system",
        "artifact_source": "https://files.example",
        "forks": 10,
        "step": "plan",
    }


@pytest.fixture
def visit(browser, maker):
    return browser(maker)


def test_it_offers_free_machines_and_their_roles(browser, admin, free):
    text = browser(admin).get(URL).content.decode()
    assert f'name="role-{free[0].pk}"' in text
    assert 'name="params-pod_network"' in text


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_whoever_may_not_add_clusters_is_refused(browser, cast, who):
    assert browser(cast[who]).get(URL).status_code == 403


def test_nobody_is_asked_to_sign_in(client):
    assert client.get(URL).status_code == 302


def test_a_plan_is_shown_and_nothing_is_begun(visit, form):
    answer = visit.post(URL, form)
    assert answer.status_code == 200
    assert answer.context["plan"].blockers == ()
    assert "Create the cluster of 2 machines" in answer.content.decode()
    assert not Cluster.objects.filter(name="fresh").exists()


def test_what_was_left_empty_is_shown_empty_again(visit, form):
    text = visit.post(URL, form).content.decode()
    assert ">null<" not in text.replace("\n", "").replace(" ", "")


def test_what_was_planned_is_begun(visit, form, free):
    planned = visit.post(URL, form).context["page"].planned
    answer = visit.post(URL, {**form, "step": "start", "planned": planned})
    operation = Operation.objects.get()
    assert answer["Location"] == reverse("admin:operations_operation_change", args=[operation.pk])
    members = list(operation.machines.order_by("pk").values_list("hostname", "role"))
    assert members == [("free-2", "ControlPlane"), ("free-1", "Compute")]
    live = visit.get(answer["Location"])
    assert live.status_code == 200
    assert "createControlPlane" in live.content.decode()


def test_what_has_changed_since_the_plan_is_not_begun(visit, form):
    planned = visit.post(URL, form).context["page"].planned
    changed = {**form, "params-pod_network": "10.240.0.0/16"}
    answer = visit.post(URL, {**changed, "step": "start", "planned": planned})
    assert answer.status_code == 409
    assert not Operation.objects.exists()


def test_what_is_in_the_way_is_said_and_there_is_no_button(visit, form, free):
    free[0].host_key = ""
    free[0].save()
    text = visit.post(URL, form).content.decode()
    assert "its host key is not pinned yet" in text
    assert 'value="start"' not in text


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "No Name"}, "Small letters"),
        ({"artifact_source": ""}, "This field is required"),
        ({"params-kubernetes_version": "1"}, "is no Kubernetes version"),
        ({"params-pod_network": "10.96.0.0/16"}, "overlap"),
        ({"registry_mirror": "ftp://x"}, "http(s) address"),
        ({"overrides": "{"}, "valid JSON"),
    ],
)
def test_what_is_wrong_is_said(visit, form, change, sentence):
    answer = visit.post(URL, {**form, **change})
    assert answer.status_code == 400
    assert sentence in answer.content.decode().replace("&quot;", '"')


def test_the_list_of_clusters_leads_here(browser, admin, cluster_a, viewer):
    listing = reverse("admin:clusters_cluster_changelist")
    assert URL in browser(admin).get(listing).content.decode()
    assert URL not in browser(viewer).get(listing).content.decode()


def test_the_first_cluster_may_be_adopted_or_created(browser, admin):
    text = browser(admin).get(reverse("admin:clusters_cluster_changelist")).content.decode()
    assert URL in text


def test_a_cluster_that_is_being_created_says_so_on_its_pages(visit, form):
    planned = visit.post(URL, form).context["page"].planned
    visit.post(URL, {**form, "step": "start", "planned": planned})
    cluster = Cluster.objects.get(name="fresh")
    own = visit.get(reverse("admin:clusters_cluster_change", args=[cluster.pk])).content.decode()
    assert "provisioning" in own
    assert "Not yet observed" not in own
    assert "This cluster is being created" in own
    assert "kind=ScaleUp" not in own
    listed = visit.get(reverse("admin:clusters_cluster_changelist")).content.decode()
    assert "provisioning" in listed.split("<tbody")[-1]


def test_the_page_that_starts_operations_does_not_offer_it(browser, admin):
    text = browser(admin).get(reverse("operations:start")).content.decode()
    assert "Make a new cluster" not in text
    answer = browser(admin).get(reverse("operations:start"), {"kind": "CreateCluster"})
    assert answer.context["page"].kind.name == "ScaleUp"


def test_a_mistake_of_the_parameters_stands_at_its_field_once(visit, form):
    answer = visit.post(URL, {**form, "params-pod_network": "10.96.0.0/16"})
    text = answer.content.decode()
    assert text.count("The networks of pods and Services overlap") == 1
    assert "params." not in text.partition("<main")[2]
    assert list(answer.context["page"].params.errors) == ["service_network"]


def test_the_plan_says_what_no_endpoint_means(visit, form):
    sentence = "lost with that machine. This cannot be changed later."
    assert sentence in visit.post(URL, form).content.decode()
    named = {**form, "params-control_plane_endpoint": "api.example.com"}
    assert sentence not in visit.post(URL, named).content.decode()
