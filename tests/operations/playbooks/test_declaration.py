"""What a source may say of its playbooks; whatever is not known is refused by name."""

from copy import deepcopy

import pytest

from beidou.base.errors import BeidouError
from operations.drivers.trees import FILE, LINK, Entry
from operations.services import playbook_sources
from tests.operations.playbooks.conftest import DECLARED, declaration


def declared(text=None, **changes):
    content = declaration(**changes) if text is None else text
    entries = (
        Entry("beidou.yaml", FILE, content.encode()),
        Entry("greet.yml", FILE, b"[]"),
        Entry("linked.yml", LINK, b"greet.yml"),
    )
    return playbook_sources.declared_by(entries).playbooks


def parameter(**part):
    return {"parameters": {"properties": {"value": part}}}


def test_what_is_left_out_is_careful():
    (playbook,) = declared()
    assert playbook.states == ["in_service", "cordoned"]
    assert (playbook.permission, playbook.changes_machines) == ("operate", True)
    assert (playbook.idempotent, playbook.destructive, playbook.become) == (True, False, True)
    assert playbook.parameters.secrets == ["token"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"playbok": "x.yml"}, "playbooks.0.playbok: is not known here"),
        ({"playbook": "../greet.yml"}, "is no YAML file by its path in the source"),
        ({"playbook": "/etc/x.yml"}, "is no YAML file by its path in the source"),
        ({"playbook": "greet.py"}, "is no YAML file by its path in the source"),
        ({"playbook": "other.yml"}, "there is no file other.yml"),
        ({"playbook": "linked.yml"}, "there is no file linked.yml"),
        ({"verify": "proof.yml"}, "there is no file proof.yml"),
        ({"permission": "view"}, "“view” is none of operate, change, approve"),
        ({"states": ["joining"]}, "“joining” is none of"),
        ({"groups": {"all": ["Compute"]}}, "“all” is no name of a group"),
        ({"name": "Greet Me"}, "has characters that are not allowed here"),
        ({"timeout_minutes": 1000}, "must be at most 230"),
        (parameter(type="text"), "must be one of these"),
        (parameter(type="string", minimum=1), "“minimum” means nothing with type string"),
        (parameter(type="string", multipleOf=2), "multipleOf: is not known here"),
        (parameter(type="string", pattern="("), "“(” is no pattern"),
        (parameter(type="integer", default=7, maximum=5), "is not what the parameter itself"),
        (parameter(type="string", format="password", default="x"), "neither a default nor choices"),
        (
            parameter(type="object", properties={"key": {"type": "string", "writeOnly": True}}),
            "a secret must be a parameter of its own",
        ),
        ({"parameters": {"required": ["value"]}}, "required “value” is not among the properties"),
        ({"parameters": {"additionalProperties": True}}, "must be one of these"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(changes, sentence):
    with pytest.raises(BeidouError) as caught:
        declared(**changes)
    assert sentence in caught.value.message


@pytest.mark.parametrize(
    "name", ["ansible_connection", "beidou_cluster", "hostvars", "groups", "become", "a-b", "1a"]
)
def test_a_parameter_cannot_be_called_like_what_decides_where_and_how_to_run(name):
    with pytest.raises(BeidouError, match=r"belongs to Ansible|is no name of a variable"):
        declared(parameters={"properties": {name: {"type": "string"}}})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "pattern": "^x$", "default": "y"},
        {"type": "array", "items": {"type": "string", "pattern": "^x$"}, "default": ["y"]},
        {
            "type": "object",
            "properties": {"key": {"type": "string", "pattern": "^x$"}},
            "default": {"key": "y"},
        },
    ],
)
def test_a_pattern_of_a_source_is_not_tried_while_it_is_read(part):
    assert declared(**parameter(**part))


def test_a_default_inside_is_checked_but_for_its_pattern():
    items = {"type": "string", "pattern": "^x$", "maxLength": 2}
    with pytest.raises(BeidouError, match="is not what the parameter itself"):
        declared(**parameter(type="array", items=items, default=["yyy"]))


@pytest.mark.parametrize("changes", [{"title": "a\0b"}, parameter(type="string", title="\0")])
def test_what_cannot_be_stored_is_refused(changes):
    with pytest.raises(BeidouError, match="a character that cannot be stored"):
        declared(**changes)


def test_two_playbooks_cannot_have_one_name():
    with pytest.raises(BeidouError, match="there are two playbooks “greet”"):
        declared(declaration(DECLARED, deepcopy(DECLARED)))


@pytest.mark.parametrize(
    "text", ["{", "a: &x [1]\nb: *x", "!!python/object:os.system {}", "\x00", "[]", "version: 2"]
)
def test_what_is_no_declaration_is_refused(text):
    with pytest.raises(BeidouError, match=r"beidou\.yaml"):
        declared(text)


def test_a_mistake_can_be_read_in_every_language(settings):
    with pytest.raises(BeidouError) as caught:
        declared(playbok="x.yml")
    assert caught.value.message.params["what"].msgid == "is not known here"
