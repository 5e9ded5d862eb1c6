"""A balancer before servers of one kind: ``python -m lab.balancer ADDRESS PORT URL…``.

Connections go in turn to those servers that answer their URL with success; what goes through is
not looked at, so TLS ends at the servers.  One that does not answer at all loses the connections it
had, or its clients would wait for a machine that was switched off.
"""

import asyncio
import ssl
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress

PAUSE_SECONDS = 0.5
LIMIT_SECONDS = 2.0
CHUNK = 65536


def _any_certificate() -> ssl.SSLContext:
    """Whose certificate it is the clients check; here it only matters whether somebody answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Backend:
    """One server, with the connections that lead to it."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or 0
        self.path = parts.path or "/"
        self.tls = _any_certificate() if parts.scheme == "https" else None
        self.is_ready = False
        self.connections: set[asyncio.StreamWriter] = set()

    async def watch(self) -> None:
        while True:
            status = await self._status()
            self.is_ready = status.startswith("2")
            if not status:
                for writer in self.connections:
                    writer.transport.abort()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _status(self) -> str:
        """What it answers; empty when it does not answer."""
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                reader, writer = await asyncio.open_connection(self.host, self.port, ssl=self.tls)
                try:
                    writer.write(f"GET {self.path} HTTP/1.0\r\nHost: {self.host}\r\n\r\n".encode())
                    words = (await reader.readline()).decode(errors="replace").split()
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError):
            return ""
        return words[1] if len(words) > 1 else ""


class Balancer:
    """Whoever connects is led to the next server that is ready."""

    def __init__(self, backends: list[Backend]) -> None:
        self.backends = backends
        self.turn = 0

    def _in_turn(self) -> Iterator[Backend]:
        self.turn += 1
        start = self.turn % len(self.backends)
        ordered = self.backends[start:] + self.backends[:start]
        return (backend for backend in ordered if backend.is_ready)

    async def lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for backend in self._in_turn():
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    there = await asyncio.open_connection(backend.host, backend.port)
            except (OSError, TimeoutError):
                continue
            backend.connections |= {writer, there[1]}
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
            backend.connections -= {writer, there[1]}
            return
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one side ends; a broken connection breaks the other half, too."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def main() -> None:
    address, port, *urls = sys.argv[1:]
    balancer = Balancer([Backend(url) for url in urls])
    server = await asyncio.start_server(balancer.lead, address, int(port))
    async with server:
        await asyncio.gather(
            server.serve_forever(), *(backend.watch() for backend in balancer.backends)
        )


if __name__ == "__main__":
    asyncio.run(main())
