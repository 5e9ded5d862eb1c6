"""What is kept for ever, or read by everybody, holds no secret variable of a playbook."""

import pytest

from beidou.base.errors import InvalidInput
from beidou.base.models import AuditEntry
from operations.flows.library import content as contents
from operations.flows.library import saving
from operations.flows.library.models import TaskTemplate
from operations.flows.schedules import storing
from operations.flows.schedules.models import TaskSchedule

pytestmark = pytest.mark.django_db
SECRET = "very-secret-1"
GIVEN = {"run": {"variables": {"token": SECRET}}}


@pytest.fixture
def save(site, admin):
    """A template of this one step."""
    site.release()

    def write(name, step, params, *settable):
        made = {"key": "run", "step": step, "params": params, "settable": list(settable)}
        content = contents.read({"title": name, "steps": [made]})
        return saving.create(name=name, content=content, acting_user=admin)

    return write


@pytest.fixture
def play(save):
    return save("play", "RunPlaybook", {"playbook": "ops/greet"}, "variables")


def refused(save_it):
    with pytest.raises(InvalidInput) as caught:
        save_it()
    assert SECRET not in str(caught.value.fields)
    assert not AuditEntry.objects.filter(after__icontains=SECRET).exists()
    return caught.value.fields


def test_a_schedule_keeps_none(play, cluster_a, operator, machine):
    row = TaskSchedule(
        name="nightly", cluster=cluster_a, machines=machine.address, cron="30 2 * * *",
        template="play", params=GIVEN,
    )  # fmt: skip
    assert list(refused(lambda: storing.store(row, acting_user=operator))) == ["params"]
    row.enabled = False
    assert list(refused(lambda: storing.store(row, acting_user=operator))) == ["params"]
    assert not TaskSchedule.objects.exists()
    row.params = {"run": {"variables": {"count": 2}}}
    storing.store(row, acting_user=operator)


def test_nor_does_a_step_that_is_another_task(play, save):
    wish = {"template": "play", "params": GIVEN}
    assert list(refused(lambda: save("outer", "Task", wish))) == ["steps[0].params.params"]
    assert list(refused(lambda: save("outer", "Task", wish, "params"))) == [
        "steps[0].params.params"
    ]
    save("outer", "Task", {"template": "play", "params": {"run": {"variables": {"count": 2}}}})


def test_nor_one_further_down(play, save):
    save("middle", "Task", {"template": "play"}, "params")
    given = {"template": "middle", "params": {"run": {"params": GIVEN}}}
    assert refused(lambda: save("outer", "Task", given))


def test_nor_one_whose_template_is_chosen_later(play, save):
    wish = {"template": "play", "params": GIVEN}
    assert refused(lambda: save("outer", "Task", wish, "template"))


@pytest.mark.parametrize(
    ("playbook", "settable"), [("ops/greet", ["playbook"]), ("ops/later", []), ("", ["playbook"])]
)
def test_where_nobody_knows_which_variables_are_secrets_none_is_kept(playbook, settable, save):
    params = {"variables": {"token": SECRET}, **({"playbook": playbook} if playbook else {})}
    fields = refused(lambda: save("play", "RunPlaybook", params, *settable))
    assert list(fields) == ["steps[0].params.variables"]
    assert not TaskTemplate.objects.exists()
