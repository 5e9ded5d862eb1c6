"""Values that are given to a playbook: checked in one place, secrets apart, output without them."""

import base64
import json

import pytest

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from operations.playbooks import values
from operations.playbooks.declaration import Parameters
from operations.playbooks.values import HIDDEN, Masker

SECRET = 'pa55word-ü/+"'
SCHEMA = Parameters.model_validate(
    {
        "properties": {
            "word": {"type": "string", "minLength": 2, "maxLength": 5, "pattern": "^[a-z]+$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
            "share": {"type": "number", "maximum": 1},
            "on": {"type": "boolean"},
            "size": {"type": "string", "enum": ["s", "m"]},
            "names": {"type": "array", "items": {"type": "string"}, "maxItems": 2, "minItems": 1},
            "map": {
                "type": "object",
                "properties": {"port": {"type": "integer"}},
                "required": ["port"],
                "additionalProperties": False,
            },
            "token": {"type": "string", "format": "password"},
        },
        "required": ["word"],
    }
)


def check(given, **options):
    return values.check(SCHEMA, {"word": "abc", **given}, owner="ops/greet", **options)


def test_what_was_left_out_has_its_default():
    assert check({}).shown == {"word": "abc", "count": 3}


@pytest.mark.parametrize(
    ("given", "place", "sentence"),
    [
        ({"word": "a"}, "word", "fewer than 2 characters"),
        ({"word": "abcdef"}, "word", "more than 5 characters"),
        ({"word": "ABC"}, "word", "does not have the form"),
        ({"word": 3}, "word", "must be a text"),
        ({"word": None}, "word", "is missing"),
        ({"word": "a\0b"}, "word", "cannot be stored"),
        ({"count": True}, "count", "must be a whole number"),
        ({"count": 1.5}, "count", "must be a whole number"),
        ({"count": "2"}, "count", "must be a whole number"),
        ({"count": 0}, "count", "at least 1"),
        ({"count": 6}, "count", "at most 5"),
        ({"share": float("nan")}, "share", "cannot be stored"),
        ({"share": 2}, "share", "at most 1"),
        ({"on": 1}, "on", "true or false"),
        ({"size": "l"}, "size", "one of these: s, m"),
        ({"names": []}, "names", "fewer than 1 entries"),
        ({"names": ["a", "b", "c"]}, "names", "too many"),
        ({"names": ["a", 1]}, "names[1]", "must be a text"),
        ({"map": {}}, "map.port", "is missing"),
        ({"map": {"port": "x"}}, "map.port", "whole number"),
        ({"map": {"port": 1, "x": 2}}, "map.x", "no such parameter"),
        ({"token": "short"}, "token", "fewer than 8 characters"),
        ({"strange": 1}, "strange", "no such parameter"),
    ],
)
def test_what_is_wrong_is_named(given, place, sentence):
    with pytest.raises(InvalidInput) as caught:
        check(given)
    assert sentence in caught.value.fields[f"params.variables.{place}"]


def test_a_secret_leaves_a_mark_that_only_says_whether_it_is_the_same():
    one, same, other = (check({"token": text}) for text in (SECRET, SECRET, SECRET + "x"))
    assert one.secrets == {"token": SECRET}
    assert SECRET not in json.dumps(one.shown)
    assert one.shown["token"] == same.shown["token"] != other.shown["token"]
    elsewhere = values.check(SCHEMA, {"word": "abc", "token": SECRET}, owner="ops/other")
    assert elsewhere.shown["token"] != one.shown["token"]


def test_a_mark_is_no_secret():
    mark = check({"token": SECRET}).shown["token"]
    with pytest.raises(InvalidInput, match="give the secret itself"):
        check({"token": mark})
    assert check({"token": mark}, marks_are_kept=True).shown["token"] == mark


@pytest.mark.parametrize(
    "said",
    [
        SECRET,
        f"token={SECRET} is wrong",
        json.dumps({"token": SECRET}),
        repr(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        "https://x/?t=pa55word-%C3%BC%2F%2B%22",
    ],
)
def test_no_secret_is_in_what_a_playbook_says(said):
    masked = Masker({"token": SECRET})({"a": [said], said: 1, "n": 3})
    assert "pa55word" not in json.dumps(masked, ensure_ascii=False)
    assert HIDDEN in json.dumps(masked, ensure_ascii=False)
    assert masked["n"] == 3


def test_each_line_of_a_key_is_a_secret():
    masked = Masker({"key": "-----BEGIN-----\nMIIEabcdefgh\n-----END-----"})
    assert masked("read MIIEabcdefgh") == f"read {HIDDEN}"


def test_a_sentence_stays_one():
    masked = Masker({"token": SECRET})(Sentence("Not %(what)s.", what=SECRET))
    assert masked == f"Not {HIDDEN}."
    assert masked.msgid == "Not %(what)s."


def test_without_secrets_nothing_is_changed():
    said = {"a": 1}
    assert Masker({})(said) is said
