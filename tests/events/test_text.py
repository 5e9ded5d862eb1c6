"""What people type into the search."""

import pytest

from events.drivers.text import Term, for_postgresql, for_sqlite, parse


@pytest.mark.parametrize(
    ("typed", "terms"),
    [
        ("", []),
        ("  -- !! ", []),
        ("BackOff", [Term(("backoff",))]),
        ("web-6f9c", [Term(("web", "6f9c"))]),
        ('"Back-off restarting"', [Term(("back", "off", "restarting"))]),
        ('"never closed', [Term(("never", "closed"))]),
        ("pull*", [Term(("pull",), is_prefix=True)]),
        ("-probe", [Term(("probe",), is_excluded=True)]),
        ('-"liveness probe"', [Term(("liveness", "probe"), is_excluded=True)]),
        ("镜像 失败", [Term(("镜像",)), Term(("失败",))]),
        ("a_b", [Term(("a", "b"))]),
        ("NEAR(a OR b)", [Term(("near", "a")), Term(("or",)), Term(("b",))]),
    ],
)
def test_words_phrases_beginnings_and_what_must_not_be(typed, terms):
    assert parse(typed) == terms


def test_each_database_is_asked_in_its_own_words():
    terms = parse('web-6f pull* -"not this"')
    assert for_sqlite(terms) == ('"web 6f" AND "pull"*', '"not this"')
    assert for_postgresql(terms) == "('web' <-> '6f') & ('pull':*) & !('not' <-> 'this')"
