"""An API server that has nothing but events, as many and as fast as they are taken.

``python -m bench.event_server CERTIFICATE KEY COUNT`` prints the port of 127.0.0.1 on which it
listens.  The first watch of events is given all of them and stays open.
"""

import asyncio
import json
import ssl
import sys
from datetime import UTC, datetime

OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
AT_ONCE = 100
VERSION = 1000
EVENTS = "/apis/events.k8s.io/v1/events"


def line(number: int, at: str) -> bytes:
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
        "eventTime": None,
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


class Server:
    def __init__(self, count: int) -> None:
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = [line(number, at) for number in range(count)]
        self.parts = [
            b"".join(lines[begin : begin + AT_ONCE]) for begin in range(0, count, AT_ONCE)
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                path, _, query = head.split()[1].decode().partition("?")
                await self.answer(writer, path, query)
                if "watch=true" in query:
                    await reader.read()  # until the client leaves
        except (OSError, asyncio.IncompleteReadError):
            return  # the client left
        finally:
            writer.close()

    async def answer(self, writer: asyncio.StreamWriter, path: str, query: str) -> None:
        if "watch=true" not in query:
            body = b'{"metadata":{"resourceVersion":"%d"},"items":[]}' % VERSION
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            await writer.drain()
            return
        writer.write(OPEN)
        if path == EVENTS and f"resourceVersion={VERSION}&" in f"{query}&":
            for part in self.parts:
                writer.write(b"%x\r\n%s\r\n" % (len(part), part))
                await writer.drain()


async def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server = Server(int(sys.argv[3]))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=context)
    print(listener.sockets[0].getsockname()[1], flush=True)
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
