"""The settings of a cluster's operations: who may change them, and what is refused."""

import math

import pytest

from beidou.base.errors import InvalidInput
from beidou.base.models import AuditEntry
from operations.kinds import scale_up
from operations.models import ClusterSettings
from operations.services import cluster_settings
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(cluster_a):
    team = factories.make_team("owners")
    factories.grant(team, cluster_a, "owner")
    return factories.make_user("owner", teams=(team,))


def url(cluster):
    return f"/api/v1/operation-settings/{cluster.pk}/"


def test_defaults_are_answered_before_anything_was_set(api, viewer, cluster_a):
    answer = api(viewer).get(url(cluster_a))
    assert answer.status_code == 200
    assert answer.json()["artifact_source"] == ""
    assert not ClusterSettings.objects.exists()


def test_an_owner_sets_the_artifact_source_and_it_is_audited(api, owner, cluster_a):
    asked = {"artifact_source": "https://files.example/k8s", "limit": 2, "reason": "moved"}
    answer = api(owner).patch(url(cluster_a), asked)
    assert answer.status_code == 200
    assert ClusterSettings.objects.get(cluster=cluster_a).limit == 2
    entry = AuditEntry.objects.get(object_type="operations.clustersettings")
    assert entry.reason == "moved"
    assert entry.cluster_id == cluster_a.pk


def test_what_is_not_named_stays(api, owner, cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="/srv/files", limit=3)
    api(owner).patch(url(cluster_a), {"limit": None})
    row = ClusterSettings.objects.get()
    assert (row.artifact_source, row.limit) == ("/srv/files", None)


def test_the_same_again_leaves_no_trace(api, owner, cluster_a):
    asked = {"artifact_source": "/srv/files"}
    api(owner).patch(url(cluster_a), asked)
    count = AuditEntry.objects.count()
    api(owner).patch(url(cluster_a), asked)
    assert AuditEntry.objects.count() == count


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"artifact_source": "ftp://files.example"}, "artifact_source"),
        ({"artifact_source": "relative/folder"}, "artifact_source"),
        ({"artifact_source": "/etc"}, "artifact_source"),
        ({"artifact_source": "/srv/../etc"}, "artifact_source"),
        ({"limit": 0}, "limit"),
        ({"limit": 51}, "limit"),
        ({"policy": {"min_cpu": 2}}, "policy"),
        ({"policy": {"min_cpus": "two"}}, "policy"),
        ({"policy": {"swap_allowed": 1}}, "policy"),
        ({"overrides": {"not a name": 1}}, "overrides"),
        ({"overrides": ["list"]}, "overrides"),
        ({"overrides": {"node_ip": "{{ secret }}"}}, "overrides"),
        ({"overrides": {"prepare_os_kernel_settings": {"{% raw %}": 1}}}, "overrides"),
        ({"overrides": {"prepare_os_kernel_settings": [1]}}, "overrides"),
        ({"overrides": {"containerd_registry_mirrors": {"../../x": []}}}, "overrides"),
        ({"overrides": {"containerd_registry_mirrors": {"a": [{"url": "{# x"}]}}}, "overrides"),
        ({"overrides": {"join_cluster_kubelet_extra_args": ["v=2"]}}, "overrides"),
        (
            {"overrides": {"join_cluster_kubelet_extra_args": [{"name": "register-with-taints"}]}},
            "overrides",
        ),
        ({"policy": {"disks_gib": {"{{ x }}": 1}}}, "policy"),
        ({"policy": {"commands": ["{{ x }}"]}}, "policy"),
        ({"credential": 999_999}, "credential"),
    ],
)
def test_a_wrong_value_is_400_and_names_the_field(change, field, api, owner, cluster_a):
    answer = api(owner).patch(url(cluster_a), change)
    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert not ClusterSettings.objects.exists()


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_a_number_without_end_is_no_policy(value, owner, cluster_a):
    """JSON has a number as 1e400, which Python reads as infinite; no JSON column takes that."""
    with pytest.raises(InvalidInput) as refused:
        cluster_settings.save_settings(
            cluster=cluster_a,
            values={"policy": {"max_clock_offset_seconds": value}},
            acting_user=owner,
        )
    assert "cannot be stored" in refused.value.fields["policy"]


def test_a_nul_in_the_json_of_the_form_is_refused(owner, cluster_a):
    with pytest.raises(InvalidInput) as refused:
        cluster_settings.save_settings(
            cluster=cluster_a, values={"overrides": {"node_ip": "\0"}}, acting_user=owner
        )
    assert "cannot be stored" in refused.value.fields["overrides"]


@pytest.mark.parametrize("registry", ["docker.io", "localhost:5000", "10.0.0.1:5000", "_default"])
def test_a_registry_may_have_mirrors(registry, api, owner, cluster_a):
    mirrors = {registry: [{"url": "https://mirror.example"}]}
    answer = api(owner).patch(
        url(cluster_a), {"overrides": {"containerd_registry_mirrors": mirrors}}
    )
    assert answer.status_code == 200


def test_a_credential_of_another_team_cannot_be_borrowed(api, owner, cluster_a):
    foreign = factories.make_credential(team=factories.make_team("others"))
    answer = api(owner).patch(url(cluster_a), {"credential": foreign.pk})
    assert answer.status_code == 400
    assert "credential" in answer.json()["fields"]


def test_operating_a_cluster_does_not_include_its_settings(api, operator, cluster_a):
    assert api(operator).patch(url(cluster_a), {"limit": 2}).status_code == 403


def test_to_a_stranger_they_do_not_exist(api, stranger, cluster_a):
    assert api(stranger).get(url(cluster_a)).status_code == 404
    assert api(stranger).patch(url(cluster_a), {"limit": 2}).status_code == 404


def test_a_folder_that_was_taken_once_and_is_allowed_no_more_blocks_the_plan(cluster_a):
    ClusterSettings.objects.create(cluster=cluster_a, artifact_source="/mnt/k8s")
    reasons = [row.reason for row in scale_up.blockers(cluster_a, [], scale_up.ScaleUpParams())]
    assert any("may not install from this folder" in reason for reason in reasons)
