"""The server, over the transport beneath Elasticsearch's own client, and what its refusals mean.

Elasticsearch and OpenSearch were one once and still answer the few requests that are needed here
in the same way; the transport asks for no product.  (OpenSearch's client cannot be loaded beside
this app: a package that it needs is called ``events``, too.)
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec
from elastic_transport import (
    JsonSerializer,
    NdjsonSerializer,
    NodeConfig,
    Transport,
    TransportError,
)
from elastic_transport.client_utils import url_to_node_config

from beidou.base.config import EventServer
from beidou.base.errors import shorten
from beidou.base.sentences import Sentence
from events.drivers import patience
from events.drivers.errors import StoreAway

WRITE_SECONDS = 30.0
_OK = range(200, 300)
# Elasticsearch 9 answers as 8 does when it is asked so; OpenSearch knows no such names.
_TYPES = {
    "elasticsearch": "application/vnd.elasticsearch+{}; compatible-with=8",
    "opensearch": "application/{}",
}


class Answer(dict[str, Any]):
    """What was in the JSON, and the status."""

    status: int = 200


class Server:
    """``ask`` gives the answer or raises StoreAway with a sentence; nothing else comes out."""

    def __init__(self, address: EventServer, seconds: float) -> None:
        self.address = address
        self._seconds = seconds
        self._transport = Transport(
            [_node(url, address) for url in address.nodes],
            serializers={
                "application/vnd.elasticsearch+json": JsonSerializer(),
                "application/vnd.elasticsearch+x-ndjson": NdjsonSerializer(),
            },
            # Another node may be asked; whether to try again is for whoever asks to say.
            max_retries=len(address.nodes) - 1,
            retry_on_status=(),
            retry_on_timeout=False,
        )
        self._credential = _credential(address)

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        lines: bytes | None = None,
        allowed: tuple[int, ...] = (),
        **params: str,
    ) -> Answer:
        """``lines`` is a body of JSON lines; ``allowed`` are statuses that are an answer, too."""
        types = _TYPES[self.address.product]
        headers = {"accept": types.format("json"), **self._credential}
        if lines is not None:
            headers["content-type"] = types.format("x-ndjson")
        elif body is not None:
            headers["content-type"] = types.format("json")
        seconds = patience.left(self._seconds)
        if seconds <= 0:
            raise self._silent(Sentence("its time was up"))
        query = "&".join(f"{name}={value}" for name, value in params.items())
        try:
            meta, content = self._transport.perform_request(
                method,
                f"{path}?{query}" if query else path,
                body=lines or (None if body is None else msgspec.json.encode(body)),
                headers=headers,
                request_timeout=seconds,
            )
        except TransportError as error:
            raise self._silent(str(error.message) or type(error).__name__) from error
        if meta.status not in _OK and meta.status not in allowed:
            raise refusal(meta.status, *cause(content))
        answer = Answer(content if isinstance(content, dict) else {"": content})
        answer.status = meta.status
        return answer

    def _silent(self, why: str) -> StoreAway:
        return StoreAway(
            Sentence(
                "The event store (%(nodes)s) does not answer: %(why)s.",
                nodes=", ".join(self.address.nodes),
                why=shorten(why, 200).rstrip("."),
            )
        )


def _node(url: str, address: EventServer) -> NodeConfig:
    config = url_to_node_config(url, use_default_ports_for_scheme=True)
    options: dict[str, Any] = {"connections_per_node": 4}
    if address.ca and config.scheme == "https":
        options["ca_certs"] = address.ca
    return config.replace(**options)


def _credential(address: EventServer) -> dict[str, str]:
    if address.api_key:
        return {"authorization": f"ApiKey {address.api_key}"}
    if address.user:
        pair = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        return {"authorization": f"Basic {pair}"}
    return {}


def refusal(status: int, kind: str, reason: str) -> StoreAway:
    """What an answer of the server means; ``kind`` is its name of the error."""
    why = shorten(reason or kind, 200).rstrip(".")
    if kind == "cluster_block_exception":
        return StoreAway(
            Sentence(
                "The event store takes nothing (%(why)s); this is so when its disk is full. "
                "Give it room, or keep warnings for fewer days, so that whole days go.",
                why=why,
            )
        )
    if status in (401, 403):
        return StoreAway(
            Sentence(
                "The event store refuses the portal's credential (%(why)s); see "
                "BEIDOU_EVENT_STORE_URL and BEIDOU_EVENT_STORE_API_KEY.",
                why=why,
            )
        )
    if status == 429:  # noqa: PLR2004
        return StoreAway(Sentence("The event store has too much to do (%(why)s).", why=why))
    return StoreAway(
        Sentence("The event store answered %(status)s (%(why)s).", status=status, why=why)
    )


def cause(content: Any) -> tuple[str, str]:
    """The server's name of the error, and its reason; whatever text there is otherwise."""
    error = content.get("error") if isinstance(content, Mapping) else None
    if not isinstance(error, Mapping):
        return "", str(error or content or "")
    roots = error.get("root_cause")
    first = roots[0] if isinstance(roots, list) and roots else error
    return str(first.get("type", "")), str(first.get("reason", ""))
