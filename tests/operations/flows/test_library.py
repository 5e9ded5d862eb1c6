"""Templates of the site: what is refused, versions, and two people at once."""

import pytest

from beidou.base.errors import Conflict, Forbidden, InvalidInput
from beidou.base.models import AuditEntry
from operations.flows import start
from operations.flows.library import content as contents
from operations.flows.library import finding, saving
from operations.flows.library import steps as step_types
from operations.flows.library.models import TaskTemplate
from operations.flows.models import AutoOperationTask
from operations.kinds import base as operation_kinds
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def writer(operator, operators):
    factories.give(operators, "operations.add_tasktemplate")
    return type(operator).objects.get(pk=operator.pk)


def raw(**values):
    return {
        "title": "Careful",
        "steps": [
            {"key": "ask", "step": "WorkOrder", "params": {"hours": 5}},
            {"key": "go", "step": "Toy", "needs": ["ask"], "settable": ["size"]},
        ],
        **values,
    }


@pytest.fixture
def template(toy, writer):
    return saving.create(name="careful", content=contents.read(raw()), acting_user=writer)


def wrong(changed) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        contents.read(changed)
    return caught.value.fields


def step(**values):
    return raw(steps=[{"key": "a", "step": "Toy", **values}])


MISTAKES = [
    ({}, {"title", "steps"}),
    (raw(title=""), {"title"}),
    (raw(steps=[]), {"steps"}),
    (raw(odd=1), {"odd"}),
    (step(step="Odd"), {"steps[0].step"}),
    (step(step="CreateCluster"), {"steps[0].step"}),
    (step(key="a b"), {"steps[0].key"}),
    (step(key=""), {"steps[0].key"}),
    (step(needs=["b"]), {"steps[0].needs"}),
    (step(needs=["a"]), {"steps[0].needs"}),
    (step(compensates=["b"]), {"steps[0].compensates"}),
    (step(on_failure="odd"), {"steps[0].on_failure"}),
    (step(on_failure="compensate"), {"steps[0].on_failure"}),
    (step(step="WorkOrder", on_failure="continue"), {"steps[0].on_failure"}),
    (step(params={"size": "large"}), {"steps[0].params.size"}),
    (step(params={"odd": 1}), {"steps[0].params.odd"}),
    (step(settable=["odd"]), {"steps[0].settable"}),
    (step(step="Wait", params={"seconds": 0}), {"steps[0].params.seconds"}),
    (step(step="ExternalTicket", params={"ticket": False}), {"steps[0].params.ticket"}),
    (step(step="Notify"), {"steps[0].params.text"}),
    (step(step="ScaleDown", params={"delete_blocked": True}), {"steps[0].params.delete_blocked"}),
    (step(params={"size": float("inf")}), {"steps.params.size"}),
]


@pytest.mark.parametrize(("changed", "places"), MISTAKES)
def test_a_mistake_is_told_at_its_place(changed, places, toy):
    found = wrong(changed)
    assert len(found) == len(places)
    assert all(any(place in name for name in found) for place in places) or places == {
        "steps.params.size"
    }


def test_all_mistakes_are_told_at_once(toy):
    steps = [
        {"key": "a", "step": "Odd"},
        {"key": "a", "step": "Wait", "params": {"seconds": -1}, "needs": ["z"]},
    ]
    assert set(wrong(raw(steps=steps))) == {
        "steps[0].step",
        "steps[1].key",
        "steps[1].needs",
        "steps[1].params.seconds",
    }


def test_what_is_chosen_at_the_start_may_be_missing_in_the_template():
    steps = [{"key": "tell", "step": "Notify", "settable": ["text"]}]
    assert contents.read(raw(steps=steps)).steps[0].settable == ["text"]


def test_a_replacement_keeps_its_order(toy):
    steps = [
        {"key": "out", "step": "ScaleDown"},
        {"key": "in", "step": "ScaleUp", "needs": ["out"]},
    ]
    assert set(wrong(raw(steps=steps, replaces=True))) == {"steps[0].needs"}


def test_a_secret_variable_of_a_playbook_is_refused():
    playbook = factories.make_site_playbook()
    playbook.declaration["parameters"] = {
        "type": "object",
        "properties": {"token": {"type": "string", "format": "password"}},
    }
    playbook.save()
    released = factories.make_source_revision(source=playbook.source)
    type(playbook.source).objects.filter(pk=playbook.source_id).update(released=released)
    params = {"playbook": playbook.reference, "variables": {"token": "hidden"}}
    found = wrong(step(step="RunPlaybook", params=params))
    assert set(found) == {"steps[0].params.variables"}
    assert "token" in found["steps[0].params.variables"]


def test_every_step_there_is_has_a_schema_and_a_title():
    named = list(step_types.names())
    assert {"WorkOrder", "ScaleUp", "CleanUp"} <= {each.name for each in named}
    assert all(step_types.schema_of(each)["type"] == "object" and each.title for each in named)


def test_nobody_chooses_beforehand_what_somebody_else_approves():
    for named in step_types.names():
        kind = operation_kinds.KINDS.get(str(named.params.get("kind", "")))
        if kind is not None:
            assert not kind.approvals & set(step_types.schema_of(named)["properties"])


# --- saving -----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_writing_is_a_right_of_its_own(who, cast, toy):
    with pytest.raises(Forbidden):
        saving.create(name="mine", content=contents.read(raw()), acting_user=cast[who])
    assert not TaskTemplate.objects.exists()


@pytest.mark.parametrize("name", ["", "-a", "a b", "x" * 41, "ScaleUp", "scaleup", "Wait", "new"])
def test_a_name_that_cannot_be_is_refused_at_its_field(name, writer, toy):
    with pytest.raises(InvalidInput) as caught:
        saving.create(name=name, content=contents.read(raw()), acting_user=writer)
    assert list(caught.value.fields) == ["name"]


def test_a_name_is_taken_once_however_it_is_spelt(template, writer):
    with pytest.raises(InvalidInput):
        saving.create(name="Careful", content=contents.read(raw()), acting_user=writer)


def test_a_version_never_changes(template, writer):
    first = template.versions.get()
    saving.save_version(
        template, content=contents.read(raw(title="New")), base=1, acting_user=writer, comment="why"
    )
    template.refresh_from_db()
    assert (template.version, template.title) == (2, "New")
    assert template.versions.get(number=1).content == first.content
    assert template.versions.get(number=2).comment == "why"


def test_whoever_saves_on_top_of_somebody_else_is_told(template, writer, admin):
    mine = contents.read(raw(title="Mine"))
    saving.save_version(
        template, content=contents.read(raw(title="Theirs")), base=1, acting_user=admin
    )
    with pytest.raises(saving.ChangedMeanwhile) as caught:
        saving.save_version(template, content=mine, base=1, acting_user=writer)
    assert "admin saved version 2" in caught.value.message
    saving.save_version(template, content=mine, base=2, acting_user=writer)
    titles = template.versions.order_by("number").values_list("content__title", flat=True)
    assert list(titles) == ["Careful", "Theirs", "Mine"]


def test_a_version_that_changes_nothing_is_none(template, writer):
    with pytest.raises(Conflict):
        saving.save_version(template, content=contents.read(raw()), base=1, acting_user=writer)


def test_the_audit_trail_has_every_version(template, writer):
    saving.save_version(
        template, content=contents.read(raw(title="New")), base=1, acting_user=writer
    )
    saving.offer(template, is_offered=False, acting_user=writer)
    saving.offer(template, is_offered=True, acting_user=writer)
    rows = AuditEntry.objects.filter(object_type="operations.tasktemplate").order_by("id")
    assert [row.verb for row in rows] == [
        "add", "save version", "withdraw template", "offer template",
    ]  # fmt: skip
    assert rows[1].after["version"] == 2


def test_what_differs_is_told_line_by_line(template):
    old, new = raw(), raw(title="New")
    assert contents.difference(old, new)[1:3] == [("-", "title: Careful"), ("+", "title: New")]
    assert contents.difference(old, old) == []


def test_yaml_is_the_same_there_and_back(template):
    content = template.versions.get().content
    assert contents.from_yaml(contents.as_yaml(content)) == content


@pytest.mark.parametrize("text", ["", "a: b\n---\nc: d", "- 1", "a: [", "a: &b 1\nc: *b"])
def test_a_text_that_is_no_template_is_refused(text):
    with pytest.raises(InvalidInput):
        contents.parse(contents.from_yaml(text))


# --- starting ---------------------------------------------------------------------------------


@pytest.fixture
def begin(cluster_a, machines, operator, control):
    def start_it(name="careful", version=None, params=None, **values):
        chosen = finding.template(name, version)
        return control(
            start.start_task,
            specs=start.specs_of(chosen, params=params),
            template=name,
            version=chosen.version,
            cluster=cluster_a,
            machines=machines,
            acting_user=operator,
            **values,
        )

    return start_it


def test_a_task_keeps_the_version_it_began_with(template, writer, begin, work):
    task = begin()
    steps = raw()["steps"][1:]
    steps[0]["needs"] = []
    saving.save_version(
        template, content=contents.read(raw(steps=steps)), base=1, acting_user=writer
    )
    work()
    assert task.template_version == 1
    assert [each.key for each in task.steps.order_by("position")] == ["ask", "go"]


def test_an_old_version_can_be_begun(template, writer, begin):
    saving.save_version(
        template, content=contents.read(raw(title="New")), base=1, acting_user=writer
    )
    assert begin(version=1).template_version == 1
    AutoOperationTask.objects.all().delete()
    assert begin().template_version == 2


def test_what_may_be_chosen_reaches_its_step(template, begin):
    task = begin(params={"go": {"size": 7}})
    assert task.steps.get(key="go").params["params"] == {"size": 7}
    assert task.steps.get(key="ask").params["hours"] == 5


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"ask": {"hours": 1}}, "params.ask.hours"),
        ({"odd": {"size": 1}}, "params.odd"),
        ({"go": 1}, "params.go"),
        ({"size": 1}, "params.size"),
    ],
)
def test_nothing_else_can_be_chosen(params, place, template):
    with pytest.raises(InvalidInput) as caught:
        start.specs_of("careful", params=params)
    assert list(caught.value.fields) == [place]


def test_its_steps_cannot_be_left_out(template):
    with pytest.raises(InvalidInput) as caught:
        start.specs_of("careful", steps=["Toy"])
    assert list(caught.value.fields) == ["steps"]


def test_a_withdrawn_template_is_not_begun(template, writer):
    saving.offer(template, is_offered=False, acting_user=writer)
    with pytest.raises(InvalidInput) as caught:
        finding.template("careful")
    assert "withdrawn" in caught.value.message
    assert "careful" not in [each.name for each in finding.offered()]


@pytest.mark.parametrize("version", [0, 2, 1 << 40])
def test_a_version_that_is_not_there_is_refused(version, template):
    with pytest.raises(InvalidInput) as caught:
        finding.template("careful", version)
    assert list(caught.value.fields) == ["template_version"]


def test_a_ready_made_template_has_one_version(db):
    with pytest.raises(InvalidInput):
        finding.template("ScaleUp", 7)


def test_a_version_that_means_nothing_any_more_is_told(template):
    template.versions.update(content=raw(steps=[{"key": "a", "step": "Gone"}]))
    with pytest.raises(InvalidInput) as caught:
        finding.template("careful")
    assert "Gone" in caught.value.message
    assert "careful" not in [each.name for each in finding.offered()]


@pytest.mark.parametrize("name", ["ScaleUp", "ScaleDown", "ReplaceMachine"])
def test_a_copy_of_a_ready_made_template_means_the_same(name, admin):
    made = finding.template(name)
    content = contents.read(finding.raw_of(made))
    saving.create(name="copy", content=content, acting_user=admin)
    copy = finding.template("copy")
    assert start.specs_of(copy) == start.specs_of(name)
    assert (copy.begins_with, copy.groups) == (made.begins_with or name, made.groups)
