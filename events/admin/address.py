"""The address of a search, and those of the searches that are one click away."""

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlencode

from django.http import QueryDict

from events.services import asked
from events.services.asked import TIMES, moment_as_text


class Address:
    """Holds the whole search and nothing else; a place in the list only in ``after``."""

    def __init__(self, given: QueryDict) -> None:
        self._given = QueryDict(mutable=True)
        for name in asked.NAMES:
            if found := [value for value in given.getlist(name) if value]:
                self._given.setlist(name, list(dict.fromkeys(found)))

    def __str__(self) -> str:
        return _written(self._given)

    def fields(self, *, but: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """What a form must carry along, except what it asks for itself."""
        for name, values in self._given.lists():
            if name not in but:
                yield from ((name, value) for value in values)

    def toggled(self, name: str, value: str) -> str:
        """With the value chosen, or no more so."""
        changed = self._given.copy()
        chosen = changed.getlist(name)
        others = [each for each in chosen if each != value]
        changed.setlist(name, others if value in chosen else [*chosen, value])
        return _written(changed)

    def ranged(self, name: str) -> str:
        changed = self._without_times()
        changed["range"] = name
        return _written(changed)

    def zoomed(self, since: datetime, until: datetime) -> str:
        changed = self._without_times()
        changed["since"], changed["until"] = moment_as_text(since), moment_as_text(until)
        return _written(changed)

    def timeless(self) -> str:
        """The same search, without times."""
        return _written(self._without_times())

    def without_filters(self) -> str:
        """The same time, whatever was searched in it."""
        changed = QueryDict(mutable=True)
        for name in TIMES:
            changed.setlist(name, self._given.getlist(name))
        return _written(changed)

    def as_rule(self) -> str:
        """For the form of an alert rule, which has no times."""
        return urlencode({"search": self._without_times().urlencode()})

    def clusters(self) -> str:
        """The clusters alone."""
        changed = QueryDict(mutable=True)
        changed.setlist("cluster", self._given.getlist("cluster"))
        return _written(changed)

    def after(self, cursor: object) -> str:
        changed = self._given.copy()
        changed["cursor"] = str(cursor)
        return _written(changed)

    def _without_times(self) -> QueryDict:
        changed = self._given.copy()
        for name in TIMES:
            changed.pop(name, None)
        return changed


def _written(given: QueryDict) -> str:
    return f"?{given.urlencode()}"
