"""One HTTP call to one API server: blocking, bounded in time and size, our errors raised.

urllib3 carries the calls, as it does inside the official client.  That client is not used, because
it takes keys only as files, reads the body of a refusal without bound in time and size, obeys proxy
variables of the environment, and costs every process 44 MiB.  Redirects are not followed (they
would carry the credential elsewhere) and nothing is repeated here (the caller knows whether that is
right).
"""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

import msgspec
import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.response import BaseHTTPResponse, HTTPResponse

from beidou.base.deadline import Deadline
from beidou.base.sentences import Sentence
from beidou.base.storable import storable_json
from clusters.drivers import errors, tls
from clusters.drivers.connection import Connection

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# A page of 500 large objects is about 20 MiB; what is far beyond that is no answer of a cluster.
LARGEST_ANSWER_BYTES = 256 * 1024 * 1024
LARGEST_REFUSAL_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024

AnswerT = TypeVar("AnswerT")


class Transport:
    """Sends requests over a few kept-alive connections; safe to use from several threads."""

    def __init__(self, connection: Connection, *, cluster_name: str, timeout: float) -> None:
        self.connection = connection
        self.cluster_name = cluster_name
        self.timeout = timeout
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=8,
            retries=False,
            ssl_context=tls.make_context(connection),
            server_hostname=connection.tls_server_name,
        )
        self._pool.pool_classes_by_scheme = {"https": _BoundedPool}
        self._headers = {"User-Agent": "beidou"}
        if connection.token:
            self._headers["Authorization"] = f"Bearer {connection.token}"

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.clear()

    def call(
        self,
        method: str,
        path: str,
        *,
        action: str,
        query: Mapping[str, str | int] | None = None,
        body: object = None,
        content_type: str = JSON,
        accept: str = JSON,
        accept_statuses: tuple[int, ...] = (),
        secrets: tuple[str, ...] = (),
    ) -> bytes:
        """The body of a successful answer; ExternalError for everything else.

        ``action`` completes "could not …" in messages; ``secrets`` never appear in them;
        ``accept_statuses`` are further HTTP statuses whose body the caller wants to read.
        """
        begun = time.monotonic()
        url = self.connection.server + path + (f"?{urlencode(query)}" if query else "")
        try:
            response = self._pool.request(
                method,
                url,
                headers={**self._headers, "Accept": accept, "Content-Type": content_type},
                body=None if body is None else msgspec.json.encode(body),
                timeout=urllib3.Timeout(total=self.timeout),
                preload_content=False,
            )
            good = 200 <= response.status < 300 or response.status in accept_statuses
            limit_bytes = LARGEST_ANSWER_BYTES if good else LARGEST_REFUSAL_BYTES
            data = _read(response, until=begun + self.timeout, at_most=limit_bytes)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise errors.from_connection_failure(
                error,
                cluster_name=self.cluster_name,
                action=action,
                address=self.connection.address,
                seconds=time.monotonic() - begun,
                timeout=self.timeout,
            ) from error
        if good and len(data) <= LARGEST_ANSWER_BYTES:
            return data
        if good:
            raise errors.BadAnswer(
                errors.could_not(
                    action,
                    self.cluster_name,
                    Sentence(
                        "the answer is larger than %(limit)s MiB",
                        limit=LARGEST_ANSWER_BYTES // 2**20,
                    ),
                )
            )
        raise errors.from_http_status(
            response.status,
            data,
            cluster_name=self.cluster_name,
            action=action,
            retry_after=errors.retry_after_seconds(response.headers.get("Retry-After")),
            secrets=(self.connection.token or "", *secrets),
        )

    def get(
        self,
        path: str,
        answer: type[AnswerT],
        *,
        action: str,
        query: Mapping[str, str | int] | None = None,
        accept: str = JSON,
    ) -> AnswerT:
        """GET and decode; BadAnswer when the JSON is not of the wanted shape."""
        data = self.call("GET", path, action=action, query=query, accept=accept)
        return self.decode(msgspec.json.Decoder(answer).decode, data, action=action)

    def post(self, path: str, body: object, answer: type[AnswerT], *, action: str) -> AnswerT:
        """POST and decode, as ``get``."""
        data = self.call("POST", path, action=action, body=body)
        return self.decode(msgspec.json.Decoder(answer).decode, data, action=action)

    def decode(self, decoder: Callable[[bytes], AnswerT], data: bytes, *, action: str) -> AnswerT:
        """Apply a decoder; BadAnswer, with the cluster and the action, for what it refuses."""
        try:
            return decoder(storable_json(data))
        except ValueError as error:  # msgspec's errors are ValueErrors
            raise errors.BadAnswer(
                errors.could_not(
                    action,
                    self.cluster_name,
                    Sentence(
                        "the answer is not what Kubernetes promises (%(why)s)", why=str(error)
                    ),
                )
            ) from error


class _BoundedConnection(HTTPSConnection):
    """A connection whose wait for headers ends in time even if they come byte by byte.

    The socket's own timeout begins anew with every byte.
    """

    def getresponse(self) -> HTTPResponse:  # type: ignore[override] # as urllib3 does
        deadline = Deadline(self.timeout or 0)
        deadline.watch(self.sock)
        try:
            response = super().getresponse()
        finally:
            deadline.end()
        if deadline.is_over:
            # http.client takes headers that end early for complete ones, with an empty body.
            response.close()
            raise TimeoutError
        return response


class _BoundedPool(HTTPSConnectionPool):
    ConnectionCls = _BoundedConnection

    def _validate_conn(self, conn: urllib3.connection.HTTPConnection) -> None:  # type: ignore[override]
        # urllib3 would warn at every call; an insecure cluster is shown in red on every page.
        if conn.is_closed:
            conn.connect()


def _read(response: BaseHTTPResponse, *, until: float, at_most: int) -> bytes:
    """The whole body, in time; one that is longer than ``at_most`` is cut somewhere behind it."""
    chunks: list[bytes] = []
    size = 0
    while size <= at_most and (chunk := response.read1(_CHUNK_BYTES)):
        chunks.append(chunk)
        size += len(chunk)
        if time.monotonic() > until:
            response.close()
            raise TimeoutError
    if size > at_most:
        response.close()
    response.release_conn()
    return b"".join(chunks)
