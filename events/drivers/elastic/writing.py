"""Keeping events: in bulk, each by its identity, and only a newer state replaces an older one.

The server compares the version itself (``external``).  What it calls a conflict is almost always
the same state again; only of those the stored state is looked at, because a cluster that was
restored from a backup counts from lower numbers again.

An index that a policy has sealed takes nothing: what is newer than the state in it goes into
another index, under the same key.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from beidou.base.sentences import Sentence
from events.drivers.elastic import documents
from events.drivers.elastic.indices import Indices
from events.drivers.elastic.server import Server, refusal
from events.drivers.errors import StoreAway
from events.drivers.kube_events import Record, orders_by_time

CONFLICT, NOT_FOUND, BAD = 409, 404, 400
_OK = range(200, 300)
_BLOCKED = "cluster_block_exception"
_UNREADABLE = ("mapper_parsing_exception", "document_parsing_exception")
_TOO_LONG = ("illegal_argument_exception", "immense term")
"""What is wrong with the event itself.  An index that is closed or full, or whose pipeline is gone,
is no reason to lose one, although the server calls that an illegal argument, too."""
MOST_REFUSED = 20
"""When of more than so many each one is refused, it is not the events that are wrong."""
_Place = tuple[str, str]
"""An index, and the key in it."""
BULK_BYTES = 8 * 1024 * 1024
"""A server takes a hundred MiB in one request at most."""


@dataclass(frozen=True)
class _Line:
    """A record on its way."""

    record: Record
    index: str
    key: str
    document: bytes

    @property
    def place(self) -> _Place:
        return self.index, self.key

    @property
    def action(self) -> bytes:
        place = {"_index": self.index, "_id": self.key}
        versions = {"version": self.record.version, "version_type": "external"}
        return documents.encoded({"index": {**place, **versions}})


@dataclass(frozen=True)
class _Stored:
    """The state that is there, and by what the server knows that it is still that one."""

    version: int
    last_seen: datetime
    seq_no: int
    primary_term: int

    @property
    def unchanged(self) -> dict[str, int]:
        """The server does what is asked only while this is what is stored."""
        return {"if_seq_no": self.seq_no, "if_primary_term": self.primary_term}


class Writer:
    def __init__(self, server: Server, indices: Indices) -> None:
        self._server = server
        self._indices = indices

    def write(
        self,
        cluster_uid: str,
        cluster_name: str,
        records: Sequence[Record],
        labels: Mapping[str, Sequence[int]],
    ) -> list[tuple[Record, str]]:
        """Gives those that are refused for good, and why; StoreAway where it cannot be now."""
        if not records:
            return []
        lines = [
            self._line(cluster_uid, cluster_name, record, labels.get(record.namespace, ()))
            for record in records
        ]
        refused, blocked = self._put(lines)
        if blocked:
            more, blocked = self._put(self._late(blocked))
            refused += more
        for _line, answer in blocked:
            self._give_up(answer)
        return refused

    def _put(
        self, lines: Sequence[_Line]
    ) -> tuple[list[tuple[Record, str]], list[tuple[_Line, dict[str, Any]]]]:
        """Gives those that are refused for good, and those for which there is a block."""
        self._indices.prepare({line.index for line in lines})
        answers = self._bulk([(line.action, line.document) for line in lines])
        conflicts, refused, blocked = [], [], []
        for line, answer in zip(lines, answers, strict=True):
            status = answer["status"]
            if status == CONFLICT:
                conflicts.append(line)
            elif status == BAD and _is_of_the_event(answer["error"]):
                refused.append((line.record, str(answer["error"].get("reason", "refused"))))
            elif status not in _OK and answer.get("error", {}).get("type") == _BLOCKED:
                blocked.append((line, answer))
            elif status not in _OK:
                self._give_up(answer)
        if refused:
            # Somebody may have made the index anew, with other fields: then it is to blame, and not
            # the event.
            self._indices.forget()
            self._indices.prepare({self._indices.of(record.day) for record, _why in refused})
        if len(refused) == len(lines) > MOST_REFUSED:
            self._give_up(answers[0])
        self._settle(conflicts)
        return refused, blocked

    def _late(self, blocked: Sequence[tuple[_Line, dict[str, Any]]]) -> list[_Line]:
        """What is newer than what a sealed index has, on its way to where it can be stored."""
        sealed = {name for name in {line.index for line, _answer in blocked}
                  if self._indices.sealed(name)}  # fmt: skip
        for line, answer in blocked:
            if line.index not in sealed:
                self._give_up(answer)
        stored = self._stored({line.place for line, _answer in blocked})
        late = []
        for line, _answer in blocked:
            there = stored.get(line.place)
            if there is None or _is_newer(line.record, there.version, there.last_seen):
                late.append(replace(line, index=self._indices.other))
        return late

    def delete(self, found: Sequence[tuple[str, str]]) -> None:
        """``found`` are indices with keys."""
        lines = [
            documents.encoded({"delete": {"_index": index, "_id": key}}) for index, key in found
        ]
        for answer in self._bulk([(line,) for line in lines]):
            if answer["status"] not in _OK and answer["status"] != NOT_FOUND:
                self._give_up(answer)

    def relabel(
        self, hits: Sequence[Mapping[str, Any]], labels: Mapping[str, Sequence[int]]
    ) -> None:
        """``hits`` with their sources and numbers.  One that was written meanwhile stays as it is:
        it was labelled then."""
        lines = []
        for hit in hits:
            place = {"_index": hit["_index"], "_id": hit["_id"]}
            same = {"if_seq_no": hit["_seq_no"], "if_primary_term": hit["_primary_term"]}
            teams = labels.get(documents.values(hit["_source"])["namespace"], ())
            change = {"doc": documents.labelled(hit["_source"], teams)}
            action = documents.encoded({"update": {**place, **same}})
            lines.append((action, documents.encoded(change)))
        for answer in self._bulk(lines):
            if answer["status"] not in (*_OK, CONFLICT, NOT_FOUND):
                self._give_up(answer)

    def remove(self, cluster_uid: str, records: Sequence[Record]) -> int:
        """Delete these states, and none that is another by now; gives how many went."""
        if not records:
            return 0
        places: dict[_Place, Record] = {}
        for each in records:
            key = documents.identity(cluster_uid, each.uid)
            places |= {
                (index, key): each for index in (self._indices.of(each.day), self._indices.other)
            }
        lines = []
        for (index, key), there in self._stored(set(places)).items():
            record = places[index, key]
            if (there.version, there.last_seen) == (record.version, record.last_seen):
                action = {"_index": index, "_id": key, **there.unchanged}
                lines.append((documents.encoded({"delete": action}),))
        removed = 0
        for answer in self._bulk(lines) if lines else ():
            if answer["status"] in _OK:
                removed += 1
            elif answer["status"] not in (CONFLICT, NOT_FOUND):
                self._say_if_sealed(answer)
                self._give_up(answer)
        return removed

    def _say_if_sealed(self, answer: dict[str, Any]) -> None:
        name = answer.get("_index", "")
        if answer.get("error", {}).get("type") == _BLOCKED and self._indices.sealed(name):
            raise StoreAway(
                Sentence(
                    "The index “%(name)s” is read-only, so that what is in the archive cannot be "
                    "deleted from it; make it writable, or delete it, as its policy may do.",
                    name=name,
                )
            )

    def _line(
        self, cluster_uid: str, cluster_name: str, record: Record, teams: Sequence[int]
    ) -> _Line:
        return _Line(
            record,
            self._indices.of(record.day),
            documents.identity(cluster_uid, record.uid),
            documents.encoded(documents.document(cluster_uid, cluster_name, record, teams)),
        )

    def _bulk(self, lines: Sequence[tuple[bytes, ...]]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = []
        for content in _portions(lines):
            answer = self._server.ask("POST", "/_bulk", lines=content)
            answers += [next(iter(item.values())) for item in answer["items"]]
        return answers

    def _give_up(self, answer: dict[str, Any]) -> None:
        """Everything is tried again later: what is stored already changes nothing then."""
        if answer["status"] == NOT_FOUND:
            self._indices.forget()
        error = answer.get("error", {})
        raise refusal(answer["status"], str(error.get("type", "")), str(error.get("reason", "")))

    # --- conflicts --------------------------------------------------------------------------------

    def _settle(self, conflicts: Sequence[_Line]) -> None:
        """Store those that are newer than what is there although their numbers are not higher."""
        if not conflicts:
            return
        stored = {
            key: there
            for (_i, key), there in self._stored({line.place for line in conflicts}).items()
        }
        newest: dict[str, _Line] = {}
        gone: dict[str, _Line] = {}
        for line in conflicts:
            there = stored.get(line.key)
            rival = newest.get(line.key)
            if there is None:
                # Deleted a moment ago, which the server remembers by its version for a minute; what
                # is brought back from the archive must be taken all the same.
                other = gone.get(line.key)
                if other is None or _is_newer(
                    line.record, other.record.version, other.record.last_seen
                ):
                    gone[line.key] = line
                continue
            version, last_seen = there.version, there.last_seen
            if rival is not None:
                version, last_seen = rival.record.version, rival.record.last_seen
            if _is_newer(line.record, version, last_seen):
                newest[line.key] = line
        lines = [(_over(stored[key], line), line.document) for key, line in newest.items()]
        lines += [(_anew(line), line.document) for line in gone.values()]
        for answer in self._bulk(lines) if lines else ():
            if answer["status"] not in _OK:
                self._give_up(answer)

    def _stored(self, places: set[_Place]) -> dict[_Place, _Stored]:
        asked = sorted(places)
        wanted = [
            {"_index": index, "_id": key, "_source": [documents.TIME, documents.VERSION]}
            for index, key in asked
        ]
        answer = self._server.ask("POST", "/_mget", body={"docs": wanted})
        # In the order of the question; the index of an answer may have another name by now.
        return {
            place: _Stored(
                each["_source"]["event"]["sequence"],
                documents.moment_of(each["_source"][documents.TIME]),
                each["_seq_no"],
                each["_primary_term"],
            )
            for place, each in zip(asked, answer["docs"], strict=True)
            if each.get("found")
        }


def _is_of_the_event(error: Mapping[str, Any]) -> bool:
    kind, reason = str(error.get("type")), str(error.get("reason"))
    return kind in _UNREADABLE or (kind == _TOO_LONG[0] and _TOO_LONG[1] in reason)


def _portions(lines: Sequence[tuple[bytes, ...]]) -> Iterator[bytes]:
    content = bytearray()
    for line in lines:
        content += b"".join(part + b"\n" for part in line)
        if len(content) >= BULK_BYTES:
            yield bytes(content)
            content.clear()
    if content:
        yield bytes(content)


def _is_newer(record: Record, version: int, last_seen: datetime) -> bool:
    """As the embedded store decides, see ``events.drivers.database``."""
    if record.version > version:
        return True
    if record.version != version:
        return record.last_seen > last_seen and orders_by_time(record)
    return record.version == 0 and record.last_seen >= last_seen


def _over(there: _Stored, line: _Line) -> bytes:
    place = {"_index": line.index, "_id": line.key}
    return documents.encoded({"index": {**place, **there.unchanged}})


def _anew(line: _Line) -> bytes:
    return documents.encoded({"create": {"_index": line.index, "_id": line.key}})
