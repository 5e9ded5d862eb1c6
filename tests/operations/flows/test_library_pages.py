"""The pages of templates, and the editor as somebody without a script has it."""

import re

import pytest
from django.urls import reverse

from operations.flows.library import content as contents
from operations.flows.library import editor, saving
from operations.flows.library.models import TaskTemplate
from operations.flows.models import AutoOperationTask
from tests.operations.flows.test_library import raw, template, writer  # noqa: F401

pytestmark = pytest.mark.django_db
NEW = reverse("operations:template_new")


def edit(name="careful"):
    return reverse("operations:template_edit", args=[name])


def page_of(name="careful"):
    return reverse("operations:template", args=[name])


def posted(content=None, *, name="", base=0, **values):
    data = editor.data_of(content or raw(), name=name, base=base)
    data.update({"do": "save", **{key.replace("__", "-"): value for key, value in values.items()}})
    return {key: data.getlist(key) for key in data}


def shown(answer):
    """The rows of the editor as (key, keys that it comes after)."""
    draft = answer.context["draft"]
    return [(step["key"], step["needs"]) for step in draft.raw["steps"]]


def errors(answer):
    draft = answer.context["draft"]
    found = {f"{form.row}-{name}" for form in draft.steps for name in form.errors}
    return found | set(draft.head.errors)


# --- looking ----------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["admin", "operator", "viewer", "stranger"])
def test_everybody_may_look_and_writers_alone_are_offered_more(who, cast, browser, template):  # noqa: F811
    client = browser(cast[who])
    may = saving.may_write(cast[who])
    for name in ("careful", "ScaleUp"):
        text = client.get(page_of(name)).content.decode()
        assert ("content_copy" in text) == may
    assert (edit() in client.get(page_of()).content.decode()) == may


def test_without_signing_in_there_is_nothing_to_see(client, template):  # noqa: F811
    for url in (page_of(), edit(), NEW):
        assert client.get(url).status_code == 302


def test_an_old_version_is_shown_beside_a_newer_one(template, writer, browser, viewer):  # noqa: F811
    saving.save_version(
        template, content=contents.read(raw(title="New")), base=1, acting_user=writer
    )
    answer = browser(viewer).get(f"{page_of()}?version=1")
    assert answer.context["raw"]["title"] == "Careful"
    answer = browser(viewer).get(f"{page_of()}?version=2&with=1")
    assert ("-", "title: Careful") in answer.context["difference"]


@pytest.mark.parametrize("query", ["version=9", "version=x", "with=9", f"version={'9' * 30}"])
def test_a_version_that_is_not_there_is_404(query, template, browser, admin):  # noqa: F811
    client = browser(admin)
    answer = client.get(f"{page_of()}?{query}")
    assert answer.status_code == (200 if query == "version=x" or "999" in query else 404)
    assert client.get(page_of("nothing")).status_code == 404


def test_a_version_that_means_nothing_any_more_says_so(template, browser, viewer):  # noqa: F811
    template.versions.update(content=raw(steps=[{"key": "a", "step": "Gone"}]))
    text = browser(viewer).get(page_of()).content.decode()
    assert "cannot be begun" in text


def test_the_list_has_ready_made_ones_and_those_of_the_site(template, browser, viewer):  # noqa: F811
    text = browser(viewer).get(reverse("admin:operations_tasktemplate_changelist")).content.decode()
    assert page_of("ReplaceMachine") in text
    assert "careful" in text


def test_it_is_withdrawn_and_offered_again(template, writer, browser):  # noqa: F811
    client, url = browser(writer), reverse("operations:template_offer", args=["careful"])
    for value, offered in (("no", False), ("no", False), ("yes", True)):
        client.post(url, {"offer": value})
        template.refresh_from_db()
        assert template.is_offered is offered


@pytest.mark.parametrize("who", ["operator", "viewer", "stranger"])
def test_who_may_not_write_gets_no_editor(who, cast, browser, template):  # noqa: F811
    client = browser(cast[who])
    if saving.may_write(cast[who]):
        return
    assert client.get(NEW).status_code == 403
    assert client.post(edit(), posted(base=1)).status_code == 403
    offer = reverse("operations:template_offer", args=["careful"])
    assert client.post(offer, {"offer": "no"}).status_code == 403
    template.refresh_from_db()
    assert (template.version, template.is_offered) == (1, True)


# --- writing ----------------------------------------------------------------------------------


def test_a_new_template_is_saved(toy, writer, browser):  # noqa: F811
    answer = browser(writer).post(NEW, posted(name="mine", comment="first"))
    assert answer["Location"] == page_of("mine")
    version = TaskTemplate.objects.get().versions.get()
    assert (version.content, version.comment, version.saved_by_name) == (raw(), "first", "operator")


def test_a_ready_made_template_is_copied(admin, browser):
    answer = browser(admin).get(f"{NEW}?copy=ScaleUp")
    assert [key for key, _needs in shown(answer)][:2] == ["ScaleUpPreCheck", "ScaleUpWorkprocess"]
    data = answer.context["draft"].data
    assert browser(admin).post(NEW, {**dict(data.lists()), "do": "save"}).status_code == 302
    assert TaskTemplate.objects.get().name == "ScaleUp-copy"


def test_a_new_version_is_saved(template, writer, browser):  # noqa: F811
    answer = browser(writer).post(edit(), posted(raw(title="New"), name="careful", base=1))
    assert answer.status_code == 302
    assert template.versions.count() == 2


def test_the_second_of_two_is_told_and_loses_nothing(template, writer, admin, browser):  # noqa: F811
    saving.save_version(
        template, content=contents.read(raw(title="Theirs")), base=1, acting_user=admin
    )
    client = browser(writer)
    answer = client.post(edit(), posted(raw(title="Mine"), name="careful", base=1))
    assert answer.status_code == 409
    text = answer.content.decode()
    assert "admin saved version 2" in text
    changed = [line for line in answer.context["difference"] if line[0] in "+-"]
    assert changed == [("-", "title: Theirs"), ("+", "title: Mine")]
    assert answer.context["draft"].raw["title"] == "Mine"
    again = dict(answer.context["draft"].data.lists())
    assert client.post(edit(), again).status_code == 302
    assert template.versions.get(number=3).content["title"] == "Mine"


WRONG = [
    ({"title": ""}, {"title"}),
    ({"name": "ScaleUp"}, {"name"}),
    ({"name": ""}, {"name"}),
    ({"r2-key": "ask"}, {"r2-key"}),
    ({"r2-key": "a b"}, {"r2-key"}),
    ({"r1-p_hours": "many"}, {"r1-p_hours"}),
    ({"r1-p_hours": "0"}, {"r1-p_hours"}),
    ({"r1-on_failure": "continue"}, {"r1-on_failure"}),
    ({"r2-on_failure": "odd"}, {"r2-on_failure"}),
    ({"r1-step": "Odd", "r1-of": "Odd"}, {"r1-step"}),
    ({"r2-p_size": ""}, set()),
    ({"title": "x" * 101, "r2-key": ""}, {"title", "r2-key"}),
]


@pytest.mark.parametrize(("changed", "places"), WRONG)
@pytest.mark.parametrize("button", ["save", "check"])
def test_each_mistake_is_at_its_field(changed, places, button, toy, writer, browser):  # noqa: F811
    answer = browser(writer).post(NEW, {**posted(name="mine"), **changed, "do": button})
    if not places:
        assert answer.status_code in (200, 302)
        return
    assert answer.status_code == 400
    assert places <= errors(answer)
    assert not TaskTemplate.objects.exists()


def test_nothing_is_called_wrong_before_somebody_asks(toy, writer, browser):  # noqa: F811
    for data in (posted(do="look"), posted(do="add", new="Notify")):
        answer = browser(writer).post(NEW, data)
        assert (answer.status_code, errors(answer)) == (200, set())


@pytest.mark.parametrize(
    ("button", "expected"),
    [
        ("up:r1", [("ask", []), ("go", ["ask"])]),
        ("up:r2", [("go", []), ("ask", ["go"])]),
        ("down:r1", [("go", []), ("ask", ["go"])]),
        ("down:r2", [("ask", []), ("go", ["ask"])]),
        ("remove:r1", [("go", [])]),
        ("remove:r2", [("ask", [])]),
        ("remove:r9", [("ask", []), ("go", ["ask"])]),
        ("up:", [("ask", []), ("go", ["ask"])]),
        ("odd", [("ask", []), ("go", ["ask"])]),
    ],
)
def test_buttons_move_and_remove_steps(button, expected, toy, writer, browser):  # noqa: F811
    assert shown(browser(writer).post(NEW, posted(do=button))) == expected


def test_a_step_is_added_behind_the_last_with_a_key_of_its_own(toy, writer, browser):  # noqa: F811
    answer = browser(writer).post(NEW, posted(do="add", new="Toy"))
    again = dict(answer.context["draft"].data.lists())
    answer = browser(writer).post(NEW, {**again, "do": "add"})
    assert shown(answer)[2:] == [("Toy", ["go"]), ("Toy-2", ["Toy"])]


def test_what_came_after_a_removed_step_comes_after_what_that_came_after(toy, writer, browser):  # noqa: F811
    steps = [
        {"key": "a", "step": "Toy"},
        {"key": "b", "step": "Toy"},
        {"key": "c", "step": "Toy", "needs": ["a", "b"]},
        {"key": "d", "step": "Toy", "needs": ["c"]},
    ]
    answer = browser(writer).post(NEW, posted(raw(steps=steps), do="remove:r3"))
    assert shown(answer)[2:] == [("d", ["a", "b"])]


def test_a_key_may_be_changed_where_others_come_after_it(toy, writer, browser):  # noqa: F811
    answer = browser(writer).post(NEW, {**posted(do="look"), "r1-key": "question"})
    assert shown(answer) == [("question", []), ("go", ["question"])]


def test_another_type_has_its_own_parameters(toy, writer, browser):  # noqa: F811
    answer = browser(writer).post(NEW, {**posted(do="look"), "r2-step": "HealthCheck"})
    step = answer.context["draft"].steps[1]
    assert {"p_test_pods", "p_log_minutes"} <= set(step.fields)
    assert step.raw({})["params"] == {}
    assert step.data["r2-p_test_pods"] == "on"


def test_the_picture_shows_what_goes_side_by_side(toy, writer, browser):  # noqa: F811
    steps = [
        {"key": "a", "step": "Toy", "on_failure": "compensate"},
        {"key": "b", "step": "Wait"},
        {"key": "c", "step": "Toy", "needs": ["a", "b"]},
        {"key": "d", "step": "CleanUp", "compensates": ["a"]},
    ]
    answer = browser(writer).post(NEW, posted(raw(steps=steps), do="look"))
    places = {each["key"]: (each["column"], each["row"]) for each in answer.context["cards"]}
    assert places == {"a": (1, 1), "b": (1, 2), "c": (2, 1), "d": (2, 2)}
    assert re.search(r'data-key="d" data-before="a"[^>]*data-dashed', answer.content.decode())


def test_a_text_is_taken_over_into_the_form(toy, writer, browser):  # noqa: F811
    text = contents.as_yaml(raw(title="Pasted", steps=[{"key": "only", "step": "Toy"}]))
    answer = browser(writer).post(NEW, posted(do="yaml", yaml=text, name="mine"))
    assert answer.status_code == 200
    assert (answer.context["draft"].raw["title"], shown(answer)) == ("Pasted", [("only", [])])
    assert answer.context["draft"].name == "mine"


@pytest.mark.parametrize("text", ["", "a: [", "title: x", "title: x\nsteps: 5", "- a"])
def test_a_text_that_is_no_template_leaves_the_form_as_it_was(text, toy, writer, browser):  # noqa: F811
    answer = browser(writer).post(NEW, posted(do="yaml", yaml=text))
    assert answer.status_code == 400
    assert shown(answer) == [("ask", []), ("go", ["ask"])]
    assert answer.context["yaml"] == text
    assert answer.context["wrong"]


def test_a_text_with_a_mistake_is_taken_over_and_marked(toy, writer, browser):  # noqa: F811
    text = contents.as_yaml(raw(steps=[{"key": "a", "step": "Wait", "params": {"seconds": 0}}]))
    assert errors(browser(writer).post(NEW, posted(do="yaml", yaml=text))) == {"r1-p_seconds"}


@pytest.mark.parametrize(
    "odd",
    [
        {"row": ["r1", "r1", "x", "r-1", "r99999999"]},
        {"base": "x"},
        {"r2-needs": ["r7", "r2"]},
        {"do": "remove:../x"},
        {"title": "a\0b"},
    ],
)
def test_rubbish_is_no_error_of_ours(odd, template, writer, browser):  # noqa: F811
    answer = browser(writer).post(edit(), {**posted(name="careful", base=1), **odd})
    assert answer.status_code in (200, 302, 400, 409)


@pytest.mark.parametrize("action", ["save", "check", "add", "look"])
def test_a_text_that_was_not_taken_over_is_not_lost(action, template, writer, browser):  # noqa: F811
    client = browser(writer)
    shown = client.get(edit()).context["yaml_shown"]
    text = "title: Pasted\r\nsteps: []\r\n"
    values = {**posted(name="careful", base=1), "yaml": text, "yaml_shown": shown, "do": action}
    answer = client.post(edit(), values)
    assert answer.status_code == (400 if action in ("save", "check") else 200)
    assert (answer.context["yaml"], answer.context["yaml_is_own"]) == (text, True)
    assert ("take it over first" in answer.content.decode()) == (action in ("save", "check"))
    template.refresh_from_db()
    assert template.version == 1


def test_a_text_that_is_as_it_was_shown_is_no_other_one(template, writer, browser):  # noqa: F811
    client = browser(writer)
    page = client.get(edit()).context
    text = page["yaml"].replace("\n", "\r\n")
    values = {**posted(name="careful", base=1), "yaml": text, "yaml_shown": page["yaml_shown"]}
    assert client.post(edit(), {**values, "do": "save", "title": "Other"}).status_code == 302


# --- starting ---------------------------------------------------------------------------------


def form(cluster, machines, **values):
    return {
        "kind": "careful", "cluster": cluster.pk, "step": "start", "template_version": "1",
        "machines": "\n".join(machine.address for machine in machines),
        "batch_size": 0, "batch_pause": 0, "max_failed_percent": 100, "free-go:size": "4", **values,
    }  # fmt: skip


def test_the_start_page_asks_what_may_be_chosen(template, browser, operator, cluster_a, machines):  # noqa: F811
    url = reverse("operations:start_task")
    page = browser(operator).get(f"{url}?template=careful")
    assert list(page.context["page"].params.fields) == ["go:size"]
    answer = browser(operator).post(url, form(cluster_a, machines))
    task = AutoOperationTask.objects.get()
    assert answer.status_code == 302
    assert (task.template, task.template_version) == ("careful", 1)
    assert task.steps.get(key="go").params["params"] == {"size": 4}


def test_a_version_that_was_not_looked_at_is_not_begun(
    template, writer, browser, operator, cluster_a, machines  # noqa: F811
):  # fmt: skip
    saving.save_version(
        template, content=contents.read(raw(title="New")), base=1, acting_user=writer
    )
    answer = browser(operator).post(reverse("operations:start_task"), form(cluster_a, machines))
    assert answer.status_code == 400
    assert "version 2 by now" in answer.content.decode()
    assert not AutoOperationTask.objects.exists()


def test_a_version_below_that_was_not_looked_at_is_not_begun(
    template, writer, browser, operator, cluster_a, machines  # noqa: F811
):  # fmt: skip
    step = {"key": "below", "step": "Task", "params": {"template": "careful"}}
    outer = contents.read({"title": "Outer", "steps": [step]})
    saving.create(name="outer", content=outer, acting_user=writer)
    url, values = reverse("operations:start_task"), {"kind": "outer", "step": "look"}
    page = browser(operator).post(url, form(cluster_a, machines, **values)).context["page"]
    saving.save_version(
        template, content=contents.read(raw(title="New")), base=1, acting_user=writer
    )
    seen = {"kind": "outer", "versions_below": page.looked_at}
    answer = browser(operator).post(url, form(cluster_a, machines, **seen))
    assert answer.status_code == 400
    assert "is below it by now" in answer.content.decode()
    assert not AutoOperationTask.objects.exists()
    seen["versions_below"] = answer.context["page"].looked_at
    assert browser(operator).post(url, form(cluster_a, machines, **seen)).status_code == 302


def test_a_choice_that_cannot_be_is_marked(template, browser, operator, cluster_a, machines):  # noqa: F811
    answer = browser(operator).post(
        reverse("operations:start_task"), form(cluster_a, machines, **{"free-go:size": "x"})
    )
    assert answer.status_code == 400
    assert not AutoOperationTask.objects.exists()


def test_a_task_leads_to_the_version_it_keeps(
    template, writer, browser, operator, cluster_a, machines  # noqa: F811
):  # fmt: skip
    browser(operator).post(reverse("operations:start_task"), form(cluster_a, machines))
    task = AutoOperationTask.objects.get()
    url = reverse("admin:operations_autooperationtask_change", args=[task.pk])
    assert f"{page_of()}?version=1" in browser(operator).get(url).content.decode()
