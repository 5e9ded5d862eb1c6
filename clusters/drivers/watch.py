"""Follow all objects of one resource of one cluster: LIST, then WATCH, for ever.

Three layers, each with one concern: ``_Api`` makes one request (a page, or one watch) and turns
whatever goes wrong into our errors; ``_watch`` and ``_list`` give its lines a meaning;
``list_and_watch`` alone decides what happens next: go on, list again, wait, report.

Whether the cluster still answers is known without any extra request: the server is asked to end
every watch after ``Pace.watch_seconds`` (it sends a bookmark before), so silence for longer than
that is a failure, even if the connection stays open.  A break of a running watch is reported only
when the next attempt fails too, because load balancers and API servers restart all the time.

Nothing heavy is imported: a collector holds hundreds of these streams in one process.
"""

import asyncio
import logging
import random
import socket
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, Protocol, TypeVar

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult

from beidou.base.errors import ExternalError
from beidou.base.sentences import Sentence
from beidou.base.storable import storable_json
from clusters.drivers import errors, tls
from clusters.drivers.connection import Connection
from clusters.drivers.objects import ListMetadata, Resource

logger = logging.getLogger(__name__)

PAGE = 500
# etcd stores no object near this size; such a line is no event.
LARGEST_LINE_BYTES = 16 * 1024 * 1024
LARGEST_REFUSAL_BYTES = 64 * 1024


class Versioned(Protocol):
    """Whatever is watched has a name for messages and a position in the stream."""

    @property
    def name(self) -> str: ...

    @property
    def resource_version(self) -> str: ...


T = TypeVar("T", bound=Versioned)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """All times of a stream, in seconds.

    A hung cluster is reported after ``watch_seconds + grace_seconds`` of silence and one more
    attempt of ``answer_seconds`` (connection, TLS and headers together).
    """

    answer_seconds: float = 15
    page_seconds: float = 30
    watch_seconds: int = 20
    grace_seconds: float = 8
    first_delay_seconds: float = 0.5
    largest_delay_seconds: float = 30


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list that is being read; only for those who asked ``by_page``."""

    items: list[T]


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """Everything there is at this moment; what is not in it does not exist any more."""

    items: list[T]
    resource_version: str


@dataclass(frozen=True, slots=True)
class Added(Generic[T]):
    item: T


@dataclass(frozen=True, slots=True)
class Modified(Generic[T]):
    item: T


@dataclass(frozen=True, slots=True)
class Deleted(Generic[T]):
    """``item`` is the last state before the end."""

    item: T


@dataclass(frozen=True, slots=True)
class Progress:
    """The cluster answered just now and nothing was missed up to ``resource_version``."""

    resource_version: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """An attempt failed; ``since`` is the last moment the cluster answered (or the start).

    It is repeated with every failed attempt; the next event of another kind ends the state.
    """

    since: datetime
    error: ExternalError


Event = Page[T] | Listed[T] | Added[T] | Modified[T] | Deleted[T] | Progress | Disconnected
_Change = Added[T] | Modified[T] | Deleted[T] | Progress


async def list_and_watch(
    connection: Connection,
    resource: Resource[T],
    *,
    cluster_name: str,
    pace: Pace | None = None,
    position: str = "",
    by_page: int = 0,
) -> AsyncGenerator[Event[T], None]:
    """Yield the state and then every change of one resource, until the caller closes it.

    Nothing is raised for what the cluster does; failures are yielded as ``Disconnected`` and
    repeated with growing pauses.  With ``position`` it goes on from there, and lists only when the
    cluster has forgotten it.  With ``by_page`` a list comes as ``Page``s of so many, for those who
    do not want it in memory whole, and an empty ``Listed`` after the last.
    """
    pace = pace or Pace()
    delays = _Delays(pace)
    contact = datetime.now(UTC)
    failures = 0
    async with _open_api(connection, cluster_name=cluster_name, pace=pace) as api:
        while True:
            begun = time.monotonic()
            watching = False
            try:
                if not position:
                    listed: list[T] = []
                    reached = ""
                    async with aclosing(_pages(api, resource, by_page or PAGE)) as pages:
                        async for page in pages:
                            items, reached = page
                            contact = datetime.now(UTC)
                            if by_page:
                                yield Page(items)
                            else:
                                listed += items
                    position = reached
                    yield Listed(listed, position)
                async with aclosing(_watch(api, resource, position)) as changes:
                    async for change in changes:
                        contact = datetime.now(UTC)
                        if watching:  # the first is only the opening of the watch
                            failures = 0
                            delays.reset()
                        watching = True
                        position = _position(change)
                        yield change
                failures = 0
                if time.monotonic() - begun < 1:
                    await delays.wait()  # ended by a server that ends watches at once
            except errors.Gone:
                position = ""
                await delays.wait()
            except ExternalError as error:
                failures += 1
                if failures > 1 or not watching:
                    yield Disconnected(contact, error)
                await delays.wait(error)


def _position(change: _Change[T]) -> str:
    return change.resource_version if isinstance(change, Progress) else change.item.resource_version


class _Delays:
    """Pauses that double up to a limit, each spread at random so that clusters do not march."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._next = pace.first_delay_seconds

    def reset(self) -> None:
        self._next = self._pace.first_delay_seconds

    async def wait(self, error: ExternalError | None = None) -> None:
        seconds = self._next * random.uniform(0.5, 1.0)  # noqa: S311 - spreading, no secret
        if isinstance(error, errors.ServerTrouble):
            seconds = max(seconds, min(error.retry_after, self._pace.largest_delay_seconds))
        self._next = min(self._next * 2, self._pace.largest_delay_seconds)
        await asyncio.sleep(seconds)


# --- one list, one watch --------------------------------------------------------------------------


async def _pages(
    api: "_Api", resource: Resource[T], size: int
) -> AsyncGenerator[tuple[list[T], str], None]:
    """All objects, with the position from which to watch once the last of them is here; Gone when
    reading took too long."""
    action = Sentence("list the %(what)s", what=resource.title)
    metadata = ListMetadata()
    while True:
        query = {"limit": str(size)}
        if metadata.continue_:
            query["continue"] = metadata.continue_
        data = await api.read(resource.path, query, action=action)
        try:
            items, metadata = resource.decode_page(storable_json(data))
        except ValueError as error:
            raise api.bad_answer(action, str(error)) from error
        yield items, metadata.resource_version
        if not metadata.continue_:
            return


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Bookmark(msgspec.Struct, frozen=True):
    metadata: ListMetadata


class _Status(msgspec.Struct, frozen=True):
    code: int = 500


_LINES = msgspec.json.Decoder(_Line)
_BOOKMARKS = msgspec.json.Decoder(_Bookmark)
_STATUSES = msgspec.json.Decoder(_Status)


async def _watch(
    api: "_Api", resource: Resource[T], position: str
) -> AsyncGenerator[_Change[T], None]:
    """The changes of one watch after ``position``, a Progress first, until the server ends it."""
    action = Sentence("watch the %(what)s", what=resource.title)
    query = {"watch": "true", "resourceVersion": position, "allowWatchBookmarks": "true"}
    async with aclosing(api.lines(resource.path, query, action=action)) as lines:
        async for line in lines:
            if not line:
                yield Progress(position)  # the server has accepted the watch
                continue
            try:
                change = _change(api, resource, line, action=action)
            except ValueError as error:
                raise api.bad_answer(action, str(error)) from error
            if change is not None:
                yield change


def _change(api: "_Api", resource: Resource[T], line: bytes, *, action: str) -> _Change[T] | None:
    """The meaning of one line; None for what can be skipped; ValueError when it is broken."""
    event = _LINES.decode(storable_json(line))
    if event.type == "BOOKMARK":
        return Progress(_BOOKMARKS.decode(event.object).metadata.resource_version)
    if event.type == "ERROR":
        raise api.refusal(_STATUSES.decode(event.object).code, bytes(event.object), action=action)
    if event.type not in ("ADDED", "MODIFIED", "DELETED"):
        logger.warning("Cluster %s: skipped a watch event %r", api.cluster_name, event.type[:40])
        return None
    item = resource.decode_if_readable(event.object)
    if item is None:
        return None
    if event.type == "DELETED":
        return Deleted(item)
    return Added(item) if event.type == "ADDED" else Modified(item)


# --- one request ----------------------------------------------------------------------------------


class _Api:
    """Requests of one stream over its own session."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        connection: Connection,
        *,
        cluster_name: str,
        pace: Pace,
    ) -> None:
        self.cluster_name = cluster_name
        self._session = session
        self._connection = connection
        self._pace = pace

    async def read(self, path: str, query: dict[str, str], *, action: str) -> bytes:
        """The body of one successful GET."""
        limit = self._pace.page_seconds
        with self._translating(action, limit):
            async with asyncio.timeout(limit):
                async with await self._get(path, query) as got:
                    await self._refuse_failure(got, action=action)
                    return await got.read()

    async def _get(self, path: str, query: dict[str, str]) -> aiohttp.ClientResponse:
        return await self._session.get(
            self._connection.server + path,
            params=query,
            allow_redirects=False,  # it would carry the credential elsewhere
            server_hostname=self._connection.tls_server_name,
        )

    async def lines(
        self, path: str, query: dict[str, str], *, action: str
    ) -> AsyncGenerator[bytes, None]:
        """The lines of one watch; first an empty one when the server has accepted it."""
        pace = self._pace
        query = {**query, "timeoutSeconds": str(pace.watch_seconds)}
        with self._translating(action, pace.answer_seconds):
            async with asyncio.timeout(pace.answer_seconds):
                got = await self._get(path, query)
                await self._refuse_failure(got, action=action)
        try:
            yield b""
            async for line in self._split(got.content, action=action):
                yield line
        finally:
            _break_off(got)

    async def _split(
        self, content: aiohttp.StreamReader, *, action: str
    ) -> AsyncGenerator[bytes, None]:
        """Lines, however the network cut them; ends when the server, or its time, does."""
        silence = self._pace.watch_seconds + self._pace.grace_seconds
        until = time.monotonic() + silence
        rest = bytearray()
        while time.monotonic() < until:
            with self._translating(action, silence):
                async with asyncio.timeout(silence):
                    chunk = await content.readany()
            if not chunk:
                if rest:
                    raise self.bad_answer(
                        action, Sentence("it broke off in the middle of an event")
                    )
                return
            rest += chunk
            if b"\n" in chunk:
                *whole, tail = bytes(rest).split(b"\n")
                rest = bytearray(tail)
                for line in whole:
                    if line:
                        yield line
            elif len(rest) > LARGEST_LINE_BYTES:
                raise self.bad_answer(action, Sentence("an event is larger than any object can be"))

    async def _refuse_failure(self, got: aiohttp.ClientResponse, *, action: str) -> None:
        if 200 <= got.status < 300:
            return
        body = await got.content.read(LARGEST_REFUSAL_BYTES)
        retry_after = errors.retry_after_seconds(got.headers.get("Retry-After"))
        _break_off(got)
        raise self.refusal(got.status, body, action=action, retry_after=retry_after)

    def refusal(
        self, status: int, body: bytes, *, action: str, retry_after: float = 5.0
    ) -> ExternalError:
        """The error for an HTTP status, or for the Status object inside a watch."""
        return errors.from_http_status(
            status,
            body,
            cluster_name=self.cluster_name,
            action=action,
            retry_after=retry_after,
            secrets=(self._connection.token or "",),
        )

    def bad_answer(self, action: str, reason: str) -> ExternalError:
        """The error for what no API server sends."""
        return errors.BadAnswer(
            errors.could_not(
                action,
                self.cluster_name,
                Sentence("the answer is broken (%(why)s)", why=reason),
            )
        )

    @contextmanager
    def _translating(self, action: str, limit: float) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:
            raise errors.from_connection_failure(
                error,
                cluster_name=self.cluster_name,
                action=action,
                address=self._connection.address,
                seconds=time.monotonic() - begun,
                timeout=limit,
            ) from error


def _break_off(got: aiohttp.ClientResponse) -> None:
    """Let go of an answer that may not be over, without waiting for a server that may be hung."""
    if got.connection is not None and got.connection.transport is not None:
        got.connection.transport.abort()
    got.close()


@asynccontextmanager
async def _open_api(
    connection: Connection, *, cluster_name: str, pace: Pace
) -> AsyncIterator[_Api]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "beidou"}
    if connection.token:
        headers["Authorization"] = f"Bearer {connection.token}"
    resolver = _OwnThreadResolver()
    connector = aiohttp.TCPConnector(
        ssl=tls.make_context(connection),
        resolver=resolver,
        # Older Pythons wait for a hung server to agree to the end of TLS; newer ones need no care.
        enable_cleanup_closed=sys.version_info < (3, 12, 8),
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=None),  # each step has its own, see above
    ) as session:
        yield _Api(session, connection, cluster_name=cluster_name, pace=pace)


class _OwnThreadResolver(AbstractResolver):
    """Resolves in a thread of this stream alone.

    The event loop's own resolver shares a handful of threads among all streams, and a few names
    whose servers do not answer would hold up all others.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(
            self._executor, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=int(address[1]),
                family=found_family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found_family, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)
