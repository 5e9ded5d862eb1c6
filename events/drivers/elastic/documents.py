"""An event as a document, in the names of the Elastic Common Schema (ECS 8.17), and back.

https://www.elastic.co/docs/reference/ecs: ``@timestamp``, ``message``, ``event.*``,
``orchestrator.*``; what it has no name for is named as Elastic's own integration for Kubernetes
does (``kubernetes.*``).  Under ``beidou`` is what only the portal needs.  Files for a log agent
have the same documents.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import msgspec

from events.drivers import text
from events.drivers.kube_events import Record

TIME = "@timestamp"
BEGAN = "event.start"
TIE = "beidou.tie"
TEXT = "beidou.text"
TEAMS = "beidou.teams"
CLUSTER = "orchestrator.cluster.id"
VERSION = "event.sequence"
DAY = "beidou.day"
WHOLE = "event.original"
FIELDS = {
    "namespace": "orchestrator.namespace",
    "kind": "orchestrator.resource.type",
    "name": "orchestrator.resource.name",
    "reason": "event.reason",
    "type": "kubernetes.event.type",
    "component": "event.provider",
    "node": "kubernetes.node.name",
}
"""Where each of what is searched and counted stands in a document."""

_WORD: dict[str, Any] = {"type": "keyword", "ignore_above": 1024}
_NOT_SEARCHED: dict[str, Any] = {"type": "keyword", "index": False, "doc_values": False}
_MOMENT: dict[str, Any] = {"type": "date_nanos"}
MAPPING: dict[str, Any] = {
    # Nothing that a cluster says can make a new field.
    "dynamic": False,
    # What is searched is made of the other fields; it need not be kept as well.
    "_source": {"excludes": [TEXT]},
    "properties": {
        TIME: _MOMENT,
        "message": _NOT_SEARCHED,
        "beidou": {
            "properties": {
                # Words are made by the portal, so that all stores find the same.
                "text": {"type": "text", "analyzer": "whitespace", "norms": False},
                "tie": {"type": "long", "index": False},
                "day": {"type": "date", "format": "strict_date"},
                # Keys of the teams that were granted the namespace.
                "teams": _WORD,
            }
        },
        "event": {
            "properties": {
                "id": _WORD,
                "start": _MOMENT,
                "sequence": {"type": "long"},
                "reason": _WORD,
                "provider": _WORD,
                "original": _NOT_SEARCHED,
            }
        },
        "orchestrator": {
            "properties": {
                "cluster": {"properties": {"id": _WORD, "name": _WORD}},
                "namespace": _WORD,
                "resource": {"properties": {"type": _WORD, "name": _WORD, "id": _WORD}},
            }
        },
        "kubernetes": {
            "properties": {
                "event": {"properties": {"type": _WORD, "count": {"type": "long"}}},
                "node": {"properties": {"name": _WORD}},
            }
        },
    },
}


def identity(cluster_uid: str, uid: str) -> str:
    """The key of the document: the same for whoever writes it, and however often."""
    return hashlib.blake2b(f"{cluster_uid}/{uid}".encode(), digest_size=16).hexdigest()


def tie_of(key: str) -> int:
    """Orders documents of one moment; 63 bits, as a ``long`` has them."""
    return int(key[:16], 16) >> 1


def document(
    cluster_uid: str, cluster_name: str, record: Record, teams: Sequence[int] = ()
) -> dict[str, Any]:
    """What is stored of an event; empty values are left out."""
    key = identity(cluster_uid, record.uid)
    resource = {"type": record.kind, "name": record.name, "id": record.object_uid}
    orchestrator = {
        "type": "kubernetes",
        "cluster": {"id": cluster_uid, "name": cluster_name},
        "namespace": record.namespace,
        "resource": {name: value for name, value in resource.items() if value},
    }
    event = {
        "kind": "event",
        "id": record.uid,
        "start": moment(record.first_seen),
        "sequence": record.version,
        "reason": record.reason,
        "provider": record.component,
        "original": record.raw.decode(errors="replace"),
    }
    return {
        TIME: moment(record.last_seen),
        "ecs": {"version": "8.17.0"},
        "message": record.message,
        "event": {name: value for name, value in event.items() if value != ""},
        "orchestrator": {name: value for name, value in orchestrator.items() if value},
        "kubernetes": {
            "event": {"type": record.type, "count": record.count},
            **({"node": {"name": record.node}} if record.node else {}),
        },
        "beidou": {
            "day": record.day.isoformat(),
            "tie": tie_of(key),
            "text": _words({name: getattr(record, name) for name in text.TEXT_COLUMNS}),
            **({"teams": _labels(teams)} if teams else {}),
        },
    }


def labelled(found: Mapping[str, Any], teams: Sequence[int]) -> dict[str, Any]:
    """What of a stored document is another with these labels.  Its words are made anew: they are
    not kept, and a server that writes it again without them would find it by no word any more."""
    return {"beidou": {"teams": _labels(teams), "text": _words(values(found))}}


def _labels(teams: Sequence[int]) -> list[str]:
    return [str(team) for team in sorted(teams)]


def _words(said: Mapping[str, Any]) -> list[str]:
    return [" ".join(found) for name in text.TEXT_COLUMNS if (found := text.tokens(said[name]))]


def values(found: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Record, and what else the portal shows, from a document; ``raw`` is empty
    where it was not asked for."""
    event = found["event"]
    where = found["orchestrator"]
    resource = where.get("resource", {})
    more = found["kubernetes"]
    return {
        "uid": event["id"],
        "version": event["sequence"],
        "day": date.fromisoformat(found["beidou"]["day"]),
        "first_seen": moment_of(event["start"]),
        "last_seen": moment_of(found[TIME]),
        "count": more["event"]["count"],
        "type": more["event"]["type"],
        "reason": event.get("reason", ""),
        "namespace": where.get("namespace", ""),
        "kind": resource.get("type", ""),
        "name": resource.get("name", ""),
        "object_uid": resource.get("id", ""),
        "node": more.get("node", {}).get("name", ""),
        "component": event.get("provider", ""),
        "message": found.get("message", ""),
        "raw": event.get("original", "").encode(errors="replace"),
    }


def moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment_of(value: str) -> datetime:
    return datetime.fromisoformat(value).astimezone(UTC)


def encoded(content: Any) -> bytes:
    """As JSON in one line.  Half characters, which no JSON has, become a sign."""
    try:
        return msgspec.json.encode(content)
    except UnicodeEncodeError:
        return msgspec.json.encode(_whole_characters(content))


def _whole_characters(content: Any) -> Any:
    if isinstance(content, str):
        return content.encode(errors="replace").decode()
    if isinstance(content, list):
        return [_whole_characters(each) for each in content]
    if isinstance(content, dict):
        return {name: _whole_characters(each) for name, each in content.items()}
    return content
