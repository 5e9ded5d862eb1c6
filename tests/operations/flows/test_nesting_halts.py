# ruff: noqa: F811
"""What is below is paused, ended and begun again at awkward moments."""

import pytest

from operations.flows import advance, start
from operations.flows import control as controls
from operations.models import Operation
from tests.operations.flows.test_nesting import child_of, inner, save, status  # noqa: F401

pytestmark = pytest.mark.django_db


@pytest.fixture
def nothing_queued(django_capture_on_commit_callbacks):
    """Call something whose words to the queue are lost, as when a worker dies."""

    def call(function, *args, **kwargs):
        with django_capture_on_commit_callbacks(execute=False):
            return function(*args, **kwargs)

    return call


@pytest.fixture
def barely_begun(save, nothing_queued, cluster_a, machines, operator):
    """A task whose child is there, and was never looked at."""
    save("inner", "Toy")
    task = nothing_queued(
        start.start_task,
        specs=[inner("inner")],
        cluster=cluster_a,
        machines=machines,
        acting_user=operator,
    )
    nothing_queued(advance.advance, task.pk)
    return task


# --- paused -----------------------------------------------------------------------------------


def test_a_task_below_that_is_paused_before_its_first_look_waits(
    barely_begun, control, work, operator, steps_of
):
    child = child_of(barely_begun)
    control(controls.pause, barely_begun, acting_user=operator)
    control(advance.advance, child.pk)
    assert steps_of(child) == {"Toy": "waiting"}
    control(controls.resume, barely_begun, acting_user=operator)
    work()
    assert (status(child), status(barely_begun)) == ("succeeded", "succeeded")
    assert Operation.objects.filter(task_part__step__task=child).count() == 1


def test_one_that_is_canceled_before_its_first_look_is_canceled(
    barely_begun, control, work, operator, steps_of
):
    child = child_of(barely_begun)
    control(controls.pause, barely_begun, acting_user=operator)
    control(advance.advance, child.pk)
    control(controls.cancel, barely_begun, acting_user=operator)
    work()
    assert (status(child), status(barely_begun)) == ("canceled", "canceled")
    assert not Operation.objects.exists()
