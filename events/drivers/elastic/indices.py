"""The indices: one for each day on which events began, made from a template.

Everything about them can be read from their names, and nothing needs a server that moves or
deletes them by itself (ILM, ISM).  Where there is one, the component template
``PREFIX-events@custom`` is the place for its policy, replicas and shards: the template includes it
when it exists.
"""

import threading
from datetime import date
from typing import Any

from beidou.base.sentences import Sentence
from events.drivers.elastic import documents
from events.drivers.elastic.server import Server, cause, refusal
from events.drivers.errors import StoreAway

GENERATION = 1
"""Of the mapping; another mapping has other indices beside those that are there."""
BAD = 400
FIRST_YEAR, LAST_YEAR = 2015, 2100


class Indices:
    """Knows what it has seen of the server, and asks once for each index."""

    def __init__(self, server: Server, owner: str) -> None:
        self._server = server
        self._owner = owner
        self._base = f"{server.address.prefix}-events"
        self._lock = threading.Lock()
        self._is_prepared = False
        self._checked: set[str] = set()

    @property
    def all(self) -> str:
        """As a search takes it."""
        return f"{self._base}-{GENERATION}-*"

    def of(self, day: date) -> str:
        """The same for a day at all times, as it is a part of an event's identity."""
        if not FIRST_YEAR <= day.year < LAST_YEAR:
            return f"{self._base}-{GENERATION}-other"
        return f"{self._base}-{GENERATION}-{day:%Y.%m.%d}"

    def day_of(self, name: str) -> date | None:
        try:
            year, month, day = name.rpartition("-")[2].split(".")
            return date(int(year), int(month), int(day))
        except ValueError:
            return None

    def prepare(self, names: set[str]) -> None:
        """Make what lacks of the template and of these; StoreAway where they are not as ours."""
        with self._lock:
            if not self._is_prepared:
                self._put_template()
                self._is_prepared = True
            for name in sorted(names - self._checked):
                self._make(name)
                self._checked.add(name)

    def forget(self) -> None:
        """Something was not there: look at everything again."""
        with self._lock:
            self._is_prepared = False
            self._checked.clear()

    def complete(self) -> None:
        """Indices of earlier versions get the fields that came since.  Writing needs them not: a
        credential that may not do this holds up no event."""
        answer = self._server.ask("GET", f"/{self.all}/_mapping")
        fields = [each["mappings"].get("properties", {}) for each in answer.values()]
        if all("teams" in each.get("beidou", {}).get("properties", {}) for each in fields):
            return
        new = {"teams": documents.MAPPING["properties"]["beidou"]["properties"]["teams"]}
        body = {"properties": {"beidou": {"properties": new}}}
        self._server.ask("PUT", f"/{self.all}/_mapping", body=body)

    def names(self) -> list[str]:
        answer = self._server.ask("GET", f"/{self.all}/_alias", expand_wildcards="open")
        return sorted(answer)

    def drop(self, name: str) -> None:
        self._server.ask("DELETE", f"/{name}", allowed=(404,))
        with self._lock:
            self._checked.discard(name)

    # --- the template -----------------------------------------------------------------------------

    def are_ours(self) -> bool:
        """False where there are none yet; StoreAway where they are another portal's: nothing of
        them may be deleted."""
        found = self._server.ask("GET", self._path, allowed=(404,)).get("index_templates", [])
        owners = {each["index_template"].get("_meta", {}).get("portal") for each in found}
        if owners - {self._owner}:
            raise StoreAway(
                Sentence(
                    "The indices “%(base)s…” belong to another portal; give this one a prefix of "
                    "its own at the end of BEIDOU_EVENT_STORE_URL.",
                    base=self._base,
                )
            )
        return bool(owners)

    @property
    def _path(self) -> str:
        return f"/_index_template/{self._base}-{GENERATION}"

    def _put_template(self) -> None:
        # Of two portals that begin at the same moment only one may.
        only_new = "false" if self.are_ours() else "true"
        self._server.ask("PUT", self._path, body=self.template(), create=only_new)

    def template(self) -> dict[str, Any]:
        names = [f"{self._base}@custom"]
        custom = {"composed_of": names, "ignore_missing_component_templates": names}
        # OpenSearch takes no component template that may lack.
        is_open = self._server.address.product == "opensearch"
        return {
            "index_patterns": [self.all],
            "priority": 500,
            **({} if is_open else custom),
            "_meta": {"portal": self._owner},
            "template": {
                "aliases": {self._base: {}},
                "settings": {
                    "index": {
                        # Shards and replicas are the server's, or those of ``@custom``, which
                        # could not overrule them here.
                        "codec": "best_compression",
                        "refresh_interval": "1s",
                        # Newest first is the order of almost every question.
                        "sort.field": [documents.TIME],
                        "sort.order": ["desc"],
                    }
                },
                "mappings": {"_meta": {"beidou": GENERATION}, **documents.MAPPING},
            },
        }

    # --- one index --------------------------------------------------------------------------------

    def _make(self, name: str) -> None:
        answer = self._server.ask("PUT", f"/{name}", allowed=(BAD,))
        kind, reason = cause(answer)
        # Another writer may have been quicker.
        if answer.status == BAD and kind != "resource_already_exists_exception":
            raise refusal(BAD, kind, reason)
        (found,) = self._server.ask("GET", f"/{name}/_mapping").values()
        if found["mappings"].get("_meta", {}).get("beidou") != GENERATION:
            raise StoreAway(
                Sentence(
                    "The index “%(name)s” was not made by the portal: its fields are others. "
                    "Remove or rename it; until then events wait in the spool.",
                    name=name,
                )
            )
