"""The indices: one for each day on which events began, made from a template.

Everything about them can be read from their names, and nothing needs a server that moves or
deletes them by itself.  Where there is one (ILM of Elasticsearch), the template names the site's
policy.  What ILM makes of an index has another name with this one at its end
(``shrink-x1y2-NAME``, ``restored-NAME``, ``partial-NAME``), and NAME for an alias: it is found as
before, but may take no writes any more (``sealed``).  The component template
``PREFIX-events@custom`` is the place for replicas and shards: the template includes it when it
exists.
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
BAD, NOT_FOUND = 400, 404
_NO_SUCH_THING = (BAD, NOT_FOUND, 405, 410)
"""What a server answers, according to its version, to who asks for something that it has not."""
_SEALS = "index.blocks.write,index.blocks.read_only,index.store.type"
FIRST_YEAR, LAST_YEAR = 2015, 2100


class Indices:
    """Knows what it has seen of the server, and asks once for each index."""

    def __init__(self, server: Server, owner: str) -> None:
        self._server = server
        self._policy = server.address.ilm_policy
        self._owner = owner
        self._base = f"{server.address.prefix}-events"
        self._lock = threading.Lock()
        self._is_prepared = False
        self._checked: set[str] = set()

    @property
    def all(self) -> str:
        """As a search takes it."""
        return f"{self._base}-{GENERATION}-*"

    @property
    def other(self) -> str:
        """For days that are none, and for what comes too late for an index that is sealed.  No
        policy has it, so that it takes writes at all times."""
        return f"{self._base}-{GENERATION}-other"

    def of(self, day: date) -> str:
        """The same for a day at all times, as it is a part of an event's identity."""
        if not FIRST_YEAR <= day.year < LAST_YEAR:
            return self.other
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
                self._require_policy()
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

    def sealed(self, names: str = "") -> list[str]:
        """Those (of all) that take no writes because somebody wanted it so: read-only, shrunk, or
        searched in a snapshot.  What lack of disk does to an index is another thing."""
        answer = self._server.ask(
            "GET",
            f"/{names or self.all}/_settings/{_SEALS}",
            expand_wildcards="open",
            flat_settings="true",
        )
        return sorted(name for name, found in answer.items() if _is_sealed(found["settings"]))

    def drop(self, name: str) -> None:
        self._server.ask("DELETE", f"/{name}", allowed=(NOT_FOUND,))
        with self._lock:
            self._checked.discard(name)

    # --- the template -----------------------------------------------------------------------------

    def are_ours(self) -> bool:
        """False where there are none yet; StoreAway where they are another portal's: nothing of
        them may be deleted."""
        answer = self._server.ask("GET", self._path, allowed=(NOT_FOUND,))
        found = answer.get("index_templates", [])
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

    def _require_policy(self) -> None:
        """A server takes the name of a policy that is not there, and then does nothing."""
        if not self._policy:
            return
        answer = self._server.ask("GET", f"/_ilm/policy/{self._policy}", allowed=_NO_SUCH_THING)
        if self._policy in answer:
            return
        if answer.status == NOT_FOUND:
            raise StoreAway(
                Sentence(
                    "The event store has no ILM policy “%(policy)s”; make it there, or mend "
                    "BEIDOU_EVENT_ILM_POLICY. Until then events wait in the spool.",
                    policy=self._policy,
                )
            )
        raise StoreAway(
            Sentence(
                "The event store knows no ILM; leave BEIDOU_EVENT_ILM_POLICY out: the portal "
                "deletes days by itself. Until then events wait in the spool."
            )
        )

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
                        **({"lifecycle.name": self._policy} if self._policy else {}),
                    }
                },
                "mappings": {"_meta": {"beidou": GENERATION}, **documents.MAPPING},
            },
        }

    # --- one index --------------------------------------------------------------------------------

    def _make(self, name: str) -> None:
        body = _WITHOUT_POLICY if self._policy and name == self.other else None
        answer = self._server.ask("PUT", f"/{name}", body=body, allowed=(BAD,))
        # Another writer may have been quicker, or ILM made another index of it.
        allowed = (NOT_FOUND,) if answer.status == BAD else ()
        there = self._server.ask("GET", f"/{name}/_mapping", allowed=allowed)
        if there.status == NOT_FOUND:
            raise refusal(BAD, *cause(answer))
        (found,) = there.values()
        if found["mappings"].get("_meta", {}).get("beidou") != GENERATION:
            raise StoreAway(
                Sentence(
                    "The index “%(name)s” was not made by the portal: its fields are others. "
                    "Remove or rename it; until then events wait in the spool.",
                    name=name,
                )
            )


_WITHOUT_POLICY = {"settings": {"index.lifecycle.name": None}}


def _is_sealed(settings: dict[str, str]) -> bool:
    blocks = ("index.blocks.write", "index.blocks.read_only")
    is_snapshot = settings.get("index.store.type") == "snapshot"
    return is_snapshot or any(settings.get(block) == "true" for block in blocks)
