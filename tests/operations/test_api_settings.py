"""The settings of a cluster's operations: who may change them, and what is refused."""

import math

import pytest

from beidou.base.errors import InvalidInput
from beidou.base.models import AuditEntry
from operations.kinds import scale_up
from operations.models import ClusterSettings
from operations.services import cluster_settings, site_values
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


@pytest.mark.parametrize(
    "policy",
    [
        {"disks_gib": {"data": 500}},
        {"disks_gib": {"/var/../data": 500}},
        {"disks_gib": {"/var": "x"}},
        {"disks_gib": {"/var": -1}},
        {"min_kernel": "kernel 6.1"},
        {"min_containerd": "latest"},
        {"min_os_versions": {"debian": "bookworm"}},
        {"min_os_versions": {"debian": 11}},
        {"ports": ["10250"]},
        {"ports": [True]},
        {"ports": [70_000]},
        {"min_cpus": -1},
        {"min_cpus": 2.5},
        {"commands": [1]},
        {"kernel_modules": ["a b; rm"]},
        {"kernel_settings": {"a/../../b": 1}},
        {"kernel_settings": {"net.ipv4.ip_forward": "1\n2"}},
        {"kernel_setting_minimums": {"fs.inotify.max_user_watches": "many"}},
        {"connect_timeout_seconds": 0},
        {"warn_only": [1]},
    ],
)
def test_a_policy_that_would_check_nothing_is_400(policy, api, owner, cluster_a):
    answer = api(owner).patch(url(cluster_a), {"policy": policy})
    assert answer.status_code == 400
    assert f"{next(iter(policy))} must be a value like" in answer.json()["fields"]["policy"]


@pytest.mark.parametrize(
    "overrides",
    [
        {"artifacts_timeout_seconds": "x"},
        {"artifacts_bin_dir": 5},
        {"artifacts_bin_dir": "usr/bin"},
        {"node_ip": ["a"]},
        {"cgroup_driver": "foo"},
        {"pod_networks": "x"},
        {"probe_image": {"a": 1}},
        {"containerd_registry_mirrors": {"docker.io": "x"}},
        {"containerd_registry_mirrors": {"docker.io": [{"ca": "/a"}]}},
        {"join_cluster_kubelet_extra_args": [{"name": "v"}]},
        {"join_cluster_node_labels": {"rack": 1}},
    ],
)
def test_a_variable_that_no_step_could_use_is_400(overrides, api, owner, cluster_a):
    answer = api(owner).patch(url(cluster_a), {"overrides": overrides})
    assert answer.status_code == 400
    assert f"{next(iter(overrides))} must be a value like" in answer.json()["fields"]["overrides"]


def test_the_default_policy_and_the_defaults_of_the_roles_can_be_saved(api, owner, cluster_a):
    defaults = {
        name: value
        for name, value in cluster_settings._role_defaults().items()
        if name in cluster_settings.overridable()
    }
    asked = {"policy": cluster_settings.default_policy(), "overrides": defaults}
    assert api(owner).patch(url(cluster_a), asked).status_code == 200


def test_everything_that_may_be_set_has_its_form():
    assert site_values.POLICY.keys() == cluster_settings.default_policy().keys()
    assert site_values.VARIABLES.keys() == cluster_settings.overridable()


def test_the_examples_that_are_shown_are_right():
    tests = {**site_values.POLICY, **site_values.VARIABLES}
    assert [name for name, value in site_values.EXAMPLES.items() if not tests[name](value)] == []


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
