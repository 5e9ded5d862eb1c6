"""postCheck proves each node for itself."""

from contextlib import nullcontext

import pytest

from operations.kinds import scale_up
from operations.kinds.base import Stopped
from operations.kinds.playbook import PlaybookResults
from operations.models import MachineStep
from operations.services.run import CANCELED

pytestmark = pytest.mark.django_db
GOOD = {"check": "kubelet", "ok": True, "found": "1", "wanted": "1", "advice": ""}


@pytest.fixture
def prove(toy, monkeypatch, machines):
    """The step proves its nodes; what the first machine's proof raises is given."""

    def begin_with(error):
        def proof(run, client, target, *_):
            if target.machine == machines[0]:
                run.stop_reason = CANCELED if isinstance(error, Stopped) else ""
                raise error
            return {"pod_address": "10.0.0.9"}

        def during(run):
            results = PlaybookResults()
            for target in run.targets:
                results.tasks[target.pk] = {"look": {"checks": [GOOD]}}
            scale_up.confirm_post_check(run, results)

        monkeypatch.setattr(scale_up, "client_for", lambda *_, **__: nullcontext())
        monkeypatch.setattr(scale_up, "_probe", lambda *_: None)
        monkeypatch.setattr(scale_up, "_prove", proof)
        toy.during = during

    return begin_with


def test_a_proof_that_breaks_fails_its_machine_alone(prove, begin, work, machines, caplog):
    prove(KeyError("x"))
    operation = begin()
    work(limit=2)
    cells = MachineStep.objects.filter(step__operation=operation, step__name="first")
    failed = cells.get(machine__machine=machines[0])
    assert failed.status == MachineStep.Status.FAILED
    assert "KeyError" in failed.message
    assert cells.filter(status=MachineStep.Status.SUCCEEDED).count() == 2
    assert "proof_errored" in caplog.text


def test_a_proof_that_was_stopped_is_no_mistake(prove, begin, work, machines):
    prove(Stopped(CANCELED))
    operation = begin()
    work(limit=2)
    cells = MachineStep.objects.filter(step__operation=operation, step__name="first")
    assert cells.get(machine__machine=machines[0]).status == MachineStep.Status.CANCELED
