"""A search as an address says it, for the page and the API alike.

``q``, ``since``, ``until`` (or ``range``), ``during``, ``cluster`` and the fields of
``search.FIELDS``; these and ``cluster`` may be repeated and then mean any of their values.  What is
no search is refused with the parameter's name; a cluster that one may not see is one in which
nothing is found.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base.errors import InvalidInput, shorten
from beidou.base.numbers import as_key
from events.drivers.kube_events import MOST_AHEAD
from events.drivers.text import parse
from events.services import search
from events.services.search import FIELDS, Query

RANGES = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
DEFAULT_RANGE = "24h"
DURING = "during"
TIMES = ("range", "since", "until", DURING)
NAMES = ("q", *TIMES, "cluster", *FIELDS)
TEXT_MAX = 500
TERMS_MAX = 20
VALUES_MAX = 50
_YEARS = range(2000, 2101)


def query(user: Any, given: QueryDict) -> Query:
    """InvalidInput where the address says something else."""
    since, until = moment(given, "since"), moment(given, "until")
    now = timezone.now()
    return Query.of(
        since=since or (until or now) - RANGES[chosen_range(given)],
        until=until or now + MOST_AHEAD,
        text=_text(given),
        clusters=clusters(user, given),
        during=given.get(DURING) == "1",
        **{field: values(given, field) for field in FIELDS},
    )


def timeless(user: Any, given: QueryDict) -> Query:
    """A search that goes on for ever: an address with times is refused."""
    for name in TIMES:
        if given.get(name):
            raise _refusal(
                name,
                _("A live tail begins now and does not end: it takes no %(name)s.")
                % {"name": name},
            )
    return query(user, given)


def written(query: Query) -> str:
    """A query as an address says it."""
    given = QueryDict(mutable=True)
    if query.text:
        given["q"] = query.text
    given.setlist("cluster", list(map(str, query.clusters)))
    for field in FIELDS:
        given.setlist(field, list(getattr(query, field)))
    if query.during:
        given[DURING] = "1"
    given["since"], given["until"] = moment_as_text(query.since), moment_as_text(query.until)
    return given.urlencode()


def moment_as_text(value: datetime) -> str:
    value = value.astimezone(UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if value.microsecond else "%Y-%m-%dT%H:%M:%SZ")


def chosen_range(given: QueryDict) -> str:
    """The name of the range; it counts where ``since`` is not given."""
    name = given.get("range") or DEFAULT_RANGE
    if name not in RANGES:
        raise no_range(name, RANGES)
    return name


def no_range(name: str, known: Iterable[str]) -> InvalidInput:
    return _refusal(
        "range",
        _("“%(name)s” is no range; there are %(known)s.")
        % {"name": shorten(name, 60), "known": ", ".join(known)},
    )


def moment(given: QueryDict, name: str) -> datetime | None:
    """Without a time zone it is meant in the portal's."""
    text = given.get(name, "").strip()
    if not text:
        return None
    try:
        found = parse_datetime(text)
        if found is None or found.year not in _YEARS:
            raise ValueError(text)
        return (found if found.tzinfo else timezone.make_aware(found)).astimezone(UTC)
    except ValueError:
        raise _refusal(
            name,
            _("“%(text)s” is no moment; write it as 2026-11-26T08:00:00Z.")
            % {"text": shorten(text, 60)},
        ) from None


def values(given: QueryDict, name: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(value for value in given.getlist(name) if value))
    if len(found) > VALUES_MAX:
        raise _refusal(
            name,
            ngettext(
                "At most %(count)d value can be chosen.",
                "At most %(count)d values can be chosen.",
                VALUES_MAX,
            )
            % {"count": VALUES_MAX},
        )
    return found


def _text(given: QueryDict) -> str:
    text = given.get("q", "").strip()
    if len(text) > TEXT_MAX:
        raise _refusal(
            "q", _("The text is longer than %(count)d characters.") % {"count": TEXT_MAX}
        )
    if len(parse(text)) > TERMS_MAX:
        raise _refusal(
            "q",
            ngettext(
                "The text has more than %(count)d term.",
                "The text has more than %(count)d terms.",
                TERMS_MAX,
            )
            % {"count": TERMS_MAX},
        )
    return text


def clusters(user: Any, given: QueryDict) -> tuple[int, ...]:
    """The keys of those clusters, given by key or name, of which ``user`` may see anything."""
    wanted = set(values(given, "cluster"))
    if not wanted:
        return ()
    keys = set(map(as_key, wanted))
    known = search.scope_of(user).known
    nothing = (0,)
    found = sorted(key for key, row in known.items() if key in keys or row.name in wanted)
    return tuple(found) or nothing


def _refusal(name: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, fields={name: sentence})
