"""RunPlaybook as a step of a one-click task: nothing secret is in the step, and what was planned is
what runs."""

import pytest

from beidou.base.errors import Conflict, InvalidInput
from operations.flows import approval, catalog, graph, saying, start
from operations.flows.models import AutoOperationTask
from operations.models import Operation
from tests import factories

pytestmark = pytest.mark.django_db
SECRET = "very-secret-1"


@pytest.fixture
def begin_task(cluster_a, machine, operator, django_capture_on_commit_callbacks):
    """A task whose second step runs the playbook with these parameters."""

    def start_it(steps=("Wait", "RunPlaybook"), **params):
        values = {"RunPlaybook": {"playbook": "ops/greet", **params}, "Wait": {"seconds": 1}}
        specs = graph.in_order(catalog.spec(name, values.get(name)) for name in steps)
        with django_capture_on_commit_callbacks(execute=True):
            return start.start_task(
                cluster=cluster_a, machines=[machine], specs=specs, acting_user=operator
            )

    return start_it


def step_of(task):
    return task.steps.get(key="RunPlaybook")


def test_a_secret_is_refused_at_its_field(site, begin_task):
    site.release()
    with pytest.raises(InvalidInput, match="no step of a task") as caught:
        begin_task(variables={"token": SECRET})
    assert set(caught.value.fields) == {"steps[1].params.variables.token"}
    assert not AutoOperationTask.objects.exists()


def test_a_step_holds_the_content_that_was_released_when_the_task_was_planned(site, begin_task):
    revision = site.release()
    task = begin_task()
    params = step_of(task).params["params"]
    assert (params["revision"], params["content"]) == (revision.revision, revision.digest)
    assert params["variables"] == {"greeting": "hello"}


def test_an_approval_says_which_content_it_is_about(site, begin_task):
    revision = site.release()
    task = begin_task()
    lines = saying.in_words(approval.plan_of(task, list(task.machines.all())), task)
    (said,) = (line["text"] for line in lines if line["label"] == "Run a playbook")
    # In the order in which the database keeps them.
    for part in (f"revision: {revision.revision}", f"content: {revision.digest}", "variables: ("):
        assert part in said
    assert "confirm" not in said


def test_what_is_released_after_the_plan_is_not_run(site, begin_task, work):
    site.release()
    task = begin_task(steps=("RunPlaybook",))
    site.write("greet.yml", "[]")
    site.release()
    work()
    step = step_of(task)
    assert step.status == "failed"
    assert "Another revision of ops/greet was released meanwhile" in str(step.message)
    assert not Operation.objects.exists()


def test_another_revision_than_the_released_one_is_refused_when_it_is_planned(site, begin_task):
    site.release()
    with pytest.raises(Conflict, match="Another revision"):
        begin_task(revision="other")


def test_wrong_variables_are_named_by_their_step(site, begin_task):
    site.release()
    with pytest.raises(InvalidInput) as caught:
        begin_task(variables={"count": 9})
    assert set(caught.value.fields) == {"steps[1].params.variables.count"}


def test_a_playbook_of_other_teams_is_no_step(site, begin_task):
    site.release()
    site.source.teams.set([factories.make_team()])
    with pytest.raises(InvalidInput, match="no playbook"):
        begin_task()


def test_the_parameters_of_other_kinds_stay_as_they_were_given(cluster_a, operator, machine):
    given = {"labels": {"a": "b"}}
    specs = graph.in_order([catalog.spec("ScaleUp", given)])
    plan = start.plan_task(cluster=cluster_a, machines=[machine], specs=specs, acting_user=operator)
    assert list(plan.specs) == specs
