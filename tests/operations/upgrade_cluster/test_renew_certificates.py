"""RenewCertificates: control planes one by one, proved by what they show; what renews itself."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from beidou.base.errors import Forbidden, InvalidInput, PermanentError
from clusters.models import Cluster, ClusterCredential
from operations.kinds import playbook, renew_certificates
from operations.kinds.playbook import PlaybookResults
from operations.kinds.upgrade_cluster import gate
from operations.models import Operation, Step
from operations.services import control as steering
from operations.services import recovery, start
from tests.operations.upgrade_cluster.conftest import PLANES, cells, failed_checks, host_check

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
OLD_END, NEW_END = NOW + timedelta(days=9), NOW + timedelta(days=365)
NAMES = ("apiserver", "etcd-server", "admin.conf")


class Pki:
    """What lies on the hosts, by node, and what was done there."""

    def __init__(self, names):
        self.ends = {name: dict.fromkeys(NAMES, OLD_END) for name in PLANES}
        self.ends |= {name: {} for name in names if name not in PLANES}
        self.authority = NOW + timedelta(days=3000)
        self.missing_keys: list[str] = []
        self.served: dict[str, str] = {}
        self.older: dict[str, list[str]] = {}
        self.rotates = True
        self.runs: list[tuple[str, list[str]]] = []
        self.kubeadm: list[str] = []
        self.failing: dict[tuple[str, str], str] = {}
        self.unreached: dict[str, list[dict[str, object]]] = {}
        self.members = [{"name": name, "is_healthy": True} for name in PLANES]
        self.during = lambda name, nodes: None

    def run_playbook(self, run, name, *, variables, per_machine=None, members=None):
        chosen = list(run.targets if members is None else members)
        nodes = {member.pk: member.machine.node.name for member in chosen}
        self.runs.append((name, list(nodes.values())))
        self.during(name, list(nodes.values()))
        results = PlaybookResults()
        for key, each in nodes.items():
            if why := self.failing.get((name, each)):
                results.failed[key] = why
                if each in self.unreached:
                    results.unreached[key] = self.unreached[each]
                continue
            if name == "renew_certificates" and per_machine[key]["renewal_is_due"]:
                self.renew(each)
            results.tasks[key] = {"look": self._answer(name, each)}
        return results

    def renew(self, node):
        self.kubeadm.append(node)
        self.ends[node] = dict.fromkeys(self.ends[node], NEW_END)

    def _answer(self, name, node):
        if name == "etcd_members":
            return {"members": self.members}
        ends = {key: end.isoformat() for key, end in self.ends[node].items()}
        return {
            "ends": ends,
            "authorities": {"ca": self.authority.isoformat()} if node in PLANES else {},
            "kubelet": {"kubelet-client": NEW_END.isoformat()},
            "missing_keys": self.missing_keys,
            "served": self.served.get(node, ends.get("apiserver", "")),
            "older": self.older.get(node, []),
            "rotates_client": self.rotates,
            "rotates_server": False,
        }

    def of(self, name):
        return [nodes for each, nodes in self.runs if each == name]


@pytest.fixture
def pki(monkeypatch, machines):
    made = Pki(machines)
    monkeypatch.setattr(playbook, "run_playbook", made.run_playbook)
    return made


@pytest.fixture
def renew(cluster, machines, pki, operator, work, django_capture_on_commit_callbacks):
    def begin(limit=100):
        with django_capture_on_commit_callbacks(execute=True):
            operation = start.start_operation(
                kind="RenewCertificates",
                cluster=Cluster.objects.get(pk=cluster.pk),
                machines=list(machines.values()),
                acting_user=operator,
            )
        work(limit)
        operation.refresh_from_db()
        return operation

    return begin


def test_control_planes_are_renewed_one_by_one(renew, pki):
    operation = renew()
    assert operation.status == "succeeded", operation.message
    assert pki.of("renew_certificates") == [["c1"], ["c2"]]
    evidence = cells(operation, "renew")["c2"].evidence
    assert {
        "name": "apiserver", "before": OLD_END.isoformat(), "after": NEW_END.isoformat(),
    } in evidence["certificates"]  # fmt: skip
    assert evidence["served"] == NEW_END.isoformat()
    assert cells(operation, "renew")["w1"].message == "no control plane"


def test_what_renews_itself_is_said_of_every_node(renew, pki):
    operation = renew()
    told = {each["check"]: each for each in cells(operation, "postCheck")["w2"].checks}
    assert told["kubelet-client"]["found"].startswith("renews itself; kubelet-client ends ")


def test_a_kubelet_that_does_not_renew_its_own_is_a_warning(renew, pki):
    pki.rotates = False
    operation = renew()
    assert operation.status == "succeeded"
    told = {each["check"]: each for each in cells(operation, "postCheck")["w2"].checks}
    assert told["kubelet-client"]["severity"] == "warning"
    assert "does not renew itself" in told["kubelet-client"]["found"]


# --- what stops it -------------------------------------------------------------------------------


def test_an_authority_that_is_elsewhere_renews_its_own(renew, pki):
    pki.missing_keys = ["ca"]
    operation = renew()
    assert operation.status == "failed"
    assert failed_checks(operation, "c1")["authority-keys"]["found"] == "missing: ca"
    assert pki.kubeadm == []


@pytest.mark.parametrize(("days", "severity"), [(-1, "error"), (10, "warning")])
def test_an_authority_that_ends_is_told(renew, pki, days, severity):
    pki.authority = NOW + timedelta(days=days)
    operation = renew()
    told = {each["check"]: each for each in cells(operation, "preCheck")["c1"].checks}
    assert (told["authorities"]["ok"], told["authorities"]["severity"]) == (False, severity)
    assert operation.status == ("failed" if severity == "error" else "succeeded")


def test_certificates_that_kubeadm_left_as_they_are_are_not_renewed(renew, pki, monkeypatch):
    monkeypatch.setattr(pki, "renew", lambda node: None)
    operation = renew()
    assert operation.status == "failed"
    assert (
        "Not renewed: admin.conf, apiserver, etcd-server" in cells(operation, "renew")["c1"].message
    )
    assert pki.of("renew_certificates") == [["c1"]]


def test_an_api_server_that_shows_the_old_one_is_not_done(renew, pki):
    pki.served["c1"] = OLD_END.isoformat()
    operation = renew()
    assert "not the new one" in cells(operation, "renew")["c1"].message
    assert pki.kubeadm == ["c1"]


def test_what_still_works_with_the_old_ones_is_named(renew, pki):
    pki.older["c1"] = ["kube-scheduler"]
    operation = renew()
    assert "kube-scheduler" in cells(operation, "renew")["c1"].message


def test_etcd_must_be_whole_before_the_next_control_plane(renew, pki):
    pki.members[1]["is_healthy"] = False
    operation = renew()
    assert cells(operation, "renew")["c1"].message == "etcd: not healthy: c2"
    assert pki.kubeadm == ["c1"]


def test_a_cluster_that_is_not_well_afterwards_stops_it(renew, pki, kube, monkeypatch):
    monkeypatch.setattr(gate, "MINUTE", 0.01)
    kube.nodes["w1"]["status"]["conditions"][0]["status"] = "False"
    operation = renew()
    assert "not Ready: w1" in cells(operation, "renew")["c1"].message
    assert pki.kubeadm == ["c1"]


def test_how_far_signing_in_came_is_told_of_a_control_plane_that_went_away(renew, pki):
    pki.failing["renew_certificates", "c1"] = "no route to host"
    pki.unreached["c1"] = [host_check("ssh-port", ok=False)]
    operation = renew()
    assert [each["check"] for each in cells(operation, "renew")["c1"].checks] == ["ssh-port"]


def test_a_retry_goes_on_and_renews_nothing_twice(renew, pki, control, work, operator):
    pki.failing["renew_certificates", "c2"] = "kubeadm failed"
    operation = renew()
    assert operation.status == "failed"
    pki.failing.clear()
    control(steering.retry, operation, acting_user=operator)
    work()
    operation.refresh_from_db()
    assert operation.status == "succeeded", operation.message
    assert pki.kubeadm == ["c1", "c2"]


def test_without_a_pre_check_everything_is_renewed_all_the_same(renew, pki, skip):
    pki.failing["certificate_report", "c1"] = "no route to host"
    operation = renew()
    pki.failing.clear()
    skip(operation, "c1")
    assert operation.status == "succeeded", operation.message
    assert pki.kubeadm == ["c1", "c2"]
    found = cells(operation, "renew")["c1"]
    assert found.message.startswith("3 renewed; ")
    assert {
        "name": "apiserver", "before": "", "after": NEW_END.isoformat(),
    } in found.evidence["certificates"]  # fmt: skip


@pytest.mark.parametrize("ends", [dict.fromkeys(NAMES, OLD_END), {}])
def test_without_a_pre_check_what_ends_soon_or_is_missing_is_not_renewed(
    renew, pki, skip, monkeypatch, ends
):
    pki.failing["certificate_report", "c1"] = "no route to host"
    operation = renew()
    pki.failing.clear()
    monkeypatch.setattr(pki, "renew", lambda node: pki.ends.update({node: ends}))
    skip(operation, "c1")
    assert operation.status == "failed"
    message = cells(operation, "renew")["c1"].message
    assert message.startswith("Not renewed: ")
    assert "apiserver" in message


def test_without_a_pre_check_etcd_must_be_whole_all_the_same(renew, pki, skip):
    pki.failing["certificate_report", "c1"] = "no route to host"
    operation = renew()
    pki.failing.clear()
    pki.members[1]["is_healthy"] = False
    skip(operation, "c1")
    assert cells(operation, "renew")["c1"].message == "etcd: not healthy: c2"


def test_a_worker_that_dies_after_kubeadm_renews_nothing_twice(renew, pki, control, work):
    class Killed(BaseException):
        pass

    def die(name, nodes):
        if name == "renew_certificates":
            pki.during = lambda *_: None
            pki.renew(nodes[0])
            raise Killed

    pki.during = die
    with pytest.raises(Killed):
        renew()
    Step.objects.filter(status="running").update(lease_until="2020-01-01T00:00Z")
    assert control(recovery.reap) == 1
    work()
    operation = Operation.objects.get()
    assert operation.status == "succeeded", operation.message
    assert pki.kubeadm == ["c1", "c2"]


def test_a_cluster_that_is_away_is_renewed_all_the_same(renew, pki, cluster, kube, monkeypatch):
    """Its certificates may have ended."""
    Cluster.objects.filter(pk=cluster.pk).update(health="unreachable", health_reason="expired")
    kube.down = True

    def come_back(name, nodes):
        if name == "renew_certificates":
            kube.down = False

    pki.during = come_back
    operation = renew()
    assert operation.status == "succeeded", operation.message


# --- the portal's own credential -----------------------------------------------------------------


@pytest.fixture
def replaced(monkeypatch):
    """Sign-ins at the host and at the cluster; texts that were stored."""
    stored = []

    def replace(*, cluster, source, reason):
        stored.append(source.kubeconfig)
        ClusterCredential.objects.filter(cluster=cluster).update(expires_at=NEW_END)

    monkeypatch.setattr(renew_certificates.adoption, "replace_credential", replace)
    answer = SimpleNamespace(status=0, stdout="the new admin.conf")
    monkeypatch.setattr(renew_certificates.ssh, "run", lambda *_a, **_k: answer)
    return SimpleNamespace(stored=stored, answer=answer)


@pytest.fixture
def native(cluster):
    Cluster.objects.filter(pk=cluster.pk).update(type=Cluster.Type.NATIVE)
    ClusterCredential.objects.filter(cluster=cluster).update(expires_at=OLD_END)


def test_the_credential_of_a_cluster_that_was_made_here_is_renewed_once(
    renew, replaced, native, cluster
):
    operation = renew()
    assert operation.status == "succeeded"
    assert replaced.stored == ["the new admin.conf"]
    told = {each["check"]: each for each in cells(operation, "postCheck")["c1"].checks}
    assert told["portal-credential"]["ok"]
    assert NEW_END.date().isoformat() in told["portal-credential"]["found"]


def test_somebody_else_s_credential_is_left_alone_and_its_end_told(renew, replaced, cluster):
    ClusterCredential.objects.filter(cluster=cluster).update(expires_at=OLD_END)
    operation = renew()
    assert operation.status == "succeeded"
    assert replaced.stored == []
    told = {each["check"]: each for each in cells(operation, "postCheck")["c1"].checks}
    assert (told["portal-credential"]["ok"], told["portal-credential"]["severity"]) == (
        False, "warning",
    )  # fmt: skip


def test_a_credential_that_could_not_be_renewed_goes_on_until_its_end(
    renew, replaced, native, monkeypatch
):
    def refuse(**_values):
        raise PermanentError("not accepted")

    monkeypatch.setattr(renew_certificates.adoption, "replace_credential", refuse)
    operation = renew()
    assert operation.status == "succeeded"
    told = {each["check"]: each for each in cells(operation, "postCheck")["c1"].checks}
    assert not told["portal-credential"]["ok"]


def test_an_admin_conf_that_cannot_be_read_keeps_nothing_from_being_renewed(
    renew, replaced, native
):
    replaced.answer.status = 1
    assert renew().status == "succeeded"
    assert replaced.stored == []


# --- who and what may ----------------------------------------------------------------------------


def test_every_control_plane_takes_part(cluster, machines, operator, pki):
    plan = start.plan_operation(
        kind="RenewCertificates", cluster=cluster, machines=[machines["c1"], machines["w1"]],
        params={}, acting_user=operator,
    )  # fmt: skip
    (blocker,) = plan.whole_blockers
    assert blocker.reason.endswith("c2")


def test_while_another_operation_changes_control_planes_nothing_is_begun(
    cluster, machines, operator, pki, other
):
    other("running")
    plan = start.plan_operation(
        kind="RenewCertificates", cluster=cluster, machines=list(machines.values()),
        params={}, acting_user=operator,
    )  # fmt: skip
    (blocker,) = plan.whole_blockers
    assert blocker.reason == "operation other changes its control planes; let it end first"


def test_while_another_operation_changes_control_planes_nothing_is_retried(
    renew, pki, control, operator, other
):
    pki.failing["certificate_report", "c1"] = "no route to host"
    operation = renew()
    other("running")
    with pytest.raises(InvalidInput, match="operation other changes its control planes"):
        control(steering.retry, operation, acting_user=operator)


@pytest.mark.parametrize("step", ["preCheck", "renew"])
def test_of_two_that_change_control_planes_the_older_goes_on(renew, pki, work, other, step):
    other("succeeded")
    operation = renew(limit={"preCheck": 0, "renew": 2}[step])
    other("running")
    work()
    message = cells(operation, step)["w1"].message  # workers pass first
    assert message.startswith("Operation other changes the control planes of this cluster")
    assert pki.kubeadm == []


def test_a_machine_that_cannot_be_signed_in_to_is_named(cluster, machines, operator, pki):
    machines["c2"].host_key = ""
    machines["c2"].save()
    plan = start.plan_operation(
        kind="RenewCertificates", cluster=cluster, machines=list(machines.values()),
        params={}, acting_user=operator,
    )  # fmt: skip
    assert [blocker.machine.hostname for blocker in plan.blockers if blocker.machine] == ["c2"]


def test_who_may_only_see_the_cluster_renews_nothing(cluster, machines, viewer):
    with pytest.raises(Forbidden):
        start.start_operation(
            kind="RenewCertificates", cluster=cluster, machines=list(machines.values()),
            acting_user=viewer,
        )  # fmt: skip


def test_a_plan_says_of_each_machine_what_is_done_with_it(cluster, machines, operator, pki):
    plan = start.plan_operation(
        kind="RenewCertificates", cluster=cluster, machines=list(machines.values()),
        params={}, acting_user=operator,
    )  # fmt: skip
    steps = {machine.hostname: [step.name for step in steps]
             for machine, steps, _texts in plan.ready_with_steps}  # fmt: skip
    assert steps["c1"] == steps["c2"] == ["preCheck", "renew", "postCheck"]
    assert steps["w1"] == ["preCheck", "postCheck"]


def test_the_page_says_it_too(cluster, machines, operator, pki, browser):
    form = {
        "kind": "RenewCertificates", "cluster": cluster.pk, "machines": "c1, c2, w1",
        "max_failed_percent": 0, "forks": 10, "reason": "", "params-gate_minutes": 10,
        "step": "plan",
    }  # fmt: skip
    text = browser(operator).post("/operations/start/", form).content.decode()
    rows = text.partition('id="op-plan"')[2].split("<tr>")
    (worker,) = [row for row in rows if "<td>w1</td>" in row]
    (plane,) = [row for row in rows if "<td>c1</td>" in row]
    assert "Renew and restart" in plane
    assert "Renew and restart" not in worker
    assert "Look at the certificates" in worker


def test_a_control_plane_that_is_no_machine_yet_is_named_with_where_to_register_it(
    cluster, machines, operator, pki
):
    """As right after adopting, when nobody has registered the nodes."""
    machines.pop("c2").delete()
    plan = start.plan_operation(
        kind="RenewCertificates", cluster=cluster, machines=list(machines.values()),
        params={}, acting_user=operator,
    )  # fmt: skip
    (blocker,) = plan.whole_blockers
    assert "no machines of the portal: c2" in blocker.reason
    assert "on the cluster's page under Machines" in blocker.reason
