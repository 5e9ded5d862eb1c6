"""Sentences: stored once, read in every language, safe whatever is put into them."""

import copy
import json
import os
import pickle
import subprocess
import sys

import pytest
from django.utils.translation import gettext_lazy, override
from hypothesis import given
from hypothesis import strategies as st

from beidou.base import audit, logs
from beidou.base.errors import Conflict, shorten
from beidou.base.sentence_fields import SentenceField
from beidou.base.sentences import (
    Sentence,
    from_column,
    in_english,
    joined,
    neutral,
    spoken,
    to_column,
    untranslated,
)
from beidou.base.state import change_status
from clusters.models import Cluster
from machines.models import Machine, MachineStatusChange
from tests import factories

ENGLISH = "3 of 5 machines failed."
CHINESE = "5 台机器中有 3 台失败。"
NASTY = ["100 % of %s", "%(failed)s", "{0} {x}", "<b>&amp;</b>", "%%", "\\1 \\g<0>", "␟\x1e", "“”"]


def failed(**values):
    return Sentence(
        "%(failed)s of %(total)s machines failed.", **{"failed": 3, "total": 5, **values}
    )


def test_a_sentence_is_a_text_in_the_language_of_whoever_makes_it():
    assert failed() == ENGLISH
    with override("zh-hans"):
        assert failed() == CHINESE


def test_it_remembers_the_original_whatever_the_language():
    with override("zh-hans"):
        assert failed().english == ENGLISH


def test_what_is_stored_does_not_depend_on_the_language_of_the_writer():
    with override("zh-hans"):
        chinese = to_column(failed())
    assert to_column(failed()) == chinese


def test_what_was_stored_is_read_in_the_language_of_the_reader():
    stored = to_column(failed())
    assert from_column(stored) == ENGLISH
    with override("zh-hans"):
        assert from_column(stored) == CHINESE


def test_a_sentence_inside_another_is_read_in_the_same_language():
    inner = Sentence("its worker was lost %(count)s times", count=3)
    stored = to_column(Sentence("Skipped: %(reason)s", reason=inner))
    assert from_column(stored) == "Skipped: its worker was lost 3 times"
    with override("zh-hans"):
        assert from_column(stored) == "已跳过：其工作进程已丢失 3 次"


def test_one_made_in_another_language_is_put_in_in_the_present_one():
    with override("zh-hans"):
        inner = Sentence("Canceled.")
    assert Sentence("Skipped: %(reason)s", reason=inner) == "Skipped: Canceled."


def test_joined_sentences_are_each_translated():
    stored = to_column(joined([Sentence("Canceled."), "as it was written", Sentence("nothing")]))
    with override("zh-hans"):
        assert from_column(stored) == "已取消。 as it was written 无"


def test_a_sentence_that_ends_another_one_brings_no_second_full_stop():
    why = Sentence("Machine %(address)s is gone.", address="192.0.2.1")
    assert Sentence("Not done: %(why)s.", why=why) == "Not done: Machine 192.0.2.1 is gone."
    assert Sentence("Not done: %(why)s.", why="and so on...") == "Not done: and so on...."
    assert Sentence("%(why)s Try again.", why=why).startswith("Machine 192.0.2.1 is gone. ")


@pytest.mark.parametrize(("parts", "text"), [([], ""), (["alone"], "alone")])
def test_joining_nothing_or_one_is_no_sentence(parts, text):
    assert joined(parts) == text
    assert not isinstance(joined(parts), Sentence)


def test_the_label_of_a_choice_becomes_a_sentence():
    with override("zh-hans"):
        label = untranslated(gettext_lazy("Waiting"))
    assert Sentence("%(state)s", state=label) == label.english == "Waiting"


def test_a_label_is_shown_in_the_language_of_the_moment():
    with override("zh-hans"):
        assert str(untranslated(gettext_lazy("Waiting"))) == "等待中"


@pytest.mark.parametrize("text", NASTY)
def test_what_people_write_is_only_filled_in(text):
    sentence = Sentence("Skipped by %(user)s: %(reason)s", user=text, reason=text)
    assert sentence == from_column(to_column(sentence)) == f"Skipped by {text}: {text}"


@given(st.text(), st.text())
def test_any_text_in_a_sentence_comes_back_as_it_was(user, reason):
    sentence = Sentence("Skipped by %(user)s: %(reason)s", user=user, reason=reason)
    assert from_column(to_column(sentence)) == f"Skipped by {user}: {reason}"


@given(st.text() | st.text().map(lambda text: '{"text":' + text))
def test_a_plain_text_comes_back_as_it_was_also_when_it_looks_like_a_stored_sentence(text):
    assert from_column(to_column(text)) == text


def test_a_person_cannot_write_a_sentence_of_the_portal():
    forged = to_column(Sentence("Canceled."))
    assert from_column(to_column(forged)) == forged


@pytest.mark.parametrize(
    "stored", ["", "as it was", "100 % done", '{"text": broken', '{"text":1}', '{"text":"x"}']
)
def test_rows_from_before_are_read_as_they_are(stored):
    assert from_column(stored) == stored


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("%(x)999999999d", "%(x)999999999d"),
        ("%(missing)s", "%(missing)s"),
        ("%s %", "%s %"),
        ("100 %% of %(x)s", "100 % of 1"),
        ("", ""),
    ],
)
def test_a_pattern_from_a_host_can_do_no_harm(pattern, text):
    assert spoken({"text": pattern, "params": {"x": 1}}) == text


def test_only_what_has_the_shape_of_a_sentence_becomes_one():
    plain = {"text": "t", "params": {}, "more": 1}
    found = spoken([plain, {"text": 1, "params": {}}, {"found": {"text": "t", "params": {}}}])
    assert found[0] == plain
    assert found[1] == {"text": 1, "params": {}}
    assert isinstance(found[2]["found"], Sentence)


def test_json_with_sentences_is_neutral():
    with override("zh-hans"):
        stored = neutral([{"ok": False, "found": failed(), "wanted": "2"}])
    assert json.loads(json.dumps(stored)) == [
        {
            "ok": False,
            "found": {
                "text": "%(failed)s of %(total)s machines failed.",
                "params": {"failed": 3, "total": 5},
            },
            "wanted": "2",
        }
    ]


def test_objects_are_put_in_as_their_names(cluster_a):
    sentence = Sentence("Cluster %(cluster)s has no operation settings.", cluster=cluster_a)
    assert from_column(to_column(sentence)) == f"Cluster {cluster_a} has no operation settings."


def test_copies_are_sentences_too():
    for copied in (copy.deepcopy(failed()), pickle.loads(pickle.dumps(failed()))):  # noqa: S301
        assert (copied, copied.english) == (ENGLISH, ENGLISH)
        assert to_column(copied) == to_column(failed())


def test_a_column_cuts_texts_and_what_is_put_into_sentences():
    field = SentenceField(limit=5)
    inner = Sentence("Skipped: %(reason)s", reason="123456789")
    stored = field.get_prep_value(Sentence("Skipped: %(reason)s", reason=inner))
    assert from_column(stored) == "Skipped: Skipped: 12345"
    assert field.get_prep_value("123456789") == "12345"


def test_shortening_keeps_it_a_sentence():
    short = shorten(Sentence("Skipped: %(reason)s", reason="x " * 100), 10)
    assert (short, isinstance(short, Sentence)) == ("Skipped: x x x x x…", True)


def test_a_row_is_written_once_and_read_in_two_languages(db):
    machine = factories.make_machine(state=Machine.State.AVAILABLE)
    with override("zh-hans"):
        change_status(machine, to=Machine.State.FAULTY, reason=failed())
    assert MachineStatusChange.objects.get().reason == ENGLISH
    with override("zh-hans"):
        assert MachineStatusChange.objects.get().reason == CHINESE
        assert MachineStatusChange.objects.values_list("reason", flat=True).get() == CHINESE


def test_a_row_from_before_is_read_as_it_is_and_can_be_searched(db):
    machine = factories.make_machine()
    MachineStatusChange.objects.create(subject=machine, old="a", new="b", reason="its disk died")
    MachineStatusChange.objects.create(subject=machine, old="b", new="c", reason=failed())
    assert MachineStatusChange.objects.filter(reason__icontains="DISK").get().old == "a"
    assert MachineStatusChange.objects.filter(reason__icontains="machines failed").get().old == "b"


def test_json_columns_are_read_in_two_languages(db):
    cluster = factories.make_cluster()
    with override("zh-hans"):
        Cluster.objects.filter(pk=cluster.pk).update(components=[{"message": failed()}])
    assert Cluster.objects.get().components == [{"message": ENGLISH}]
    with override("zh-hans"):
        assert Cluster.objects.get().components == [{"message": CHINESE}]


def test_what_is_read_can_be_written_again_without_losing_the_original(db):
    cluster = factories.make_cluster(health_reason=failed(), components=[{"message": failed()}])
    with override("zh-hans"):
        read = Cluster.objects.get(pk=cluster.pk)
        Cluster.objects.filter(pk=cluster.pk).update(
            health_reason=read.health_reason, components=read.components
        )
    read = Cluster.objects.get(pk=cluster.pk)
    assert (read.health_reason, read.components) == (ENGLISH, [{"message": ENGLISH}])


def test_the_audit_trail_is_in_english_and_stays_whole(db):
    with override("zh-hans"):
        audit.record("end", after={"message": failed(), "all": [failed()]}, reason=failed())
    entry = audit.AuditEntry.objects.get()
    assert entry.after == {"message": ENGLISH, "all": [ENGLISH]}
    assert entry.reason == ENGLISH
    assert not list(audit.verify())


def test_logs_are_in_english():
    with override("zh-hans"):
        event = {"error": failed(), "seconds": 1}
        assert logs._in_english(None, "info", event) == {"error": ENGLISH, "seconds": 1}


def test_a_driver_speaks_english_where_there_are_no_settings():
    code = (
        "from clusters.drivers import errors; "
        "print(errors.could_not('read', 'c', errors._SENTENCES[429]))"
    )
    environment = {name: os.environ[name] for name in ("PATH",)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == (
        "Cluster c: could not read: the API server has too much to do (HTTP 429)."
    ), done.stderr


def test_in_english_leaves_other_values_alone():
    assert in_english({"a": 1, "b": None, "c": "text"}) == {"a": 1, "b": None, "c": "text"}


def test_a_refused_change_of_state_is_told_with_states_in_the_language_of_the_reader(db):
    machine = factories.make_machine(state=Machine.State.RETIRED)
    with override("zh-hans"), pytest.raises(Conflict) as caught:
        change_status(machine, to=Machine.State.FAULTY)
    stored = to_column(caught.value.message)
    assert "Retired" in from_column(stored)
    with override("zh-hans"):
        assert "Retired" not in from_column(stored)
        assert from_column(stored) == caught.value.message
