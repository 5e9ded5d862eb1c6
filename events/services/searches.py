"""Searches that are kept: as the address says them, checked when they are stored."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.core.exceptions import TooManyFieldsSent
from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from beidou.base import audit, bodies, permissions
from beidou.base.errors import Forbidden, InvalidInput, shorten
from beidou.base.models import User
from beidou.base.storable import is_storable
from events.models import SEARCH_MAX, Event, SavedSearch
from events.services import asked

OWN_MAX: Final = 200
TIMES: Final = asked.TIMES


def checked(
    user: Any, text: str, *, names: Iterable[str] = asked.NAMES, field: str = "search"
) -> str:
    """The search in one way of writing it; ``InvalidInput`` for ``field`` where it is none."""
    if len(text) > SEARCH_MAX:
        raise _refusal(
            field, _("The search is longer than %(count)d characters.") % {"count": SEARCH_MAX}
        )
    try:
        given = QueryDict(text.strip().removeprefix("?"))
    except TooManyFieldsSent as error:
        raise _refusal(field, _("The search has too many parts.")) from error
    if not all(is_storable(value) for _name, values in given.lists() for value in values):
        raise _refusal(field, str(bodies.SENTENCE))
    known = tuple(names)
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        raise _refusal(
            field,
            _("“%(name)s” is no part of a search here; there are %(known)s.")
            % {"name": shorten(unknown, 60), "known": ", ".join(known)},
        )
    try:
        asked.query(user, given)
    except InvalidInput as error:
        raise _refusal(field, error.message) from error
    kept = QueryDict(mutable=True)
    for name in known:
        if found := asked.values(given, name):
            kept.setlist(name, list(found))
    return kept.urlencode()


_SECOND = timedelta(seconds=1)


def timed(search: str, *, since: datetime, until: datetime | None) -> str:
    """``search``, which has no times, within these; what has gone on since belongs to it."""
    given = QueryDict(search, mutable=True)
    given["since"] = _written(since)
    if until is not None:
        given["until"] = _written(until + _SECOND)  # its own second is a part of it
        given[asked.DURING] = "1"
    return given.urlencode()


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def plain(search: str, *, but: tuple[str, ...] = ()) -> str:
    """What is searched, for people: ``type=Warning, reason=BackOff``."""
    lists = QueryDict(search).lists()
    return ", ".join(
        f"{name}={value}" for name, values in lists if name not in but for value in values
    )


def require_may_save(user: Any) -> None:
    if not permissions.may_anywhere(user, Event):
        raise Forbidden(_("Your teams have no role on any cluster."))


def validate(wanted: SavedSearch, user: Any) -> None:
    """Raise ``InvalidInput`` naming what cannot be right; puts the search in order.

    Within the transaction that saves it: of two at the same moment the second one waits here, and
    finds the name of the first one taken.
    """
    User.objects.select_for_update(no_key=True).get(pk=wanted.owner_id)
    wanted.search = checked(user, wanted.search)
    own = SavedSearch.objects.filter(owner=wanted.owner_id)
    if own.filter(name=wanted.name).exclude(pk=wanted.pk).exists():
        raise _refusal(
            "name", _("There is a saved search of this name already; choose another name.")
        )
    if wanted.pk is None and own.count() >= OWN_MAX:
        raise _refusal(
            "name",
            ngettext(
                "One person can save %(count)d search; delete one first.",
                "One person can save %(count)d searches; delete some first.",
                OWN_MAX,
            )
            % {"count": OWN_MAX},
        )


def save(*, name: str, search: str, shared: bool, acting_user: Any) -> SavedSearch:
    require_may_save(acting_user)
    name = name.strip()
    if not name or len(name) > 100:
        raise _refusal("name", _("Give the search a name of at most 100 characters."))
    wanted = SavedSearch(name=name, owner=acting_user, search=search, shared=shared)
    with audit.entries_last():
        validate(wanted, acting_user)
        wanted.save()
        audit.record("add", wanted, after=audit.snapshot(wanted))
    return wanted


def _refusal(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, fields={field: sentence})
