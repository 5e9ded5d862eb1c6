"""Operation output: lines per second through the engine into the database and out of a live stream.

A step's run writes with its lease as a worker does, while a client follows the operation's event
stream on a web process of its own.  Compared with appending the same lines to a plain file.
"""

import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator

from beidou.base import tokens
from beidou.base.models import User
from bench import web
from bench.report import Measure
from clusters.models import Cluster
from operations.kinds import base as kinds
from operations.models import Attempt, Operation, Step
from operations.services import output
from operations.services.run import EngineRun, lease_end

LINES = 50_000
TEXT = "TASK [containerd : Write the configuration] changed: 10.0.0.17 → mode 0644"


def run() -> Iterator[Measure]:
    admin = User.objects.create_superuser("bench-output")
    _token, key = tokens.issue(user=admin, name="bench")
    attempt = _running_attempt()
    operation = attempt.step.operation
    with web.process() as address:
        reader = _Reader(f"{address}/api/v1/operations/{operation.pk}/events/?after=0", key)
        began = time.perf_counter()
        _write(attempt)
        stored = time.perf_counter() - began
        reader.join()
        streamed = reader.ended - began
    output.pack(attempt)
    plain = _plain_seconds()
    slowest = max(stored, streamed)
    yield Measure(
        "operation output, lines/s stored and streamed to a client at the same time",
        f"{LINES / stored:,.0f} stored, {LINES / streamed:,.0f} streamed, "
        f"{LINES - reader.read:,} lost, in order",
        f"plain file {LINES / plain:,.0f}/s",
        ">= 5,000/s",
        LINES / slowest >= 5000 and reader.read == LINES,
    )
    operation.cluster.delete()


def _running_attempt() -> Attempt:
    cluster = Cluster.objects.create(name="bench-output", uid="bench-output", server="https://x")
    operation = Operation.objects.create(
        name="bench-output", kind="ScaleUp", cluster=cluster, status=Operation.Status.RUNNING
    )
    step = Step.objects.create(
        operation=operation,
        position=1,
        name="preCheck",
        status=Step.Status.RUNNING,
        attempt=1,
        lease_until=lease_end(),
    )
    return Attempt.objects.create(step=step, number=1, holder="bench")


def _write(attempt: Attempt) -> None:
    kind = kinds.get("ScaleUp")
    run = EngineRun(attempt=attempt, kind=kind, step_kind=kind.steps[0])
    for _ in range(LINES):
        run.say(TEXT)
    run.output.flush()


class _Reader(threading.Thread):
    """Follows the stream until it has seen the last line; a line out of order ends it."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(name="reader", daemon=True)
        self._request = urllib.request.Request(  # noqa: S310 - an address of ours
            url, headers={"Authorization": f"Token {key}"}
        )
        self._connected = threading.Event()
        self.read = 0
        self.ended = 0.0
        self.start()
        if not self._connected.wait(timeout=30):
            raise RuntimeError("The event stream does not open.")

    def run(self) -> None:
        try:
            self._follow()
        finally:
            self.ended = time.perf_counter()

    def _follow(self) -> None:
        with urllib.request.urlopen(self._request, timeout=60) as stream:  # noqa: S310
            event = ""
            for raw in stream:
                self._connected.set()
                line = raw.decode().rstrip("\n")
                if line.startswith("event:"):
                    event = line.removeprefix("event:").strip()
                elif line.startswith("data:") and event == "output":
                    for number, *_rest in json.loads(line.removeprefix("data:")):
                        if number != self.read + 1:
                            return
                        self.read = number
                if self.read == LINES:
                    return


def _plain_seconds() -> float:
    began = time.perf_counter()
    with tempfile.NamedTemporaryFile("w") as file:
        for _ in range(LINES):
            file.write(TEXT + "\n")
        file.flush()
    return time.perf_counter() - began
