"""Manifests applied by the server: whatever kinds they hold, as the API server lists them.

Server-side apply is idempotent, so a step that is repeated applies everything once more.
"""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import msgspec
import yaml

from beidou.base.errors import InvalidInput
from beidou.base.sentences import Sentence
from clusters.drivers import errors
from clusters.drivers.transport import Transport

APPLY_PATCH = "application/apply-patch+yaml"
MANAGER = "beidou"
DOCUMENTS_MAX = 500


class _Resource(msgspec.Struct, frozen=True):
    name: str
    kind: str
    namespaced: bool = False


class _Resources(msgspec.Struct, frozen=True):
    resources: list[_Resource] | None = None


class UnknownKind(errors.NotFound):
    """The API server knows no such kind, or not yet: it may have been defined a moment ago."""

    code = "unknown_kind_in_cluster"


def parse(text: str) -> list[dict[str, Any]]:
    """The objects of a YAML text, lists taken apart; ``InvalidInput`` says what is wrong."""
    try:
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        why = getattr(error, "problem", None) or str(error)
        raise InvalidInput(
            Sentence("This is no YAML: %(why)s.", why=" ".join(str(why).split())[:200]),
            code="not_yaml",
        ) from error
    objects = [item for document in documents for item in _items(document)]
    if not objects:
        raise InvalidInput(Sentence("There is no object in it."), code="empty")
    if len(objects) > DOCUMENTS_MAX:
        raise InvalidInput(
            Sentence("At most %(count)s objects at once.", count=DOCUMENTS_MAX), code="too_many"
        )
    for number, item in enumerate(objects, start=1):
        if not _is_object(item):
            raise InvalidInput(
                Sentence(
                    "Object %(number)s has no apiVersion, kind and metadata.name.", number=number
                ),
                code="no_object",
            )
    return objects


def _items(document: Any) -> Iterable[Any]:
    if isinstance(document, Mapping) and document.get("kind") == "List":
        return list(document.get("items") or [])
    return [document]


def _is_object(item: Any) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("metadata"), Mapping):
        return False
    words = (item.get("apiVersion"), item.get("kind"), item["metadata"].get("name"))
    return all(isinstance(word, str) and word for word in words)


class Applier:
    """Applies objects; remembers which resources the API server has."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._known: dict[str, dict[str, _Resource]] = {}

    def apply(self, item: Mapping[str, Any]) -> None:
        """Create the object or make it as wanted; ``UnknownKind`` where there is no such kind."""
        name = f"{item['kind']} {item['metadata']['name']}"
        self._transport.call(
            "PATCH",
            self._path(item),
            action=Sentence("apply %(name)s", name=name),
            query={"fieldManager": MANAGER, "force": "true"},
            body=item,  # JSON is YAML
            content_type=APPLY_PATCH,
        )

    def _path(self, item: Mapping[str, Any]) -> str:
        version, kind = str(item["apiVersion"]), str(item["kind"])
        base = f"/apis/{version}" if "/" in version else f"/api/{version}"
        resource = self._resources(base).get(kind)
        if resource is None:
            self._known.pop(base, None)
            raise UnknownKind(
                Sentence("The cluster knows no %(kind)s (%(version)s).", kind=kind, version=version)
            )
        name = quote(str(item["metadata"]["name"]), safe="")
        if not resource.namespaced:
            return f"{base}/{resource.name}/{name}"
        namespace = quote(str(item["metadata"].get("namespace") or "default"), safe="")
        return f"{base}/namespaces/{namespace}/{resource.name}/{name}"

    def _resources(self, base: str) -> dict[str, _Resource]:
        if base not in self._known:
            action = Sentence("list the kinds of %(version)s", version=base)
            try:
                found = self._transport.get(base, _Resources, action=action).resources or []
            except errors.NotFound:
                return {}
            # What belongs to an object (pods/log) carries a kind too.
            self._known[base] = {each.kind: each for each in found if "/" not in each.name}
        return self._known[base]
