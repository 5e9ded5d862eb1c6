"""Adopting a cluster: what is checked, what is refused and what is stored."""

import base64
import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from django.test import override_settings

from beidou.base.errors import BeidouError, Conflict, InvalidInput
from beidou.base.models import AuditEntry
from beidou.base.permissions import may
from clusters.drivers import errors, kubeconfig
from clusters.models import VERSION_LENGTH, Cluster, ClusterCredential
from clusters.services import adoption, connections, grants
from clusters.services.adoption import AlreadyAdopted, Details
from clusters.services.checking import STEP_KEYS, Check, Source
from tests import factories
from tests.clusters.conftest import ACCESS_REVIEWS, KUBE_SYSTEM, REVIEWS, allow_all_but, prepare
from tests.fakes.kube_api import FakeKubeApi, Reply, make_kubeconfig, status_reply

pytestmark = pytest.mark.django_db


def failed_step(source: Source) -> tuple[str, BeidouError]:
    """The step that failed and its error; the ones after it must have been skipped."""
    findings = adoption.check(source)
    assert findings.error is not None
    position = next(i for i, step in enumerate(findings.steps) if step.status == "failed")
    assert all(step.status == "skipped" for step in findings.steps[position + 1 :])
    return findings.steps[position].key, findings.error


def test_a_good_cluster_passes_every_step_in_order(kube):
    findings = adoption.check(Source(kubeconfig=kube.kubeconfig()))
    assert [step.key for step in findings.steps] == list(STEP_KEYS)
    assert {step.status for step in findings.steps} == {"ok"}


def test_checking_writes_nothing_here(kube):
    adoption.check(Source(kubeconfig=kube.kubeconfig()))
    assert not Cluster.objects.exists()
    assert not AuditEntry.objects.exists()


def test_checking_writes_nothing_there(kube):
    adoption.check(Source(kubeconfig=kube.kubeconfig()))
    writes = {request.path for request in kube.requests if request.method != "GET"}
    assert writes == {REVIEWS, ACCESS_REVIEWS}


def test_a_step_can_be_asked_for_alone(kube):
    run = Check(Source(kubeconfig=kube.kubeconfig()), accept_uid=adoption.refuse_known)
    assert [step.key for step in run.run(only="version")] == ["version"]


def test_adopting_stores_the_cluster_the_credential_and_one_audit_entry(kube, admin):
    source = Source(kubeconfig=kube.kubeconfig())
    cluster = adoption.adopt(source=source, details=Details(name="prod-1", labels={"a": "b"}))
    assert (cluster.server, cluster.version) == (kube.server, "v1.36.3")
    assert cluster.can("scale_up")
    assert cluster.credential.subject == "kubernetes-admin"
    assert cluster.credential.expires_at > datetime.now(UTC)
    assert cluster.server_certificate_expires_at > datetime.now(UTC)
    assert [entry.verb for entry in AuditEntry.objects.all()] == ["adopt"]


def test_a_long_version_is_cut_to_what_is_stored(kube):
    prepare(kube, uid="long", version=f"v1.33.4+vendor-{'0' * 60}")
    source = Source(kubeconfig=kube.kubeconfig())
    adopted = adoption.adopt(source=source, details=Details(name="prod-1"))
    assert len(adopted.version) == VERSION_LENGTH
    adoption.replace_credential(cluster=adopted, source=source)
    assert len(Cluster.objects.get().version) == VERSION_LENGTH


def test_the_ranges_of_a_kubeadm_cluster_are_known_and_others_stay_empty(kube):
    assert adoption.check(Source(kubeconfig=kube.kubeconfig())).networks == ("", "")
    text = "networking:\n  podSubnet: 10.244.0.0/16\n  serviceSubnet: 10.96.0.0/12\n"
    path = f"{KUBE_SYSTEM}/configmaps/kubeadm-config"
    kube.on("GET", path, Reply({"data": {"ClusterConfiguration": text}}))
    cluster = adoption.adopt(
        source=Source(kubeconfig=kube.kubeconfig()), details=Details(name="prod-1")
    )
    assert (cluster.pod_cidr, cluster.service_cidr) == ("10.244.0.0/16", "10.96.0.0/12")


def test_the_stored_credential_is_encrypted_and_never_audited(kube):
    adoption.adopt(source=Source(kubeconfig=kube.kubeconfig()), details=Details(name="prod-1"))
    key = yaml.safe_load(kube.kubeconfig())["users"][0]["user"]["client-key-data"]
    from_database = ClusterCredential.objects.extra(  # noqa: S610 - past the field's decryption
        select={"raw": "kubeconfig || ''"}
    ).values_list("raw", flat=True)
    assert key not in from_database[0]
    assert key not in str(AuditEntry.objects.values_list("before", "after"))


def test_server_ca_and_token_are_enough(kube):
    connection = kube.connection()
    source = Source(server=kube.server, ca_pem=connection.ca_pem or "", token="test-token")
    assert adoption.adopt(source=source, details=Details(name="by-token")).server == kube.server


def test_the_same_cluster_is_refused_with_a_link_to_the_first(kube):
    source = Source(kubeconfig=kube.kubeconfig())
    first = adoption.adopt(source=source, details=Details(name="first"))
    with pytest.raises(AlreadyAdopted, match="under the name first") as caught:
        adoption.adopt(source=source, details=Details(name="second"))
    assert caught.value.cluster_id == first.pk
    assert caught.value.url == f"/clusters/cluster/{first.pk}/change/"


def test_a_taken_name_is_refused_before_the_cluster_is_asked(kube):
    factories.make_cluster("taken")
    with pytest.raises(InvalidInput) as caught:
        adoption.adopt(source=Source(kubeconfig=kube.kubeconfig()), details=Details(name="taken"))
    assert "name" in caught.value.fields
    assert not kube.requests


@pytest.mark.parametrize("name", ["", "Upper", "-a", "a_b", "x" * 64])
def test_a_bad_name_is_refused(kube, name):
    with pytest.raises(InvalidInput) as caught:
        adoption.adopt(source=Source(kubeconfig=kube.kubeconfig()), details=Details(name=name))
    assert "name" in caught.value.fields


def test_labels_must_be_texts(kube):
    details = Details(name="a", labels={"tier": 1})  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match="mapping of texts"):
        adoption.adopt(source=Source(kubeconfig=kube.kubeconfig()), details=details)


def test_the_owner_team_can_be_given_the_role_owner(kube):
    team = factories.make_team()
    user = factories.make_user(teams=(team,))
    cluster = adoption.adopt(
        source=Source(kubeconfig=kube.kubeconfig()),
        details=Details(name="mine", team=team, team_owns=True),
    )
    assert may(user, cluster, "change")


def test_a_label_grant_reaches_a_cluster_adopted_later(kube, admin):
    team = factories.make_team()
    grants.create_grant(team=team, role="viewer", label="tier=gold", user=admin)
    cluster = adoption.adopt(
        source=Source(kubeconfig=kube.kubeconfig()),
        details=Details(name="gold", labels={"tier": "gold"}),
    )
    assert may(factories.make_user(teams=(team,)), cluster)


# --- refusals ------------------------------------------------------------------------------------


def test_a_kubeconfig_and_a_token_together_are_refused(kube):
    key, error = failed_step(Source(kubeconfig=kube.kubeconfig(), token="other-token"))
    assert (key, error.code) == ("parse", "both_given")


def test_nothing_is_said_of_the_end_of_a_token_that_cannot_be_read(kube):
    source = Source(server=kube.server, ca_pem=kube.connection().ca_pem or "", token="abc")
    step = next(Check(source, accept_uid=lambda uid: None).run(only="parse"))
    assert "whose end cannot be told" in step.detail


def test_nothing_given_is_refused():
    key, error = failed_step(Source())
    assert (key, error.code) == ("parse", "nothing_given")


def test_what_is_no_kubeconfig_is_refused():
    key, error = failed_step(Source(kubeconfig="{ not: yaml"))
    assert (key, error.code) == ("parse", "kubeconfig_not_yaml")


def test_an_exec_plugin_is_refused(kube):
    text = kube.kubeconfig(user={"exec": {"command": "id"}})
    key, error = failed_step(Source(kubeconfig=text))
    assert (key, error.code) == ("parse", "kubeconfig_exec")
    assert not kube.requests


def test_insecure_tls_is_refused_without_the_setting(kube):
    text = kube.kubeconfig(cluster={"insecure-skip-tls-verify": True})
    assert failed_step(Source(kubeconfig=text))[1].code == "kubeconfig_insecure"


@override_settings(ALLOW_INSECURE_TLS=True)
def test_insecure_tls_with_the_setting_is_a_warning_and_marks_the_cluster(kube):
    text = kube.kubeconfig(
        cluster={"insecure-skip-tls-verify": True, "certificate-authority-data": None}
    )
    source = Source(kubeconfig=text)
    tls = adoption.check(source).steps[2]
    assert (tls.key, tls.status) == ("tls", "warning")
    assert "NOT verified" in tls.detail
    assert adoption.adopt(source=source, details=Details(name="naked")).insecure_tls


def test_a_server_that_is_not_there_is_named_with_its_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = make_kubeconfig(server=f"https://127.0.0.1:{port}")
    key, error = failed_step(Source(kubeconfig=text))
    assert key == "reach"
    assert f"127.0.0.1:{port}" in error.message


@pytest.mark.parametrize(
    ("certificate", "code"),
    [("other_ca", "unknown_ca"), ("expired", "expired"), ("wrong_name", "wrong_name")],
)
def test_a_certificate_that_is_not_right_is_refused(certificate, code):
    with FakeKubeApi(certificate=certificate) as api:
        key, error = failed_step(Source(kubeconfig=api.kubeconfig()))
    assert (key, error.code) == ("tls", code)


def test_an_expired_token_is_refused_with_its_end(kube):
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    end = datetime.now(UTC) - timedelta(days=3)
    token = f"{part({'alg': 'none'})}.{part({'exp': end.timestamp()})}.c2ln"
    source = Source(server=kube.server, ca_pem=kube.connection().ca_pem or "", token=token)
    key, error = failed_step(source)
    assert (key, error.code) == ("parse", "kubeconfig_token_expired")
    assert f"{end:%Y-%m-%d}" in error.message


def test_a_credential_that_is_not_accepted_is_refused_at_signing_in(kube):
    kube.on("POST", REVIEWS, status_reply(401, "Unauthorized"))
    key, error = failed_step(Source(kubeconfig=kube.kubeconfig()))
    assert key == "identity"
    assert isinstance(error, errors.Unauthorized)
    assert "revoked" in error.message


def test_an_old_version_is_refused(kube):
    prepare(kube, uid="old", version="v1.24.1")
    key, error = failed_step(Source(kubeconfig=kube.kubeconfig()))
    assert (key, error.code) == ("version", "unsupported_version")
    assert "v1.24.1" in error.message


def test_missing_rights_do_not_refuse_but_are_reported(kube):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("patch", "nodes")))
    source = Source(kubeconfig=kube.kubeconfig())
    cluster = adoption.adopt(source=source, details=Details(name="limited"))
    assert not cluster.can("cordon")
    assert cluster.can("inventory")


# --- replacing the credential, asking again ------------------------------------------------------


def test_a_credential_is_replaced_at_the_same_cluster_only(kube, adopted):
    with pytest.raises(Conflict, match="another cluster") as caught:
        adoption.replace_credential(
            cluster=adopted, source=Source(kubeconfig=kube.kubeconfig()), reason="expired"
        )
    assert caught.value.code == "another_cluster"


def test_replacing_a_credential_changes_how_the_cluster_is_reached(kube, adopted):
    Cluster.objects.filter(pk=adopted.pk).update(uid="same")
    adopted.refresh_from_db()
    prepare(kube, uid="same")
    connection = kube.connection()
    source = Source(server=kube.server, ca_pem=connection.ca_pem or "", token="fresh-token")
    adoption.replace_credential(cluster=adopted, source=source, reason="rotated")
    stored = ClusterCredential.objects.get(cluster=adopted)
    assert kubeconfig.parse(stored.kubeconfig).token == "fresh-token"
    entry = AuditEntry.objects.get()
    assert (entry.verb, entry.reason) == ("replace_credential", "rotated")
    assert "fresh-token" not in str(entry.after)


def test_rights_can_be_asked_for_again(kube, adopted):
    kube.on("POST", ACCESS_REVIEWS, allow_all_but(("delete", "nodes")))
    adoption.refresh_capabilities(cluster=adopted)
    adopted.refresh_from_db()
    assert adopted.can("cordon")
    assert not adopted.can("delete_nodes")


def test_a_cluster_without_a_credential_says_what_to_do():
    with pytest.raises(Conflict, match="has no credential"):
        connections.client_for(factories.make_cluster("bare"))


def test_labels_are_kept_without_outer_blanks_so_that_grants_reach_them(adopted):
    adoption.edit(cluster=adopted, changes={"labels": {" tier ": " gold "}})
    assert adopted.labels == {"tier": "gold"}


@pytest.mark.parametrize("key", ["", " ", "a=b", 'a"b', "a\\b", "a\nb"])
def test_a_label_that_no_grant_could_name_is_refused(adopted, key):
    with pytest.raises(InvalidInput, match="no label key"):
        adoption.edit(cluster=adopted, changes={"labels": {key: "x"}})


def test_changing_labels_changes_the_rights_that_follow_from_them(adopted, admin):
    team = factories.make_team()
    user = factories.make_user(teams=(team,))
    grants.create_grant(team=team, role="viewer", label="tier=gold", user=admin)
    adoption.edit(cluster=adopted, changes={"labels": {"tier": "gold"}}, reason="promoted")
    assert may(user, adopted)
    adoption.edit(cluster=adopted, changes={"labels": {}})
    assert not may(user, adopted)
