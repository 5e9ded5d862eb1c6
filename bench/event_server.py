"""API servers that have nothing but events: all at once as fast as they are taken, or in time.

``python -m bench.event_server CERTIFICATE KEY CLUSTERS AT_ONCE RATE`` prints the port of 127.0.0.1
on which it listens.  The clusters are at ``/0``, ``/1`` and so on.  Each has AT_ONCE events from
the beginning, and from the moment in which all of them are watched RATE more every second, until
somebody asks for ``/stop``.  That and ``/sent`` give how many there are in all, and of one at most.
A watch goes on from its position and ends after its time, as on a real server.  Those that come in
time say to the microsecond when they were sent (``eventTime``).
"""

import asyncio
import json
import ssl
import sys
import time
from datetime import UTC, datetime
from urllib.parse import parse_qs

OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
AT_ONCE = 100
PREPARED = 300_000
"""So many are made before anybody asks, and cost nothing while it is measured."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.1
VERSION = 1000
EVENTS = "apis/events.k8s.io/v1/events"


def line(number: int, at: str, sent: str | None = None) -> bytes:
    """One event as a kubelet writes it, with the fields that an API server adds."""
    pod = f"web-6f9c5d8f7b-{number}"
    fields: dict[str, dict[str, str]] = {
        f"f:{name}": {} for name in ("note", "reason", "type", "regarding", "eventTime")
    }
    made = {
        "metadata": {
            "name": f"{pod}.17a",
            "namespace": f"team-{number % 50}",
            "uid": f"00000000-0000-4000-8000-{number:012d}",
            "resourceVersion": str(VERSION + 1 + number),
            "creationTimestamp": at,
            "managedFields": [
                {
                    "manager": "kubelet",
                    "operation": "Update",
                    "apiVersion": "events.k8s.io/v1",
                    "time": at,
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            ],
        },
        "eventTime": sent,
        "reportingController": "kubelet",
        "reportingInstance": f"node-{number % 500}",
        "reason": ("BackOff", "Pulled", "Created", "Started", "Unhealthy")[number % 5],
        "regarding": {
            "kind": "Pod",
            "namespace": f"team-{number % 50}",
            "name": pod,
            "uid": f"10000000-0000-4000-8000-{number:012d}",
            "apiVersion": "v1",
            "resourceVersion": str(VERSION + number),
            "fieldPath": "spec.containers{web}",
        },
        "note": f"Back-off restarting failed container web in pod {pod}_team-{number % 50}",
        "type": ("Warning", "Normal")[number % 2],
        "deprecatedSource": {"component": "kubelet", "host": f"node-{number % 500}"},
        "deprecatedFirstTimestamp": at,
        "deprecatedLastTimestamp": at,
        "deprecatedCount": 1,
    }
    return json.dumps({"type": "ADDED", "object": made}).encode() + b"\n"


class Servers:
    def __init__(self, clusters: int, at_once: int, rate: float) -> None:
        self.clusters = clusters
        self.at_once = at_once
        self.rate = rate
        self.pause = min(max(1 / rate, SHORTEST_PAUSE), LONGEST_PAUSE) if rate else LONGEST_PAUSE
        self.at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.prepared = [line(number, self.at) for number in range(min(at_once, PREPARED))]
        self.watched: set[int] = set()
        self.began: float | None = None
        self.stopped: float | None = None

    def there(self, cluster: int) -> int:
        """How many events this one has by now."""
        if self.began is None:
            return self.at_once
        seconds = (self.stopped or time.monotonic()) - self.began
        # Not those of all clusters in the same moment.
        return self.at_once + int(seconds * self.rate + cluster / self.clusters)

    def part(self, begin: int, end: int) -> bytes:
        made = self.prepared[begin:end]
        at, sent = self.at, None
        if end > self.at_once:
            now = datetime.now(UTC)
            at, sent = f"{now:%Y-%m-%dT%H:%M:%SZ}", f"{now:%Y-%m-%dT%H:%M:%S.%fZ}"
        made += [line(number, at, sent) for number in range(begin + len(made), end)]
        return b"".join(made)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path, _, query = head.split()[1].decode().partition("?")
                await self.answer(writer, path, parse_qs(query))
        except (OSError, asyncio.IncompleteReadError):
            return  # the client left
        finally:
            writer.close()

    async def answer(
        self, writer: asyncio.StreamWriter, path: str, query: dict[str, list[str]]
    ) -> None:
        name, _, resource = path.removeprefix("/").partition("/")
        if name in ("sent", "stop"):
            if name == "stop":
                self.stopped = time.monotonic()
            sent = [self.there(cluster) for cluster in range(self.clusters)]
            await _reply(writer, {"events": sum(sent), "most": max(sent)})
        elif "watch" in query:
            version = int(query["resourceVersion"][0])
            until = time.monotonic() + float(query.get("timeoutSeconds", ["3600"])[0])
            writer.write(OPEN)
            if resource == EVENTS:
                await self.watch(writer, int(name), version - VERSION, until)
            await asyncio.sleep(until - time.monotonic())
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        else:
            await _reply(writer, {"metadata": {"resourceVersion": str(VERSION)}, "items": []})

    async def watch(
        self, writer: asyncio.StreamWriter, cluster: int, number: int, until: float
    ) -> None:
        """The events from this number on."""
        self.watched.add(cluster)
        if self.began is None and len(self.watched) == self.clusters:
            self.began = time.monotonic()
        while time.monotonic() < until:
            end = min(self.there(cluster), number + AT_ONCE)
            if number < end:
                part = self.part(number, end)
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                number = end
                await writer.drain()
            else:
                await asyncio.sleep(self.pause)


async def _reply(writer: asyncio.StreamWriter, content: object) -> None:
    body = json.dumps(content).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    await writer.drain()


async def main() -> None:
    certificate, key, *numbers = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    clusters, at_once, rate = (int(each) for each in numbers)
    servers = Servers(clusters, at_once, rate)
    listener = await asyncio.start_server(servers.serve, "127.0.0.1", 0, ssl=context, backlog=1000)
    print(listener.sockets[0].getsockname()[1], flush=True)
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
