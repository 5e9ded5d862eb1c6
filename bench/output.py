"""Operation output: lines per second through the writer into the database and out again.

Compared with appending the same lines to a plain file.
"""

import tempfile
import time
from collections.abc import Iterator

from bench.report import Measure
from clusters.models import Cluster
from operations.models import Attempt, Operation, Step
from operations.services import lines, output

LINES = 50_000


def run() -> Iterator[Measure]:
    cluster = Cluster.objects.create(name="bench-output", uid="bench-output", server="https://x")
    operation = Operation.objects.create(name="bench-output", kind="ScaleUp", cluster=cluster)
    step = Step.objects.create(operation=operation, position=1, name="scaleUp")
    attempt = Attempt.objects.create(step=step, number=1, holder="bench")
    text = "TASK [containerd : Write the configuration] changed: 10.0.0.17 → mode 0644"
    writer = output.OutputWriter(attempt, fence=lambda: None)
    began = time.perf_counter()
    for number in range(LINES):
        writer.write(text, machine=number % 20)
    writer.flush()
    stored = time.perf_counter() - began
    read, expected = 0, 1
    began = time.perf_counter()
    while found := lines.forwards(operation, after=read, limit=lines.LIMIT_MAX).lines:
        for line in found:
            if line.number != expected:
                raise RuntimeError(f"line {line.number} came where {expected} was due")
            expected += 1
        read += len(found)
    streamed = time.perf_counter() - began
    output.pack(attempt)
    began = time.perf_counter()
    with tempfile.NamedTemporaryFile("w") as file:
        for _ in range(LINES):
            file.write(text + "\n")
        file.flush()
    plain = time.perf_counter() - began
    lost = LINES - read
    slowest = max(stored, streamed)
    yield Measure(
        "operation output, lines/s stored and read back",
        f"{LINES / stored:,.0f} stored, {LINES / streamed:,.0f} read, {lost} lost, in order",
        f"plain file {LINES / plain:,.0f}/s",
        ">= 5,000/s",
        LINES / slowest >= 5000 and lost == 0,
    )
    cluster.delete()
