"""Two portals on one machine, or with the same hosts, do not touch what the other one runs."""

import subprocess

import pytest

from operations.drivers import processes
from operations.kinds import names
from operations.services import engine, recovery
from tests.operations.ansible.host_code import transient_unit

pytestmark = pytest.mark.django_db
OTHER_KEY = "another-portal-" + "x" * 50


@pytest.fixture
def step(toy, begin, work):
    operation = begin()
    work(limit=1)
    return operation.steps.get(name="first")


@pytest.mark.parametrize("name", [names.unit_prefix, lambda step: names.run_mark(step, 1)])
def test_another_portal_gives_the_same_step_another_name(name, step, settings):
    ours = name(step)
    assert name(step) == ours
    settings.SECRET_KEY = OTHER_KEY
    assert name(step) != ours


def test_a_portal_that_was_set_up_anew_gives_the_same_step_another_name(step):
    ours = names.unit_prefix(step)
    step.operation.created_at = step.operation.created_at.replace(year=2020)
    assert names.unit_prefix(step) != ours


def test_the_units_of_a_step_may_be_called_so(step):
    assert transient_unit.UNIT_NAME.fullmatch(names.unit_prefix(step))


def test_reaping_ends_no_process_of_another_portal(step, control, settings):
    engine.claim(step.pk)
    type(step).objects.filter(pk=step.pk).update(lease_until=None)
    ours = names.run_mark(step, 1)
    settings.SECRET_KEY = OTHER_KEY
    with subprocess.Popen(["sleep", "60"], env={processes.MARK: ours}) as process:
        assert control(recovery.reap) == 1
        is_alive = process.poll() is None
        process.kill()
    assert is_alive
